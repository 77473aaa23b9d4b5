"""Readers of public formats, one file for each, chosen by what a path holds and never by its name."""
