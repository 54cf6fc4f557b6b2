"""The checked options of an evaluation."""

import dataclasses
import inspect
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import torch
from omegaconf import DictConfig, OmegaConf

from vae_lightning.arguments import check, choose, prefixed, require
from vae_lightning.commands.gallery import SVI, figures_named
from vae_lightning.errors import ConfigurationError
from vae_lightning.evaluation.budget import Budget
from vae_lightning.evaluation.parts import PARTS, PartSettings
from vae_lightning.evaluation.registry import SETTINGS, part_of
from vae_lightning.evaluation.verification.part import verification
from vae_lightning.figures.catalog import CATALOG
from vae_lightning.inference.importance import PRECISIONS, Precision
from vae_lightning.inference.observed import MASKS
from vae_lightning.machine.processor import BFLOAT16_IS_SLOW, computes_in_bfloat16

__all__ = ["Options", "at_evaluation", "named"]

VERIFICATION = verification.name


class Options:
    """The options of an evaluation, checked; `conf/evaluate.yaml` and `conf/evaluation/` say what each one means.

    >>> sizes = {"num_samples": 100, "num_images": None, "train_images": 1000, "marginal_samples": 100, "marginal_images": 0}
    >>> options = Options(**sizes, max_batch=4000, seed=0, figures=["samples"], gpus=0)
    >>> options.figures, options.parts, options.device
    (['samples'], [], device(type='cpu'))

    Raises:
        ConfigurationError: an option is wrong; the message names the option.
    """

    def __init__(
        self,
        num_samples: int,
        num_images: int | None,
        train_images: int,
        marginal_samples: int,
        marginal_images: int,
        max_batch: int,
        seed: int,
        figures: list[str] | Literal["all"] = "all",
        extent: float = 4.0,
        mask: str = "top",
        svi: str = "default",
        projection: Literal["pca", "umap"] = "pca",
        label: int | str | None = None,
        parts: list[str] | Literal["all"] | None = None,
        convergence: list[int] | None = None,
        classifier: str | None = None,
        precision: Precision = "float32",
        require_verified: bool = False,
        gpus: int | str = "auto",
        trust: Sequence[str] = (),
        of_parts: tuple[object, ...] = (),
    ) -> None:
        require(num_samples >= 1, "num_samples", num_samples, "at least 1")
        require(num_images is None or num_images >= 1, "num_images", num_images, "at least 1, or null for all")
        require(train_images >= 1, "train_images", train_images, "at least 1")
        require(marginal_samples >= 1, "marginal_samples", marginal_samples, "at least 1")
        require(marginal_images >= 0, "marginal_images", marginal_images, "at least 0")
        self.num_samples, self.num_images, self.train_images = num_samples, num_images, train_images
        self.marginal_samples, self.marginal_images = marginal_samples, marginal_images
        self.budget, self.seed = Budget(max_batch), seed
        self.figures = list(CATALOG) if figures == "all" else list(figures_named(figures))
        require(extent > 0, "extent", extent, "positive")
        choose("mask", mask, MASKS)
        choose("svi", svi, SVI)
        self.extent, self.mask, self.svi = extent, mask, svi
        choose("precision", precision, PRECISIONS)
        self.precision = precision
        self.projection, self.label = projection, label
        self.all_parts, self.parts = parts == "all", list(PARTS) if parts == "all" else list(parts or [])
        for name in self.parts:
            part_of(name)
        self.convergence = convergence or []
        require(all(count >= 1 for count in self.convergence), "convergence", self.convergence, "numbers of at least 1")
        self.classifier = classifier
        self.require_verified = require_verified
        wanted = "false unless verification is among evaluation.parts, as in evaluation=full"
        require(not require_verified or VERIFICATION in self.parts, "require_verified", require_verified, wanted)
        self.part_settings = PartSettings(
            num_samples=num_samples,
            svi=SVI[svi],
            seed=seed,
            of_parts=of_parts,
        )
        self.trust = tuple(trust)
        for package in self.trust:
            require(isinstance(package, str) and package.isidentifier(), "trust", package, "names of packages: trust=[mypkg]")
        require(gpus in ("auto", 0, 1), "gpus", gpus, "auto, 0 (CPU) or 1")
        if gpus == 1 and not torch.cuda.is_available():
            raise ConfigurationError("gpus=1: this machine has no GPU that torch can use; to run on the CPU: gpus=0")
        self.device = torch.device("cuda" if gpus != 0 and torch.cuda.is_available() else "cpu")
        if precision == "bfloat16" and self.device.type == "cpu" and computes_in_bfloat16() is False:
            warnings.warn(f"precision=bfloat16: {BFLOAT16_IS_SLOW}; precision=float32 avoids it", stacklevel=2)

    @classmethod
    def of(cls, cfg: DictConfig) -> "Options":
        """The options that a configuration asks for.

        Raises:
            ConfigurationError: one of them is wrong; the message names its key.
        """
        plain = OmegaConf.to_container(cfg.evaluation, resolve=True)
        assert isinstance(plain, dict)
        arguments = {str(key): value for key, value in plain.items()}
        asked = arguments.get("parts")
        with at_evaluation():
            # importing a part of another package registers its settings
            for name in asked if isinstance(asked, list) else ():
                part_of(name)
        of_parts = tuple(_built(kind, arguments.pop(key), key) for key, kind in SETTINGS.items() if key in arguments)
        check(cls, arguments, "evaluation", offered=("gpus", "trust", "of_parts"))
        asked_to_trust: Any = OmegaConf.to_container(cfg.trust) if OmegaConf.is_config(cfg.trust) else cfg.trust
        trust: Any = [asked_to_trust] if isinstance(asked_to_trust, str) else asked_to_trust or []
        require(isinstance(trust, list), "trust", trust, "names of packages: trust=[mypkg]")
        with at_evaluation():
            return cls(**arguments, gpus=cfg.gpus, trust=trust, of_parts=of_parts)


@contextmanager
def at_evaluation() -> Iterator[None]:
    """A block in which an error that names an option, `num_samples=0: ...`, names its place: `evaluation.num_samples=0: ...`."""
    with prefixed("evaluation", [name for name in inspect.signature(Options).parameters if name not in ("gpus", "trust")]):
        yield


def named(reason: str) -> str:
    """`reason` with the place of the option at its beginning: `classifier=null: ...` becomes `evaluation.classifier=null: ...`."""
    try:
        with at_evaluation():
            raise ConfigurationError(reason)
    except ConfigurationError as error:
        return str(error)


def _built(kind: type, arguments: Any, key: str) -> object:
    """The settings of class `kind` for parts of an evaluation, built from `evaluation.<key>`."""
    where = f"evaluation.{key}"
    if not isinstance(arguments, Mapping):
        raise ConfigurationError(f"{where}={arguments}: must be a mapping of settings")
    check(kind, arguments, where)
    with prefixed(where, [field.name for field in dataclasses.fields(kind)]):
        built: object = kind(**arguments)
        return built
