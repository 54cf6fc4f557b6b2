"""Arguments are checked against signatures, and every error names the key and what would be right."""

import functools
import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NamedTuple

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.optim import SGD, Adam

from vae_lightning.arguments import build, changes, check, choose, parameters, prefixed, require, unknown_key
from vae_lightning.errors import ConfigurationError
from vae_lightning.models import M1, M2, VAE, Classifier


class Base:
    def __init__(self, size: int, name: str = "", rate: float = 0.1) -> None:
        self.size, self.name, self.rate = size, name, rate


class Derived(Base):
    def __init__(self, extra: bool = False, **base: Any) -> None:
        super().__init__(**base)
        self.extra = extra


class Narrow(Base):
    """Takes nothing of what its base takes."""

    def __init__(self, extra: bool = False) -> None:
        super().__init__(size=1)


def typed(
    whole: int = 0,
    real: float = 0.0,
    flag: bool = False,
    text: str = "",
    several: Sequence[int] = (),
    either: int | Literal["auto"] = "auto",
    optional: float | None = None,
    table: Mapping[str, int] | None = None,
    anything=None,
) -> None: ...


def message(call: Callable[[], object]) -> str:
    with pytest.raises(ConfigurationError) as caught:
        call()
    assert isinstance(caught.value, ValueError)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_require_names_key_value_and_what_would_be_right() -> None:
    require(True, "model.beta", -1, "at least 0")
    assert message(lambda: require(False, "model.beta", -1, "at least 0")) == "model.beta=-1: must be at least 0"


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("whole", 3),
        ("real", 0.5),
        ("real", 3),
        ("flag", True),
        ("text", "a"),
        ("several", [1, 2]),
        ("several", (1, 2)),
        ("several", []),
        ("either", "auto"),
        ("either", 2),
        ("optional", None),
        ("optional", 1.5),
        ("table", {"a": 1}),
        ("anything", object()),
    ],
)
def test_value_of_the_annotated_type_is_taken(key: str, value: object) -> None:
    check(typed, {key: value}, "model")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("whole", True),
        ("whole", 3.0),
        ("whole", "3"),
        ("whole", None),
        ("real", "0.5"),
        ("real", True),
        ("real", None),
        ("flag", 1),
        ("flag", "true"),
        ("text", 1),
        ("several", 3),
        ("several", "12"),
        ("several", [1, "2"]),
        ("several", [1.5]),
        ("several", [True]),
        ("either", "all"),
        ("optional", "none"),
        ("table", {"a": "b"}),
    ],
)
def test_value_of_another_type_is_refused_by_name(key: str, value: object) -> None:
    written = "null" if value is None else repr(value)  # as it is typed
    assert message(lambda: check(typed, {key: value}, "model")).startswith(f"model.{key}={written}: ")


def test_value_of_a_union_is_told_all_that_it_may_be() -> None:
    def union(compile: bool | Literal["auto"] = "auto") -> None: ...

    assert "a valid boolean or 'auto'" in message(lambda: check(union, {"compile": "ture"}, "trainer"))


def test_unknown_key_suggests_the_nearest() -> None:
    assert message(lambda: check(Base, {"size": 1, "nmae": "x"}, "model.net")) == (
        "model.net.nmae: no such key; did you mean model.net.name?"
    )


def test_unknown_key_with_none_near_lists_all() -> None:
    assert message(lambda: check(Base, {"size": 1, "qqq": 1}, "model")) == "model.qqq: no such key; model has: name, rate, size"


def test_unknown_key_at_the_top_level_has_no_prefix() -> None:
    assert str(unknown_key("sede", ["seed", "name"])) == "sede: no such key; did you mean seed?"
    assert str(unknown_key("qqq", ["seed"])) == "qqq: no such key; the top level has: seed"
    assert str(unknown_key("a.qqq", [])) == "a.qqq: no such key; a has: none"


def test_missing_argument_is_named() -> None:
    assert message(lambda: check(Base, {"name": "x"}, "model")) == "model.size: missing"


def test_what_is_offered_is_given_elsewhere_and_cannot_be_given_twice() -> None:
    check(Base, {"name": "x"}, "model", offered={"size"})
    assert "model.size: no such key" in message(lambda: check(Base, {"size": 1}, "model", offered={"size"}))


