"""What an evaluation is asked to do: the settings of `conf/evaluate.yaml` and `conf/evaluation/`, checked."""

from collections.abc import Callable
from typing import Any, Literal, TypeVar

import torch
from omegaconf import DictConfig, OmegaConf

from vae_lightning.arguments import check, choose, require
from vae_lightning.commands.gallery import SVI
from vae_lightning.errors import ConfigurationError
from vae_lightning.evaluation.budget import Budget
from vae_lightning.evaluation.factor_codes import DisentanglementSettings
from vae_lightning.evaluation.parts import PARTS, ImageCounts, PartSettings
from vae_lightning.figures.catalog import CATALOG
from vae_lightning.inference.ais import AISSettings
from vae_lightning.inference.observed import MASKS

__all__ = ["Options"]

T = TypeVar("T")


class Options:
    """The checked settings of an evaluation; see `conf/evaluate.yaml` and `conf/evaluation/`."""

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
        digit: int | None = None,
        parts: list[str] | Literal["all"] | None = None,
        convergence: list[int] | None = None,
        images: dict[str, Any] | None = None,
        ais: dict[str, Any] | None = None,
        disentanglement: dict[str, Any] | None = None,
        classifier: str | None = None,
        gpus: int | str = "auto",
    ) -> None:
        require(num_samples >= 1, "evaluation.num_samples", num_samples, "at least 1")
        require(num_images is None or num_images >= 1, "evaluation.num_images", num_images, "at least 1, or null for all")
        require(train_images >= 1, "evaluation.train_images", train_images, "at least 1")
        require(marginal_samples >= 1, "evaluation.marginal_samples", marginal_samples, "at least 1")
        require(marginal_images >= 0, "evaluation.marginal_images", marginal_images, "at least 0")
        self.num_samples, self.num_images, self.train_images = num_samples, num_images, train_images
        self.marginal_samples, self.marginal_images = marginal_samples, marginal_images
        self.budget, self.seed = Budget(max_batch), seed
        self.figures = list(CATALOG) if figures == "all" else figures
        for name in self.figures:
            choose("evaluation.figures", name, CATALOG)
        require(extent > 0, "evaluation.extent", extent, "positive")
        choose("evaluation.mask", mask, MASKS)
        choose("evaluation.svi", svi, SVI)
        require(digit is None or 0 <= digit <= 9, "evaluation.digit", digit, "from 0 to 9, or null")
        self.extent, self.mask, self.svi = extent, mask, svi
        self.projection, self.digit = projection, digit
        self.all_parts, self.parts = parts == "all", list(PARTS) if parts == "all" else list(parts or [])
        for name in self.parts:
            choose("evaluation.parts", name, PARTS)
        self.convergence = convergence or []
        require(all(count >= 1 for count in self.convergence), "evaluation.convergence", self.convergence, "numbers of at least 1")
        self.classifier = classifier
        self.part_settings = PartSettings(
            num_samples=num_samples,
            images=_built(ImageCounts, images or {}, "evaluation.images"),
            ais=_built(AISSettings, ais or {}, "evaluation.ais"),
            svi=SVI[svi],
            disentanglement=_built(DisentanglementSettings, disentanglement or {}, "evaluation.disentanglement"),
            seed=seed,
        )
        require(gpus in ("auto", 0, 1), "gpus", gpus, "auto, 0 (CPU) or 1")
        if gpus == 1 and not torch.cuda.is_available():
            raise ConfigurationError("gpus=1: this machine has no GPU that torch can use; to run on the CPU: gpus=0")
        self.device = torch.device("cuda" if gpus != 0 and torch.cuda.is_available() else "cpu")

    @classmethod
    def of(cls, cfg: DictConfig) -> "Options":
        plain = OmegaConf.to_container(cfg.evaluation, resolve=True)
        assert isinstance(plain, dict)
        arguments = {str(key): value for key, value in plain.items()}
        check(cls, arguments, "evaluation")
        return cls(**arguments, gpus=cfg.gpus)


def _built(settings: Callable[..., T], arguments: dict[str, Any], where: str) -> T:
    check(settings, arguments, where)
    return settings(**arguments)
