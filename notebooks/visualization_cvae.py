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
# # What a conditional variational autoencoder has learned
#
# From a trained run to every figure of it, with the mathematics that they show. Name a run in the next cell, or let the notebook
# train a small model of two latent dimensions. All of it takes two to four minutes on one core (117 s and 214 s, one core of
# an AMD EPYC that others shared, 2026-11-28). The bound, the reparameterisation, likelihoods and $\beta$ are explained in
# [the notebook of the VAE](visualization_vae.ipynb), which says how to open one; here is what labels change. The pictures that are
# kept in the file are small ones, of few colours, and stills of animations; a run replaces them.

# %% tags=["parameters"]
import os

run = ""  # a run folder, such as "../outputs/cvae_mlp/2026-11-21_21-17-32_233800"; empty: train one here
data_root = os.environ.get("VAE_LIGHTNING_DATA", "../data")  # MNIST, fetched to if it is not there

epochs = 5  # of a training here
batches = 1.0  # of each epoch: a share of them, or their number
hidden = [300, 300]  # units of each layer
frames = 20  # of the animations of the training
num_images = 10_000  # test images to look at
num_classified = 1000  # of these, images whose p(x) is summed over labels
num_exact = 50  # of these, images whose bounds are held to the exact log p(x | y)
svi_steps = 1000  # at most, to fit a posterior to one image
label = 3  # the class where one has to be chosen
seed = 0

# %%
# %matplotlib inline
import math
import tempfile
from pathlib import Path

import matplotlib as mpl
import torch
from IPython.display import Image, display

from vae_lightning import CVAE, MNISTDataModule, figures, runs
from vae_lightning.abilities import Labels
from vae_lightning.callbacks import FrameRecorder
from vae_lightning.evaluation.metrics import importance_nll, marginal_nll
from vae_lightning.figures.style import STYLE
from vae_lightning.inference.importance import ImportanceSampler
from vae_lightning.inference.observed import observed_mask
from vae_lightning.inference.quadrature import quadrature
from vae_lightning.inference.svi import SVISettings
from vae_lightning.objectives.bounds import elbo, iwae_bound, kl, log_weights, mean_log_likelihood
from vae_lightning.types import Noise

digits = Labels(noun="digit", count=10)
torch.manual_seed(seed)
mpl.rcParams.update(STYLE)

# %% [markdown]
# ## What a label changes
#
# Encoder and decoder are given the label $y$ beside the image and the latent:
# $p_\theta(x, z \mid y) = p(z)\, p_\theta(x \mid z, y)$ and $q_\phi(z \mid x, y)$. The bound is derived as before, with $y$ to
# the right of every bar:
#
# $$
# \log p_\theta(x \mid y) \ge E_{q_\phi(z \mid x, y)} \log p_\theta(x \mid z, y) - KL\left(q_\phi(z \mid x, y) \,\|\, p(z)\right)
# $$
#
# ("Learning structured output representation using deep conditional generative models", Sohn, Lee and Yan, 2015,
# https://papers.nips.cc/paper/5775-learning-structured-output-representation-using-deep-conditional-generative-models). Two
# things follow.
#
# **The latent is left for the style.** Every nat of KL is paid for, and which digit it is comes with $y$ for free. So $z$ has
# reason to hold what the label does not say, slant, width, stroke, and none to hold the digit; the prior is the same for all
# labels, so one $z$ can be decoded with each of them ("Semi-supervised learning with deep generative models", Kingma, Rezende,
# Mohamed and Welling, 2014, https://arxiv.org/abs/1406.5298). Nothing forces one $z$ to be the same style in every digit, but one
# network decodes all.
#
# **The estimates are of $\log p(x \mid y)$**, and compare with those of a VAE only after the labels are summed over,
# $p(x) = \sum_y p(y)\, p(x \mid y)$. As $\log p(x \mid y) - \log p(x) = \log p(y \mid x) - \log p(y)$, they are higher by at most
# $\log 10 = 2.30$ nats, and by nearly that where the image leaves no doubt of its label; where the model takes it for another
# digit, they are lower.

# %% [markdown]
# ## Train a small one, or load a run

# %%
import logging
import warnings

import pytorch_lightning as L
from pytorch_lightning.loggers import CSVLogger

logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
warnings.filterwarnings("ignore", module="pytorch_lightning")

if run:
    loaded = runs.load(*runs.find(run, None), {"root": data_root})
    folder, model, data, best_step = loaded.folder, loaded.model, loaded.data, loaded.step
