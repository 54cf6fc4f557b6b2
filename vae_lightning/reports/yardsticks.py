"""`YARDSTICKS`: published numbers, and this project's own, that a number in a report can be held against.

A number is shown beside another only where both are of the same data set, binarization and conditioning, and by the same kind of
estimator: an nll of other pixels, or of p(x | y) beside p(x), says nothing. Published numbers are those read in a source that can
be named. This project's own stand in `docs/results.md` with their commands and dates.
"""

from dataclasses import dataclass
from typing import Any, Literal

from vae_lightning.treatment import Treatment

__all__ = ["YARDSTICKS", "Source", "Yardstick", "beside"]


@dataclass(frozen=True)
class Source:
    """Where a number was published.

    >>> BURDA.short
    'Burda et al., 2016'
    """

    title: str
    """The title of the paper, or the name of the program."""
    authors: str
    """The authors' family names, separated by commas."""
    year: int
    """The year of publication."""
    url: str
    """The address of the paper or program."""

    @property
    def short(self) -> str:
        """Authors and year, as a text cites them."""
        first, *others = self.authors.split(", ")
        return f"{first}{' et al.' if len(others) > 1 else ''.join(f' and {other}' for other in others)}, {self.year}"


@dataclass(frozen=True)
class Yardstick:
    """A number that others can be held against.

    >>> burda = YARDSTICKS[0]
    >>> burda.name, burda.value, burda.whose
    ('VAE, k = 1', 86.76, 'Burda et al., 2016')
    """

    name: str
    """The model, its objective, and how long it was trained."""
    net: str
    """The latent-variable model's net, in words."""
    value: float
    """Nats per image, with the sign that the estimate has in a report."""
    error: float | None = None
    """The standard error of `value` over test images, where it is stated."""
    samples: int | None = None
    """K of an nll, where it is stated."""
    estimator: Literal["nll", "elbo"] = "nll"
    """What kind of number it is."""
    source: Source | None = None
    """Where it was published; None: it is this project's own."""
    command: str = ""
    """The command that made it, as `docs/results.md` has it, if it is this project's own."""
    date: str = ""
    """The day of an own number, by ISO 8601."""
    binarization: str = "dynamic"
    """How the images became binary."""
    conditional: bool = False
    """Whether it is of p(x | y)."""
    dataset: str = "mnist"
    """The name of the data set."""

    @property
    def whose(self) -> str:
        """Who found it."""
        return self.source.short if self.source else "this project"

    @property
    def details(self) -> str:
        """The net, K and, of an own number, command and day."""
        samples = f"K = {self.samples:,}" if self.samples else ""
        made = f"{self.command} ({self.date})" if self.command else ""
        return "; ".join(part for part in (self.net, samples, made) if part)


def beside(name: str, treatment: Treatment | None) -> list[Yardstick]:
    """The numbers that the estimate `name` of a run compares with, the best first; empty if there are none.

    Args:
        name: the name of an estimate in a report: `nll`, `elbo`, `nll_marginal`.
        treatment: what the run's numbers are of; None: unknown.

    >>> [found.value for found in beside("elbo", Treatment("mnist", "static"))]
    [-96.08, -101.38, -103.31]
    """
    kind = "nll" if name == "nll_marginal" else name
    if treatment is None or not treatment.binary:
        return []
    wanted = treatment.of(name)
    found = [
        y
        for y in YARDSTICKS
        if (y.estimator, y.dataset, y.binarization, y.conditional)
        == (kind, wanted.dataset, wanted.binarization, wanted.conditional)
    ]
    return sorted(found, key=lambda y: y.value if kind == "nll" else -y.value)


BURDA = Source("Importance Weighted Autoencoders", "Burda, Grosse, Salakhutdinov", 2016, "https://arxiv.org/abs/1509.00519")
KINGMA = Source(
    "Improving Variational Inference with Inverse Autoregressive Flow",
    "Kingma, Salimans, Jozefowicz, Chen, Sutskever, Welling",
    2016,
    "https://arxiv.org/abs/1606.04934",
)
TOMCZAK = Source("VAE with a VampPrior", "Tomczak, Welling", 2018, "https://arxiv.org/abs/1705.07120")
ALTOSAAR = Source("variational-autoencoder", "Altosaar", 2016, "https://github.com/altosaar/variational-autoencoder")

_MLP = "784-200-200-50, tanh"
_DEFAULT = "784-500-500-20, ReLU"


def _burda(name: str, dynamic: float, static: float) -> list[Yardstick]:
    """A row of Table 1: one stochastic layer, 3,280 epochs of batches of 20."""
    values = (("dynamic", dynamic), ("static", static))
    return [Yardstick(name, _MLP, value, samples=5000, source=BURDA, binarization=kind) for kind, value in values]


def _own(
    name: str, net: str, made: tuple[str, str], nll: tuple[float, float | None, int] | None, elbo: float | None, **of: Any
) -> list[Yardstick]:
    """A row of `docs/results.md`.

    Args:
        made: command and day.
        nll: value, standard error and K.
        of: what the numbers are of, where it is not p(x) of dynamic binarization.
    """
    rest = {"command": made[0], "date": made[1], **of}
    found = [] if nll is None else [Yardstick(name, net, nll[0], nll[1], nll[2], **rest)]
    return found if elbo is None else [*found, Yardstick(name, net, elbo, estimator="elbo", **rest)]


