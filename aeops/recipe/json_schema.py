"""The JSON Schema of recipes: editors complete and check keys by it. Standard library only.

It says which keys there are and what each may be; relations between keys are left to `ae recipe check`.
"""

from typing import Any

from aeops.recipe.structure import (
    ANYTHING,
    NUMBER,
    TRUTH,
    WHOLE_NUMBER,
    WORD,
    Either,
    Group,
    Key,
    Kinds,
    ListOf,
    MappingOf,
    Node,
    Scalar,
    project_structure,
    recipe_structure,
)

_TYPES = {WHOLE_NUMBER: "integer", NUMBER: "number", WORD: "string", TRUTH: "boolean", ANYTHING: "object"}


def recipe_schema() -> dict[str, Any]:
    """Return the schema (JSON Schema, draft 2020-12) of a recipe."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "Recipe", **_schema(recipe_structure())}


def project_schema() -> dict[str, Any]:
    """Return the schema of ae.yaml."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "Project", **_schema(project_structure())}


def _schema(node: Node) -> dict[str, Any]:
    if isinstance(node, Group):
        return _group_schema(node)
    if isinstance(node, Kinds):
        forms = [_group_schema(group, kind) for kind, group in node.groups.items()]
        return {"type": "object", "required": ["kind"], "oneOf": forms}
    if isinstance(node, ListOf):
        return {"type": "array", "items": _schema(node.item)}
    if isinstance(node, MappingOf):
        return {"type": "object", "additionalProperties": _schema(node.value)}
    if isinstance(node, Either):
        return {"anyOf": list(map(_schema, node.forms))}
    return _scalar_schema(node)


def _group_schema(group: Group, kind: str | None = None) -> dict[str, Any]:
    properties, required = {}, []
    for name, key in group.keys.items():
        properties[name] = _key_schema(key)
        if key.is_required:
            required.append(name)
    if kind is not None:
        properties = {"kind": {"const": kind, "description": group.description}, **properties}
        required = ["kind", *required]
    schema: dict[str, Any] = {"type": "object", "properties": properties, "additionalProperties": False}
    if group.description:
        schema["description"] = group.description
    if required:
        schema["required"] = required
    return schema


def _key_schema(key: Key) -> dict[str, Any]:
    schema = _schema(key.node)
    if key.description:
        schema["description"] = key.description
    if key.is_required:
        return schema
    if key.default is not None:
        return {**schema, "default": key.default}
    return {"anyOf": [schema, {"type": "null"}], "description": key.description}


def _scalar_schema(scalar: Scalar) -> dict[str, Any]:
    if scalar.choices:
        return {"enum": list(scalar.choices)}
    schema: dict[str, Any] = {"type": _TYPES[scalar.type_name]}
    if scalar.low is not None:
        schema["minimum"] = scalar.low
    if scalar.high is not None:
        schema["maximum"] = scalar.high
    return schema
