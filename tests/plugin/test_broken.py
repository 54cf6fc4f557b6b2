"""Names that are misspelt, and parts that are broken: one clear line that names the key, and how to bring one's own."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from omegaconf import DictConfig, OmegaConf
from plugin.conftest import Compose, forget

from vae_lightning.commands.config import check_config
from vae_lightning.errors import ConfigurationError

CODE = """
import pytorch_lightning as L
import torch
from torch import nn
from torch.distributions import Independent, Normal

from foreign_vae.nets import PatchDecoder, PatchEncoder
from vae_lightning.distributions.likelihoods import Likelihood
from vae_lightning.distributions.posteriors import Posterior
from vae_lightning.distributions.priors import Prior
from vae_lightning.nets import NetPair
from vae_lightning.objectives.goals import Objective

NUMBER = 3

def nothing(**settings): ...
class Plain: ...
class Identity(nn.Module):
    def forward(self, x, *rest):
        return x
class Needs(nn.Module):
    def __init__(self, no_such_thing):
        super().__init__()
class Raises(nn.Module):
    def __init__(self):
        raise RuntimeError("two\\nlines")
class FailsForward(nn.Module):
    def forward(self, x):
        raise RuntimeError("mat1 and mat2\\ncannot be multiplied")
class NoForward(nn.Module): ...
half = NetPair(PatchEncoder, 3)
wrong_encoder, wrong_decoder = NetPair(Identity, PatchDecoder), NetPair(PatchEncoder, Identity)

class OddOutputs(Likelihood):
    outputs = "two"
class FlatEvent(Likelihood):
    def forward(self, parameters):
        return Independent(Normal(parameters, 1.0), 2)
class NoDistribution(Likelihood):
    def pixels(self, x):
        return x
class OneNumber(Likelihood):
    outputs = 2
    def pixels(self, x):
        return Normal(x, 1.0)
class OddPrior(Prior):
    def forward(self, y, encode):
        return Independent(Normal(torch.zeros(7), 1.0), 1)
class TensorPrior(Prior):
    def forward(self, y, encode):
        return torch.zeros(4)
class ShortPrior(Prior):
    def forward(self, y): ...
class FlatPosterior(Posterior):
    def forward(self, loc, log_variance):
        return Normal(loc, log_variance.exp())
class MeanObjective(Objective):
    def forward(self, terms):
        return terms.kl.mean()
class FloatObjective(Objective):
    def forward(self, terms):
        return 3.0
class NoObjective(Objective): ...
class RefusesSize(L.LightningModule):
    def __init__(self):
        raise ValueError("two\\nlines")
class RefusesData(L.LightningDataModule):
    def __init__(self):
        raise KeyError("where")
class NeedsMore(L.LightningModule):
    def __init__(self, image_shape, num_factors): ...
class Silent(L.LightningDataModule):
    def __init__(self): ...
def no_groups(model): ...
class NotBegun(L.LightningModule):
    def __init__(self): ...
"""
NAMES = ["net", "likelihood", "prior", "posterior", "objective", "optimizer", "lr_schedule", "encoder"]


@pytest.fixture(scope="module")
def code(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with modules of a user's that are wrong."""
    folder = tmp_path_factory.mktemp("broken")
    (folder / "broken_parts.py").write_text(CODE)
    (folder / "broken_import.py").write_text("raise ValueError('two\\nlines')")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        yield folder
    forget("broken_parts")


@pytest.fixture(scope="module")
def composed(compose_foreign: Compose, tmp_path_factory: pytest.TempPathFactory) -> DictConfig:
    return compose_foreign(tmp_path_factory.mktemp("none"), "experiment=foreign")


def refused(composed: DictConfig, **replaced: Any) -> str:
    """What is said of the foreign experiment with other specs in place of some."""
    cfg = composed.copy()
    OmegaConf.set_struct(cfg, False)
    for key, value in replaced.items():
        OmegaConf.update(cfg, key.replace("__", "."), value, merge=False)
    with pytest.raises(ConfigurationError) as refusal:
        check_config(cfg)
    line = str(refusal.value)
    assert "\n" not in line
    return line


@pytest.mark.usefixtures("code")
@pytest.mark.parametrize("part", NAMES)
def test_name_that_is_none_is_said_with_how_to_bring_ones_own(composed: DictConfig, part: str) -> None:
    def said(name: str) -> str:
        return refused(composed, **{f"model__{part}": {"name": name}})

    key = f"model.{part}.name="
    assert said("nix").startswith(f"{key}nix: unknown; ")
    assert said("nix").endswith("or give an import path, mypkg.module.Name, for one of your own")
    assert said("broken_parts.Nix") == f"{key}broken_parts.Nix: broken_parts has no Nix"
    assert said("broken_part.Plain").startswith(f"{key}broken_part.Plain: there is no package broken_part; is it installed")
    assert said("broken_import.X") == f"{key}broken_import.X: importing broken_import fails: ValueError: two lines"
    assert said("broken_parts.NUMBER").startswith(f"{key}broken_parts.NUMBER: ")


