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
    "nll": "-log p(x), by the estimator named beside it: an upper bound in expectation unless that is exact; nats.",
    "nll_marginal": "-log p(x) of a conditional model, its labels summed out as equally likely; nats.",
    "variational_gap": "-nll less elbo, image by image: how far the bound is below log p(x), by this many samples; nats.",
    "effective_sample_size": "How many of the importance samples, or chains, count: near 1, the nll is a loose bound.",
    "active_units": "Latent dimensions whose posterior mean varies over images by a variance above 0.01.",
    "kl_per_dimension": "The KL of each latent dimension by itself; near 0, the dimension tells nothing; nats.",
    "nll_less_exact": "How far an estimate of -log p(x) is above the exact value by quadrature, image by image; nats.",
    "nll_of_class": "-log p(x given y) of the images of one class; nats.",
    "nll_unseen": "-log p(unseen quadrants given the observed ones), of any model, by masked inference; nats.",
    "bayes_accuracy": "Share of images whose label is the likeliest by Bayes' rule from p(x given y) of a conditional model.",
    "acceptance": "Mean acceptance probability of the Hamiltonian trajectories of annealed importance sampling; 0.65 is wanted.",
    "bdmc": "Lower and upper bound of log p(x) of images simulated from the model, and their gap: how far AIS may be off; nats.",
    "gap": "log p(x), the ELBO of the best Gaussian of each image, that of the encoder, and the gaps between them; nats.",
    "rate": "The kl, as rate-distortion theory calls it: nats the latent costs.",
    "distortion": "Minus the log_likelihood: nats the image costs once the latent is known.",
    "mutual_information": "I(x; z) of the images at hand and their posteriors, at most the log of their number; nats.",
    "aggregate_kl": "KL of the mean of all posteriors to the prior: what samples from the prior miss; nats.",
    "frechet_distance": "Frechet distance between samples and test images in the features of the classifier, at the stated number.",
    "frechet_distance_infinity": "The same, extrapolated to infinitely many images.",
    "kernel_distance": "Unbiased squared maximum mean discrepancy in the same features, polynomial kernel.",
    "accuracy_samples": "Share of conditional samples in which the classifier sees the label they were drawn for.",
    "accuracy_real": "Share of real test images that the judging classifier gets right.",
    "accuracy_gap": "accuracy_samples less accuracy_real.",
    "confidence_samples": "Mean of the classifier's largest class probability on samples; confidence_real on test images.",
    "class_entropy": "Entropy of the classes that the classifier sees in samples; the log of their number is balance; nats.",
    "class_balance_tv": "Total variation between the classes of samples and of test images, 0 to 1.",
    "linear_probe_accuracy": "Accuracy of logistic regression on posterior means, learned on training images.",
    "knn_accuracy": "Accuracy of the nearest neighbours among posterior means of training images.",
    "mig": "Mutual information gap: of each factor, between the two latents that know most of it; 0 to 1.",
    "sap": "Separated attribute predictability: the gap between the two latents that predict a factor best.",
    "dci_disentanglement": "How far each latent is important for one factor only; 0 to 1.",
    "dci_completeness": "How far each factor is in one latent only; 0 to 1.",
    "dci_informativeness": "Accuracy with which random forests predict the factors from the latents.",
    "factor_vae_score": "Accuracy of telling the fixed factor of a batch from the latent that varies least.",
    "beta_vae_score": "Accuracy of telling the fixed factor of a batch from mean differences of latents.",
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
