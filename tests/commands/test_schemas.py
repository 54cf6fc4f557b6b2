"""The schemas for editors take every config of this project, and refuse what the commands refuse."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import REPOSITORY

jsonschema = pytest.importorskip("jsonschema")

SCHEMAS = REPOSITORY / "docs" / "schemas"
FILES = [
    (path, schema)
    for group, schema in {"model": "model", "data": "data", "trainer": "trainer", "experiment": "train"}.items()
    for path in sorted((REPOSITORY / "conf" / group).glob("*.yaml"))
]


def schema_of(name: str) -> Any:
    return json.loads((SCHEMAS / f"{name}.json").read_text())


@pytest.mark.parametrize(("path", "schema"), FILES, ids=lambda part: getattr(part, "stem", part))
def test_every_config_fits_its_schema(path: Path, schema: str) -> None:
    jsonschema.validate(yaml.safe_load(path.read_text()) or {}, schema_of(schema))


@pytest.mark.parametrize(
    ("schema", "config"),
    [
        ("model", {"_target_": "vae_lightning.models.VAE", "latent_dmi": 2}),
        ("model", {"_target_": "vae_lightning.models.VAE", "latent_dim": "two"}),
        ("model", {"_target_": "vae_lightning.models.VAE", "beta": 4.0}),
        ("data", {"_target_": "vae_lightning.data.MNISTDataModule", "binarization": "dynamik"}),
        ("trainer", {"max_epoch": 3}),
        ("trainer", {"matmul_precision": "low"}),
        ("train", {"trainer": {"max_epoch": 3}}),
        ("train", {"sede": 3}),
    ],
)
def test_what_a_command_refuses_an_editor_marks(schema: str, config: dict[str, Any]) -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(config, schema_of(schema))


@pytest.mark.parametrize(
    ("schema", "config"),
    [
        ("model", {"_target_": "mypkg.MyVAE", "width": 3}),
        ("model", {"_target_": "vae_lightning.models.VAE", "latent_dim": "${seed}", "net": "mypkg.nets.mine"}),
        ("model", {"_target_": "vae_lightning.models.BetaVAE", "beta": 4.0}),
        (
            "train",
            {
                "model": {"_target_": "vae_lightning.models.VAE"},
                "trainer": {"gpus": "auto"},
                "defaults": [{"override /model": "vae"}],
            },
        ),
    ],
)
def test_ones_own_class_and_interpolations_are_taken(schema: str, config: dict[str, Any]) -> None:
    jsonschema.validate(copy.deepcopy(config), schema_of(schema))


def test_settings_are_described_by_the_comments_in_conf() -> None:
    described = schema_of("trainer")["properties"]["gpus"]
    assert described["description"].startswith("auto: a GPU if there is one")
    files = json.loads((REPOSITORY / ".vscode" / "settings.json").read_text())["yaml.schemas"]
    assert all((REPOSITORY / schema).is_file() and list(REPOSITORY.glob(pattern)) for schema, pattern in files.items())