@pytest.mark.usefixtures("code")
@pytest.mark.parametrize(
    "part", ["net", "likelihood", "prior", "posterior", "objective", "optimizer", "lr_schedule", "encoder", "decoder"]
)
def test_what_builds_no_such_part_is_named_with_what_it_should_be(composed: DictConfig, part: str) -> None:
    for name in ("nothing", "Plain"):
        said = refused(composed, **{f"model__{part}": {"name": f"broken_parts.{name}"}})
        assert said.startswith(f"model.{part}.name=broken_parts.{name}: ")


@pytest.mark.usefixtures("code")
@pytest.mark.parametrize(
    ("part", "name", "said"),
    [
        ("net", "half", "model.net.name=broken_parts.half: has no decoder; a net is a pair of both, such as nets.NetPair"),
        ("net", "wrong_encoder", "model.encoder: Identity gave one tensor of shape (2, 3, 32, 32) of images (2, 3, 32, 32); a pair is"),
        ("net", "wrong_decoder", "model.decoder: Identity gave one tensor of shape (2, 4) of latents (2, 4); the likelihood wants 2 n"),
        ("encoder", "Needs", "model.encoder.no_such_thing: missing"),
        ("encoder", "Raises", "model.encoder.name=broken_parts.Raises: building it fails: RuntimeError: two lines"),
        ("encoder", "FailsForward", "RuntimeError: mat1 and mat2 cannot be multiplied"),
        ("encoder", "FailsForward", "model.encoder: FailsForward ({code}/broken_parts.py, line 29) fails in a step of two images"),
        ("decoder", "NoForward", 'model.decoder: NoForward fails in a step of two images of shape (3, 32, 32): NotImplementedError: '),
        ("likelihood", "OddOutputs", "model.likelihood.outputs=two: must be a whole number of at least 1"),
        ("likelihood", "Identity", "which has no binary, outputs; inherit from vae_lightning.distributions.likelihoods.Likelihood"),
        ("likelihood", "FlatEvent", "model.likelihood: FlatEvent gave an Independent of batch shape (1, 2, 3) and event shape (32, 32); "),
        ("likelihood", "NoDistribution", "model.likelihood: NoDistribution.pixels gave a Tensor; a distribution of"),
        ("likelihood", "OneNumber", "pixels() takes 2 positional arguments but 3 were given"),
        ("prior", "OddPrior", "a distribution of batch shape () or (2,) and event shape (4,) is wanted"),
        ("prior", "TensorPrior", "model.prior: TensorPrior gave a Tensor; a distribution of"),
        ("prior", "ShortPrior", "model.prior: ShortPrior fails in a step"),
        ("posterior", "FlatPosterior", "model.posterior: FlatPosterior gave a Normal of batch shape (2, 4) and event shape (); "),
        ("objective", "MeanObjective", "model.objective: MeanObjective gave a Tensor of shape (); a number an image is wanted"),
        ("objective", "FloatObjective", "model.objective: FloatObjective gave a float; a number an image is wanted"),
        ("objective", "NoObjective", "model.objective: NoObjective fails in a step"),
    ],
)  # fmt: skip
def test_part_that_is_broken_is_named_with_what_is_wanted(
    composed: DictConfig, code: Path, part: str, name: str, said: str
) -> None:
    assert said.format(code=code) in refused(composed, **{f"model__{part}": {"name": f"broken_parts.{name}"}})


@pytest.mark.usefixtures("code")
@pytest.mark.parametrize(
    ("where", "name", "said"),
    [
        ("model", "Plain", "model._target_=broken_parts.Plain: is not a LightningModule"),
        ("model", "nothing", "model._target_=broken_parts.nothing: is a function, and no class"),
        ("model", "NeedsMore", "model.num_factors: missing"),
        ("data", "Plain", "data._target_=broken_parts.Plain: is not a LightningDataModule"),
        ("data", "Nix", "data._target_=broken_parts.Nix: broken_parts has no Nix"),
        ("model", "RefusesSize", "model._target_=broken_parts.RefusesSize: building it fails: ValueError: two lines"),
        ("model", "NotBegun", "model._target_=broken_parts.NotBegun: NotBegun.__init__ does not call super().__init__()"),
        ("data", "RefusesData", "data._target_=broken_parts.RefusesData: building it fails: KeyError: 'where'"),
        ("callbacks.diary", "Plain", "callbacks.diary._target_=broken_parts.Plain: is not a Callback"),
    ],
)
def test_class_that_is_none_of_its_group_is_named(composed: DictConfig, where: str, name: str, said: str) -> None:
    assert refused(composed, **{where: {"_target_": f"broken_parts.{name}"}}) == said


@pytest.mark.usefixtures("code")
def test_model_that_needs_what_the_data_do_not_say_is_told_so(composed: DictConfig) -> None:
    model = {"_target_": "foreign_vae.models.PlainVAE"}
    said = refused(composed, model=model, data={"_target_": "broken_parts.Silent"})
    assert said == "model.image_shape: is left to the data, and a Silent has no image_shape; give it"


@pytest.mark.usefixtures("code")
def test_function_that_gives_no_groups_is_named(composed: DictConfig) -> None:
    assert refused(composed, model__optimizer__groups="broken_parts.no_groups").startswith(
        "model.optimizer.groups=broken_parts.no_groups: "
    )