def test_keyword_arguments_of_a_subclass_are_those_of_its_base() -> None:
    named, takes_any = parameters(Derived)
    assert list(named) == ["extra", "size", "name", "rate"]
    assert not takes_any
    check(Derived, {"extra": True, "size": 3, "rate": 1}, "model")
    assert message(lambda: check(Derived, {"size": 3, "rte": 1}, "model")) == "model.rte: no such key; did you mean model.rate?"
    assert message(lambda: check(Derived, {"size": 3, "rate": "x"}, "model")).startswith("model.rate='x': ")


def test_subclass_without_keyword_arguments_hides_its_base() -> None:
    assert "no such key" in message(lambda: check(Narrow, {"size": 1}, "model"))


def test_target_with_keyword_arguments_of_its_own_takes_any_name() -> None:
    def anything(size: int, **others: Any) -> None: ...

    check(anything, {"size": 1, "colour": "red"}, "model")
    assert message(lambda: check(anything, {"size": "1"}, "model")).startswith("model.size='1': ")


def test_choose_takes_only_what_there_is() -> None:
    options = {"adam": 1, "sgd": 2}
    assert choose("optimizer.name", "sgd", options) == 2
    assert message(lambda: choose("optimizer.name", "adma", options)) == (
        "optimizer.name=adma: unknown; did you mean adam? choose from: adam, sgd"
    )
    assert message(lambda: choose("optimizer.name", "zzz", options)) == "optimizer.name=zzz: unknown; choose from: adam, sgd"


@pytest.mark.parametrize(("name", "written"), [(None, "null"), (3, "3"), (["adam"], "['adam']")])
def test_choose_refuses_what_is_no_name(name: object, written: str) -> None:
    assert message(lambda: choose("name", name, {"adam": 1})).startswith(f"name={written}: unknown")
    assert "did you mean" not in message(lambda: choose("name", None, {"nonesuch": 1}))
    assert message(lambda: require(False, "size", name, "at least 1")) == f"size={written}: must be at least 1"


def test_build_passes_what_is_asked_for_and_of_what_is_offered_what_is_taken() -> None:
    built = build("model.net", {"name": "base", "rate": 2.5}, {"base": Base}, size=7, colour="red")
    assert (built.size, built.rate) == (7, 2.5)


def test_build_imports_a_name_with_a_dot() -> None:
    layer = build("layer", {"name": "torch.nn.Linear", "bias": False}, {"base": Base}, in_features=2, out_features=3, size=7)
    assert (layer.in_features, layer.out_features, layer.bias) == (2, 3, None)


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({"name": "torch.nn.Liner"}, "layer.name=torch.nn.Liner: torch.nn has no Liner"),
        ({"name": "torhc.nn.Linear"}, "layer.name=torhc.nn.Linear: there is no package torhc"),
        ({"name": "torch.nn.Linear", "bais": False}, "layer.bais: no such key; did you mean layer.bias?"),
        ({"name": "torch.nn.Linear", "in_features": 2}, "layer.in_features: no such key"),
        ({"name": "torch.pi"}, "layer.name=torch.pi: is a float, and cannot be called"),
        ({"name": "torch.nn.Linear", "bias": False, "dtype": "f"}, "layer.name=torch.nn.Linear: building it fails: TypeError: "),
        ({"name": "liner"}, "layer.name=liner: unknown; choose from: base; or give an import path"),
    ],
)
def test_build_says_in_a_line_what_is_wrong_with_an_import_path(spec: dict[str, Any], expected: str) -> None:
    assert message(lambda: build("layer", spec, {"base": Base}, in_features=2, out_features=3)).startswith(expected)


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("hidden=[0]: must be above 0", "net.hidden=[0]: must be above 0"),
        ("hidden: missing", "net.hidden: missing"),
        ("batch=20: must be from 1 to size=16", "batch=20: must be from 1 to net.size=16"),
        ("/data/size=3: is damaged; give size=<n>", "/data/size=3: is damaged; give net.size=<n>"),
        ("other.hidden=1: must be 2", "other.hidden=1: must be 2"),
        ("hiddens=1: must be 2", "hiddens=1: must be 2"),
        ("the hidden sizes are wrong", "the hidden sizes are wrong"),
    ],
)
def test_prefix_is_put_before_the_names_that_belong_to_it(said: str, expected: str) -> None:
    def refuse() -> None:
        with prefixed("net", ["hidden", "size"]):
            raise ConfigurationError(said)

    assert message(refuse) == expected


