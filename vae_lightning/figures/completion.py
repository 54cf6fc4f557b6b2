"""Images of which only a part was seen: what the latent may be, and what the unseen part may look like.

q(z) is fitted to the observed pixels of each image by stochastic variational inference (`vae_lightning.inference.svi`).
"""

from collections.abc import Callable
from functools import partial

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from torch import Tensor

from vae_lightning.abilities import Labels, classes_of
from vae_lightning.arguments import require
from vae_lightning.figures.latents import require_two_dimensions
from vae_lightning.figures.registry import declare, needs_latent, needs_plane
from vae_lightning.figures.style import CLASS_COLORS, figure, show_tiles
from vae_lightning.figures.subject import Subject
from vae_lightning.inference.latents import latent_mesh
from vae_lightning.inference.quadrature import Quadrature, kl_to_exact, log_joint_on, quadrature
from vae_lightning.inference.svi import Fit, SVISettings, complete, stochastic_variational_inference
from vae_lightning.noise import generator
from vae_lightning.types import LatentVariableModel

__all__ = ["completion", "isocontours", "posterior_gap"]

NEAR = [-12.5, -8.0, -4.5, -2.0, -0.5]
"""Nats below the peak: where a Gaussian would be at 5, 4, 3, 2 and 1 standard deviations."""
FAR = [-800.0, -400.0, -200.0, -100.0, -50.0, -25.0, *NEAR[::2]]
"""Nats below the peak, for the whole plane."""
JOINT, FITTED = CLASS_COLORS[0], CLASS_COLORS[6]


@declare("isocontours", "seen in part", needs_plane, settings=("mask", "svi", "seed"))
def _isocontours(s: Subject) -> Figure:
    """The latent of a test image of which a part is seen, by its exact posterior and by a Gaussian q that was fitted to it.

    Middle: lines of equal log p(z, seen part) and log q(z), q fitted to that image by stochastic variational inference. Right: the
    exact posterior p(z | seen part), normalised by quadrature, in shades, q in lines at one to five standard deviations, and
    KL(q || p) above. Good: the lines lie on each other and the KL is near 0; more than that is what a diagonal Gaussian cannot
    follow.
    """
    each = s.first_images()
    two = each[2:4] or each[:2]
    return isocontours(s.model, s.x[two], s.y[two], s.mask, s.svi, seed=s.seed, labels=s.labels)


@declare("completion", "seen in part", needs_latent, settings=("mask", "svi", "seed"))
def _completion(s: Subject) -> Figure:
    """The seen part of the first test image of each class (the rest grey), and below it what the model makes of the unseen part.

    Means of p(x | z) for three samples of the q(z) that was fitted to the seen part, the mean of 200 such, and the original. Good:
    samples join the seen part, and differ where the seen part leaves it open.
    """
    each = s.first_images()
    return completion(s.model, s.x[each], s.y[each], s.mask, s.svi, seed=s.seed)


def completion(
    model: LatentVariableModel,
    x: Tensor,
    y: Tensor,
    mask: Tensor,
    settings: SVISettings | None = None,
    samples: int = 3,
    seed: int = 0,
) -> Figure:
    """Each image's seen part; under it, for the unseen part, means of p(x | z) for samples of q(z), their mean, the original.

    Args:
        x: images `(B, C, H, W)`, a column each.
        mask: bool, `(1, H, W)`, `(C, H, W)` or one for each image `(B, C, H, W)`, True where observed.
    """
    fit = _fit(model, x, y, mask, settings, seed)
    source = generator(seed, "completion", device=x.device)
    completed = complete(model, x, y, mask, fit.posterior, 200, source)
    rows = torch.cat([_seen(x, mask).unsqueeze(0), completed[:samples], completed.mean(0, keepdim=True), x.unsqueeze(0)])
    names = ["seen", *(f"sample {i + 1}" for i in range(samples)), "mean of 200", "original"]
    fig, axes = figure(max(3.9, 0.6 * len(x) + 0.9), 0.6 * len(rows) + 0.4)
    show_tiles(axes, rows.flatten(0, 1), len(x), row_names=names)
    apart = " " if len(x) > 7 else "\n"  # few columns are narrower than the title
    axes.set_title(f"unseen part: mean of p(x | z),{apart}z a sample of q(z | seen part)")
    return fig


