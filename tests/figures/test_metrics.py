"""Numbers that a figure shows are the numbers that it was given."""

import torch
from torch import Tensor

from vae_lightning.figures.catalog import CATALOG
from vae_lightning.figures.metrics import confusion_matrix, learning_curves, mistakes, nll_convergence, rate_distortion
from vae_lightning.figures.subject import Subject
from vae_lightning.types import Estimate


def test_confusion_matrix_counts_labels_by_prediction() -> None:
    labels, predicted = torch.tensor([0, 0, 0, 1, 2, 2]), torch.tensor([0, 0, 1, 1, 0, 0])
    axes = confusion_matrix(labels, predicted, classes=3).axes[0]
    shown = {(round(text.get_position()[1]), round(text.get_position()[0])): int(text.get_text()) for text in axes.texts}
    assert shown == {(0, 0): 2, (0, 1): 1, (1, 1): 1, (2, 0): 2}
    assert axes.get_title() == "6 images, accuracy 0.5000"


def test_mistakes_are_the_wrong_ones_with_the_most_confident_first(x: Tensor, y: Tensor, shown) -> None:  # type: ignore[no-untyped-def]
    probabilities = torch.nn.functional.one_hot(y, 10).float() * 0.9 + 0.01
    for place, confidence in ((3, 0.6), (17, 0.8)):
        probabilities[place] = (1 - confidence) / 9
        probabilities[place, (y[place] + 1) % 10] = confidence
    made = mistakes(x, y, probabilities)
    titles = [axes.get_title() for axes in made.axes if axes.images]
    assert titles == ["7 as 8\n80.0%", "3 as 4\n60.0%"]
    assert torch.equal(shown(made.axes[0])[0, 0], x[17, 0])
    assert made.get_suptitle().startswith("2 of 40")


def test_classifier_without_mistakes_says_so(x: Tensor, y: Tensor) -> None:
    assert mistakes(x, y, torch.nn.functional.one_hot(y, 10).float()).get_suptitle().startswith("0 of 40")


def test_convergence_of_an_nll_is_not_asked_of_a_classifier(x: Tensor, y: Tensor) -> None:
    assert CATALOG["nll_convergence"].unfit(Subject(model=torch.nn.Identity(), x=x, y=y)) == "the model has no latent"


def test_learning_curves_show_both_splits_and_mark_the_checkpoint() -> None:
    steps = torch.arange(0, 100, 10)
    history = {
        "train/elbo": (steps, -200.0 + steps),
        "val/elbo": (steps[::2], -210.0 + steps[::2]),
        "val/kl": (steps, steps / 5),
        "train/loss": (steps, steps * 1.0),
        "lr-Adam": (steps, steps * 0.0),
    }
    made = learning_curves(history, step=60)
    assert [axes.get_title() for axes in made.axes] == ["ELBO (nats)", "KL(q(z | x) || p(z)) (nats)"]
    lines = {line.get_label(): line for line in made.axes[0].lines}
    assert lines["train"].get_ydata().tolist() == history["train/elbo"][1].tolist()
    assert lines["val"].get_xdata().tolist() == steps[::2].tolist()
    assert lines["these weights"].get_xdata() == [60, 60]


def test_learning_curves_stand_two_in_a_row_so_that_a_phone_shows_them_large() -> None:
    steps = torch.arange(10)
    history = {f"val/{name}": (steps, steps * 1.0) for name in ("elbo", "log_likelihood", "kl")}
    made = learning_curves(history)
    assert len(made.axes) == 3, "no empty panel"
    assert made.get_size_inches()[0] < 6.5
    assert made.axes[2].get_subplotspec().rowspan.start == 1


def test_convergence_shows_each_k_and_other_estimators_as_levels() -> None:
    curve = {k: Estimate(90.0 + 5 / k, 0.2, 10_000, k, "dynamic", "") for k in (1, 10, 100)}
    own, other = Estimate(88.0, 0.9, 30, 100, "dynamic", ""), Estimate(87.5, 0.9, 30, 16, "dynamic", "")
    (axes,) = nll_convergence(curve, {"importance": own, "ais_from_encoder": other}).axes
    points, level = axes.lines[0], next(line for line in axes.lines if line.get_linestyle() == "--")
    assert points.get_xydata().tolist() == [[1, 95.0], [10, 90.5], [100, 90.05]]
    # half a nat below, on the same images
    assert set(level.get_ydata()) == {89.55}
    texts = [text.get_text() for text in axes.get_legend().get_texts()]
    assert texts == ["ais from encoder: -0.50 on 30 images", "importance sampling, 10,000 images"]
    assert axes.get_ylabel() == "-log p(x) (nats)"
    (axes,) = nll_convergence(curve, {}, conditional=True).axes
    assert axes.get_ylabel() == "-log p(x | y) (nats)"
    assert not [line for line in nll_convergence(curve, {"ais": other}).axes[0].lines if line.get_linestyle() == "--"]


def test_rate_distortion_points_lie_on_a_line_of_their_elbo() -> None:
    axes = rate_distortion({"test": (25.0, 75.0), "train": (26.0, 73.0)}).axes[0]
    points = {line.get_label(): (line.get_xdata()[0], line.get_ydata()[0]) for line in axes.lines if len(line.get_xdata()) == 1}
    assert points == {"test: ELBO -100.0": (25, 75), "train: ELBO -99.0": (26, 73)}
    for line in axes.lines:
        if len(line.get_xdata()) == 2:
            totals = [x + y for x, y in zip(line.get_xdata(), line.get_ydata(), strict=True)]
            assert abs(totals[0] - totals[1]) < 1e-9
