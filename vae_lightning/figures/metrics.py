"""Metrics and estimates as figures: learning curves, rate against distortion, what a classifier confuses."""

from collections.abc import Mapping

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from vae_lightning.abilities import Labels
from vae_lightning.arguments import require
from vae_lightning.figures.registry import declare, needs_classifier, needs_latent
from vae_lightning.figures.style import MOST_TICKS, figure, named, show_tiles
from vae_lightning.figures.subject import Subject
from vae_lightning.types import Estimate

__all__ = ["confusion_matrix", "curves_in", "learning_curves", "mistakes", "nll_convergence", "rate_distortion"]

History = Mapping[str, tuple[Tensor, Tensor]]
"""By `split/metric`: optimizer steps `(N,)` and values `(N,)`."""
TITLES = {
    "elbo": "ELBO (nats)",
    "iwae_bound": "importance-weighted bound (nats)",
    "log_likelihood": "log-likelihood, log p(x | z) (nats)",
    "kl": "KL(q(z | x) || p(z)) (nats)",
    "loss": "loss",
    "accuracy": "accuracy",
}


def _curves(subject: Subject) -> str | None:
    return None if curves_in(subject.history) else "the run logged no metric to TensorBoard or CSV"


def _rates(subject: Subject) -> str | None:
    return None if subject.rates else "the model has no latent"


def _several_k(subject: Subject) -> str | None:
    return None if len(subject.convergence) > 1 else "the nll was estimated with one K only: evaluation=full has several"


@declare("learning_curves", "training", _curves)
def _learning_curves(s: Subject) -> Figure:
    """Training (means since the entry before) and validation over optimizer steps; the dotted line is the checkpoint of this page.

    Good: both improve and stay together. Validation that turns while training goes on is overfitting.
    """
    return learning_curves(s.history, s.step)


@declare("rate_distortion", "training", _rates)
def _rate_distortion(s: Subject) -> Figure:
    """Rate (KL) against distortion (-log-likelihood), nats per image; along a grey line the ELBO is the same.

    Good: far to the lower left, test close to train. A rate near 0 is a collapsed posterior; a larger beta moves a model to the
    upper left.
    """
    return rate_distortion(s.rates)


@declare("nll_convergence", "training", needs_latent, _several_k)
def _nll_convergence(s: Subject) -> Figure:
    """-log p(x), of a conditional model -log p(x | y), of test images against K, the number of importance samples, with its error.

    Dashed, how far other estimators are from the last point, going by the images for which all were computed. Good: the curve has
    become level, and the others are no lower.
    """
    return nll_convergence(s.convergence, s.estimates, conditional=s.num_classes > 0)


@declare("confusion_matrix", "classifier", needs_classifier)
def _confusion_matrix(s: Subject) -> Figure:
    """Test images by label and predicted class.

    Good: nothing beside the diagonal.
    """
    return confusion_matrix(s.y, s.probabilities.argmax(-1), s.probabilities.shape[-1], s.labels)


@declare("mistakes", "classifier", needs_classifier)
def _mistakes(s: Subject) -> Figure:
    """Test images whose class is wrong, the most confident first: label, prediction, probability given to it.

    Good: few, and such that one would hesitate oneself.
    """
    return mistakes(s.x, s.y, s.probabilities, labels=s.labels)


