"""Trained models for other programs: their functions as graphs, their weights as safetensors, a card that says what they are."""
