"""Check arguments against a callable's own signature, so that types are written once: where they are used."""

import difflib
import functools
import inspect
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar, get_type_hints

from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.errors import PydanticUserError

from vae_lightning.errors import ConfigurationError, DataError, UnknownKeyError, VAELightningError, one_line
from vae_lightning.plugins import is_path, locate

__all__ = ["build", "check", "choose", "flattened", "located_or_chosen", "parameters", "prefixed", "require", "unknown_key"]

T = TypeVar("T")


def require(condition: bool, key: str, value: object, wanted: str) -> None:
    """Raise unless `condition`: `latent_dim=0: must be at least 1`."""
    if not condition:
        raise ConfigurationError(f"{key}={_written(value)}: must be {wanted}")


def _written(value: object, quoted: bool = False) -> str:
    """A value as it is typed in a command or a YAML file, where None is null."""
    return "null" if value is None else repr(value) if quoted else str(value)


def unknown_key(key: str, known: Iterable[str]) -> UnknownKeyError:
    """The error for a key that does not exist: names the nearest one, or all where none is near.

    >>> str(unknown_key("model.latent_dmi", ["latent_dim", "beta"]))
    'model.latent_dmi: no such key; did you mean model.latent_dim?'
    """
    prefix, _, name = key.rpartition(".")
    names = sorted(map(str, known))
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    message = f"{key}: no such key; {prefix or 'the top level'} has: {', '.join(names) or 'none'}"
    if near:
        message = f"{key}: no such key; did you mean {f'{prefix}.' if prefix else ''}{near[0]}?"
    return UnknownKeyError(message, key, tuple(names))


def choose(key: str, name: object, options: Mapping[str, T]) -> T:
    """`options[name]`, or an error that names the nearest option, or all that begin or end with `name`."""
    if isinstance(name, str) and name in options:
        return options[name]
    word = "" if name is None else str(name).lower()
    near = [option for option in options if len(word) > 1 and (option.startswith(word) or option.endswith(f"_{word}"))]
    near = near or difflib.get_close_matches(word, options, n=1, cutoff=0.4)
    hint = f"did you mean {', '.join(near[:-1])}{' or ' if near[1:] else ''}{near[-1]}? " if near else ""
    raise ConfigurationError(f"{key}={_written(name)}: unknown; {hint}choose from: {', '.join(options)}")


def check(target: Callable[..., object], arguments: Mapping[str, Any], where: str, *, offered: Collection[str] = ()) -> None:
    """Refuse an argument that `target` does not take, one whose type is not the annotated one, and a missing one.

    `where` is the configuration path of `arguments`: `model.net`; empty for the top level. The parameters named in `offered` are
    given by whoever calls.
    An unannotated parameter takes anything, and a target with `**kwargs` takes any name.
    """
    named, takes_any = parameters(target)
    known = {name: parameter for name, parameter in named.items() if name not in offered}
    above = where and f"{where}."
    for name, value in arguments.items():
        if name in known:
            _check_type(value, known[name].annotation, f"{above}{name}")
        elif not takes_any or name in offered:
            raise unknown_key(f"{above}{name}", known)
    for name in inspect.signature(target).parameters:
        if name in known and known[name].default is inspect.Parameter.empty and name not in arguments:
            raise ConfigurationError(f"{above}{name}: missing")


