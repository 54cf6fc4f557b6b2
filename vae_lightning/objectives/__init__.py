"""Objectives: per-image terms to what is maximised."""
