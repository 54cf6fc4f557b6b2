"""Parameter groups of an optimizer, from a function of the model: a user's, or `hidden_matrices`."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from vae_lightning.arguments import check, located_or_chosen, parameters, require, unknown_key
from vae_lightning.errors import ConfigurationError, kind_of, one_line
from vae_lightning.models.torch_names import without_null
from vae_lightning.plugins import is_path

__all__ = ["GROUPS", "OF_GROUPS", "check_groups", "hidden_matrices", "named_groups"]

KEY = "optimizer.groups"
INSIDE = {"encoder": slice(1, None), "decoder": slice(-1), "classifier": slice(1, -1)}
"""Which of a net's matrices are hidden: not those of pixels and classes."""
OF_GROUPS = {"use_muon"}
"""Keys that an optimizer takes of its groups alone, and not as arguments: of pytorch_optimizer's Muon and its kin."""


def check_groups(spec: str | Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
    """The function that `spec` names and the arguments it gives it, refused where they do not go together.

    Args:
        spec: a name of `GROUPS` or an import path, `"mypkg.my_groups"`, or `{"name": "mypkg.my_groups", **arguments}`.
    """
    asked = {"name": spec} if isinstance(spec, str) else without_null(spec) if isinstance(spec, Mapping) else {"name": spec}
    name = asked.pop("name", None)
    if not is_path(name) and name not in GROUPS:
        wanted = "give the import path of a function of your own, mypkg.module.groups, that gives torch's groups for a model"
        raise ConfigurationError(f"{KEY}={name}: {wanted}, or one of: {', '.join(GROUPS)}")
    function: Any = located_or_chosen(KEY, name, GROUPS)
    if not callable(function):
        raise ConfigurationError(f"{KEY}={name}: is {kind_of(function)}, and cannot be called with a model")
    first = next(iter(parameters(function)[0]), None)
    check(function, asked, KEY, offered=[first] if first else [])
    return function, asked


def named_groups(model: nn.Module, spec: str | Mapping[str, Any], kind: type[Optimizer] | Any) -> list[dict[str, Any]]:
    """The groups that the function of `spec` makes of the parameters of `model`, each with the names of its parameters.

    Every parameter that learns is in exactly one group, so that none is forgotten or trained twice.

    Args:
        model: whose parameters are to be grouped.
        spec: as for `check_groups`.
        kind: the optimizer, of whose arguments a group may have its own.

    Raises:
        ConfigurationError: a parameter is in no group or in several, is not the model's, or a group has a wrong key.
    """
    function, arguments = check_groups(spec)
    name = spec if isinstance(spec, str) else spec["name"]
    try:
        given = list(function(model, **arguments))
    except Exception as error:  # whatever the code of a user's package raises
        said = one_line(error)
        raise ConfigurationError(f"{KEY}={name}: calling it fails: {type(error).__name__}: {said}") from error
    groups = [_group(place, group, kind) for place, group in enumerate(given)]
    names = {id(parameter): key for key, parameter in model.named_parameters()}
    seen: dict[int, int] = {}
    for place, group in enumerate(groups):
        for parameter in group["params"]:
            key = names.get(id(parameter))
            if key is None:
                raise ConfigurationError(f"{KEY}={name}: group {place} has a parameter that is not the model's")
            if id(parameter) in seen:
                raise ConfigurationError(f"{KEY}={name}: {key} is in group {seen[id(parameter)]} and in group {place}")
            seen[id(parameter)] = place
        # (name, parameter) pairs, by which torch keeps the names in checkpoints
        group["params"] = [(names[id(parameter)], parameter) for parameter in group["params"]]
    for key, parameter in model.named_parameters():
        if parameter.requires_grad and id(parameter) not in seen:
            raise ConfigurationError(f"{KEY}={name}: {key} is in no group; every parameter must be in one")
    return groups


def hidden_matrices(model: nn.Module, lr: float = 0.01) -> list[dict[str, Any]]:
    """The groups of the optimizer Muon: the hidden matrices of `model`, and the rest, which Muon leaves to Adam.

    Hidden is each weight of two dimensions and more of encoder, decoder and classifier but those of pixels and classes; of another
    model, each but the first and the last. The parameters of prior and posterior are of the rest.
    "Muon: an optimizer for hidden layers in neural networks", Jordan et al., 2024, https://kellerjordan.github.io/posts/muon/.

    Args:
        model: whose parameters are to be grouped.
        lr: the learning rate of the rest.

    >>> net = nn.Sequential(nn.Linear(784, 20), nn.Linear(20, 10), nn.Linear(10, 784))
    >>> [[tuple(parameter.shape) for parameter in group["params"]] for group in hidden_matrices(net)]
    [[(10, 20)], [(20, 784), (20,), (10,), (784, 10), (784,)]]
    """
    learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
    nets = dict(model.named_children())
    parts = {net: INSIDE[net] for net in INSIDE if net in nets} if "decoder" in nets else {}
    hidden = [matrix for net, inside in parts.items() for matrix in _matrices(nets[net])[inside]] or _matrices(model)[1:-1]
    rest = [parameter for parameter in learning if all(parameter is not matrix for matrix in hidden)]
    groups = [{"params": hidden, "use_muon": True}, {"params": rest, "use_muon": False, "lr": lr}]
    return [group for group in groups if group["params"]]


def _matrices(net: nn.Module) -> list[nn.Parameter]:
    return [parameter for parameter in net.parameters() if parameter.requires_grad and parameter.dim() > 1]


GROUPS = {"hidden_matrices": hidden_matrices}
"""This project's own functions, by name."""


def _group(place: int, group: Any, kind: Any) -> dict[str, Any]:
    where = f"{KEY}[{place}]"
    if not isinstance(group, Mapping) or "params" not in group:
        raise ConfigurationError(f'{where}: must be a dict with "params", as torch takes it')
    own = {key: value for key, value in group.items() if key != "params"}
    known, takes_any = parameters(kind)
    for key in own:
        if not takes_any and key not in known and key not in OF_GROUPS:
            raise unknown_key(f"{where}.{key}", set(known) - {"params"})
    if isinstance(own.get("lr"), int | float):
        require(0 < own["lr"] < float("inf"), f"{where}.lr", own["lr"], "positive and finite")
    params = [group["params"]] if isinstance(group["params"], Tensor) else list(group["params"])
    if not params or not all(isinstance(parameter, Tensor) for parameter in params):
        raise ConfigurationError(f"{where}.params: must be parameters of the model, at least one")
    return {**own, "params": params}
