"""A researcher's own parts for vae_lightning, which knows nothing of them."""
