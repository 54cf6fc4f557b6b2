"""A model that only speaks the protocol `vae_lightning.types.LatentVariableModel`: it has no base class but Lightning's."""

import pytorch_lightning as L
import torch
from torch import Tensor, nn
from torch.distributions import Bernoulli, Distribution, Independent, Normal, kl_divergence


class PlainVAE(L.LightningModule):
    """A variational autoencoder of one layer, for images of continuous Bernoulli-like grey levels."""

    def __init__(self, image_shape: list[int], latent_dim: int = 3, lr: float = 1e-3, seed: int = 0) -> None:
        super().__init__()
        self.image_shape, self.latent_dim, self.lr = tuple(image_shape), latent_dim, lr
        numbers = image_shape[0] * image_shape[1] * image_shape[2]
        self.encoder = nn.Linear(numbers, 2 * latent_dim)
        self.decoder = nn.Linear(latent_dim, numbers)

    def prior(self, y: Tensor | None = None) -> Distribution:
        zero = torch.zeros(self.latent_dim, device=self.device)
        return Independent(Normal(zero, zero + 1), 1)

    def posterior(self, x: Tensor, y: Tensor | None = None) -> Distribution:
        loc, log_scale = self.encoder(x.flatten(1)).chunk(2, -1)
        return Independent(Normal(loc, log_scale.tanh().exp()), 1)

    def likelihood(self, z: Tensor, y: Tensor | None = None) -> Distribution:
        logits = self.decoder(z).unflatten(-1, self.image_shape)
        return Independent(Bernoulli(logits=logits, validate_args=False), 3, validate_args=False)

    def loss(self, x: Tensor) -> Tensor:
        """Minus the ELBO, `()` nats."""
        posterior = self.posterior(x)
        log_likelihood = self.likelihood(posterior.rsample()).log_prob(x)
        return (kl_divergence(posterior, self.prior()) - log_likelihood).mean()

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        loss = self.loss(batch[0])
        self.log("train/loss", loss)
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        self.log("val/loss", self.loss(batch[0]))

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        self.log("test/loss", self.loss(batch[0]))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=self.lr)
