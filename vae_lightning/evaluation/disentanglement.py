r"""Disentanglement: whether single latents stand for single factors of variation, of data whose factors are known.

Five metrics by the protocol of "Challenging common assumptions in the unsupervised learning of disentangled
representations", Locatello et al., 2019, https://arxiv.org/abs/1811.12359, and of its code
(https://github.com/google-research/disentanglement_lib). An image's representation is its posterior mean; all values are
from 0 to 1, higher is better.

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

One thing is not as there: DCI's predictions are by random forests, as in Eastwood and Williams, where Locatello et al. have
gradient boosted trees, which take minutes for a factor of forty values. DCI figures of the two are not comparable.

The last two scores see millions of images, more than there are combinations of factors; then each is encoded once.
"""

import dataclasses
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vae_lightning.arguments import require
from vae_lightning.noise import generator
from vae_lightning.types import Estimate

__all__ = [
    "Codes",
    "DisentanglementSettings",
    "GroundTruth",
    "Score",
    "beta_vae_score",
    "dci",
    "disentanglement_report",
    "factor_vae_score",
    "mutual_information_gap",
    "separated_attribute_predictability",
]

Represent = Callable[[Tensor], Tensor]
"""Images `(B, 1, 28, 28)` on the CPU to their representations `(B, D)`."""
Array = NDArray[Any]

IMAGES_AT_ONCE = 2000
ROWS_AT_ONCE = 2**18


@runtime_checkable
class GroundTruth(Protocol):
    """Data whose images are functions of factors; a factor is given as the number of its value, from 0."""

    @property
    def factor_names(self) -> tuple[str, ...]:
        """Name of each of the F factors."""
        ...

    @property
    def factor_sizes(self) -> tuple[int, ...]:
        """How many values each factor has."""
        ...

    def images_of(self, factors: Tensor) -> Tensor:
        """Images `(N, 1, 28, 28)` in [0, 1] of factors int64 `(N, F)`."""
        ...


@dataclass(frozen=True)
class DisentanglementSettings:
    """The numbers of the protocol."""

    num_train: int = 10_000
    """Images of MIG, training images of SAP and DCI, and training batches of the FactorVAE and beta-VAE scores."""
    num_test: int = 5000
    """Test images, or batches."""
    batch_size: int = 64
    """Images, or pairs of images, a batch."""
    num_variance: int = 10_000
    """Images from which the FactorVAE score knows the variance of each latent."""
    prune_below: float = 0.05
    """Latents of a smaller standard deviation have no vote in the FactorVAE score."""
    num_bins: int = 20
    """Bins of equal width that MIG sorts each latent into."""
    svm_penalty: float = 0.01
    """C of SAP's linear classifiers."""
    num_trees: int = 10
    """Trees of each of DCI's forests."""
    leaf_share: float = 0.01
    """Least share of the training images in a leaf: smaller ones hold noise, which all latents then seem to tell about."""
    num_resamples: int = 100
    """Bootstrap samples for the standard errors of MIG and SAP."""

    def __post_init__(self) -> None:
        for name in ("num_train", "num_test", "batch_size", "num_variance", "num_bins", "num_resamples"):
            require(getattr(self, name) >= 2, f"evaluation.disentanglement.{name}", getattr(self, name), "at least 2")
        require(self.num_trees >= 1, "evaluation.disentanglement.num_trees", self.num_trees, "at least 1")
        require(self.prune_below >= 0, "evaluation.disentanglement.prune_below", self.prune_below, "at least 0")
        require(self.svm_penalty > 0, "evaluation.disentanglement.svm_penalty", self.svm_penalty, "positive")
        require(0 < self.leaf_share <= 0.5, "evaluation.disentanglement.leaf_share", self.leaf_share, "above 0 and at most 0.5")

    @property
    def num_images(self) -> int:
        """How many images a whole report asks for."""
        points = 3 * self.num_train + 2 * self.num_test + self.num_variance
        return points + 3 * self.batch_size * (self.num_train + self.num_test)


class Score(NamedTuple):
    """A metric and its standard error."""

    value: float
    """From 0 to 1."""
    standard_error: float
    """NaN where none is estimated."""


