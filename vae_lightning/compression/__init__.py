"""Images through a latent-variable model to a file and back, lossless: bits-back coding in arithmetic that is fixed to the bit."""
