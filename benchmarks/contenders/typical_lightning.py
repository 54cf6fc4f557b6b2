"""What a Lightning user writes first: torchvision's MNIST, ToTensor, a DataLoader, self.log at every step, Lightning's defaults."""

import sys
import tempfile

import vae_lightning.machine.torchvision_compat  # noqa: F401  isort: skip
import pytorch_lightning as L
import torch
from common import Clock, arguments, report
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Subset
from torchvision import datasets, transforms

BATCH = 128


class VAE(L.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(784, 400), nn.ReLU())
        self.mean, self.log_variance = nn.Linear(400, 20), nn.Linear(400, 20)
        self.decoder = nn.Sequential(nn.Linear(20, 400), nn.ReLU(), nn.Linear(400, 784))

    def encode(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return self.encoder(x.flatten(1))

    def decode(self, z: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return self.decoder(z)

    def training_step(self, batch: list[torch.Tensor], batch_idx: int) -> torch.Tensor:
        x, y = torch.bernoulli(batch[0]), batch[1]
        h = self.encode(x, y)
        mean, log_variance = self.mean(h), self.log_variance(h)
        z = mean + torch.exp(0.5 * log_variance) * torch.randn_like(mean)
        logits = self.decode(z, y).flatten(1)
        reconstruction = F.binary_cross_entropy_with_logits(logits, x.flatten(1), reduction="none").sum(-1).mean()
        kl = -0.5 * (1 + log_variance - mean.pow(2) - log_variance.exp()).sum(-1).mean()
        loss = reconstruction + kl
        self.log_dict({"reconstruction": reconstruction, "kl": kl})
        self.log("loss", loss, prog_bar=True, on_step=True, on_epoch=True)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=1e-3)


class ConvolutionalCVAE(VAE):
    """The network of this project's cvae_cnn3, with the labels as ten planes beside the image."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            *(nn.Conv2d(11, 16, 6, stride=3), nn.ReLU(), nn.Conv2d(16, 32, 4, stride=2), nn.ReLU()),
            *(nn.Conv2d(32, 64, 3), nn.ReLU(), nn.Flatten()),
        )
        self.mean, self.log_variance = nn.Linear(64, 20), nn.Linear(64, 20)
        self.decoder = nn.Sequential(
            *(nn.Linear(30, 32), nn.ReLU(), nn.Unflatten(1, (32, 1, 1))),
            *(nn.ConvTranspose2d(32, 16, 4, stride=3, padding=1, output_padding=1), nn.ReLU()),
            *(nn.ConvTranspose2d(16, 8, 4, stride=3, padding=2, output_padding=1), nn.ReLU()),
            nn.ConvTranspose2d(8, 1, 4, stride=4),
        )
        for layer in self.modules():
            if isinstance(layer, (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
                nn.init.zeros_(layer.bias)

    def encode(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        planes = F.one_hot(y, 10).float()[:, :, None, None].expand(-1, -1, 28, 28)
        return self.encoder(torch.cat([x, planes], dim=1))

    def decode(self, z: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return self.decoder(torch.cat([z, F.one_hot(y, 10).float()], dim=1))


class Measure(L.Callback):
    def __init__(self) -> None:
        self.clock = Clock()

    def on_train_epoch_end(self, trainer: L.Trainer, *_: object) -> None:
        self.clock.epoch(min(55_000, int(trainer.num_training_batches) * BATCH))


options = arguments(workers=0, model="vae", batches=0, device="cpu")
torch.manual_seed(0)
data = Subset(datasets.MNIST(options.data, train=True, transform=transforms.ToTensor()), range(55_000))
measure = Measure()
with tempfile.TemporaryDirectory() as folder:
    trainer = L.Trainer(
        max_epochs=options.epochs,
        accelerator=options.device,
        devices=1,
        callbacks=[measure],
        default_root_dir=folder,
        limit_train_batches=options.batches or 1.0,
    )
    model = {"vae": VAE, "cvae_cnn3": ConvolutionalCVAE}[options.model]()
    trainer.fit(model, DataLoader(data, batch_size=BATCH, shuffle=True, num_workers=options.workers))
report(measure.clock.images_per_second, float(trainer.callback_metrics["loss_epoch"]))
sys.exit(0)
