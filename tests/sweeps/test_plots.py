"""Plots of a table: what each shows, and that none touches matplotlib's global state."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pytest
from hand_made_sweeps import evaluated, make_sweep

from vae_lightning.figures.style import png, style
from vae_lightning.sweeps import plots
from vae_lightning.sweeps.table import Table, table_of


def values(settings: Mapping[str, Any]) -> dict[str, list[float]] | None:
    beta, latents, seed = settings["model.beta"], settings["model.latent_dim"], settings["seed"]
    if (beta, latents) == (10, 4):
        return None
    rate = latents * 3 / beta + 0.1 * seed
    distortion = 70 + 30 * math.exp(-rate / 5)
    return {"elbo": [-rate - distortion, -rate - distortion - 9], "log_likelihood": [-distortion] * 2, "kl": [rate, rate]}


@pytest.fixture
def table(tmp_path: Path) -> Table:
    record = make_sweep(tmp_path, {"model.beta": [10, 1, 4], "model.latent_dim": [2, 4], "seed": [0, 1]}, values)
    evaluated(tmp_path / record.jobs[0].folder, active_units=2.0, nll=88.0)
    return table_of(tmp_path, record)


def lines(axes: Any) -> list[tuple[list[float], list[float]]]:
    return [(np.asarray(line.get_xdata()).tolist(), np.asarray(line.get_ydata()).tolist()) for line in axes.get_lines()]


def test_all_that_fits_is_drawn_and_pyplot_knows_of_none(table: Table) -> None:
    with style():
        drawn = [(name, caption, png(figure)) for name, caption, figure in plots.drawn(table)]
    assert [name for name, _, _ in drawn] == ["seeds", "differences", "heat_maps", "rate_distortion", "parallel_coordinates"]
    assert all(caption.endswith(".") and content.startswith(b"\x89PNG") for _, caption, content in drawn)
    assert plt.get_fignums() == []


def test_seeds_are_points_and_intervals_lines(table: Table) -> None:
    (axes,) = plots.seeds(table, "test/elbo").axes
    rows = [row for row in table.rows if row.cells]
    assert [label.get_text() for label in axes.get_yticklabels()] == [row.label for row in rows]
    drawn = lines(axes)
    for place, row in enumerate(rows):
        cell = row.cells["test/elbo"]
        assert ([*cell.values], [place] * 2) in drawn
        assert ([cell.mean - cell.half_width, cell.mean + cell.half_width], [place] * 2) in drawn  # type: ignore[operator]


def test_one_seed_has_no_line_of_an_interval(tmp_path: Path) -> None:
    record = make_sweep(tmp_path, {"model.beta": [1, 4], "model.latent_dim": [2], "seed": [0]}, values)
    (axes,) = plots.seeds(table_of(tmp_path, record), "test/elbo").axes
    assert all(len(xs) == 1 for xs, _ in lines(axes))


def test_differences_are_those_of_the_table(table: Table) -> None:
    (axes,) = plots.differences(table, "test/elbo").axes
    drawn = lines(axes)
    for place, row in enumerate(row for row in table.rows if row.differences):
        difference = row.differences["test/elbo"]
        assert ([difference.mean], [place]) in drawn
        error = difference.over_images
        assert error is not None
        assert ([difference.mean - error, difference.mean + error], [place] * 2) in drawn
    low, high = axes.get_xlim()
    assert low < 0 < high
    assert table.chosen is not None
    assert table.chosen.label not in [label.get_text() for label in axes.get_yticklabels()]


def test_heat_maps_have_each_value_in_its_place(table: Table) -> None:
    figure = plots.heat_maps(table, "model.beta", "model.latent_dim")
    titles = [axes.get_title() for axes in figure.axes]
    assert titles == ["ELBO (nats)", "NLL (nats)", "KL (nats)", "active units"]
    elbo = figure.axes[0]
    assert [label.get_text() for label in elbo.get_xticklabels()] == ["1", "4", "10"], "numbers in their order"
    assert [label.get_text() for label in elbo.get_yticklabels()] == ["2", "4"]
    cells = elbo.images[0].get_array()
    for row in table.rows:
        place = [2, 4].index(row.settings["model.latent_dim"]), [1, 4, 10].index(row.settings["model.beta"])
        if row.cells:
            assert cells[place] == pytest.approx(row.cells["test/elbo"].mean)
    assert "missing" in [text.get_text() for text in elbo.texts]


def test_heat_maps_of_more_than_two_keys_are_one_for_each_of_the_rest(tmp_path: Path) -> None:
    axes = {"model.beta": [1, 4], "model.latent_dim": [2, 4], "model.net.name": ["mlp", "cnn"], "seed": [0]}
    table = table_of(tmp_path, make_sweep(tmp_path, axes, values))
    titles = [axes.get_title() for axes in plots.heat_maps(table, "model.beta", "model.latent_dim").axes]
    assert titles == [f"{metric}\nname={name}" for name in ("mlp", "cnn") for metric in ("ELBO (nats)", "KL (nats)")]


def test_curve_of_rate_and_distortion_goes_in_the_order_of_beta(table: Table) -> None:
    (axes,) = plots.rate_distortion(table).axes
    points = plots.rate_points(table)
    assert [[beta for beta, _ in pairs] for pairs in points.values()] == [[1, 4, 10], [1, 4]]
    drawn = lines(axes)
    for pairs in points.values():
        rates = [row.cells["test/kl"].mean for _, row in pairs]
        distortions = [-row.cells["test/log_likelihood"].mean for _, row in pairs]
        assert (rates, distortions) in drawn
    assert [text.get_text() for text in axes.texts] == ["1", "4", "10", "1", "4"]
    grey = [(xs, ys) for xs, ys in drawn if len(xs) == 2 and len({round(x + y, 6) for x, y in zip(xs, ys, strict=True)}) == 1]
    assert len(grey) >= 11, "lines on which the ELBO is the same"


def test_collapsed_models_are_one_point_with_all_their_betas(tmp_path: Path) -> None:
    rates = {1: 20.0, 10: 3.0, 30: 0.001, 100: 0.0}

    def values(settings: Mapping[str, Any]) -> dict[str, list[float]]:
        rate = rates[settings["model.beta"]]
        return {"elbo": [-200.0], "kl": [rate], "log_likelihood": [rate * 5 - 200]}

    record = make_sweep(tmp_path, {"model.beta": [*rates], "seed": [0]}, values)
    (axes,) = plots.rate_distortion(table_of(tmp_path, record)).axes
    assert [text.get_text() for text in axes.texts] == ["1", "10", "30, 100"]


def test_sweep_without_beta_has_no_curve(tmp_path: Path) -> None:
    record = make_sweep(tmp_path, {"model.latent_dim": [2, 4], "seed": [0]}, lambda s: values({**s, "model.beta": 1}))
    table = table_of(tmp_path, record)
    assert plots.beta_of(table) is None
    assert [name for name, _, _ in plots.drawn(table)] == ["seeds", "differences"]
    with pytest.raises(ValueError, match="sweep over beta"):
        plots.rate_distortion(table)


def test_parallel_coordinates_end_at_the_metric(table: Table) -> None:
    axes = plots.parallel_coordinates(table, "test/elbo").axes[0]
    rows = [row for row in table.rows if row.cells]
    paths = [ys for xs, ys in lines(axes) if len(xs) == 3]
    assert len(paths) == len(rows)
    means = sorted(row.cells["test/elbo"].mean for row in rows)
    low, high = means[0], means[-1]
    assert sorted(path[-1] for path in paths) == pytest.approx([(mean - low) / (high - low) for mean in means])
    assert [label.get_text() for label in axes.get_xticklabels()] == ["beta", "latent_dim", "test/elbo"]
    assert [text.get_text() for text in axes.texts] == ["1", "4", "10", "2", "4"]


def test_names_of_settings_are_drawn_as_they_are(tmp_path: Path) -> None:
    names = ["$x$", "a_b^c", "x" * 300, "ü", "<b>", "\\frac{", "$", "\x1b[31m", "\ud800"]
    record = make_sweep(
        tmp_path, {"name": names, "model.beta": [1, 4], "seed": [0]}, lambda s: values({**s, "model.latent_dim": 2})
    )
    with style():
        drawn = [png(figure) for _, _, figure in plots.drawn(table_of(tmp_path, record))]
    assert len(drawn) == 4
    (axes,) = plots.seeds(table_of(tmp_path, record), "test/elbo").axes
    assert axes.get_yticklabels()[0].get_text() == r"name=\$x\$ beta=1", "no formula"


def test_of_many_rows_the_best_are_drawn(tmp_path: Path) -> None:
    record = make_sweep(
        tmp_path,
        {"model.beta": list(range(1, 71)), "seed": [0]},
        lambda s: {"elbo": [-float(s["model.beta"])] * 2, "kl": [1.0, 2.0]},
    )
    (axes,) = plots.seeds(table_of(tmp_path, record), "test/elbo").axes
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert labels == [f"beta={beta}" for beta in range(1, 61)]


def test_unknown_metric_is_refused(table: Table) -> None:
    with pytest.raises(ValueError, match="metric=test/nothing"):
        plots.seeds(table, "test/nothing")


def test_keys_and_metrics_of_others_are_drawn_as_they_are(tmp_path: Path) -> None:
    axes = {"model.$a": [1, 10**400], "model.\\frac{": [1, 2], "seed": [0]}
    record = make_sweep(tmp_path, axes, lambda s: {"$\\x{": [float(s["model.\\frac{"]), 2.0]})
    table = table_of(tmp_path, record)
    with style():
        drawn = {name: png(figure) for name, _, figure in plots.drawn(table)}
    assert drawn.keys() == {"seeds", "parallel_coordinates"}, "nobody knows which way that metric is better"
