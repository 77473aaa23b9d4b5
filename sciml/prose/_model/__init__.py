"""The PROSE transformers, their sizes, losses and optimisers."""