def test_build_checks_before_it_builds() -> None:
    assert message(lambda: build("net", {"name": "bse"}, {"base": Base}, size=7)).startswith(
        "net.name=bse: unknown; did you mean base?"
    )
    assert message(lambda: build("net", {}, {"base": Base}, size=7)).startswith("net.name=null: unknown")
    assert message(lambda: build("net", {"name": "base", "rate": "x"}, {"base": Base}, size=7)).startswith("net.rate='x': ")


@pytest.mark.parametrize("target", [Adam, SGD])
def test_arguments_of_other_libraries_are_checked_too(target: type) -> None:
    check(target, {"lr": 0.1, "weight_decay": 0.0, "foreach": None}, "optimizer", offered={"params"})
    assert message(lambda: check(target, {"maximise": True}, "optimizer", offered={"params"})) == (
        "optimizer.maximise: no such key; did you mean optimizer.maximize?"
    )
    assert message(lambda: check(target, {"maximize": "yes"}, "optimizer", offered={"params"})).startswith(
        "optimizer.maximize='yes': "
    )


def test_annotation_that_exists_for_type_checkers_only_takes_anything() -> None:
    def function(count: "OnlyForTypeCheckers") -> None: ...  # type: ignore[name-defined]  # noqa: F821

    check(function, {"count": "three"}, "model")
    with pytest.raises(ConfigurationError, match=r"did you mean model\.count"):
        check(function, {"cuont": 3}, "model")


def test_what_is_built_refuses_by_its_own_names_and_gets_the_path_where_it_was_asked_for() -> None:
    class Inner:
        def __init__(self, latent_dim: int, size: int = 1, kind: str = "a") -> None:
            require(size > 0, "size", size, "positive")
            choose("kind", kind, {"a": 1, "b": 2})
            require(latent_dim > 1, "latent_dim", latent_dim, "above 1")
            require(size < 9, "trainer.devices", 2, "1 with such a size")

    class Outer:
        def __init__(self, latent_dim: int, inner: dict[str, object]) -> None:
            self.inner = build("inner", inner, {"inner": Inner}, latent_dim=latent_dim)

    def built(latent_dim: int = 2, **inner: object) -> str:
        spec = {"name": "outer", "latent_dim": latent_dim, "inner": {"name": "inner", **inner}}
        return message(lambda: build("model", spec, {"outer": Outer}))

    assert built(size=0) == "model.inner.size=0: must be positive"
    assert built(kind="c").startswith("model.inner.kind=c: unknown")
    assert built(latent_dim=1) == "model.latent_dim=1: must be above 1", "who built it has that argument"
    assert built(size=10) == "trainer.devices=2: must be 1 with such a size", "the path of somebody else's stays"


@pytest.mark.parametrize(
    ("built", "expected"),
    [
        (lambda: M2(classifier={"name": "classifier_mlp", "hidden": [0]}), "classifier.hidden=[0]: "),
        (lambda: M2(classifier={"name": "classifier_cnn", "dropout": 1.0}), "classifier.dropout=1.0: "),
        (lambda: M1(classifier={"name": "classifier_mlp", "activation": "rely"}), "classifier.activation=rely: "),
        (lambda: M2(net={"name": "mlp", "hidden": [0]}), "net.hidden=[0]: "),
        (lambda: Classifier(net={"name": "classifier_mlp", "init": "zero"}), "net.init=zero: "),
        (lambda: VAE(net={"name": "resnet", "channels": [1]}), "net.channels=[1]: "),
        (lambda: VAE(net={"name": "gated_mlp", "hidden": []}), "net.hidden=[]: "),
        (lambda: VAE(net={"name": "cnn2", "kernel": 9}), "net.kernel=9: "),
    ],
)
def test_net_is_refused_by_the_key_of_the_place_it_stands_in(built: Callable[[], object], expected: str) -> None:
    assert message(built).startswith(expected)


class Bare(nn.Module):
    """Has no `__init__` of its own."""


class Pair(NamedTuple):
    a: int
    b: int = 2


class Made:
    def __new__(cls, a: int, b: int = 2) -> "Made":
        return super().__new__(cls)


@dataclass
class Held:
    a: int
    b: int = 2


