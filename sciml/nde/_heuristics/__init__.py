"""Measures of the steps of a solve: error estimates, stiffness, numbers of evaluations of the vector field."""
