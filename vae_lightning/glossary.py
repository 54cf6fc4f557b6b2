"""What each metric is, in one sentence: shown in TensorBoard and in reports. `docs/glossary.md` says more."""

__all__ = ["GLOSSARY", "meaning"]

GLOSSARY: dict[str, str] = {
    "elbo": "Lower bound of log p(x), or of log p(x given y) for a conditional model: log_likelihood - kl, unweighted; nats.",
    "log_likelihood": "Mean of log p(x given z) over samples z of the posterior: minus the reconstruction error; nats.",
    "kl": "KL(q(z given x) to p(z)): nats the latent tells about the image; near 0, the posterior has collapsed.",
    "loss": "What is minimised: minus the objective, with beta, capacity or K samples in it; a classifier's cross-entropy; nats.",
    "iwae_bound": "Importance-weighted bound of log p(x) on K samples, at least the ELBO in expectation; nats.",
    "elbo_marginal": "Lower bound of log p(x) of M2: its ELBOs averaged by q(y given x), less KL(q(y given x) to p(y)); nats.",
    "accuracy": "Share of images whose class is right; in training, of those that have a label.",
    "nll": "-log p(x) by importance sampling with K samples of the posterior: an upper bound in expectation; nats.",
    "nll_marginal": "-log p(x) of a conditional model, its labels summed out as equally likely; nats.",
    "effective_sample_size": "How many of the K importance samples count: near 1, the nll is a loose bound.",
    "active_units": "Latent dimensions whose posterior mean varies over images by a variance above 0.01.",
    "kl_per_dimension": "The KL of each latent dimension by itself; near 0, the dimension tells nothing; nats.",
    "gradient_norm": "Norm over all parameters of the gradient of the last step before the log entry, after clipping.",
    "images_per_second": "Training images a second of an epoch, its validation left out.",
    "lr": "Learning rate of the optimizer that is named after it.",
    "epoch": "Passes over the training images that were complete.",
}
"""What each metric is, by its name without the split."""


def meaning(key: str) -> str:
    """What a logged metric is, by its key as loggers have it.

    >>> meaning("val/kl_per_dimension/03") == GLOSSARY["kl_per_dimension"]
    True

    Raises:
        KeyError: the glossary does not know it.
    """
    named = key.partition("/")[2] or key
    return GLOSSARY[named.partition("/")[0].partition("-")[0]]
