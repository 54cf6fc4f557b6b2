"""Sweeps: many runs as one, their jobs, how these stand, and the table of what came out."""
