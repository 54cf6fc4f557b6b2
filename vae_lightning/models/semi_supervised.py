r"""Learning to classify from few labels and many images without one.

"Semi-supervised learning with deep generative models", Kingma, Mohamed, Rezende and Welling, 2014,
https://arxiv.org/abs/1406.5298.

- M1: a VAE of all images, and a classifier of its latents that learns from the labelled ones.
- M2: the label is a latent variable beside z: $p(y)$ uniform, $p(z)$, $p(x \mid y, z)$; $q(y \mid x)$ classifies, $q(z \mid x, y)$.
  With a label, $L(x, y) = E_q \log p(x \mid y, z) - KL(q(z \mid x, y) \,\|\, p(z)) + \log p(y) \le \log p(x, y)$; without,
  $U(x) = \sum_y q(y \mid x) L(x, y) + H(q(y \mid x)) \le \log p(x)$. As $q(y \mid x)$ is not in L, the labelled images'
  cross-entropy is added to the loss, weighted by $\alpha$.

The paper's objective is a sum over the N images, with 0.1 N times the mean cross-entropy of the labelled ones. Here the loss is
a mean over images, so its $\alpha$ is 0.1; within a few epochs, more of it keeps q(y | x) from clusters of its own.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from vae_lightning.arguments import require
from vae_lightning.distributions.likelihoods import full_precision
from vae_lightning.distributions.sampling import from_noise
from vae_lightning.models.parts import built_part, require_per_image
from vae_lightning.models.vae import VAE
from vae_lightning.nets import CLASSIFIERS, ClassifierMLP, classified, dropout_features, dropout_noise
from vae_lightning.noise import Source
from vae_lightning.objectives.bounds import elbo
from vae_lightning.types import MNIST_CLASSES, UNLABELLED, Draw, Noise

__all__ = ["M1", "M2", "ClassifiedDraw", "SemiSupervised"]


class ClassifiedDraw(NamedTuple):
    """One pass of images through a model that classifies them too.

    >>> model = M1(classes=3, latent_dim=2, net={"name": "mlp", "hidden": [8]}, num_samples=5)
    >>> x = torch.zeros(4, 1, 28, 28)
    >>> output = model(x, noise=model.draw_noise(x, Source.of(x, "example")))
    >>> output.draw.z.shape, output.logits.shape, output.trained_logits.shape
    (torch.Size([5, 4, 2]), torch.Size([4, 3]), torch.Size([5, 4, 3]))
    """

    draw: Draw
    """The VAE's pass of `B` images; of M2, `C * B`: all images with the first label, then all with the second, and so on."""
    logits: Tensor
    """The classes' logits `(B, C)` that `predict` uses."""
    trained_logits: Tensor
    """The logits `(K, B, C)` that the classifier learns by: of M1, one for each sample z."""


class SemiSupervised(VAE):
    """A VAE that classifies, and learns from images without a label, whose `y` is `UNLABELLED`.

    >>> model: SemiSupervised = M2(num_classes=3, latent_dim=2, net={"name": "mlp", "hidden": [8]})
    >>> model.semi_supervised, model.classes
    (True, 3)
    """

    semi_supervised: ClassVar[bool] = True
    """Tells a data module that labels may be missing."""
    classes: int
    """How many classes it tells apart."""

    def logits(self, x: Tensor) -> Tensor:
        """Unnormalised log-probabilities `(B, C)` of the classes, for images `(B, channels, H, W)`."""
        raise NotImplementedError

    @torch.no_grad()
    def predict(self, x: Tensor) -> Tensor:
        """Class probabilities `(B, C)` of images `(B, channels, H, W)`."""
        return self.logits(x).softmax(-1)

    def classification(self, output: ClassifiedDraw, y: Tensor) -> tuple[Tensor, Tensor]:
        """Cross-entropy, nats, and accuracy, `(B,)` each, whose means over the batch are those over its labelled images."""
        share = _share(y != UNLABELLED, output.logits.dtype)
        label = torch.where(y == UNLABELLED, 0, y).expand(len(output.trained_logits), -1)
        right = output.trained_logits.log_softmax(-1).gather(-1, label[..., None])
        return -share * right.squeeze(-1).mean(0), share * (output.logits.argmax(-1) == y)

    def _label_range(self) -> tuple[int, int]:
        return UNLABELLED, self.classes


def _share(counted: Tensor, dtype: torch.dtype) -> Tensor:
    """Weights `(B,)` that turn a mean over the batch into the mean over `counted` images; all 0 if no image is counted."""
    return counted.to(dtype) * (len(counted) / counted.sum().clamp(min=1))


