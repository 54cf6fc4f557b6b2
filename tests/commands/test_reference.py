"""Tables of the documentation and the help texts are what the code says, and a new name is in them without a hand's work."""

import re
from pathlib import Path

import pytest

from vae_lightning.commands import reference
from vae_lightning.commands.reference import BLOCKS, HELP, fresh, settings_of, stale, with_blocks
from vae_lightning.errors import ConfigurationError
from vae_lightning.evaluation.parts import PARTS
from vae_lightning.figures.catalog import CATALOG
from vae_lightning.glossary import GLOSSARY, METRICS, Metric
from vae_lightning.plugins import locate


def test_documentation_and_help_are_fresh() -> None:
    assert stale() == [], f"run: {reference.COMMAND} (make docs)"


def test_every_table_is_somewhere_and_names_what_there_is() -> None:
    texts = {path.name: text for path, text in fresh()}
    shown = {name for text in texts.values() for name in re.findall("generated: ([a-z-]+) -->", text)}
    assert shown == set(BLOCKS)
    for name in [*CATALOG, *(option for path in reference.REGISTRIES.values() for option in locate(path))]:
        assert f"`{name}`" in texts["reference.md"], name
    for name in GLOSSARY:
        assert f"| `{name}` | {GLOSSARY[name]} |" in texts["glossary.md"], name
    words = set(re.findall(r"[\w.]+", texts["evaluate.yaml"]))
    assert {*CATALOG, *PARTS, "evaluation.label", "evaluation.images.probes", "to"} <= words


def test_a_new_figure_and_a_new_setting_are_in_the_texts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(CATALOG, "brand_new", CATALOG["samples"])
    assert "brand_new" in HELP["hydra/evaluate.yaml"]["Figures (evaluation.figures=[...]):"]()
    monkeypatch.setitem(METRICS, "brand_new", Metric("brand_new", "What is new", unit="share"))
    assert "| `brand_new` | What is new. |" in with_blocks("<!-- generated: metrics -->\nold\n<!-- end -->\n")


def test_only_what_stands_in_a_block_is_replaced() -> None:
    text = (
        "before\n<!-- generated: data -->\nstale words\n<!-- end -->\nbetween\n<!-- generated: metrics -->\n<!-- end -->\nafter\n"
    )
    written = with_blocks(text)
    assert written.startswith("before\n<!-- generated: data -->\n| option |")
    assert "stale words" not in written
    assert "<!-- end -->\nbetween\n<!-- generated: metrics -->\n| metric |" in written
    assert written.endswith("<!-- end -->\nafter\n")
    assert with_blocks(written) == written


def test_wrong_block_is_named() -> None:
    with pytest.raises(ConfigurationError, match=r"README\.md: generated: figurs: unknown; choose from: .*figures"):
        with_blocks("<!-- generated: figurs -->\n<!-- end -->\n", "README.md")
    with pytest.raises(ConfigurationError, match="has no <!-- end -->"):
        with_blocks("<!-- generated: data -->\nno end\n", "README.md")


def test_settings_are_read_with_their_paths_and_comments() -> None:
    text = "defaults:\n  - a\n\nx: [1, 2] # two\ndeep: # of it\n  y: null\n  z: 'a' # last\nw: ${x} # again\n"
    read = {setting.key: (setting.assigned, setting.comment) for setting in settings_of(text, "p")}
    assert read == {
        "p.x": ("p.x=[1,2]", "two"),
        "p.deep.y": ("p.deep.y=null", ""),
        "p.deep.z": ("p.deep.z=a", "last"),
        "p.w": ("p.w=${x}", "again"),
    }


def test_command_writes_what_is_stale_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "docs").mkdir()
    readme = tmp_path / "README.md"
    readme.write_text("<!-- generated: data -->\n<!-- end -->\n")
    monkeypatch.setattr(reference, "ROOT", tmp_path)
    monkeypatch.setattr(reference, "HELP", {})
    assert reference.main([]) == 1
    assert f"README.md: is not fresh: {reference.COMMAND}" in capsys.readouterr().out
    assert reference.main(["--write"]) == 0
    assert "`data=mnist`" in readme.read_text()
    assert reference.main([]) == 0


@pytest.mark.parametrize("file", HELP)
def test_help_fits_into_eighty_columns(file: str) -> None:
    for render in HELP[file].values():
        assert all(len(line) <= 80 for line in render().splitlines())
