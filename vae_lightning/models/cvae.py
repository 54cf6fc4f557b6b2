"""The conditional VAE: labels enter encoder and decoder, and the prior if asked.

"Learning structured output representation using deep conditional generative models", Sohn, Lee and Yan, 2015,
https://papers.nips.cc/paper/5775-learning-structured-output-representation-using-deep-conditional-generative-models.
"""

from typing import Any

from torch import Tensor
from torch.distributions import Distribution

from vae_lightning.arguments import require
from vae_lightning.distributions.priors import ClassPrior, StandardPrior
from vae_lightning.models.vae import VAE

__all__ = ["CVAE"]


class CVAE(VAE):
    """p(x, z | y): every figure of it is of log p(x | y), which is above log p(x) on average.

    Args beside those of `VAE`:
        num_classes: how many classes the labels have.
        conditional_prior: learn p(z | y), a diagonal Gaussian a class, started at the standard normal: what any model with
            classes does with `prior="class"`.
    """

    def __init__(self, num_classes: int = 10, conditional_prior: bool = False, **vae: Any) -> None:
        require(num_classes >= 1, "model.num_classes", num_classes, "at least 1")
        super().__init__(num_classes=num_classes, **vae)
        self.keep_hyperparameters({"conditional_prior": conditional_prior})
        alone = not conditional_prior or isinstance(self.prior_of, StandardPrior)
        require(alone, "model.conditional_prior", conditional_prior, "false with a model.prior other than standard")
        self.class_prior = ClassPrior(self.latent_dim, num_classes) if conditional_prior else None

    def prior(self, y: Tensor | None = None) -> Distribution:
        """p(z | y) of labels `(B,)`, batch shape `(B,)` if `conditional_prior`."""
        if self.class_prior is None:
            return super().prior(y)
        prior: Distribution = self.class_prior(y, self.posterior)
        return prior
