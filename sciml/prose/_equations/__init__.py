"""Equations written by a model: decoding, reading, fitting, metrics."""