else:
    folder, best_step = Path(tempfile.mkdtemp()), None
    data = MNISTDataModule(root=data_root, binarization="dynamic", seed=seed)
    net = {"name": "mlp", "hidden": hidden, "activation": "tanh"}
    model = CVAE(latent_dim=2, net=net, optimizer={"name": "adam", "lr": 0.002}, seed=seed)
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

model.eval().requires_grad_(False)
classes = model.num_classes
flat = model.latent_dim == 2  # what can be drawn on a plane
x, y = data.evaluation_images("test", num_images)
train_x, train_y = data.evaluation_images("train", num_images)
print(f"{type(model).__name__}, {model.latent_dim} latent dimensions, {classes} labels, binarization {data.binarization}")

# %% [markdown]
# Nats per image; higher is better for the ELBO, a bound of $\log p(x \mid y)$, and the log-likelihood.

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
# The closed form of the KL against its mean over samples of $q(z \mid x, y)$; and the ELBO ($K = 1$) below the
# importance-weighted bounds below, of two dimensions, the exact $\log p(x \mid y)$ by quadrature.

# %%
few, few_y = x[:num_exact], y[:num_exact]
draw = model(few, few_y, Noise(torch.randn(2000, len(few), model.latent_dim)))
sampled = draw.posterior.log_prob(draw.z) - draw.prior.log_prob(draw.z)  # (2000, N)
error = sampled.std(0) / len(sampled) ** 0.5
deviation = ((sampled.mean(0) - kl(draw)) / error).abs().max()
print(f"KL in closed form {kl(draw).mean():.3f}, from samples {sampled.mean():.3f}: at most {deviation:.1f} standard errors apart")
assert deviation < 6
weights = log_weights(draw, few)  # log p(x, z | y) - log q(z | x, y), (2000, N)
bounds = {samples: float(iwae_bound(weights.view(samples, -1)).mean()) for samples in (1, 10, 100, 2000)}
for samples, value in bounds.items():
    print(f"K = {samples:5}: {value:9.3f}")
assert list(bounds.values()) == sorted(bounds.values())
if flat:
    exact = quadrature(model, few, few_y)
    print(f"   exact : {exact.log_evidence.mean():9.3f}, to within {exact.error.max():.1g}")
    assert bounds[1] < exact.log_evidence.mean()

# %% [markdown]
# Summing over labels: $\log p(x) = \log \sum_y p(x \mid y) / 10$, each $p(x \mid y)$ by importance sampling. By Bayes' rule the
# same numbers classify, $p(y \mid x) = p(x \mid y) / \sum_{y'} p(x \mid y')$, by a model that was never asked to.

# %%
cx, cy = x[:num_classified], y[:num_classified]
sampler, places = ImportanceSampler(model), torch.arange(len(cx), dtype=torch.int32)
given = [-importance_nll(sampler, cx, torch.full_like(cy, c), places, 20, 4000, seed, c)["nll"] for c in range(classes)]
joint = torch.stack(given, dim=-1) - math.log(classes)  # log p(x, y), (N, 10)
marginal = joint.logsumexp(-1)
conditional = joint.gather(-1, cy.unsqueeze(-1)).squeeze(-1) + math.log(classes)
print(f"log p(x | y) {conditional.mean():.2f}, log p(x) {marginal.mean():.2f}: {(conditional - marginal).mean():.3f} nats between")
assert torch.allclose(marginal, -marginal_nll(sampler, cx, places, classes, 20, 4000, seed)["nll_marginal"])
figures.confusion_matrix(cy, joint.argmax(-1), classes)

# %% [markdown]
# ## How it learned
#
# Training and validation should improve and stay together. Rate, the KL, is what the latent tells of the image beside the label;
# distortion, minus the log-likelihood, what is left to be told; along a grey line the ELBO is the same.

# %%
display(figures.learning_curves(runs.history(folder), best_step), figures.rate_distortion(rates))

# %% [markdown]
# The mean KL of each dimension; one near 0 is unused.

# %%
figures.kl_bars(model, x, y)

# %% [markdown]
# ## Images in, images out
#
# The test images with the highest, middle and lowest ELBO: the input, the *mean* of $p(x \mid z, y)$ for a sample $z$ of
# $q(z \mid x, y)$, and a *sample* of it. Good: the right digit throughout, for it is given, and the middle ones in the same hand.

