"""Distributions of latents and images: noise to samples, likelihoods, priors, posteriors."""
