"""pythae, its VAE and its trainer as shipped, on images binarized once (it has no binarization at every use)."""

import logging
import statistics
import struct
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from common import arguments, report
from pythae.data.datasets import BaseDataset
from pythae.models import VAE, VAEConfig
from pythae.models.base.base_utils import ModelOutput
from pythae.models.nn import BaseDecoder, BaseEncoder
from pythae.trainers import BaseTrainer, BaseTrainerConfig
from torch import nn


class Encoder(BaseEncoder):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(784, 400), nn.ReLU())
        self.mean, self.log_variance = nn.Linear(400, 20), nn.Linear(400, 20)

    def forward(self, x: torch.Tensor) -> ModelOutput:
        h = self.body(x)
        return ModelOutput(embedding=self.mean(h), log_covariance=self.log_variance(h))


class Decoder(BaseDecoder):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(20, 400), nn.ReLU(), nn.Linear(400, 784), nn.Sigmoid())

    def forward(self, z: torch.Tensor) -> ModelOutput:
        return ModelOutput(reconstruction=self.body(z).reshape(-1, 1, 28, 28))


options = arguments()
logging.disable(logging.INFO)
torch.manual_seed(0)
content = Path(options.data, "MNIST", "raw", "train-images-idx3-ubyte").read_bytes()
assert struct.unpack(">4I", content[:16]) == (2051, 60_000, 28, 28)
grey = torch.from_numpy(np.frombuffer(content, np.uint8, offset=16).reshape(60_000, 1, 28, 28)[:55_000].copy()) / 255
config = VAEConfig(input_dim=(1, 28, 28), latent_dim=20, reconstruction_loss="bce")
with tempfile.TemporaryDirectory() as folder:
    model = VAE(config, Encoder(), Decoder())
    training = BaseTrainerConfig(
        output_dir=folder, num_epochs=options.epochs, per_device_train_batch_size=128, learning_rate=1e-3, no_cuda=True
    )
    trainer = BaseTrainer(model, BaseDataset(torch.bernoulli(grey), torch.zeros(55_000)), training_config=training)
    steps: list[tuple[float, float]] = []
    whole = trainer.train_step

    def timed(epoch: int) -> float:
        started = time.perf_counter()
        loss = float(whole(epoch))
        steps.append((time.perf_counter() - started, loss))
        return loss

    trainer.train_step = timed
    trainer.train()
report(55_000 / statistics.median(seconds for seconds, _ in steps[1:]), steps[-1][1])
