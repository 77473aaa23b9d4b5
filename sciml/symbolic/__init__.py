"""Expressions: trees, prefix tokens, numbers as tokens, SymPy and LaTeX, evaluation in JAX."""