class M1(SemiSupervised):
    """A VAE of all images and a classifier of z from q(z | x), through which no gradient reaches the VAE.

    The paper's classifier is a support vector machine, fitted to the latents of the trained VAE; this one learns along with it.

    Args beside those of `VAE`:
        classes: how many; None: MNIST's. The commands give that of the data.
        classifier: of the latents, `{"name": "classifier_mlp", ...}`.

    >>> model = M1(classes=3, latent_dim=2, net={"name": "mlp", "hidden": [8]})
    >>> model.predict(torch.zeros(4, 1, 28, 28)).shape
    torch.Size([4, 3])
    """

    def __init__(self, classes: int | None = None, classifier: str | Mapping[str, Any] = "classifier_mlp", **vae: Any) -> None:
        classes = MNIST_CLASSES if classes is None else classes
        super().__init__(**vae)
        self.keep_hyperparameters({"classes": classes, "classifier": classifier})
        require(classes >= 2, "classes", classes, "at least 2")
        require(self.num_classes == 0, "num_classes", self.num_classes, "0: labels are for the classifier alone")
        self.classes = classes
        options: dict[str, Callable[..., nn.Module]] = {"classifier_mlp": ClassifierMLP}
        offered = {"num_classes": classes, "image_shape": (self.latent_dim,)}
        self.classifier = built_part("classifier", classifier, options, nn.Module, **offered)

    def logits(self, x: Tensor) -> Tensor:
        """Unnormalised log-probabilities `(B, C)` of the classes, from the posterior means."""
        return self._classes_of(self.posterior(x).mean)

    def _dropout_noise(self, source: Source) -> tuple[Tensor, ...]:
        return super()._dropout_noise(source) + dropout_noise(self.classifier, source, "classifier", self.num_samples)

    def forward(self, x: Tensor, y: Tensor | None = None, noise: Noise | None = None) -> ClassifiedDraw:  # type: ignore[override]
        """The VAE's pass, and the classes by posterior means and by samples."""
        draw = super().forward(x, y, noise)
        layers = len(dropout_features(self.classifier))
        dropout = iter(noise.dropout[-layers:]) if layers and noise and noise.dropout else None
        samples = self._classes_of(draw.z.detach().flatten(0, 1), dropout).unflatten(0, draw.z.shape[:2])
        return ClassifiedDraw(draw, self._classes_of(draw.posterior.mean.detach()), samples)

    def _classes_of(self, z: Tensor, dropout: Iterator[Tensor] | None = None) -> Tensor:
        """Logits `(B, C)` of latents `(B, D)`."""
        return full_precision(classified(self.classifier, z.to(self.origin.dtype), dropout))

    def terms(self, output: ClassifiedDraw, x: Tensor, y: Tensor, step: Tensor) -> dict[str, Tensor]:  # type: ignore[override]
        """The VAE's terms and `accuracy`; beside unlabelled images, the VAE does not see the labelled ones, which come twice."""
        missing = y == UNLABELLED
        share = _share(missing | ~missing.any(), output.logits.dtype)
        terms = {name: share * term for name, term in super().terms(output.draw, x, y, step).items()}
        cross_entropy, accuracy = self.classification(output, y)
        return {**terms, "loss": terms["loss"] + cross_entropy, "accuracy": accuracy}