class Called:
    def __call__(self, a: int, *, b: int = 2) -> tuple[int, int]:
        return a, b


def of_one_place(a: int, /, b: int = 2) -> None: ...


def hinted(a: "torch.no_such_thing", b: int = 2) -> None: ...  # type: ignore[name-defined]


def wordy(a: "no hint at all", b: int = 2) -> None: ...  # type: ignore[valid-type]  # noqa: F722


def unhashable(a: Annotated[int, []], b: int = 2) -> None: ...


def leaves(a: int) -> None:
    sys.exit(3)


first_given, second_given = functools.partial(Held, 1), functools.partial(Held, b=3)
called = Called()


@pytest.mark.parametrize("name", ["Pair", "Made", "Held", "called", "hinted", "wordy", "unhashable", "second_given"])
def test_whatever_can_be_called_is_given_what_it_takes_and_no_more(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setitem(sys.modules, "anything", sys.modules[__name__])
    build("net", {"name": f"anything.{name}", "b": 4}, {}, a=1, unknown_here=5)
    refused = message(lambda: build("net", {"name": f"anything.{name}", "c": 4}, {}, a=1, unknown_here=5))
    assert refused == "net.c: no such key; did you mean net.b?" or refused.startswith("net.c: no such key; net has: b")


def test_partial_keeps_what_it_was_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "anything", sys.modules[__name__])
    assert build("net", {"name": "anything.first_given"}, {}, a=5) == Held(1, 2)
    assert build("net", {"name": "anything.second_given"}, {}, a=5) == Held(5, 3)
    assert message(lambda: build("net", {"name": "anything.second_given", "b": "4"}, {}, a=5)).startswith("net.b='4': ")


def test_module_without_an_own_signature_takes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "anything", sys.modules[__name__])
    assert isinstance(build("net", {"name": "anything.Bare"}, {}, latent_dim=2), Bare)
    assert message(lambda: build("net", {"name": "anything.Bare", "a": 1}, {})) == "net.a: no such key; net has: none"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("math.hypot", "net.name=math.hypot: hypot: does not say which arguments it takes"),
        ("builtins.dict", "net.name=builtins.dict: dict: does not say which arguments it takes"),
        ("torch.zeros", "does not say which arguments it takes"),
        ("torch.nn", "net.name=torch.nn: is a module, and cannot be called"),
        ("anything.leaves", "net.name=anything.leaves: building it fails: SystemExit: 3"),
        ("anything.of_one_place", "building it fails: TypeError: of_one_place() got some positional-only"),
    ],
)
def test_what_cannot_be_built_is_refused_in_a_line(monkeypatch: pytest.MonkeyPatch, name: str, said: str) -> None:
    monkeypatch.setitem(sys.modules, "anything", sys.modules[__name__])
    assert said in message(lambda: build("net", {"name": name}, {}, a=1))


@pytest.mark.parametrize("spec", [3, "mlp", None, [], [("name", "mlp")], {"name": "mlp", 3: 4}, {"name": "mlp", "self": 3}, {}])
def test_spec_of_another_form_is_refused_in_a_line(spec: Any) -> None:
    assert message(lambda: build("net", spec, {"mlp": Derived}, size=1)).startswith("net")