class Codes:
    """Representations by factors.

    Args:
        represent: images to representations.
        data: factors to images.
        expected: how many images will be asked for; if that many combinations of factors do not exist, each is encoded now.
    """

    def __init__(self, represent: Represent, data: GroundTruth, expected: int = 0) -> None:
        self.represent, self.data, self.sizes = represent, data, data.factor_sizes
        self._table: Tensor | None = None
        combinations = torch.Size(self.sizes).numel()
        if combinations <= expected:
            self._table = self._encode(torch.stack(torch.unravel_index(torch.arange(combinations), self.sizes), -1))

    def __call__(self, factors: Tensor) -> Tensor:
        """Representations float32 `(*, D)`, on the CPU, of factors int64 `(*, F)`."""
        rows = factors.flatten(0, -2)
        if self._table is None:
            codes = self._encode(rows)
        else:
            places = torch.tensor([torch.Size(self.sizes[i + 1 :]).numel() for i in range(len(self.sizes))])
            codes = self._table[(rows * places).sum(-1)]
        return codes.view(*factors.shape[:-1], -1)

    def draw(self, count: int, source: torch.Generator) -> Tensor:
        """Factors int64 `(count, F)`, all values equally likely."""
        return torch.stack([torch.randint(size, (count,), generator=source) for size in self.sizes], -1)

    def draw_pairs(self, count: int, source: torch.Generator) -> tuple[Array, Array]:
        """Representations `(count, D)` and factors `(count, F)`."""
        factors = self.draw(count, source)
        return self(factors).double().numpy(), factors.numpy()

    @torch.no_grad()
    def _encode(self, factors: Tensor) -> Tensor:
        codes = torch.empty(0)
        for start in range(0, len(factors), IMAGES_AT_ONCE):
            part = self.represent(self.data.images_of(factors[start : start + IMAGES_AT_ONCE]))
            if start == 0:
                require(part.shape[-1] >= 2, "model.latent_dim", part.shape[-1], "at least 2 for metrics of disentanglement")
                # one block and not many small ones, between which freed memory could not be used again
                codes = torch.empty(len(factors), part.shape[-1])
            codes[start : start + len(part)] = part
        return codes


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


def _by_batch(kept: Tensor, batch_size: int, figures: Callable[[Tensor], Tensor]) -> Tensor:
    """`figures` of the batches that keep the factors `kept` `(N,)`, some batches at a time: `(N, D)`."""
    return torch.cat([figures(part) for part in kept.split(max(1, ROWS_AT_ONCE // batch_size))])


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


# ---- all of them


def disentanglement_report(
    represent: Represent,
    data: GroundTruth,
    binarization: str,
    settings: DisentanglementSettings | None = None,
    seed: int = 0,
) -> dict[str, Estimate]:
    """All metrics of one representation, each a function of `seed` and itself alone.

    `mig`, `sap`, `dci_disentanglement`, `dci_completeness`, `dci_informativeness`, `factor_vae_score`, `beta_vae_score`.

    Args:
        represent: images `(B, 1, 28, 28)` on the CPU to representations `(B, D)`, on any device: the posterior's mean.
        data: factors to images.
        binarization: how `data` binarizes them.

    Raises:
        ConfigurationError: the representation has fewer than two dimensions.
    """
    settings = settings or DisentanglementSettings()
    started = time.perf_counter()
    codes = Codes(represent, data, expected=settings.num_images)
    encoding = time.perf_counter() - started
    told = {**dataclasses.asdict(settings), "seed": seed, "representation": "posterior mean"}
    report = {}
    for names, metric in METRICS.items():
        started = time.perf_counter()
        found = metric(codes, settings, generator(seed, "disentanglement", *names))
        seconds = encoding + time.perf_counter() - started
        for name, score in zip(names, (found,) if isinstance(found, Score) else found, strict=True):
            count, how = ESTIMATORS[name](settings)
            report[name] = Estimate(*score, count, 0, binarization, how, told, seconds, section="disentanglement")
    return report


METRICS: dict[tuple[str, ...], Callable[[Codes, DisentanglementSettings, torch.Generator], Score | tuple[Score, ...]]] = {
    ("mig",): mutual_information_gap,
    ("sap",): separated_attribute_predictability,
    ("dci_disentanglement", "dci_completeness", "dci_informativeness"): dci,
    ("factor_vae_score",): factor_vae_score,
    ("beta_vae_score",): beta_vae_score,
}
"""What computes them, by the names of the figures that come out."""
ESTIMATORS: dict[str, Callable[[DisentanglementSettings], tuple[int, str]]] = {
    "mig": lambda s: (s.num_train, "mutual information gap, by histogram; error by bootstrap over images"),
    "sap": lambda s: (s.num_test, "gap of accuracies of linear classifiers; error by bootstrap over test images"),
    "dci_disentanglement": lambda s: (s.num_train, "each latent counts for one factor only; random forests, no error estimated"),
    "dci_completeness": lambda s: (s.num_train, "for each factor counts one latent only; random forests, no error estimated"),
    "dci_informativeness": lambda s: (s.num_test, "accuracy of random forests, mean over factors; error over test images"),
    "factor_vae_score": lambda s: (s.num_test * s.batch_size, "accuracy of a majority vote; error over test batches"),
    "beta_vae_score": lambda s: (2 * s.num_test * s.batch_size, "accuracy of logistic regression; error over test batches"),
}
"""How many images each figure is of, and how it is estimated."""
