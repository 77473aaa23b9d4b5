"""Models of ordinary differential equations."""