def learning_curves(history: History, step: int | None = None) -> Figure:
    """Training (mean since the entry before) and validation of each metric over optimizer steps; the weights' `step` is marked."""
    names = curves_in(history)
    require(bool(names), "history", sorted(history), f"of a training that logged one of {', '.join(TITLES)}")
    # two in a row, so that a phone shows them as large as it can
    columns, rows = min(2, len(names)), -(-len(names) // 2)
    fig, axes = figure(3.1 * columns, 2.6 * rows, rows=rows, columns=columns, squeeze=False)
    for panel in axes.flat[len(names) :]:
        fig.delaxes(panel)
    for panel, name in zip(axes.flat, names, strict=False):
        for split, style in (("train", {"lw": 0.8, "alpha": 0.8}), ("val", {"lw": 1.6, "marker": ".", "ms": 4})):
            if f"{split}/{name}" in history:
                steps, values = history[f"{split}/{name}"]
                panel.plot(steps.numpy(), values.numpy(), label=split, **style)
        _limit_to_the_later_part(panel, history, name)
        if step is not None:
            panel.axvline(step, color="0.6", lw=0.8, ls=":", label="these weights")
        panel.set(title=TITLES[name], xlabel="optimizer step")
    axes[0, 0].legend()
    return fig


def curves_in(history: History) -> list[str]:
    """The metrics of `history` that `learning_curves` draws."""
    names = [name for name in TITLES if f"train/{name}" in history or f"val/{name}" in history]
    # beside an ELBO, the loss is minus it, or what beta or a capacity made of it
    return [name for name in names if name != "loss" or "elbo" not in names]


def _limit_to_the_later_part(panel, history: History, name: str) -> None:  # type: ignore[no-untyped-def]
    """The first steps are far from all others, and would press these into a line."""
    values = torch.cat([history[key][1] for key in (f"train/{name}", f"val/{name}") if key in history]).double()
    low, high = values.quantile(torch.tensor([0.03, 0.97], dtype=torch.float64)).tolist()
    if high > low:
        margin = 0.15 * (high - low)
        panel.set_ylim(low - margin, high + margin)


def rate_distortion(points: Mapping[str, tuple[float, float]]) -> Figure:
    """Rate (KL) and distortion (-log-likelihood) of each named split in nats an image, on lines of equal ELBO.

    "Fixing a broken ELBO", Alemi et al., 2018, https://arxiv.org/abs/1711.00464.
    """
    fig, axes = figure(4.6, 3.6)
    for (name, (rate, distortion)), marker in zip(points.items(), "osD^v", strict=False):
        axes.plot([rate], [distortion], marker, ms=8, label=f"{name}: ELBO {-rate - distortion:.1f}")
    rates, distortions = zip(*points.values(), strict=True)
    aside, above = max(2.0, 0.3 * max(rates)), max(3.0, 0.05 * max(abs(d) for d in distortions))
    low, high = max(0.0, min(rates) - aside), max(rates) + aside
    bottom, top = min(distortions) - above, max(distortions) + above
    for total in torch.linspace(low + bottom, high + top, 9).tolist():
        axes.plot([low, high], [total - low, total - high], color="0.85", lw=0.7, zorder=0)
    axes.set(xlim=(low, high), ylim=(bottom, top), xlabel="rate: KL (nats)", ylabel="distortion: -log p(x | z) (nats)")
    axes.set_title("grey lines: equal ELBO")
    axes.legend()
    return fig


def nll_convergence(curve: Mapping[int, Estimate], estimates: Mapping[str, Estimate], conditional: bool = False) -> Figure:
    """-log p(x) in nats against K, with its standard error over images.

    `estimates` are of fewer images, the same for all. Where "importance" is among them, with as many samples as the end of
    the curve, the others are drawn as levels as far from that end as they are from it.
    """
    fig, axes = figure(5.6, 3.6)
    counts, points = list(curve), list(curve.values())
    axes.errorbar(
        counts,
        [e.value for e in points],
        [e.standard_error for e in points],
        marker="o",
        capsize=3,
        label=f"importance sampling, {points[-1].num_images:,} images",
    )
    same = estimates.get("importance")
    others = {name: e for name, e in estimates.items() if same and e is not same}
    for number, (name, e) in enumerate(others.items(), start=1):
        assert same is not None
        distance = e.value - same.value
        label = f"{name.replace('_', ' ')}: {distance:+.2f} on {e.num_images:,} images"
        axes.axhline(points[-1].value + distance, color=f"C{number}", ls="--", lw=1, label=label)
    quantity = "log p(x | y)" if conditional else "log p(x)"
    axes.set(xscale="log", xlabel="K", ylabel=f"-{quantity} (nats)", title="level: more samples would change nothing")
    axes.set_xticks(counts, [f"{count:,}" for count in counts])
    axes.minorticks_off()
    axes.legend()
    return fig


def confusion_matrix(y: Tensor, predicted: Tensor, classes: int | None = None, labels: Labels | None = None) -> Figure:
    """How many images of each class `y` `(N,)` were taken for each class `predicted` `(N,)`.

    Args:
        classes: how many there are; None: as many as are seen.
    """
    y, predicted, labels = y.cpu(), predicted.cpu(), labels or Labels()
    if classes is None:
        classes = int(torch.cat([y, predicted]).max()) + 1
    counts = torch.bincount(y * classes + predicted, minlength=classes**2).view(classes, classes)
    grown = max(1.0, classes / 12)
    fig, axes = figure(min(5.2 * grown, 12), min(4.6 * grown, 11))
    # the diagonal is a hundred times the rest, so the colours are of shares on a scale of roots
    shares = (counts / counts.sum(1, keepdim=True).clamp(min=1)).sqrt()
    axes.imshow(shares.numpy(), cmap="Blues", vmin=0, vmax=1)
    if classes <= MOST_TICKS:
        _write_counts(axes, counts, shares)
    shown = range(0, classes, -(-classes // MOST_TICKS))
    names = labels.listed(list(shown))
    axes.set_xticks(shown, names if labels.names else None)
    axes.set_yticks(shown, names if labels.names else None)
    named(names, axes.xaxis)
    accuracy = float(counts.diagonal().sum() / counts.sum())
    axes.set(xlabel="predicted", ylabel="label", title=f"{len(y):,} images, accuracy {accuracy:.4f}")
    axes.spines[:].set_visible(False)
    return fig


def _write_counts(axes: Axes, counts: Tensor, shares: Tensor) -> None:
    """Each count that is not 0, in its field."""
    for row, column in counts.nonzero().tolist():
        color = "white" if shares[row, column] > 0.6 else "black"
        axes.text(column, row, f"{int(counts[row, column])}", ha="center", va="center", fontsize=8, color=color)


def mistakes(x: Tensor, y: Tensor, probabilities: Tensor, count: int = 20, labels: Labels | None = None) -> Figure:
    """The images that the classifier got wrong while most sure: `probabilities` `(N, C)`."""
    labels = labels or Labels()
    confidence, predicted = probabilities.max(-1)
    wrong = (predicted != y).nonzero().squeeze(-1)
    chosen = wrong[confidence[wrong].argsort(descending=True)][:count]
    rows = max(1, -(-len(chosen) // 10))
    fig, axes = figure(7, 0.85 * rows + 0.9, rows=rows, columns=10, squeeze=False)
    for panel in axes.flat:
        panel.axis("off")
    for panel, place in zip(axes.flat, chosen.tolist(), strict=False):
        show_tiles(panel, x[place : place + 1], 1)
        pair = labels.name(int(y[place])), labels.name(int(predicted[place]))
        between = " as " if max(map(len, pair)) <= 3 else "\nas "
        panel.set_title(f"{between.join(pair)}\n{float(confidence[place]):.1%}", fontsize=7)
    fig.suptitle(f"{len(wrong)} of {len(y):,} images are wrong; the most confident of them, label as prediction")
    return fig
