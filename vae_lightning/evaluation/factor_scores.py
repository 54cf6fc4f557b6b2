r"""Scores of disentanglement: how far single latents stand for single factors of variation.

- MIG, the mutual information gap ("Isolating sources of disentanglement in variational autoencoders", Chen et al., 2018,
  https://arxiv.org/abs/1802.04942): by how much the latent that tells most about a factor tells more than the second, as a
  share of the factor's entropy, mean over factors.
- SAP, separated attribute predictability ("Variational inference of disentangled latent concepts from unlabeled
  observations", Kumar, Sattigeri and Balakrishnan, 2018, https://arxiv.org/abs/1711.00848): the same gap of the accuracies of
  linear classifiers that see one latent each.
- DCI ("A framework for the quantitative evaluation of disentangled representations", Eastwood and Williams, 2018,
  https://openreview.net/forum?id=By-7dz-AZ): how much each latent counts for predicting each factor. Disentanglement: a latent
  counts for one factor only; completeness: for a factor one latent only counts; informativeness: accuracy of the predictions.
- FactorVAE score ("Disentangling by factorising", Kim and Mnih, 2018, https://arxiv.org/abs/1802.05983): accuracy of telling
  which factor was kept in a batch from the latent that varies least.
- beta-VAE score ("beta-VAE: learning basic visual concepts with a constrained variational framework", Higgins et al., 2017,
  https://openreview.net/forum?id=Sy2fzU9gl): accuracy of telling which factor pairs of images share from how far apart their
  latents are.

One thing is not as in the protocol of Locatello et al., 2019, https://arxiv.org/abs/1811.12359: DCI's predictions are by
random forests, as in Eastwood and Williams, where Locatello et al. have gradient boosted trees, which take minutes for a
factor of forty values. DCI scores of the two are not comparable.

The last two scores see millions of images, more than there are combinations of factors; then each is encoded once.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from vae_lightning.evaluation.factor_codes import Array, Codes, DisentanglementSettings
from vae_lightning.inference.chunks import over_chunks, rows_at_once

__all__ = ["Score", "beta_vae_score", "dci", "factor_vae_score", "mutual_information_gap", "separated_attribute_predictability"]

ROWS_AT_ONCE = 2**18


class Score(NamedTuple):
    """A metric and its standard error.

    >>> Score(0.5, 0.01).value
    0.5
    """

    value: float
    """The metric, from 0 to 1."""
    standard_error: float
    """Standard error of `value`; NaN if none is estimated."""


# ---- gaps between the best latent and the second


def mutual_information_gap(codes: Codes, settings: DisentanglementSettings, source: torch.Generator) -> Score:
    """MIG over `num_train` images; its standard error by bootstrap over them."""
    z, factors = codes.draw_pairs(settings.num_train, source)
    bins = np.stack([_histogram_bins(latent, settings.num_bins) for latent in z.T])
    weights = _resamples(settings, len(z), source)
    gaps = [_gap(_normalised_information(bins, factors, codes.sizes, w)) for w in [np.ones(len(z)), *weights]]
    return Score(gaps[0], float(np.std(gaps[1:], ddof=1)))


def _histogram_bins(latent: Array, num_bins: int) -> Array:
    """Which of `num_bins` bins of equal width each value `(N,)` lies in, from 0."""
    edges = np.histogram_bin_edges(latent, num_bins)
    return np.digitize(latent, edges[:-1]) - 1


def _normalised_information(bins: Array, factors: Array, sizes: tuple[int, ...], weights: Array) -> Array:
    """Mutual information of latents in bins `(D, N)` and factors `(N, F)` as a share of each factor's entropy, `(D, F)`."""
    information = np.zeros((len(bins), len(sizes)))
    for j, size in enumerate(sizes):
        entropy = _entropy(np.bincount(factors[:, j], weights, size))
        for i, latent in enumerate(bins):
            joint = np.bincount(latent * size + factors[:, j], weights, size * (latent.max() + 1)).reshape(-1, size)
            shared = _entropy(joint.sum(1)) + entropy - _entropy(joint.ravel())
            information[i, j] = shared / entropy if entropy > 0 else 0.0
    return information


