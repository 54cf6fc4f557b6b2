"""What an evaluation may be asked, and that `conf/evaluation` says what the code says."""

from pathlib import Path

import hydra
import pytest
from omegaconf import DictConfig

from vae_lightning.commands import options
from vae_lightning.commands.options import Options
from vae_lightning.errors import ConfigurationError
from vae_lightning.evaluation.factor_codes import DisentanglementSettings
from vae_lightning.evaluation.parts import PARTS, ImageCounts
from vae_lightning.evaluation.registry import SETTINGS
from vae_lightning.inference.ais import WU, AISSettings

CONF = Path(__file__).resolve().parents[2] / "conf"


def evaluation(*overrides: str) -> DictConfig:
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        return hydra.compose("evaluate", ["gpus=0", *overrides])


def test_full_evaluation_asks_for_every_part_and_the_presets_are_those_of_the_code() -> None:
    options = Options.of(evaluation("evaluation=full"))
    assert options.parts == list(PARTS)
    assert set(options.part_settings.of_parts) == {AISSettings(), DisentanglementSettings(), ImageCounts()}
    assert {type(settings) for settings in options.part_settings.of_parts} == set(SETTINGS.values()), (
        "a part's settings are in conf"
    )
    assert Options.of(evaluation("evaluation/ais=wu")).part_settings.of(AISSettings) == WU
    assert Options.of(evaluation()).parts == []


@pytest.mark.parametrize(("precision", "can", "warned"), [("bfloat16", False, 1), ("bfloat16", True, 0), ("float32", False, 0)])
def test_precision_that_the_processor_emulates_is_warned_of(
    precision: str, can: bool, warned: int, monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder
) -> None:
    monkeypatch.setattr(options, "computes_in_bfloat16", lambda: can)
    Options.of(evaluation(f"evaluation.precision={precision}"))
    assert sum("emulates them" in str(warning.message) for warning in recwarn) == warned


@pytest.mark.parametrize(
    "override",
    [
        "evaluation.num_samples=0",
        "evaluation.num_images=0",
        "evaluation.max_batch=0",
        "evaluation.figures=[sample]",
        "evaluation.figures=some",
        "evaluation.extent=0",
        "evaluation.mask=topp",
        "evaluation.svi=adam",
        "evaluation.figures=[nobodys.figure]",
        "gpus=2",
        "evaluation.parts=[aiss]",
        "evaluation.convergence=[0]",
        "evaluation.images.estimators=0",
        "evaluation.images.verification=1",
        "evaluation.require_verified=true",
        "evaluation.require_verified=3",
        "evaluation.ais.num_chains=0",
        "evaluation.ais.schedule=quadratic",
        "evaluation.disentanglement.num_trees=0",
        "evaluation.parts=[no_such_package.parts.mine]",
        "evaluation.parts=[json.dump_all]",
        "evaluation.parts=[math.pi]",
    ],
)
def test_impossible_setting_is_refused_by_name(override: str) -> None:
    with pytest.raises(ConfigurationError, match=override.split("=")[0]):
        Options.of(evaluation(override))
