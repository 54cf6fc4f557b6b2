"""A VAE of binarized MNIST, from command to gradient on one screen: python examples/minimal.py --root data"""

import argparse

import torch
from torch import Tensor

from vae_lightning import VAE
from vae_lightning.data import sources
from vae_lightning.noise import Source
from vae_lightning.objectives.bounds import elbo


def binarized(images: Tensor, source: torch.Generator) -> Tensor:
    """Grey levels from 0 to 255 to pixels, each of which is 1 with the probability that its grey level is of white."""
    return (torch.rand(images.shape, generator=source) < images / 255).float()


def train(model: VAE, images: Tensor, steps: int, source: torch.Generator) -> None:
    """Adam on the gradients of a pure function of parameters, images, labels, noise and the step's number."""
    parameters = dict(model.named_parameters())
    optimizer = torch.optim.Adam(parameters.values(), lr=1e-3)
    gradients_and_loss = torch.func.grad_and_value(model.functional_loss, has_aux=True)
    labels = torch.zeros(128, dtype=torch.int64)  # which a VAE without classes ignores
    for step in range(steps):
        x = binarized(images[torch.randint(len(images), (128,), generator=source)], source)
        noise = model.draw_noise(x, Source.of(x, "train", step))
        gradients, (loss, _) = gradients_and_loss(parameters, x, labels, noise, torch.tensor(float(step)))
        for name, parameter in parameters.items():
            parameter.grad = gradients[name]
        optimizer.step()
        if step % 1000 == 0:
            print(f"step {step}: loss {loss:.2f} nats an image")


@torch.no_grad()
def mean_elbo(model: VAE, images: Tensor, source: torch.Generator) -> tuple[float, float]:
    """The mean ELBO over images, by one latent sample each, and its standard error: nats an image."""
    x = binarized(images, source)
    draw = model(x, noise=model.draw_noise(x, Source.of(x, "test"), training=False))
    each = elbo(draw.likelihood.log_prob(x).mean(0), torch.distributions.kl_divergence(draw.posterior, draw.prior))
    return each.mean().item(), each.std().item() / len(each) ** 0.5


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", default="data", help="folder that holds MNIST/raw; MNIST is fetched to it if need be")
    parser.add_argument("--steps", type=int, default=5000, help="optimizer steps, on 128 images each")
    options = parser.parse_args()
    torch.manual_seed(0)
    source = torch.Generator().manual_seed(0)
    splits = sources.read("mnist", options.root).splits
    model = VAE(latent_dim=20, net={"name": "mlp", "hidden": [400]})
    train(model, splits["train"][0], options.steps, source)
    mean, error = mean_elbo(model, splits["test"][0], source)
    print(f"test ELBO after {options.steps} steps: {mean:.2f} +- {error:.2f} nats an image")
