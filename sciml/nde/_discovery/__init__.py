"""Equations read from data."""