def isocontours(
    model: LatentVariableModel,
    x: Tensor,
    y: Tensor,
    mask: Tensor,
    settings: SVISettings | None = None,
    extent: float = 6.0,
    points: int = 101,
    seed: int = 0,
    labels: Labels | None = None,
) -> Figure:
    """log p(z, seen part) against log q(z) on [-extent, extent]^2, and both as densities where the mass is; a row an image.

    Middle: lines of equal log density, 0.5 to 800 nats below the peak. Right: the exact posterior, normalised by quadrature, and
    q's lines at one to five standard deviations. The figure's label holds KL(q || p) for a caption.
    """
    require_two_dimensions(model, "isocontours")
    require(len(x) > 0, "isocontours", len(x), "of at least one image")
    fit = _fit(model, x, y, mask, settings, seed)
    exact = quadrature(model, x, _given(model, y), mask, extent)
    gap = kl_to_exact(fit.posterior, exact)
    fig, axes = figure(8.2, 3.0 * len(x), rows=len(x), columns=3, squeeze=False, width_ratios=[0.6, 1, 1])
    mesh = latent_mesh(extent, points).to(fit.posterior.mean)
    joint = log_joint_on(model, mesh, x, _given(model, y), mask)
    log_q = fit.posterior.log_prob(mesh.unsqueeze(1).expand(-1, len(x), -1))
    seen = _seen(x, mask)
    for row, (image, whole, close) in enumerate(axes):
        show_tiles(image, seen[row : row + 1], 1)
        named = labels or Labels()
        image.set_title(f"seen part of a {named.name(int(y[row]))}" if named.exist else "seen part")
        _lines(whole, mesh, joint[:, row], FAR, JOINT)
        _lines(whole, mesh, log_q[:, row], FAR, FITTED)
        whole.set(xlim=(-extent, extent), ylim=(-extent, extent), aspect="equal", xlabel="$z_0$", ylabel="$z_1$")
        here = slice(row, row + 1)
        seen_here = mask if mask.dim() < x.dim() else mask[here]
        _close(close, fit, exact, row, partial(log_joint_on, model, x=x[here], y=_given(model, y[here]), mask=seen_here))
        close.set_title(f"KL(q || p) = {float(gap[row]):.2f} nats")
    colors = {"log p(z, seen part)": JOINT, "log q(z)": FITTED}
    # what a caption adds to what it says of every such figure
    fig.set_label(f"KL(q || p), row by row: {', '.join(f'{nats:.2f}' for nats in gap.tolist())} nats.")
    handles = [Line2D([], [], color=color, label=name) for name, color in colors.items()]
    axes[0][1].legend(handles=handles, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2, fontsize=7, handlelength=1)
    return fig


def posterior_gap(
    model: LatentVariableModel, x: Tensor, y: Tensor, mask: Tensor, settings: SVISettings | None = None, seed: int = 0
) -> Tensor:
    """KL(q(z) || p(z | seen part)) of the q that `isocontours` draws, `(B,)` nats, by quadrature."""
    require_two_dimensions(model, "posterior_gap")
    fit = _fit(model, x, y, mask, settings, seed)
    return kl_to_exact(fit.posterior, quadrature(model, x, _given(model, y), mask))


def _fit(model: LatentVariableModel, x: Tensor, y: Tensor, mask: Tensor, settings: SVISettings | None, seed: int) -> Fit:
    return stochastic_variational_inference(model, x, _given(model, y), mask, settings, generator(seed, "svi", device=x.device))


def _given(model: LatentVariableModel, y: Tensor) -> Tensor | None:
    """The labels, if the model has any use for them: without, images share what is decoded."""
    return y if classes_of(model) else None


def _seen(x: Tensor, mask: Tensor) -> Tensor:
    """The images with their unseen part in grey."""
    return torch.where(mask.to(x.device), x, 0.3).expand_as(x)


def _lines(axes: Axes, mesh: Tensor, values: Tensor, levels: list[float], color: str) -> None:
    """Lines so many nats below the peak, of values `(G,)` on a square mesh `(G, 2)`."""
    points = round(len(mesh) ** 0.5)
    grid = mesh.view(points, points, 2).cpu().numpy()
    heights = (values - values.max()).view(points, points).cpu().numpy()
    axes.contour(grid[..., 0], grid[..., 1], heights, levels=levels, colors=color, linestyles="solid", linewidths=0.8)


def _close(axes: Axes, fit: Fit, exact: Quadrature, row: int, log_joint_at: Callable[[Tensor], Tensor]) -> None:
    """The exact posterior of one image as shades and q as lines, over the box that holds both."""
    loc, scale = fit.posterior.mean[row], fit.posterior.stddev[row]
    held = exact.z[:, row][exact.weights[:, row] > 1e-5]
    # the outermost of q's lines is at five of its standard deviations
    low = torch.minimum(held.amin(0), loc - 5.2 * scale).tolist()
    high = torch.maximum(held.amax(0), loc + 5.2 * scale).tolist()
    sides = [torch.linspace(a, b, 101, device=loc.device, dtype=loc.dtype) for a, b in zip(low, high, strict=True)]
    mesh = torch.cartesian_prod(*sides)
    density = (log_joint_at(mesh)[:, 0] - exact.log_evidence[row]).exp().view(101, 101).cpu().numpy()
    grid = mesh.view(101, 101, 2).cpu().numpy()
    axes.pcolormesh(grid[..., 0], grid[..., 1], density, cmap="Blues", shading="nearest", rasterized=True)
    _lines(axes, mesh, -0.5 * ((mesh - loc) / scale).square().sum(-1), NEAR, FITTED)
    axes.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]), xlabel="$z_0$", ylabel="$z_1$")
