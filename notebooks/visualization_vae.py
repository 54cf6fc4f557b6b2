# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # What a variational autoencoder has learned
#
# From a trained run to its figures, with the mathematics that they show. Name a run in the next cell, or let the notebook
# train a small model of two latent dimensions. All of it takes six to seven minutes on one core (340 s and 434 s, one core
# of an AMD EPYC that others shared, 2026-11-28). `python evaluate.py run=<folder>` draws
# these figures and others into a report. The conditional model has [a notebook of its own](visualization_cvae.ipynb).
#
# To open it: `pip install jupyterlab` into the environment of the project, then `jupyter lab notebooks/visualization_vae.ipynb`; or
# open the file in an editor that knows notebooks, such as VS Code, and choose that environment as its kernel. The pictures that
# are kept in the file are small ones, of few colours, and stills of animations; a run replaces them.

# %% tags=["parameters"]
import os

run = ""  # a run folder, such as "../outputs/xwinxu/2026-11-21_21-17-32_233800"; empty: train one here
data_root = os.environ.get("VAE_LIGHTNING_DATA", "../data")  # MNIST, fetched to if it is not there

epochs = 5  # of a training here
batches = 1.0  # of each epoch: a share of them, or their number
hidden = [300, 300]  # units of each layer
frames = 20  # of the animations of the training
num_images = 10_000  # test images to look at
num_exact = 50  # of these, images whose bounds are held to the exact log p(x)
svi_steps = 1000  # at most, to fit a posterior to one image
betas = (0.25, 1.0, 10.0)  # to compare
seed = 0

# %%
# %matplotlib inline
import tempfile
from pathlib import Path

import matplotlib as mpl
import torch
from IPython.display import Image, display

from vae_lightning import VAE, BetaVAE, MNISTDataModule, figures, runs
from vae_lightning.abilities import Labels
from vae_lightning.callbacks import FrameRecorder
from vae_lightning.data.binarization import binarize, to_unit_interval
from vae_lightning.distributions.likelihoods import BernoulliLikelihood, GaussianLikelihood
from vae_lightning.figures.style import STYLE, figure, show_tiles
from vae_lightning.inference.observed import observed_mask
from vae_lightning.inference.quadrature import quadrature
from vae_lightning.inference.svi import SVISettings
from vae_lightning.noise import generator
from vae_lightning.objectives.bounds import elbo, iwae_bound, kl, log_weights, mean_log_likelihood
from vae_lightning.types import Noise

digits = Labels(noun="digit", count=10)
torch.manual_seed(seed)
mpl.rcParams.update(STYLE)

# %% [markdown]
# ## The model and its bound
#
# An image $x$ of 784 pixels is thought to come from a latent $z$ of few dimensions: $z \sim p(z) = N(0, I)$, then
# $x \sim p_\theta(x \mid z)$, whose parameters a network, the decoder, makes from $z$. The probability of an image,
# $p_\theta(x) = \int p_\theta(x \mid z)\, p(z)\, dz$, is an integral that has no closed form. A second network, the encoder,
# gives $q_\phi(z \mid x) = N(\mu(x), \mathrm{diag}\, \sigma^2(x))$ in place of the posterior $p_\theta(z \mid x)$, and a bound
# with it:
#
# $$
# \begin{aligned}
# \log p_\theta(x)
# &= E_{q_\phi(z \mid x)} \log \frac{p_\theta(x, z)}{q_\phi(z \mid x)} + KL\left(q_\phi(z \mid x) \,\|\, p_\theta(z \mid x)\right)
# && \text{as } p_\theta(x) = p_\theta(x, z) / p_\theta(z \mid x) \text{ at every } z \\
# &\ge E_{q_\phi(z \mid x)} \log \frac{p_\theta(x \mid z)\, p(z)}{q_\phi(z \mid x)}
# && \text{as no KL is below } 0 \\
# &= \underbrace{E_{q_\phi(z \mid x)} \log p_\theta(x \mid z)}_{\text{log-likelihood}}
#  - \underbrace{KL\left(q_\phi(z \mid x) \,\|\, p(z)\right)}_{\text{KL}} = \mathrm{ELBO}(x)
# \end{aligned}
# $$
#
# What the bound lacks is just the error of $q_\phi$: maximising it makes the model likely and the encoder right at once.
#
# **Reparameterisation.** The expectation is over a distribution that depends on $\phi$. With
# $z = \mu(x) + \sigma(x)\, \varepsilon$, $\varepsilon \sim N(0, I)$, the noise is free of $\phi$, and the gradient goes inside:
# $\nabla_\phi\, E_q f(z) = E_\varepsilon\, \nabla_\phi f(\mu(x) + \sigma(x)\, \varepsilon)$. One sample an image is enough.
#
# **The KL of two diagonal Gaussians** has a closed form, a sum over the $D$ latent dimensions:
#
# $$
# KL\left(N(\mu, \mathrm{diag}\, \sigma^2) \,\|\, N(0, I)\right)
# = \tfrac12 \sum_{d=1}^D \left(\mu_d^2 + \sigma_d^2 - 1 - \log \sigma_d^2\right)
# $$
#
# "Auto-encoding variational Bayes", Kingma and Welling, 2014, https://arxiv.org/abs/1312.6114 (the closed form: appendix B);
# "Stochastic backpropagation and approximate inference in deep generative models", Rezende, Mohamed and Wierstra, 2014,
# https://arxiv.org/abs/1401.4082.

