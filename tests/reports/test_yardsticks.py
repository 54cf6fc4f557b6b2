"""Numbers stand beside another only where they compare with it, and this project's own are those of docs/results.md."""

import re

import pytest
from conftest import REPOSITORY

from vae_lightning.reports.yardsticks import YARDSTICKS, Source, Yardstick, beside
from vae_lightning.treatment import Treatment

RESULTS = (REPOSITORY / "docs" / "results.md").read_text()
OWN = [y for y in YARDSTICKS if y.source is None]


def rows_of(command: str) -> list[str]:
    """The rows of tables in the results that have `command`, whole, as code."""
    return [line for line in RESULTS.splitlines() if line.startswith("|") and f"`{command}`" in line]


@pytest.mark.parametrize("own", OWN, ids=lambda y: f"{y.command} {y.estimator}")
def test_an_own_figure_is_that_of_the_results_with_its_command(own: Yardstick) -> None:
    value, error = f"{own.value:.2f}", "" if own.error is None else rf" \+- {own.error:.2f}"
    exact = re.compile(rf"(?<![\d.-]){re.escape(value)}{error}(?!\d)")
    found = [row for row in rows_of(own.command) if exact.search(row)]
    assert found, f"{own.command}: no row of docs/results.md has {value}{error}"
    assert own.date in RESULTS
    if own.samples:
        assert f"K = {own.samples}" in RESULTS or f"K = {own.samples:,}" in RESULTS


def test_results_state_the_published_figures_as_they_are_here() -> None:
    """Every figure of Burda et al. that a row of the results is held against."""
    heading = RESULTS.partition("## Numbers one can publish")[2].partition("\n## ")[0]
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in heading.splitlines() if line.startswith("| ")]
    here = {(y.name, y.binarization): y.value for y in YARDSTICKS if y.source and y.source.short == "Burda et al., 2016"}
    compared = 0
    for what, _, _, published, *_ in (row for row in rows if len(row) == 6):
        name = re.match(r"(VAE|IWAE), k = \d+", what)
        binarization = what.rpartition(", ")[2]
        if name and (name[0], binarization) in here:
            assert published.split()[0] == f"{here[name[0], binarization]:.2f}", what
            compared += 1
    assert compared >= 8


def test_only_what_is_of_the_same_treatment_compares() -> None:
    for binarization in ("dynamic", "static"):
        for conditional in (False, True):
            treatment = Treatment("mnist", binarization, conditional)
            for name in ("nll", "elbo"):
                found = beside(name, treatment)
                assert found, (name, treatment)
                assert {(y.binarization, y.conditional, y.dataset, y.estimator) for y in found} == {
                    (binarization, conditional, "mnist", name)
                }
                values = [y.value if name == "nll" else -y.value for y in found]
                assert values == sorted(values), "the best first"


@pytest.mark.parametrize(
    "treatment",
    [
        None,
        Treatment("fashion_mnist", "dynamic"),
        Treatment("mnist", "threshold"),
        Treatment("mnist", "none", binary=False),
        Treatment("mnist", "dynamic", binary=False),
    ],
)
def test_nothing_compares_with_other_data_and_with_densities(treatment: Treatment | None) -> None:
    assert beside("nll", treatment) == []
    assert beside("elbo", treatment) == []


def test_nll_with_the_labels_summed_out_compares_with_those_of_p_of_x() -> None:
    of_x, given = Treatment("mnist", "dynamic"), Treatment("mnist", "dynamic", conditional=True)
    assert beside("nll_marginal", given) == beside("nll", of_x) != beside("nll", given)


def test_an_estimate_of_another_kind_compares_with_nothing() -> None:
    assert beside("kl", Treatment("mnist", "dynamic")) == []


def test_every_figure_says_whose_it_is() -> None:
    for y in YARDSTICKS:
        assert bool(y.source) != bool(y.command and y.date), y.name
        assert y.name
        assert y.net
        assert (y.value < 0) == (y.estimator == "elbo")
        if y.source:
            assert y.source.url.startswith("https://")
            assert y.source.short.endswith(f", {y.source.year}")
    assert len({(y.name, y.whose, y.estimator, y.binarization, y.conditional) for y in YARDSTICKS}) == len(YARDSTICKS)


def test_authors_are_cited_as_usual() -> None:
    assert [Source("", who, 2018, "").short for who in ("A", "A, B", "A, B, C")] == ["A, 2018", "A and B, 2018", "A et al., 2018"]
