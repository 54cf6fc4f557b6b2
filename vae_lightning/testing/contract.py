"""What a part of one's own must fulfil: a class to inherit in a test file, and a function, for each kind of part.

With pytest, a test class of one's own inherits the contract and gives the part:

    from vae_lightning.testing.contract import EncoderContract

    class TestMyEncoder(EncoderContract):
        latent_dim = 2

        def make(self):
            return MyEncoder(latent_dim=2)

Anywhere else, a function does the same and raises an AssertionError, one sentence that names what fails and the numbers:

>>> from vae_lightning.distributions.likelihoods import BernoulliLikelihood
>>> check_likelihood(BernoulliLikelihood(), image_shape=(1, 2, 2))

None of this needs pytest.
"""

from vae_lightning.testing.claims import Contract
from vae_lightning.testing.data import DataContract, check_data
from vae_lightning.testing.latents import PosteriorContract, PriorContract, check_posterior, check_prior
from vae_lightning.testing.likelihoods import LikelihoodContract, check_likelihood
from vae_lightning.testing.models import ModelContract, ModuleContract, VAEContract, check_model, check_module
from vae_lightning.testing.nets import DecoderContract, EncoderContract, check_decoder, check_encoder
from vae_lightning.testing.objectives import ObjectiveContract, check_objective

__all__ = [
    "Contract",
    "DataContract",
    "DecoderContract",
    "EncoderContract",
    "LikelihoodContract",
    "ModelContract",
    "ModuleContract",
    "ObjectiveContract",
    "PosteriorContract",
    "PriorContract",
    "VAEContract",
    "check_data",
    "check_decoder",
    "check_encoder",
    "check_likelihood",
    "check_model",
    "check_module",
    "check_objective",
    "check_posterior",
    "check_prior",
]