# %% [markdown]
# ## Train a small one, or load a run

# %%
import logging
import warnings

import pytorch_lightning as L
from pytorch_lightning.loggers import CSVLogger

logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
warnings.filterwarnings("ignore", module="pytorch_lightning")


def quick_training(model, data):
    """Train `model`, and leave its log and the frames of its animations in a new folder."""
    folder = Path(tempfile.mkdtemp())
    trainer = L.Trainer(
        max_epochs=epochs,
        limit_train_batches=batches,
        logger=CSVLogger(folder, name="csv", version=""),
        callbacks=[FrameRecorder(str(folder / "animation"), frames)],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(model, datamodule=data)
    return folder


small = {
    "net": {"name": "mlp", "hidden": hidden, "activation": "tanh"},
    "optimizer": {"name": "adam", "lr": 0.002},
    "seed": seed,
}
if run:
    loaded = runs.load(*runs.find(run, None), {"root": data_root})
    folder, model, data, best_step = loaded.folder, loaded.model, loaded.data, loaded.step
else:
    data = MNISTDataModule(root=data_root, binarization="dynamic", seed=seed)
    model = VAE(latent_dim=2, **small)
    folder, best_step = quick_training(model, data), None

model.eval().requires_grad_(False)
flat = model.latent_dim == 2  # what can be drawn on a plane
x, y = data.evaluation_images("test", num_images)
train_x, train_y = data.evaluation_images("train", num_images)
print(f"{type(model).__name__}, {model.latent_dim} latent dimensions, binarization {data.binarization}")

# %% [markdown]
# Nats per image; higher is better for the ELBO and the log-likelihood. With grey levels these are densities, see below.

# %%
rates = {}
for split, images, labels in (("train", train_x, train_y), ("test", x, y)):
    draw = model(images, labels)  # posterior, prior, one sample of the posterior, likelihood
    log_likelihood, divergence = mean_log_likelihood(draw, images), kl(draw)
    bound = elbo(log_likelihood, divergence)
    rates[split] = float(divergence.mean()), -float(log_likelihood.mean())
    error = bound.std() / len(bound) ** 0.5
    print(f"{split:5}  elbo {bound.mean():8.2f} ± {error:.2f}  log_likelihood {-rates[split][1]:8.2f}  kl {rates[split][0]:6.2f}")

# %% [markdown]
# ## The mathematics, checked
#
# The closed form of the KL against the mean of $\log q(z \mid x) - \log p(z)$ over samples of $q$. The largest of so many
# deviations should be some two or three standard errors.

# %%
few, few_y = x[:num_exact], y[:num_exact]
draw = model(few, few_y, Noise(torch.randn(2000, len(few), model.latent_dim)))
closed = kl(draw)
sampled = draw.posterior.log_prob(draw.z) - draw.prior.log_prob(draw.z)  # (2000, N)
error = sampled.std(0) / len(sampled) ** 0.5
deviation = ((sampled.mean(0) - closed) / error).abs().max()
print(f"KL in closed form {closed.mean():.3f}, from samples {sampled.mean():.3f}: at most {deviation:.1f} standard errors apart")
assert deviation < 6

# %% [markdown]
# The ELBO against tighter bounds: the mean of $K$ importance weights is unbiased, so by Jensen's inequality
# $\log \frac1K \sum_k p(x, z_k) / q(z_k \mid x)$, $z_k \sim q(z \mid x)$, is below $\log p(x)$ in expectation, the less so the
# larger $K$; at $K = 1$ it is the ELBO ("Importance weighted autoencoders", Burda, Grosse and Salakhutdinov, 2016,
# https://arxiv.org/abs/1509.00519). Of two dimensions, a sum over a fine grid of latents gives $\log p(x)$ itself.

# %%
weights = log_weights(draw, few)  # log p(x, z) - log q(z | x), (2000, N)
bounds = {samples: float(iwae_bound(weights.view(samples, -1)).mean()) for samples in (1, 10, 100, 2000)}
for samples, value in bounds.items():
    print(f"K = {samples:5}: {value:9.3f}")
assert list(bounds.values()) == sorted(bounds.values())
if flat:
    exact = quadrature(model, few)
    print(f"   exact : {exact.log_evidence.mean():9.3f}, to within {exact.error.max():.1g}")
    assert bounds[1] < exact.log_evidence.mean()

# %% [markdown]
# ## Bernoulli or Gaussian, and why binarize
#
# MNIST's pixels are grey levels, nearly all of them black or white. A Bernoulli likelihood,
# $\log p(x \mid z) = \sum_i x_i \log \lambda_i(z) + (1 - x_i) \log (1 - \lambda_i(z))$, is a probability of *binary* images: it
# is at most 1, its log at most 0, and the ELBO of one model compares with that of another. Given grey levels, the same formula is
# "binary cross-entropy", the probability of nothing.
#
# So pixels are binarized. *Dynamic*: each is drawn with its grey level as probability, afresh every time the image is used ("On
# the quantitative analysis of deep belief networks", Salakhutdinov and Murray, 2008, https://doi.org/10.1145/1390156.1390266).
# *Static*: drawn once and for all ("The neural autoregressive distribution estimator", Larochelle and Murray, 2011,
# http://proceedings.mlr.press/v15/larochelle11a.html). *Threshold*: cut at one half, which leaves no chance and is the easiest to
# learn. Estimates of one kind do not compare with those of another. The same ten digits:

# %%
grey, _ = type(data)(root=data_root, binarization="none").evaluation_images("test", 10)
levels = (255 * grey).round().to(torch.uint8)
rows = {
    "grey": grey,
    "threshold": to_unit_interval(binarize(levels, "threshold")),
    "dynamic, once": to_unit_interval(binarize(levels, "dynamic", generator(seed, "once"))),
    "and again": to_unit_interval(binarize(levels, "dynamic", generator(seed, "again"))),
}
made, axes = figure(7, 2.8)
show_tiles(axes, torch.cat(list(rows.values())), 10, row_names=list(rows))
display(made)

# %% [markdown]
# A Gaussian, $\log p(x \mid z) = -\frac{1}{2 s^2} \lVert x - \mu(z) \rVert^2 - 784 \log (s \sqrt{2 \pi})$, fits grey levels (so
# does the density of "The continuous Bernoulli: fixing a pervasive error in variational autoencoders", Loaiza-Ganem and
# Cunningham, 2019, https://arxiv.org/abs/1907.06845), but it is a *density*. The second term has no upper limit as $s$ falls, and
# grows by $784 \log 255 = 4344$ nats if levels run to 1 and not to 255, with not a pixel better. So a Gaussian's ELBO compares
# with that of no binary image, and with another density's only on the same scale; grey levels are whole numbers besides, on which
# a density may become infinite ("A note on the evaluation of generative models", Theis, van den Oord and Bethge, 2016,
# https://arxiv.org/abs/1511.01844). Squared error plus $\beta$ KL, which is often called a VAE, is a Gaussian with
# $s^2 = \beta / 2$ that was not learned ("Simple and effective VAE training with calibrated decoders", Rybkin, Daniilidis and
# Levine, 2021, https://arxiv.org/abs/2006.13202).
#
# The next cell gives every image a decoder that knows its grey levels exactly. The Gaussian's figure is whatever $s$ makes it.
# The Bernoulli's is minus the entropy of the coin tosses of dynamic binarization: no model of these images can average more.

# %%
grey, _ = type(data)(root=data_root, binarization="none").evaluation_images("test", num_images)
levels = (255 * grey).round().to(torch.uint8)
logits = torch.logit(grey, eps=1e-6)
for scale in (1.0, 0.1, 0.01):
    density = GaussianLikelihood(scale, learn_scale=False)(logits).log_prob(grey)
    print(f"Gaussian, s = {scale:4}: {density.mean():9.2f} nats (a density)")
drawn = to_unit_interval(binarize(levels, "dynamic", generator(seed, "entropy")))
probability = BernoulliLikelihood()(logits).log_prob(drawn)
print(f"Bernoulli         : {probability.mean():9.2f} nats (a probability)")
assert (probability <= 0).all()

# %% [markdown]
# ## How it learned
#
# Training and validation should improve and stay together; validation that turns while training goes on is overfitting. The
# dotted line, if there is one, is the checkpoint that was loaded.

# %%
display(figures.learning_curves(runs.history(folder), best_step))

# %% [markdown]
# Rate, the KL, is what the latent tells of the image; distortion, minus the log-likelihood, is what is left to be told. Along a
# grey line their sum, minus the ELBO, is the same. Good: far to the lower left, test close to train. More on this plane under
# [what beta does](#What-beta-does).

# %%
figures.rate_distortion(rates)

# %% [markdown]
# ## Images in, images out
#
# The test images with the highest, middle and lowest ELBO: the input, the *mean* of $p(x \mid z)$ for a sample $z$ of
# $q(z \mid x)$, and a *sample* of $p(x \mid z)$, which is speckled because pixels are independent given $z$; the model does not
# claim otherwise. Good: the middle ones are the same digit in the same hand; the worst are odd to the eye too.

# %%
figures.reconstructions(model, x, y, seed=seed)

# %% [markdown]
# Sixteen at random, and the first hundred, each with the mean of $p(x \mid z)$ at the mean of $q(z \mid x)$. Blur is where the
# model is unsure; two dimensions mistake some 4s for 9s and 3s for 5s.

# %%
display(figures.reconstruction_pairs(model, x, y, seed=seed), figures.reproductions(model, x, y))

# %% [markdown]
# Samples of the model itself: $z$ from the prior, the mean of $p(x \mid z)$, below it a sample. Good: each is a digit somebody
# could have written. Shapes between digits come from latents that the prior covers and no image uses.

# %%
figures.samples(model, seed=seed)

# %% [markdown]
# ## The plane of latents
#
# What a mesh of latents on $[-4, 4]^2$ decodes to. Neighbours should resemble each other, and all digits have a place. The
# corners are far out: the prior puts less than one sample in ten thousand beyond $|z_d| = 4$.

# %%
if flat:
    display(figures.latent_grid(model, rows=10), figures.latent_grid(model, rows=20))

# %% [markdown]
# The same at equal steps of the prior's probability, $z_d = \Phi^{-1}(u)$: every tile stands for the same share of samples, so
# each digit should have about a tenth of the tiles.

# %%
if flat:
    display(figures.latent_quantile_grid(model))

# %% [markdown]
# Posterior means in the colour of labels that the model has not seen (of more than two dimensions, the first two principal
# components). Good: digits form groups.

# %%
figures.posterior_means(model, x, y, labels=digits)

# %% [markdown]
# One sample of each posterior: together they are samples of the *aggregate posterior* $q(z) = E_x\, q(z \mid x)$. The mean KL is
# what $z$ tells of the image plus how far $q(z)$ is from the prior,
# $E_x\, KL(q(z \mid x) \,\|\, p(z)) = I(x; z) + KL(q(z) \,\|\, p(z))$ ("ELBO surgery", Hoffman and Johnson, 2016,
# http://approximateinference.org/accepted/HoffmanJohnson2016.pdf). Good: a round cloud of standard deviation 1 without holes.

# %%
figures.posterior_samples(model, x, y, seed=seed)

# %% [markdown]
# The mean KL of each dimension. One near 0 tells nothing of the image: the decoder ignores it, and the posterior has collapsed to
# the prior.

# %%
figures.kl_bars(model, x, y)

# %% [markdown]
# ## Ways through it
#
# Between the posterior means of two images: on a line, and on a circle around the origin, which keeps to the distances that the
# prior has mass at. In many dimensions that is a thin shell of radius $\sqrt D$, and a straight line leaves it ("Sampling
# generative networks", White, 2016, https://arxiv.org/abs/1609.04468); in two it hardly matters. Good: every step is a shape
# somebody could write, not two digits laid over each other.

# %%
display(figures.interpolations(model, x, y), figures.interpolations(model, x, y, spherical=True))

# %% [markdown]
# From the first image of each digit to the next digit's, and back to the first.

# %%
Image(data=figures.latent_walk(model, x, y).gif())

# %% [markdown]
# The most active dimensions, each moved alone from the first image's posterior mean. A row should change one thing; a row that
# changes nothing is unused.

# %%
figures.latent_traversals(model, x, y)

# %% [markdown]
# The mean latent of each digit, decoded, and with a little noise: typical forms, if the digit's latents lie in one piece. With
# noise as wide as the prior, a model without labels comes to other digits.

# %%
display(figures.class_means(model, x, y, seed=seed), figures.chosen_class(model, x, y, label=3, seed=seed, labels=digits))

# %% [markdown]
# ## An image of which a part is seen
#
# The encoder knows whole images only. Given the pixels $x_O$ that a mask leaves, the others integrate to 1 and drop out of the
# likelihood, $\log p(x_O \mid z) = \sum_{i \in O} \log p(x_i \mid z)$, and a Gaussian $q(z)$ is fitted to each image by itself,
# by gradient ascent in its mean and deviation on
#
# $$
# E_{q(z)} \log p(x_O \mid z) - KL\left(q(z) \,\|\, p(z)\right) = \log p(x_O) - KL\left(q(z) \,\|\, p(z \mid x_O)\right)
# $$
#
# ("Stochastic variational inference", Hoffman, Blei, Wang and Paisley, 2013, https://arxiv.org/abs/1206.7055; without the
# encoder, this is the VAE's own bound). Of two dimensions the exact posterior can be had by quadrature, and with it the error.
# Middle: lines of equal $\log p(z, x_O)$ and $\log q(z)$. Right: the exact posterior in shades, $q$ at one to five standard
# deviations. Good: they lie on each other and the KL is near 0; what is left is what a diagonal Gaussian cannot follow, such as a
# second mode.

# %%
svi = SVISettings(max_steps=svi_steps)
some = figures.one_of_each(y)
if flat:
    mask = observed_mask("top")
    display(figures.isocontours(model, x[some[2:5]], y[some[2:5]], mask, svi, seed=seed))
    gap = figures.posterior_gap(model, x[some], y[some], mask, svi, seed=seed)
    print(
        "KL(q || p) by digit, nats:", "  ".join(f"{digit}: {value:.2f}" for digit, value in zip(y[some].tolist(), gap, strict=True))
    )

# %% [markdown]
# Completions: the seen part, and for the rest means of $p(x \mid z)$ for samples of $q(z)$. Good: samples join the seen part, and
# differ where it leaves the digit open. The mean of many is blurred for the same reason.

# %%
for kind in ("top", "left", "bottom_right", "random"):
    display(figures.completion(model, x[some], y[some], observed_mask(kind), svi, seed=seed))

# %% [markdown]
# ## What beta does
#
# The beta-VAE maximises $E_q \log p(x \mid z) - \beta\, KL(q(z \mid x) \,\|\, p(z))$ ("beta-VAE: learning basic visual concepts
# with a constrained variational framework", Higgins et al., 2017, https://openreview.net/forum?id=Sy2fzU9gl). $\beta$ is the
# price of a nat of rate in nats of distortion: minus the slope at which a model stops on the curve of what it can reach ("Fixing
# a broken ELBO", Alemi et al., 2018, https://arxiv.org/abs/1711.00464). Above 1, dimensions that do not pay are given up and
# those kept are prompted to vary one thing each ("Understanding disentangling in beta-VAE", Burgess et al., 2018,
# https://arxiv.org/abs/1804.03599); below 1, images are sharper and the prior fits worse. The ELBO itself, $\beta = 1$ whatever
# the training, is best where it was trained for.
#
# Three small models of ten dimensions: a larger $\beta$ goes to the upper left, and leaves fewer dimensions in use.

# %%
binary = MNISTDataModule(root=data_root, binarization="dynamic", seed=seed)
bx, by = binary.evaluation_images("test", num_images)
models, points = {}, {}
for beta in betas:
    other = BetaVAE(beta=beta, latent_dim=10, **small)
    quick_training(other, binary)
    models[beta] = other.eval().requires_grad_(False)
    draw = other(bx, by)
    points[f"beta {beta:g}"] = float(kl(draw).mean()), -float(mean_log_likelihood(draw, bx).mean())
display(figures.rate_distortion(points))

# %%
for beta, other in models.items():
    print(f"beta {beta:g}")
    display(figures.kl_bars(other, bx, by))

# %% [markdown]
# The units of the model with the largest $\beta$, then lines and circles between images in ten dimensions, by the one whose
# $\beta$ is nearest to 1.

# %%
plain = models[min(betas, key=lambda beta: abs(beta - 1))]
display(
    figures.latent_traversals(models[max(betas)], bx, by),
    figures.interpolations(plain, bx, by),
    figures.interpolations(plain, bx, by, spherical=True),
)

# %% [markdown]
# ## While it learned
#
# A training leaves frames if it is asked to (`callbacks.animation.frames=25`; here it was). The same test images, what the same
# latents decode to, and samples of the aggregate posterior. Good: digits within the first epoch, places taken early and kept, a
# cloud that parts into digits and keeps the prior's extent.

# %%
recording = figures.read_recording(folder / "animation") if any((folder / "animation").glob("*.npz")) else None
if recording:
    display(Image(data=figures.training_reconstructions(recording).gif()))

# %%
if recording:
    display(Image(data=figures.training_decoded(recording).gif()))

# %%
if recording:
    display(Image(data=figures.training_manifold(recording).gif()))
