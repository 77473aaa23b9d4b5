"""Equations written by a model: decoding, parsing, fitting of constants, metrics."""
