"""Check arguments against the signature of what takes them, and build what a spec describes.

So the type of an argument is written once, in the constructor that takes it.
"""

import difflib
import functools
import inspect
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar, get_type_hints

from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.errors import PydanticUserError

from vae_lightning.errors import ConfigurationError, DataError, UnknownKeyError, VAELightningError, kind_of, one_line
from vae_lightning.plugins import is_path, locate

__all__ = [
    "build",
    "changes",
    "check",
    "choose",
    "each_setting",
    "flattened",
    "located_or_chosen",
    "parameters",
    "prefixed",
    "require",
    "unknown_key",
]

T = TypeVar("T")
TAKE_NOTHING = ("torch.nn.modules.module", "torch._dynamo.mutation_guard", "pytorch_lightning.core.module")
"""Modules of base classes whose constructors have signatures that take anything, and yet refuse all of it.

`torch.compile` puts a constructor of its own in the place of that of `nn.Module`.
"""


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

    An unannotated parameter takes anything, and a target with `**kwargs` takes any name.

    Args:
        where: the configuration path of `arguments`, for the errors: `model.net`; empty for the top level.
        offered: names of parameters that the caller passes beside `arguments`, which must not set them.
    """
    named, takes_any = parameters(target)
    known = {name: parameter for name, parameter in named.items() if name not in offered}
    above = where and f"{where}."
    for name, value in arguments.items():
        if name in known:
            _check_type(value, known[name].annotation, f"{above}{name}")
        elif not takes_any or name in offered or name == "self" or not isinstance(name, str):
            raise unknown_key(f"{above}{name}", known)
    for name in _signature(target).parameters:
        if name in known and known[name].default is inspect.Parameter.empty and name not in arguments:
            raise ConfigurationError(f"{above}{name}: missing")


def flattened(node: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """A nested mapping as a flat one with dotted keys.

    >>> flattened({"net": {"name": "mlp"}, "latent_dim": 2}, "model.")
    {'model.net.name': 'mlp', 'model.latent_dim': 2}
    """
    flat: dict[str, Any] = {}
    for key, value in node.items():
        flat |= flattened(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return flat


def each_setting(content: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The settings of a config with their dotted keys; an empty mapping is one.

    >>> list(each_setting({"net": {"name": "mlp"}, "logger": {}}))
    [('net.name', 'mlp'), ('logger', {})]
    """
    for key, value in content.items():
        if isinstance(value, Mapping) and value:
            yield from each_setting(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """The settings that differ between the configs of a run before and now, but for where its folder is.

    >>> changes({"seed": 1, "run_dir": "/a", "x": {"dir": "/a/b"}}, {"seed": 2, "run_dir": "/c", "x": {"dir": "/c/b"}})
    {'seed': (1, 2)}
    >>> changes({"run_dir": "/a", "x": {"dir": "/a/b"}}, {"run_dir": "/c"})
    {'x.dir': ('/a/b', None)}
    """
    was, is_now = dict(each_setting(before)), dict(each_setting(now))
    moved, here = str(was.get("run_dir")), str(is_now.get("run_dir"))

    def is_same(one: Any, other: Any) -> bool:
        inside = isinstance(one, str) and (one == moved or one.startswith(f"{moved}/"))
        return bool((here + one[len(moved) :] if inside else one) == other)

    keys = [key for key in dict.fromkeys([*was, *is_now]) if key not in ("ckpt_path", "run_dir")]
    return {key: (was.get(key), is_now.get(key)) for key in keys if not is_same(was.get(key), is_now.get(key))}


def parameters(target: Callable[..., object]) -> tuple[dict[str, inspect.Parameter], bool]:
    """The named parameters of `target` with their annotations resolved, and whether it takes any other name.

    Where a class passes `**kwargs` on to its base, the base's parameters count too.
    """
    if isinstance(target, functools.partial):
        return _left(target)
    if not isinstance(target, type) or not any("__init__" in vars(kind) for kind in target.__mro__[:-1]):
        # a function, or a class that is made by its __new__ alone
        own = list(_signature(target).parameters.values())
        return _named(own, _hints(target)), any(p.kind is p.VAR_KEYWORD for p in own)
    named: dict[str, inspect.Parameter] = {}
    takes_any = False
    for function in (vars(c)["__init__"] for c in target.__mro__ if "__init__" in vars(c)):
        if getattr(function, "__module__", "") in TAKE_NOTHING or function is object.__init__:
            return named, takes_any
        own = list(_signature(function).parameters.values())
        named = named | {name: p for name, p in _named(own[1:], _hints(function)).items() if name not in named}
        takes_any = any(p.kind is p.VAR_KEYWORD for p in own)
        if not takes_any:
            break
    return named, takes_any


def _named(own: list[inspect.Parameter], hints: Mapping[str, Any]) -> dict[str, inspect.Parameter]:
    return {p.name: p.replace(annotation=hints.get(p.name, Any)) for p in own if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)}


def _left(target: "functools.partial[Any]") -> tuple[dict[str, inspect.Parameter], bool]:
    """What is left of the parameters of a function of which some were given; those given by name are defaults."""
    named, takes_any = parameters(target.func)
    left = {name: named[name] for name in list(named)[len(target.args) :]}
    return {name: p.replace(default=target.keywords.get(name, p.default)) for name, p in left.items()}, takes_any