def test_module_takes_nothing_more_once_torch_has_compiled() -> None:
    from torch._dynamo.mutation_guard import install_generation_tagging_init

    class Own(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x

    before = nn.Module.__init__
    try:
        install_generation_tagging_init()
        assert nn.Module.__init__.__module__ == "torch._dynamo.mutation_guard"
        assert parameters(Own) == ({}, False)
    finally:
        nn.Module.__init__ = before  # type: ignore[method-assign]


# ---- whatever the signature and the arguments

HINTS = (
    int,
    float,
    bool,
    str,
    int | None,
    float | None,
    list[int],
    Sequence[float],
    Mapping[str, Any],
    Literal["a", 1],
    Callable[..., Any],
)
HINTS += (Any, inspect.Parameter.empty, "NameOfNothing", 3, nn.Module, torch.Tensor, tuple[int, ...], dict[str, list[int | None]])
VALUES = (
    0,
    -1,
    10**30,
    1.5,
    float("nan"),
    True,
    None,
    "",
    "a",
    "two\nlines",
    "\x1b[31m",
    b"a",
    [1],
    [None],
    [[]],
    (),
    {"a": [1]},
    {1: 2},
    {},
)
VALUES += (len, nn.Linear(1, 1), torch.ones(2), object(), type, ..., {1}, range(3))
NAMES = ("a", "b", "long_name", "self", "name", "class", "A", "a b", "")


@st.composite
def targets(draw: st.DrawFn) -> Callable[..., Any]:
    """A function, or a class, with any signature that may be written."""
    kinds = inspect.Parameter
    possible = [name for name in NAMES if name.isidentifier() and name not in ("self", "class")]
    names = draw(st.lists(st.sampled_from(possible), max_size=4, unique=True))
    chosen = sorted(draw(st.sampled_from((kinds.POSITIONAL_OR_KEYWORD, kinds.KEYWORD_ONLY))) for _ in names)
    defaults = [draw(st.booleans()) for _ in names]
    if (first := next((place for place, has in enumerate(defaults) if has), None)) is not None:
        defaults[first:] = [has or kind != kinds.KEYWORD_ONLY for has, kind in zip(defaults[first:], chosen[first:], strict=True)]
    parameters = [
        kinds(name, kind, default=None if has else kinds.empty, annotation=draw(st.sampled_from(HINTS)))
        for name, kind, has in zip(names, chosen, defaults, strict=True)
    ]
    if draw(st.booleans()):
        parameters.insert(chosen.count(kinds.POSITIONAL_OR_KEYWORD), kinds("rest", kinds.VAR_POSITIONAL))
    if draw(st.booleans()):
        parameters.append(kinds("more", kinds.VAR_KEYWORD))

    def target(*positional: Any, **named: Any) -> Any: ...

    hints = {parameter.name: parameter.annotation for parameter in parameters if parameter.annotation is not kinds.empty}
    if draw(st.booleans()):
        target.__signature__, target.__annotations__ = inspect.Signature(parameters), hints  # type: ignore[attr-defined]
        return target
    own = kinds("self", kinds.POSITIONAL_OR_KEYWORD)
    target.__signature__, target.__annotations__ = inspect.Signature([own, *parameters]), hints  # type: ignore[attr-defined]
    return type("Target", (), {"__init__": target})


@st.composite
def calls(draw: st.DrawFn) -> tuple[Callable[..., Any], dict[str, Any]]:
    """A target, and arguments by names that it has, or has not."""
    target = draw(targets())
    known = [*inspect.signature(target).parameters]
    names = st.one_of(*([st.sampled_from(known)] * 2 if known else []), st.sampled_from(NAMES))
    return target, draw(st.dictionaries(names, st.one_of(st.sampled_from(VALUES), PLAIN), max_size=4))


TEXTS = st.text("a.1 \n\x1b\u202e\u00e9", max_size=8)
PLAIN = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), TEXTS),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=5,
)


@pytest.mark.filterwarnings("ignore:3 is not a Python type")
def test_any_arguments_of_any_signature_are_taken_or_refused_in_one_line() -> None:
    """What is taken can be passed, and what is refused by its name cannot; the types have tests of their own."""
    answers = []

    @settings(max_examples=200)
    @given(calls(), st.sampled_from(("", "model", "model.net")))
    def examine(call: tuple[Callable[..., Any], dict[str, Any]], prefix: str) -> None:
        target, arguments = call
        try:
            inspect.signature(target).bind(**arguments)
            fits = "self" not in arguments
        except TypeError:
            fits = False
        said = None
        try:
            check(target, arguments, prefix)
        except ConfigurationError as error:
            said = str(error)
        answers.append(said)
        assert said is None or said.isprintable(), said
        assert fits or said is not None, inspect.signature(target)
        assert not (fits and said and (said.endswith(": missing") or "no such key" in said)), said

    examine()
    assert 20 < answers.count(None) < 180, "both happen often"


def test_changes_are_those_of_settings_and_not_of_the_place() -> None:
    before = {"run_dir": "/a", "ckpt_path": None, "x": {"dir": "/a/b", "y": 1, "gone": 2}}
    now = {"run_dir": "/c", "ckpt_path": "z", "x": {"dir": "/c/b", "y": 3}, "new": 4}
    assert changes(before, now) == {"x.y": (1, 3), "x.gone": (2, None), "new": (None, 4)}
