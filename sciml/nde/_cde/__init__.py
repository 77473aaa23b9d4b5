"""Models of controlled differential equations."""