def _entropy(counts: Array) -> float:
    """Entropy of the distribution with these counts, nats."""
    p = counts[counts > 0] / counts.sum()
    return float(-(p * np.log(p)).sum())


def separated_attribute_predictability(codes: Codes, settings: DisentanglementSettings, source: torch.Generator) -> Score:
    """SAP; its standard error by bootstrap over the test images, the classifiers being as they are."""
    z, factors = codes.draw_pairs(settings.num_train, source)
    z_test, factors_test = codes.draw_pairs(settings.num_test, source)
    hits = np.stack(
        [_linear_hits(z[:, i : i + 1], factors, z_test[:, i : i + 1], factors_test, settings) for i in range(z.shape[1])]
    )
    resampled = [_gap(hits @ w / len(z_test)) for w in _resamples(settings, len(z_test), source)]
    return Score(_gap(hits.mean(-1)), float(np.std(resampled, ddof=1)))


def _linear_hits(z: Array, factors: Array, z_test: Array, factors_test: Array, settings: DisentanglementSettings) -> Array:
    """Whether one latent, `(N, 1)` and `(M, 1)`, gives each factor of each test image right, `(F, M)`."""
    from sklearn.svm import LinearSVC

    hits = np.zeros((factors.shape[1], len(z_test)))
    for j in range(len(hits)):
        values = np.unique(factors[:, j])
        # a dead latent always predicts the same value; in a tiny set a factor may have but one
        if np.ptp(z) < 1e-6 or len(values) == 1:
            predicted = np.full(len(z_test), values[0])
        else:
            classifier = LinearSVC(C=settings.svm_penalty, class_weight="balanced", dual=False)
            predicted = classifier.fit(z, factors[:, j]).predict(z_test)
        hits[j] = predicted == factors_test[:, j]
    return hits


def _gap(scores: Array) -> float:
    """By how much the best latent of each factor is better than the second, mean over factors, of scores `(D, F)`."""
    ordered = np.sort(scores, axis=0)
    return float((ordered[-1] - ordered[-2]).mean())


def _resamples(settings: DisentanglementSettings, count: int, source: torch.Generator) -> Array:
    """How often each of `count` points is in each of the bootstrap samples, `(R, count)`."""
    drawn = torch.randint(count, (settings.num_resamples, count), generator=source)
    return torch.zeros(drawn.shape).scatter_add_(1, drawn, torch.ones(drawn.shape)).numpy()


# ---- how much each latent counts


def dci(codes: Codes, settings: DisentanglementSettings, source: torch.Generator) -> tuple[Score, Score, Score]:
    """Disentanglement, completeness and informativeness.

    The standard error of informativeness is over test images. The other two have none: theirs would need other forests.
    """
    z, factors = codes.draw_pairs(settings.num_train, source)
    z_test, factors_test = codes.draw_pairs(settings.num_test, source)
    seed = int(torch.randint(2**31, (), generator=source))
    importance, hits = _forests(z, factors, z_test, factors_test, settings, seed)
    accuracy = hits.mean(0)  # of each image, over factors, which are not independent
    error = float(accuracy.std(ddof=1) / np.sqrt(len(accuracy)))
    nothing = float("nan")
    return (
        Score(_concentration(importance), nothing),
        Score(_concentration(importance.T), nothing),
        Score(float(accuracy.mean()), error),
    )


def _forests(
    z: Array, factors: Array, z_test: Array, factors_test: Array, settings: DisentanglementSettings, seed: int
) -> tuple[Array, Array]:
    """How much each latent counts for each factor, `(D, F)`, and whether test images' factors are predicted, `(F, M)`."""
    from sklearn.ensemble import RandomForestClassifier

    importance, hits = [], []
    for j in range(factors.shape[1]):
        # with all latents to choose from at each split, so that one that tells nothing is chosen by none
        forest = RandomForestClassifier(
            settings.num_trees, min_samples_leaf=settings.leaf_share, max_features=None, random_state=seed
        )
        forest.fit(z, factors[:, j])
        importance.append(forest.feature_importances_)
        hits.append(forest.predict(z_test) == factors_test[:, j])
    return np.stack(importance, -1), np.stack(hits)


