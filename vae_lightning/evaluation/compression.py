r"""Bits-back coding: the ELBO as the size of a file, which is written to memory here, read again, and compared.

$-\mathrm{ELBO} / (C H W \ln 2)$ bits a pixel and channel are what the coding of `compression.bits_back` comes to in the mean.
"""

import math

from torch import Tensor

from vae_lightning.compression.bits_back import require_codable
from vae_lightning.compression.measuring import Compressed, compress, decompress, promised_bits
from vae_lightning.compression.rivals import sizes_of
from vae_lightning.errors import ConfigurationError
from vae_lightning.evaluation import needs
from vae_lightning.evaluation.material import Material
from vae_lightning.evaluation.metrics import standard_error
from vae_lightning.evaluation.registry import part
from vae_lightning.glossary import Metric
from vae_lightning.types import Estimate

__all__ = ["codable", "compression"]

_TOWNSEND = "Townsend, Bird and Barber, 2019, https://arxiv.org/abs/1901.04866"


def codable(material: Material) -> str | None:
    """A model that `compression.bits_back` can code with."""
    x, _ = material.images("test", 2)
    try:
        require_codable(material.model, x.shape[1:])
    except ConfigurationError as error:
        return str(error)
    return None


@part(
    "compression",
    needs=(needs.discrete_pixels, codable),
    metrics=(
        Metric(
            "bits_per_pixel",
            "What bits-back coding of all test images together costs a pixel and channel, the initial bits apart",
            "bits",
            "low",
            _TOWNSEND,
        ),
        Metric(
            "bits_per_pixel_initial",
            "What the chains hold besides: random bits from before their first images, a pixel of all images",
            "bits",
        ),
        Metric(
            "bits_per_pixel_elbo",
            "What the ELBO promises bits-back coding of these images, with log2 of the classes for a label that is coded too",
            "bits",
            "low",
            _TOWNSEND,
            symbol=r"-\mathrm{ELBO} / (C H W \ln 2)",
        ),
        Metric(
            "bits_per_pixel_by",
            "What a general compressor makes of these images, packed as `compression.rivals` says",
            "bits",
            "low",
            forms=("bits_per_pixel_by/<compressor>",),
        ),
        Metric(
            "images_coded_per_second",
            "How many images bits-back coding compresses and decompresses in a second",
            "",
            "high",
            forms=("images_coded_per_second/compressed", "images_coded_per_second/decompressed"),
        ),
    ),
    section="compression",
    place=36,
)
def compression(material: Material) -> dict[str, Estimate]:
    """All test images to a file and back, lossless, beside the ELBO and general compressors."""
    x, y = (values.cpu() for values in _images(material))
    compressed = compress(material.model, x, y, weights="")
    seconds = decompress(material.model, compressed.header, compressed.message)[2]
    report = _lengths(material, compressed) | _promised(material)
    for name, size in sizes_of(x).items():
        report[f"bits_per_pixel_by/{name}"] = _estimate(material, 8 * size / x.numel(), len(x), f"{name} of all images together")
    for name, taken in (("compressed", compressed.seconds), ("decompressed", seconds)):
        report[f"images_coded_per_second/{name}"] = _estimate(material, len(x) / taken, len(x), "wall time, on the CPU")
    return report


def _images(material: Material) -> tuple[Tensor, Tensor]:
    """The test images that the report's ELBO is of, and their labels."""
    elbo = material.bound.get("elbo")
    return material.images("test", elbo.num_images if elbo else None)


def _lengths(material: Material, compressed: Compressed) -> dict[str, Estimate]:
    pixels, count = math.prod(compressed.header.image_shape), compressed.header.num_images
    how = {"chains": compressed.header.chains, "latent_bits": compressed.header.latent_bits}
    spread = Estimate(
        compressed.bits_per_pixel,
        float(compressed.bits.std(ddof=1)) / math.sqrt(count) / pixels,
        count,
        1,
        material.binarization,
        "what all images add to their chains; decoded again, the images are the same",
        how,
    )
    initial = _estimate(material, compressed.initial_bits_per_pixel, count, "length of all chains less what the images add", how)
    return {"bits_per_pixel": spread, "bits_per_pixel_initial": initial}


def _promised(material: Material) -> dict[str, Estimate]:
    x, y = _images(material)
    bits = promised_bits(material.model, x, y, material.settings.seed) / x[0].numel()
    how = "-ELBO in bits, by one sample of the posterior"
    return {"bits_per_pixel_elbo": Estimate(bits.mean().item(), standard_error(bits), len(bits), 1, material.binarization, how)}


def _estimate(material: Material, value: float, count: int, how: str, settings: dict[str, int] | None = None) -> Estimate:
    """A number of all images together, which has no spread over images."""
    return Estimate(value, math.nan, count, 0, material.binarization, how, settings or {})
