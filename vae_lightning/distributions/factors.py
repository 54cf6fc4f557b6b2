"""Whether a distribution treats each of its numbers by itself, and if so, the distribution of each."""

from torch.distributions import Distribution, Independent

__all__ = ["factors", "has_quantiles"]


def factors(distribution: Distribution) -> Distribution | None:
    """The distribution of each number of an event by itself, where `distribution` is the product of those; None elsewhere.

    The factors have the event's dimensions as the last ones of their batch shape: a Gaussian with independent dimensions, of batch
    shape `(B,)` and event shape `(D,)`, has Normal factors of batch shape `(B, D)`; the pixels of an image likewise.

    - whether `q` factorises over dimensions: `factors(q) is not None`
    - whether `q` is a Gaussian with independent dimensions: `isinstance(factors(q), Normal)`

    >>> import torch
    >>> from torch.distributions import Dirichlet, Normal
    >>> q = Independent(Normal(torch.zeros(4, 2), 1.0), 1)
    >>> factors(q)
    Normal(loc: torch.Size([4, 2]), scale: torch.Size([4, 2]))
    >>> factors(Dirichlet(torch.ones(2))) is None
    True
    """
    while isinstance(distribution, Independent):
        distribution = distribution.base_dist
    return None if distribution.event_shape else distribution


def has_quantiles(distribution: Distribution) -> bool:
    """Whether `distribution` has a quantile function, `icdf`, of its own.

    >>> from torch.distributions import Laplace, StudentT
    >>> has_quantiles(Laplace(0.0, 1.0)), has_quantiles(StudentT(3.0))
    (True, False)
    """
    return type(distribution).icdf is not Distribution.icdf
