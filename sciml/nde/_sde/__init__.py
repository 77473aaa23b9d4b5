"""Models of stochastic differential equations."""