# %%
figures.reconstructions(model, x, y, seed=seed)

# %%
display(figures.reconstruction_pairs(model, x, y, seed=seed), figures.reproductions(model, x, y))

# %% [markdown]
# Samples of the model, a label each. Good: every digit is the one above it.

# %%
figures.samples(model, num_classes=classes, seed=seed)

# %% [markdown]
# Ten of each digit, every one from a latent of its own. Good: each row holds ten different images of its digit.

# %%
figures.class_samples(model, classes, seed=seed, labels=digits)

# %% [markdown]
# ## Style and digit
#
# A latent from the prior a column, a digit a row. Good: a row is one digit, a column one hand.

# %%
figures.class_style_grid(model, classes, seed=seed, labels=digits)

# %% [markdown]
# Style transfer: the first test image of each digit, encoded with its own label, decoded with every label. Good: a row keeps
# slant and width of its input in all ten digits.

# %%
figures.style_transfer(model, x, y, classes)

# %% [markdown]
# The mean latent of each digit, decoded with its label, and with noise of standard deviation 0.1: the typical form, and small
# changes of it. The more independent $z$ and $y$ are, the nearer to the origin are all these means.

# %%
figures.class_means(model, x, y, seed=seed)

# %% [markdown]
# One digit with noise as wide as the prior. Good: the same digit in many hands; without a label it would become others.

# %%
figures.chosen_class(model, x, y, label, seed=seed, labels=digits)

# %% [markdown]
# ## The plane of latents
#
# The plane of one digit on $[-4, 4]^2$, and at equal steps of the prior's probability, where every tile stands for the same share
# of samples. Good: one digit everywhere, its slant and width changing slowly.

# %%
if flat:
    display(
        figures.latent_grid(model, rows=10, label=label, labels=digits),
        figures.latent_grid(model, rows=20, label=label, labels=digits),
    )

# %%
if flat:
    display(figures.latent_quantile_grid(model, label=label, labels=digits))

# %% [markdown]
# Posterior means, and one sample of each posterior, in the colour of the label. Digits form *no* groups if $z$ and $y$ are
# independent, as the prior has it: any label can then be combined with any $z$. Groups would mean that $z$ repeats what $y$ says.

# %%
display(figures.posterior_means(model, x, y), figures.posterior_samples(model, x, y, seed=seed))

# %% [markdown]
# ## Ways through it
#
# Between the posterior means of two images, decoded with the label of the first: on a line, and on a circle around the origin.
# Good: the hand changes and the digit does not.

# %%
display(figures.interpolations(model, x, y), figures.interpolations(model, x, y, spherical=True))

# %% [markdown]
# Each dimension moved alone, and a walk from image to image with every label at once.

# %%
figures.latent_traversals(model, x, y)

# %%
Image(data=figures.latent_walk(model, x, y, classes).gif())

# %% [markdown]
# ## An image of which a part is seen
#
# $q(z)$ is fitted to the seen pixels $x_O$ of each image by gradient ascent on
#
# $$
# E_{q(z)} \log p(x_O \mid z, y) - KL\left(q(z) \,\|\, p(z)\right)
# = \log p(x_O \mid y) - KL\left(q(z) \,\|\, p(z \mid x_O, y)\right)
# $$
#
# ("Stochastic variational inference", Hoffman, Blei, Wang and Paisley, 2013, https://arxiv.org/abs/1206.7055). The label is
# known, so fewer latents are possible than without, and a Gaussian fits them better. Middle: lines of equal
# $\log p(z, x_O \mid y)$ and $\log q(z)$. Right: the exact posterior by quadrature in shades, $q$ at one to five standard
# deviations, and the KL.

# %%
svi = SVISettings(max_steps=svi_steps)
some = figures.one_of_each(y)
if flat:
    display(figures.isocontours(model, x[some[2:5]], y[some[2:5]], observed_mask("top"), svi, seed=seed))

# %% [markdown]
# Completions by several masks. Good: samples join the seen part and are the digit of the label.

# %%
for kind in ("top", "left", "bottom_right", "random"):
    display(figures.completion(model, x[some], y[some], observed_mask(kind), svi, seed=seed))

# %% [markdown]
# ## While it learned
#
# A training leaves frames if it is asked to (`callbacks.animation.frames=25`; here it was). The same test images, what the same
# latents decode to with all ten labels, and samples of the aggregate posterior.

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
