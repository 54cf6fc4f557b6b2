"""Contract tests for parts of one's own: what a net, likelihood, prior, posterior, objective, model or data module must fulfil."""
