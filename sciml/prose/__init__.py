"""PROSE: transformers that predict a solution and its equation from a trajectory and a guess."""
