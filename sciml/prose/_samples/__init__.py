"""Samples of trajectories or frames with their equations, and their noise."""