class M2(SemiSupervised):
    """The label as a latent variable, known for some images.

    `elbo`, `log_likelihood` and `kl` belong to log p(x | y), as a conditional VAE's do; where the label is not known, in training
    alone, they are averages by q(y | x). `elbo_marginal` is U(x), whether the label is known or not; the bound of another objective
    has a `_marginal` too. A step computes every class, at the cost of C VAEs.

    Args beside those of `VAE`:
        num_classes: C; None: MNIST's. The commands give that of the data.
        classifier: q(y | x), `{"name": "classifier_mlp" | "classifier_cnn", ...}`.
        alpha: weight of the mean cross-entropy of the labelled images beside the mean bound, nats an image.

    >>> model = M2(num_classes=3, latent_dim=2, net={"name": "mlp", "hidden": [8]})
    >>> x, y = torch.zeros(4, 1, 28, 28), torch.tensor([0, 1, 2, UNLABELLED])
    >>> terms = model.terms(model(x), x, y, torch.tensor(0.0))
    >>> model.monitor, terms["elbo_marginal"].shape
    ('val/elbo_marginal', torch.Size([4]))
    """

    numbers: ClassVar[tuple[str, ...]] = (*VAE.numbers, "alpha")

    def __init__(
        self, num_classes: int | None = None, classifier: str | Mapping[str, Any] = "classifier_cnn", alpha: float = 5.0, **vae: Any
    ) -> None:
        num_classes = MNIST_CLASSES if num_classes is None else num_classes
        super().__init__(num_classes=num_classes, **vae)
        self.keep_hyperparameters({"classifier": classifier, "alpha": alpha})
        require(num_classes >= 2, "num_classes", num_classes, "at least 2")
        require(0 <= alpha < math.inf, "alpha", alpha, "at least 0, and finite")
        self.classes, self.alpha = num_classes, alpha
        offered = {"num_classes": num_classes, "image_shape": self.image_shape}
        self.classifier = built_part("classifier", classifier, CLASSIFIERS, nn.Module, **offered)

    @property
    def monitor(self) -> str:  # type: ignore[override]
        """The metric that says which checkpoint is best: the objective's, as a bound on log p(x)."""
        return f"{super().monitor}_marginal"

    def logits(self, x: Tensor, dropout: Iterator[Tensor] | None = None) -> Tensor:
        """Unnormalised log-probabilities `(B, C)` of q(y | x)."""
        return full_precision(classified(self.classifier, x.to(self.origin.dtype), dropout))

    # z has the same noise for every class, so that the classes' bounds differ by the label alone

    def _dropout_noise(self, source: Source) -> tuple[Tensor, ...]:
        encoder = dropout_noise(self.encoder, source, "encoder", self.classes)
        decoder = dropout_noise(self.decoder, source, "decoder", self.classes * self.num_samples)
        return dropout_noise(self.classifier, source, "classifier") + encoder + decoder

    def forward(self, x: Tensor, y: Tensor | None = None, noise: Noise | None = None) -> ClassifiedDraw:  # type: ignore[override]
        """All images with every label in one pass; `y` is not looked at."""
        dropout = iter(noise.dropout) if noise and noise.dropout else None
        epsilon = noise.posterior if noise else x.new_empty(1, len(x), self.latent_dim).normal_()
        logits = self.logits(x, dropout)
        labels = torch.arange(self.classes, device=x.device).repeat_interleave(len(x))
        posterior = self.posterior(x.repeat(self.classes, 1, 1, 1), labels, dropout)
        z = from_noise(posterior, epsilon.repeat(1, self.classes, 1))
        draw = Draw(posterior, self.prior(labels), z, self.likelihood(z, labels, dropout))
        if noise and noise.resampling is not None:
            draw = self._with_resampled(draw, x.repeat(self.classes, 1, 1, 1), labels, noise.resampling.repeat(self.classes))
        return ClassifiedDraw(draw, logits, logits.unsqueeze(0))

    def terms(self, output: ClassifiedDraw, x: Tensor, y: Tensor, step: Tensor) -> dict[str, Tensor]:  # type: ignore[override]
        by_class = (self.classes, len(x))
        terms = self.objective_terms(output.draw, x.repeat(self.classes, 1, 1, 1), step)
        objective = require_per_image(self.objective(terms), self, "objective", len(terms.x)).view(by_class)
        bounds = {"elbo": elbo(terms.log_likelihood, terms.kl), **self.objective_of.metrics(terms)}
        log_q = output.logits.log_softmax(-1).mT
        q = log_q.exp()
        label_kl = (q * log_q).sum(0) + math.log(self.classes)
        known = y != UNLABELLED
        share = torch.where(known, self._indicator(y), q)
        cross_entropy, accuracy = self.classification(output, y)
        # of a known label, KL(q(y | x) || p(y)) is -log p(y)
        label = torch.where(known, math.log(self.classes), label_kl)
        shown = {}
        for name, bound in bounds.items():
            shown[name] = (share * bound.view(by_class)).sum(0)
            shown[f"{name}_marginal"] = (q * bound.view(by_class)).sum(0) - label_kl
        return {
            "loss": label - (share * objective).sum(0) + self.alpha * cross_entropy,
            **shown,
            "log_likelihood": (share * terms.log_likelihood.view(by_class)).sum(0),
            "kl": (share * terms.kl.view(by_class)).sum(0),
            "accuracy": accuracy,
        }

    def _indicator(self, y: Tensor) -> Tensor:
        """1 where a class is the label, `(C, B)`; NaN where no class is."""
        label = (y == torch.arange(self.classes, device=y.device).unsqueeze(-1)).to(self.origin.dtype)
        return label.masked_fill((y < 0) | (y >= self.classes), math.nan)
