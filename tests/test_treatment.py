"""What numbers are of, in words and in files."""

from vae_lightning.treatment import Treatment


def test_treatment_comes_back_from_a_report() -> None:
    treatment = Treatment("mnist", "static", conditional=True)
    assert Treatment.read(treatment.plain) == treatment
    assert Treatment.read(None) is None, "a report of an earlier version has none"
    for damaged in ({"dataset": "mnist"}, {"dataset": [], "binarization": "none"}, treatment.plain | {"of": 1}, {1: 2}):
        assert Treatment.read(damaged) is None


def test_words_have_what_is_not_as_usual() -> None:
    assert Treatment("mnist", "dynamic", pixels=784).words == "mnist, binarization dynamic, p(x)"
    grey = Treatment("folder", "none", conditional=True, binary=False, pixels=3072)
    assert grey.words == "folder, binarization none, p(x | y), grey levels and not binary pixels"
    assert grey.words_with_size == f"{grey.words}, 3072 pixels"
    assert grey.of("nll_marginal").words == grey.words.replace("p(x | y)", "p(x)")
