"""PyTorch's own VAE example, its loop and its loss, with Bernoulli binarization at every use."""

import vae_lightning.machine.torchvision_compat  # noqa: F401  isort: skip
import torch
from common import Clock, arguments, report
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Subset
from torchvision import datasets, transforms


class VAE(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.fc21, self.fc22 = nn.Linear(784, 400), nn.Linear(400, 20), nn.Linear(400, 20)
        self.fc3, self.fc4 = nn.Linear(20, 400), nn.Linear(400, 784)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        h = F.relu(self.fc1(x))
        mean, log_variance = self.fc21(h), self.fc22(h)
        z = mean + torch.exp(0.5 * log_variance) * torch.randn_like(mean)
        return torch.sigmoid(self.fc4(F.relu(self.fc3(z)))), mean, log_variance


options = arguments(workers=0)
torch.manual_seed(0)
data = Subset(datasets.MNIST(options.data, train=True, transform=transforms.ToTensor()), range(55_000))
loader = DataLoader(data, batch_size=128, shuffle=True, num_workers=options.workers)
model = VAE()
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
clock = Clock()
for _ in range(options.epochs):
    total = 0.0
    for image, _label in loader:
        x = torch.bernoulli(image.view(-1, 784))
        optimizer.zero_grad()
        reconstruction, mean, log_variance = model(x)
        loss = F.binary_cross_entropy(reconstruction, x, reduction="sum")
        loss = loss - 0.5 * torch.sum(1 + log_variance - mean.pow(2) - log_variance.exp())
        (loss / len(x)).backward()
        total += loss.item()
        optimizer.step()
    clock.epoch(55_000)
report(clock.images_per_second, total / 55_000)
