"""Inference: estimators of what a model does not say in closed form; they see only the protocol."""
