"""Evaluation: estimates with standard errors, each from a part that registers itself; it sees models only by the protocol."""