_RESNET = ("VAE, diagonal Gaussian posterior", "convolutional ResNet, 32 latents")
_RESNET_IAF = ("VAE, posterior by inverse autoregressive flow", _RESNET[1])
_TWO_LAYERS = "784-200-200-100 and 100-100-100-50, tanh"
_SMALL = "784-256-256-128, ReLU"
_GATED = "gated MLP 300-300, 40 latents"
_CNN2, _CNN3 = (f"convolutional conditional VAE of {size} parameters, 5 epochs" for size in ("51,729", "47,057"))
_GIVEN: dict[str, Any] = {"conditional": True}
_STATIC: dict[str, Any] = {"binarization": "static"}
_ON_21, _ON_22, _ON_28, _ON_29 = "2026-11-21", "2026-11-22", "2026-11-28", "2026-11-29"
_SOAP = (
    "recipe=soap model.kl_warmup_steps=0 model.optimizer.max_precondition_dim=320 "
    "model.objective.sticking_the_landing=true data.batch_size=1000 model.optimizer.lr=0.006 model.lr_schedule.name=linear "
    "trainer.check_val_every_n_epoch=10 trainer.precision=bf16-mixed trainer.compile=true trainer.threads=1 trainer.max_epochs=240"
)

YARDSTICKS: tuple[Yardstick, ...] = (
    *_burda("VAE, k = 1", 86.76, 88.71),
    *_burda("VAE, k = 5", 86.47, 88.83),
    *_burda("VAE, k = 50", 86.35, 89.05),
    *_burda("IWAE, k = 5", 85.54, 87.63),
    *_burda("IWAE, k = 50", 84.78, 87.10),
    Yardstick("IWAE, k = 50, two layers of latents", _TWO_LAYERS, 82.90, samples=5000, source=BURDA),
    Yardstick(*_RESNET, 81.08, samples=128, source=KINGMA),
    Yardstick(*_RESNET, -84.08, estimator="elbo", source=KINGMA),
    Yardstick(*_RESNET_IAF, 79.10, samples=128, source=KINGMA),
    Yardstick(*_RESNET_IAF, -80.80, estimator="elbo", source=KINGMA),
    Yardstick("VAE with a VampPrior, one layer", _GATED, 85.57, source=TOMCZAK, **_STATIC),
    Yardstick("VAE, 65,000 steps", _SMALL, 97.10, source=ALTOSAAR, **_STATIC),
    Yardstick("VAE, 65,000 steps", _SMALL, -103.31, estimator="elbo", source=ALTOSAAR, **_STATIC),
    # this project's own
    *_own(
        "VAE, 1,650 epochs",
        _MLP,
        ("python train.py experiment=burda_vae trainer.max_epochs=1650", _ON_22),
        (86.20, 0.23, 5000),
        -89.76,
    ),
    *_own("VAE, 200 epochs", _MLP, ("python train.py experiment=burda_vae", _ON_21), (88.93, 0.23, 5000), -93.07),
    *_own(
        "IWAE, k = 5, 680 epochs",
        _MLP,
        ("python train.py experiment=burda_iwae5 trainer.max_epochs=680", _ON_22),
        (86.11, 0.22, 5000),
        None,
    ),
    *_own(
        "VAE with a VampPrior, 50 epochs",
        _GATED,
        ("python train.py experiment=vampprior trainer.max_epochs=50 model.kl_warmup_steps=5500", _ON_22),
        (88.06, 0.23, 1000),
        None,
    ),
    *_own(
        "VAE, gated net, 240 epochs",
        _GATED,
        (f"python train.py experiment=vampprior model/prior=standard {_SOAP}", _ON_29),
        (84.46, 0.22, 5000),
        -87.87,
    ),
    *_own(
        "VAE with a VampPrior, 240 epochs",
        _GATED,
        (f"python train.py experiment=vampprior {_SOAP}", _ON_29),
        (82.38, 0.22, 5000),
        -85.03,
    ),
    *_own("the default VAE, 10 epochs", _DEFAULT, ("python train.py", _ON_28), (94.84, 0.26, 1000), -100.38),
    *_own("convolutional VAE of 40,977 parameters, 5 epochs", "cnn3", ("model=vae_cnn3", _ON_28), (127.22, None, 100), -133.03),
    *_own(
        "VAE, 480 epochs",
        _MLP,
        ("python train.py experiment=burda_vae data.binarization=static trainer.max_epochs=480", _ON_22),
        (89.16, 0.24, 1000),
        None,
        **_STATIC,
    ),
    *_own("VAE, 65,000 steps", _SMALL, ("experiment=altosaar", _ON_22), (90.63, 0.25, 1000), -96.08, **_STATIC),
    *_own("the default VAE, 10 epochs", _DEFAULT, ("data.binarization=static", _ON_28), (96.77, None, 100), -101.38, **_STATIC),
    *_own(
        "conditional VAE, 400 epochs",
        _MLP,
        ("python train.py experiment=burda_cvae trainer.max_epochs=400", _ON_22),
        (83.81, 0.23, 1000),
        None,
        **_GIVEN,
    ),
    *_own("conditional VAE, 5 epochs", _DEFAULT, ("model=cvae_mlp", _ON_28), (96.40, None, 100), -101.42, **_GIVEN),
    *_own(_CNN2, "cnn2", ("model=cvae_cnn2", _ON_28), (102.49, None, 100), -109.00, **_GIVEN),
    *_own(_CNN3, "cnn3", ("model=cvae_cnn3", _ON_28), (122.81, None, 100), -128.39, **_GIVEN),
    *_own(
        "conditional VAE, 5 epochs",
        _DEFAULT,
        ("model=cvae_mlp data.binarization=static", _ON_28),
        (96.74, None, 100),
        -101.71,
        **_GIVEN,
        **_STATIC,
    ),
)
"""Every number. Published ones are as their authors state them, ELBOs with this project's sign."""