def _concentration(importance: Array) -> float:
    """How far each row of importances `(A, B)` counts for one column alone, mean over rows by how much they count."""
    total = importance.sum()
    if total == 0:
        return 0.0
    rows = [row for row in importance if row.sum() > 0]
    return float(sum(row.sum() / total * (1 - _entropy(row) / np.log(importance.shape[1])) for row in rows))


# ---- which factor was kept


def factor_vae_score(codes: Codes, settings: DisentanglementSettings, source: torch.Generator) -> Score:
    """The FactorVAE score: a majority vote of the least varying latent; its standard error is binomial over test batches."""
    scale = codes(codes.draw(settings.num_variance, source)).double().std(0)
    active = scale >= settings.prune_below
    if not active.any():
        return Score(0.0, float("nan"))

    def votes(count: int) -> tuple[Tensor, Tensor]:
        kept = torch.randint(len(codes.sizes), (count,), generator=source)
        spread = _by_batch(kept, settings.batch_size, lambda part: _spread_of_batches(codes, part, settings.batch_size, source))
        return (spread / scale)[:, active].argmin(-1), kept

    latent, kept = votes(settings.num_train)
    count = torch.zeros(int(active.sum()), len(codes.sizes), dtype=torch.int64)
    count.index_put_((latent, kept), torch.tensor(1), accumulate=True)
    latent, kept = votes(settings.num_test)
    return _accuracy(count.argmax(-1)[latent] == kept)


def beta_vae_score(codes: Codes, settings: DisentanglementSettings, source: torch.Generator) -> Score:
    """The beta-VAE score: logistic regression on mean distances of pairs; its standard error is binomial over test batches."""
    from sklearn.linear_model import LogisticRegression

    def distances(count: int) -> tuple[Array, Array]:
        kept = torch.randint(len(codes.sizes), (count,), generator=source)
        apart = _by_batch(kept, settings.batch_size, lambda part: _distance_of_pairs(codes, part, settings.batch_size, source))
        return apart.numpy(), kept.numpy()

    classifier = LogisticRegression(max_iter=1000).fit(*distances(settings.num_train))
    apart, kept = distances(settings.num_test)
    return _accuracy(torch.from_numpy(classifier.predict(apart) == kept))


def _by_batch(kept: Tensor, batch_size: int, compute: Callable[[Tensor], Tensor]) -> Tensor:
    """`compute` of the batches that keep the factors `kept` `(N,)`, some batches at a time: `(N, D)`."""
    return over_chunks(compute, kept, size=rows_at_once(ROWS_AT_ONCE, batch_size))


def _spread_of_batches(codes: Codes, kept: Tensor, batch_size: int, source: torch.Generator) -> Tensor:
    """Standard deviation of each latent in batches whose images share the factor `kept` `(N,)`: `(N, D)`."""
    factors = codes.draw(len(kept) * batch_size, source).view(len(kept), batch_size, -1)
    return codes(_keep(factors, factors[:, :1], kept)).double().std(1)


def _distance_of_pairs(codes: Codes, kept: Tensor, batch_size: int, source: torch.Generator) -> Tensor:
    """Mean distance in each latent of pairs that share the factor `kept` `(N,)`, each its own value: `(N, D)`."""
    one, other = (codes.draw(len(kept) * batch_size, source).view(len(kept), batch_size, -1) for _ in range(2))
    return (codes(one) - codes(_keep(other, one, kept))).abs().double().mean(1)


def _keep(factors: Tensor, like: Tensor, kept: Tensor) -> Tensor:
    """Factors `(N, B, F)` with the one that `kept` `(N,)` names replaced by that of `like`."""
    return torch.where(torch.arange(factors.shape[-1]) == kept.view(-1, 1, 1), like, factors)


def _accuracy(hits: Tensor) -> Score:
    share = hits.double().mean().item()
    return Score(share, float(np.sqrt(share * (1 - share) / len(hits))))
