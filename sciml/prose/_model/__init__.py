"""The transformers, their sizes, losses and optimiser."""
