"""JSON schemas of configuration files, by which editors complete and check them: `docs/schemas/`.

They are made from the signatures that the commands check a config against. A value may always be an interpolation, `${...}`.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytorch_lightning as L
from pydantic import ConfigDict, TypeAdapter
from pydantic.errors import PydanticInvalidForJsonSchema, PydanticUserError

from vae_lightning import data, models
from vae_lightning.arguments import parameters
from vae_lightning.commands.config import own_trainer_keys
from vae_lightning.commands.reference import Setting

__all__ = ["schema_of", "schemas"]

DRAFT = "http://json-schema.org/draft-07/schema#"
INTERPOLATION = {"type": "string", "pattern": r"\$\{|^\?\?\?$"}
"""What may stand in the place of any value."""


def schemas(settings: Mapping[str, Setting]) -> Iterator[tuple[str, str]]:
    """The name and text of each schema.

    Args:
        settings: what the files in `conf/` say of a setting, by its path.
    """
    groups = {
        "model": _group("model", {name: getattr(models, name) for name in models.__all__}, "vae_lightning.models", settings),
        "data": _group("data", {name: getattr(data, name) for name in data.__all__}, "vae_lightning.data", settings),
        "trainer": _of_trainer(settings),
    }
    for name, schema in groups.items():
        yield f"{name}.json", _text({"title": f"conf/{name}/*.yaml", **schema})
    top = {name: {"type": ["string", "null"]} for name in ("name", "run_dir", "ckpt_path", "monitor")}
    others = {"seed": {"type": "integer"}, "monitor_mode": {"enum": ["min", "max", None]}, "defaults": {"type": "array"}}
    anything = {name: {"type": "object"} for name in ("callbacks", "logger", "hydra")}
    yield "train.json", _text({"title": "train.yaml, experiment/*.yaml", **_object({**top, **others, **groups, **anything}, False)})


def schema_of(target: Callable[..., object], package: str = "", settings: Mapping[str, Setting] | None = None) -> dict[str, Any]:
    """The schema of the arguments that `target` takes, from its signature.

    Args:
        package: the path of the arguments in a config, `model`.
        settings: what the files in `conf/` say of a setting, by its path.

    >>> def penalty(beta: float = 4.0, normalized: bool = False) -> None: ...
    >>> schema_of(penalty)["properties"]["beta"]["default"]
    4.0
    """
    named, takes_any = parameters(target)
    properties = {}
    for name, parameter in named.items():
        schema: dict[str, Any] = {"anyOf": [_type(parameter.annotation), INTERPOLATION]}
        if isinstance(parameter.default, bool | int | float | str | None):
            schema["default"] = parameter.default
        comment = (settings or {}).get(f"{package}.{name}")
        if comment is not None and comment.comment:
            schema["description"] = comment.comment
        properties[name] = schema
    return _object(properties, takes_any)


def _group(package: str, classes: Mapping[str, type], module: str, settings: Mapping[str, Setting]) -> dict[str, Any]:
    """The schema of a group whose `_target_` says which arguments there are; a class of one's own takes any."""
    targets = {f"{module}.{name}": kind for name, kind in classes.items() if isinstance(kind, type)}
    cases = []
    for path, kind in targets.items():
        own = schema_of(kind, package, settings)
        own["properties"] |= {"_target_": {"const": path}, "defaults": {"type": "array"}}
        cases.append({"if": {"properties": {"_target_": {"const": path}}, "required": ["_target_"]}, "then": own})
    return {"type": "object", "properties": {"_target_": {"type": "string", "examples": list(targets)}}, "allOf": cases}


def _of_trainer(settings: Mapping[str, Setting]) -> dict[str, Any]:
    lightning, own = (schema_of(target, "trainer", settings) for target in (L.Trainer, own_trainer_keys))
    return _object({**lightning["properties"], **own["properties"]}, False)


def _object(properties: Mapping[str, Any], takes_any: bool) -> dict[str, Any]:
    return {"type": "object", "properties": dict(properties), "additionalProperties": takes_any}


def _type(annotation: Any) -> dict[str, Any]:
    """The schema of a type; of one that JSON has no values of, anything."""
    try:
        schema = TypeAdapter(annotation, config=ConfigDict(arbitrary_types_allowed=True)).json_schema()
    except (PydanticUserError, PydanticInvalidForJsonSchema, TypeError):
        return {}
    return {key: _without_nothing(value) for key, value in schema.items() if key != "title"}


def _without_nothing(node: Any) -> Any:
    """`node`, where a choice of no schemas, which pydantic makes of classes, takes anything."""
    if isinstance(node, dict):
        return {key: _without_nothing(value) for key, value in node.items() if not (key == "anyOf" and value == [])}
    return [_without_nothing(value) for value in node] if isinstance(node, list) else node


def _text(schema: Mapping[str, Any]) -> str:
    return json.dumps({"$schema": DRAFT, **schema}, indent=1, sort_keys=True) + "\n"