def _signature(function: Callable[..., object]) -> inspect.Signature:
    """The signature of `function`.

    Raises:
        ConfigurationError: it has none that could be read, as some functions that are written in C.
    """
    try:
        return inspect.signature(function)
    except (TypeError, ValueError) as error:
        name = getattr(function, "__qualname__", type(function).__name__)
        own = "name a function of your own that calls it"
        raise ConfigurationError(f"{name}: does not say which arguments it takes; {own}") from error


def _hints(function: Callable[..., object]) -> dict[str, Any]:
    if isinstance(function, type):
        function = function.__new__
    elif not inspect.isroutine(function):
        function = type(function).__call__
    try:
        return get_type_hints(function)
    except Exception:  # of a third party, whose annotations may name what is imported for type checkers only, or be no types at all
        return {}


def located_or_chosen(key: str, name: object, options: Mapping[str, T]) -> T:
    """What `name` means: the target of an import path if `name` has a dot, else `options[name]`.

    Raises:
        ConfigurationError: there is neither; the message says how to bring one's own.
    """
    if is_path(name):
        located: T = locate(str(name), key)
        if callable(located):
            with _said_of(f"{key}={name}"):
                _signature(located)
                parameters(located)
        return located
    try:
        return choose(key, name, options)
    except ConfigurationError as error:
        raise ConfigurationError(f"{error}; or give an import path, mypkg.module.Name, for one of your own") from None


@contextmanager
def _said_of(what: str) -> Iterator[None]:
    try:
        yield
    except ConfigurationError as error:
        raise ConfigurationError(f"{what}: {error}") from error


def build(where: str, spec: Mapping[str, Any], options: Mapping[str, Callable[..., T]], **offered: object) -> T:
    """Build what `spec` describes, `{"name": <option or import path>, **arguments}`.

    Args:
        where: where the spec stands, for the errors: `net`.
        spec: what a user asked for.
        options: what each name without a dot builds.
        offered: context values of the caller, passed by name if the target's signature has them; a spec cannot set them.

    Raises:
        ConfigurationError: an argument is wrong. The target names its own argument, `hidden=[0]: ...`, and `build` puts `where`
            before that name.

    >>> build("layer", {"name": "torch.nn.Linear", "bias": False}, {}, in_features=2, out_features=3, unknown_here=4)
    Linear(in_features=2, out_features=3, bias=False)
    """
    if not isinstance(spec, Mapping):
        raise ConfigurationError(f"{where}={spec}: must have a name, and arguments beside it: {where}.name=<name>")
    target = located_or_chosen(f"{where}.name", spec.get("name"), options)
    if not callable(target):
        raise ConfigurationError(f"{where}.name={spec['name']}: is {kind_of(target)}, and cannot be called to build one")
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
        except (Exception, SystemExit) as error:  # whatever the code of a user's package raises
            said = one_line(error)
            raise ConfigurationError(f"{where}.name={spec['name']}: building it fails: {type(error).__name__}: {said}") from error


@contextmanager
def prefixed(where: str, names: Iterable[str]) -> Iterator[None]:
    """A block whose errors of ours get `where` before each of the argument `names`: `hidden=[0]` becomes `net.hidden=[0]`.

    A name counts where it begins the message, and where an equals sign or more of a path follows it. Other keys stay as they are.

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
        pattern = rf"^({anyone})(?=[=:.\[ ])|(?<![\w.=/-])({anyone})(?==|\.\w| has: )"
        said = re.sub(pattern, lambda match: f"{where}.{match[0]}", str(error)) if anyone else str(error)
        if said == str(error):
            raise
        if isinstance(error, UnknownKeyError):
            raise UnknownKeyError(said, f"{where}.{error.key}", error.known) from error
        raise type(error)(said) from error


def _check_type(value: object, hint: Any, key: str) -> None:
    try:
        adapter = _adapter(hint)
    except TypeError:  # of a third party, an annotation that cannot be hashed
        return
    if adapter is None:
        return
    try:
        checked = adapter.validate_python(value)
        if isinstance(checked, Iterator) and not isinstance(value, Iterator):  # pydantic looks at items when they are asked for
            if isinstance(value, str):
                adapter.validate_python(None)  # of which each letter would count as an item
            for _ in checked:
                pass
    except ValidationError as error:
        name = hint.__name__ if isinstance(hint, type) else str(hint).replace("typing.", "").replace("collections.abc.", "")
        # each type of a union has a message of its own
        first, *others = dict.fromkeys(problem["msg"] for problem in error.errors())
        message = " or ".join([first[0].lower() + first[1:], *(other.removeprefix("Input should be ") for other in others)])
        raise ConfigurationError(f"{key}={_written(value, quoted=True)}: {message} ({name}){_hint(adapter, value)}") from None


def _hint(adapter: TypeAdapter[Any], value: object) -> str:
    """How to write a value that is only written wrongly: null for None, 10000 for 1e4; empty for others."""
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
    except (PydanticUserError, NameError, TypeError):
        # a config is not allowed beside types that carry their own (dataclasses, TypedDicts)
        return None
