"""Evaluation: figures with standard errors, and the report that holds them; it sees only the protocol."""