def flattened(node: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """A nested mapping as one of dotted keys.

    >>> flattened({"net": {"name": "mlp"}, "latent_dim": 2}, "model.")
    {'model.net.name': 'mlp', 'model.latent_dim': 2}
    """
    flat: dict[str, Any] = {}
    for key, value in node.items():
        flat |= flattened(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return flat


def parameters(target: Callable[..., object]) -> tuple[dict[str, inspect.Parameter], bool]:
    """The named parameters of `target` with their annotations resolved, and whether it takes any other name.

    Where a class passes `**kwargs` on to its base, the base's parameters count too.
    """
    initialisers = [vars(c)["__init__"] for c in target.__mro__ if "__init__" in vars(c)] if isinstance(target, type) else [target]
    named: dict[str, inspect.Parameter] = {}
    for function in initialisers:
        if function is object.__init__:
            break
        hints = _hints(function)
        own = list(inspect.signature(function).parameters.values())
        for p in own[1:] if isinstance(target, type) else own:
            if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL):
                named.setdefault(p.name, p.replace(annotation=hints.get(p.name, Any)))
        if not any(p.kind is p.VAR_KEYWORD for p in own):
            return named, False
    return named, True


def _hints(function: Callable[..., object]) -> dict[str, Any]:
    try:
        return get_type_hints(function)
    except NameError:
        # of a third party, which imports the names in its annotations for type checkers only
        return {}


def located_or_chosen(key: str, name: object, options: Mapping[str, T]) -> T:
    """What `name` means: an import path where it has a dot, `options[name]` elsewhere; the error says how to bring one's own."""
    if is_path(name):
        located: T = locate(str(name), key)
        return located
    try:
        return choose(key, name, options)
    except ConfigurationError as error:
        raise ConfigurationError(f"{error}; or give an import path, mypkg.module.Name, for one of your own") from None


def build(where: str, spec: Mapping[str, Any], options: Mapping[str, Callable[..., T]], **offered: object) -> T:
    """Build what `spec` describes, `{"name": <option or import path>, **arguments}`.

    Args:
        where: where the spec stands, for the errors: `net`.
        spec: what a user asked for.
        options: what each name without a dot builds.
        offered: what the caller knows, of which the target is given those that its signature has; a spec cannot set them.

    What is built refuses an argument by its own name for it, `hidden=[0]: ...`; here it gets the path where it was asked for.

    >>> build("layer", {"name": "torch.nn.Linear", "bias": False}, {}, in_features=2, out_features=3, unknown_here=4)
    Linear(in_features=2, out_features=3, bias=False)
    """
    target = located_or_chosen(f"{where}.name", spec.get("name"), options)
    if not callable(target):
        raise ConfigurationError(f"{where}.name={spec['name']}: is a {type(target).__name__}, and cannot be called to build one")
    arguments = {key: value for key, value in spec.items() if key != "name"}
    named, takes_any = parameters(target)
    context = {key: value for key, value in offered.items() if takes_any or key in named}
    check(target, arguments, where, offered=context)
    with prefixed(where, [name for name in {*named, *arguments} if name not in context]):
        if not is_path(spec["name"]):
            return target(**context, **arguments)
        try:
            return target(**context, **arguments)
        except VAELightningError:
            raise
        except Exception as error:  # whatever the code of a user's package raises
            said = one_line(error)
            raise ConfigurationError(f"{where}.name={spec['name']}: building it fails: {type(error).__name__}: {said}") from error


@contextmanager
def prefixed(where: str, names: Iterable[str]) -> Iterator[None]:
    """Put `where` before each of the argument `names` in an error of ours that is raised within: `hidden=[0]` is `net.hidden=[0]`.

    A name counts where it begins the message, and where an equals sign or more of a path follows; another key keeps its path.

    >>> with prefixed("net", ["hidden"]):
    ...     require(False, "hidden", [0], "above 0")
    Traceback (most recent call last):
    ...
    vae_lightning.errors.ConfigurationError: net.hidden=[0]: must be above 0
    """
    try:
        yield
    except (ConfigurationError, DataError) as error:
        anyone = "|".join(map(re.escape, sorted(names, key=len, reverse=True)))
        found = rf"^({anyone})(?=[=:.\[ ])|(?<![\w.=/-])({anyone})(?==|\.\w| has: )"
        said = re.sub(found, lambda match: f"{where}.{match[0]}", str(error)) if anyone else str(error)
        if said == str(error):
            raise
        if isinstance(error, UnknownKeyError):
            raise UnknownKeyError(said, f"{where}.{error.key}", error.known) from error
        raise type(error)(said) from error


def _check_type(value: object, hint: Any, key: str) -> None:
    adapter = _adapter(hint)
    if adapter is None:
        return
    try:
        adapter.validate_python(value)
    except ValidationError as error:
        name = hint.__name__ if isinstance(hint, type) else str(hint).replace("typing.", "").replace("collections.abc.", "")
        # of a union, each of its parts has something to say
        first, *others = dict.fromkeys(problem["msg"] for problem in error.errors())
        message = " or ".join([first[0].lower() + first[1:], *(other.removeprefix("Input should be ") for other in others)])
        raise ConfigurationError(f"{key}={_written(value, quoted=True)}: {message} ({name}){_hint(adapter, value)}") from None


def _hint(adapter: TypeAdapter[Any], value: object) -> str:
    """How a value that is only written wrongly would be right: null for None, 10000 for 1e4."""
    candidates: list[tuple[object, str]] = []
    if isinstance(value, str) and value.lower() == "none":
        candidates = [(None, "null")]
    elif isinstance(value, float) and value.is_integer():
        candidates = [(int(value), str(int(value)))]
    for right, written in candidates:
        try:
            adapter.validate_python(right)
        except ValidationError:
            continue
        return f"; write {written}"
    return ""


@functools.cache
def _adapter(hint: Any) -> TypeAdapter[Any] | None:
    """A strict validator of one annotation; None where the annotation, a third party's, is beyond pydantic."""
    try:
        return TypeAdapter(hint, config=ConfigDict(strict=True, arbitrary_types_allowed=True))
    except PydanticUserError:
        # a config is not allowed beside types that carry their own (dataclasses, TypedDicts)
        return None
