"""Everything that a recipe may say, as a tree read from the dataclasses that check it. Standard library only.

The reference of docs/, the JSON Schema for editors and `ae recipe explain` are made of it, so none of them can differ from what
the reader of recipes accepts. The description of a key is the comment behind its field or above it.
"""

import ast
import inspect
import io
import tokenize
import types
import typing
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any

from ae_models.mappings import map_values
from ae_models.names import names_of
from ae_models.own_parts import with_own_parts
from ae_models.spec import PART_SPECS, AutoencoderConfig, InputSpec, TrainSpec, spec_to_dict
from aeops.recipe.default_rules import PURPOSES
from aeops.recipe.gate_rules import Rule
from aeops.recipe.gate_section import SwitchedOff
from aeops.recipe.monitoring import MonitorSpec
from aeops.recipe.notify_settings import SecretReference
from aeops.recipe.own_kinds import source_specs, study_specs
from aeops.recipe.project_settings import ProjectSettings
from aeops.recipe.sections import (
    ApprovalSpec,
    CalibrationSamplesSpec,
    DataSpec,
    EvaluateSpec,
    ScoringSpec,
    ServingSpec,
    SignatureSpec,
    ValidateSpec,
)
from aeops.recipe.studies import RIVAL_SECTIONS, RivalsStudy

WHOLE_NUMBER, NUMBER, WORD, TRUTH, ANYTHING = "a whole number", "a number", "a text", "true or false", "settings"
_TYPE_NAMES = {int: WHOLE_NUMBER, float: NUMBER, str: WORD, SecretReference: WORD, bool: TRUTH}


@dataclass(frozen=True)
class Scalar:
    """A single value.

    Attributes:
        type_name: one of the names above.
        low, high: its bounds, if it has some.
        choices: the words it may be; empty where it may be any.
    """

    type_name: str
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()


@dataclass(frozen=True)
class ListOf:
    """A list of any length."""

    item: "Node"


@dataclass(frozen=True)
class MappingOf:
    """A mapping whose keys are names that the recipe chooses."""

    value: "Node"


@dataclass(frozen=True)
class Group:
    """A mapping with fixed keys."""

    description: str
    keys: Mapping[str, "Key"]


@dataclass(frozen=True)
class Kinds:
    """A mapping whose key `kind` chooses its other keys."""

    groups: Mapping[str, Group]


@dataclass(frozen=True)
class Either:
    """One of several forms."""

    forms: tuple["Node", ...]


Node = Scalar | ListOf | MappingOf | Group | Kinds | Either


@dataclass(frozen=True)
class Key:
    """A key of a mapping.

    Attributes:
        node: what its value may be.
        description: what it says; one sentence or two.
        is_required: whether it has to be there.
        default: what it is where it is left out, as a recipe would write it; None where that is nothing.
    """

    node: Node
    description: str
    is_required: bool = False
    default: Any = None


@cache
def recipe_structure() -> Group:
    """Return the whole tree: the sections of a recipe, in the order in which recipes have them."""
    return Group(
        "One YAML file says a whole pipeline.",
        {
            "recipe": Key(Scalar(WORD), "Name of the recipe: that of its file without .yaml.", is_required=True),
            "about": Key(Scalar(WORD), "What the data is and what the model is for, for people.", default=""),
            "purpose": Key(Scalar(WORD, choices=PURPOSES), "What the model is for: decides the gate's default rules.", True),
            "data": _section(DataSpec, is_required=True),
            "validate": _section(ValidateSpec, is_required=True),
            "input": _section(InputSpec, is_required=True),
            "model": _section(AutoencoderConfig, is_required=True),
            "score": Key(_kinds(PART_SPECS["score"]), "How anomalous a sample is: a number, high for anomalies.", True),
            "threshold": Key(_threshold_kinds(), "The score above which a sample is an anomaly.", True),
            "train": _section(TrainSpec, is_required=True),
            "evaluate": _section(EvaluateSpec, is_required=True),
            "gate": Key(
                MappingOf(Either((_group(Rule), _group(SwitchedOff)))),
                "Rules by name that a model has to pass, beside the default ones of its purpose.",
            ),
            "approval": _section(ApprovalSpec),
            "signature": _section(SignatureSpec),
            "monitor": _section(MonitorSpec),
            "serving": _section(ServingSpec),
            "scoring": _section(ScoringSpec),
        },
    )


@cache
def project_structure() -> Group:
    """Return the tree of ae.yaml."""
    return _group(ProjectSettings)


def _section(cls: type, is_required: bool = False) -> Key:
    group = _group(cls)
    return Key(group, group.description, is_required)


def _kinds(specs: Mapping[str, type]) -> Kinds:
    return Kinds(map_values(_group, with_own_parts(specs)))


def _threshold_kinds() -> Kinds:
    """Return the kinds of thresholds, each with the keys of samples that it may be calibrated on."""
    own_samples = {name: Key(key.node, key.description) for name, key in _group(CalibrationSamplesSpec).keys.items()}
    groups = {}
    for kind, group in _kinds(PART_SPECS["threshold"]).groups.items():
        groups[kind] = Group(group.description, {**group.keys, **own_samples})
    return Kinds(groups)


def _studies() -> Group:
    changes = Group("", {section: Key(Scalar(ANYTHING), f"what it changes in {section}") for section in RIVAL_SECTIONS})
    keys = {}
    for name, cls in study_specs().items():
        node = MappingOf(changes) if cls is RivalsStudy else _group(cls)
        keys[name] = Key(node, _first_paragraph(cls))
    return Group("", keys)


_LABELS = ListOf(Either((Scalar(WHOLE_NUMBER), Scalar(WORD))))


@cache
def _group(cls: type) -> Group:
    """Return the mapping that a dataclass is read from."""
    comments, hints = _field_comments(cls), typing.get_type_hints(cls)
    special: dict[tuple[type, str], Node] = {}
    if cls is DataSpec:
        special = {(cls, "source"): _kinds(source_specs()), (cls, "labels"): _LABELS, (cls, "novelty"): _LABELS}
    elif cls is EvaluateSpec:
        special = {(cls, "studies"): _studies()}
    keys = {}
    for one in fields(cls):
        node = special.get((cls, one.name)) or _node(hints[one.name], one.metadata)
        keys[one.name] = Key(node, comments.get(one.name, ""), _is_required(one), _default(one))
    return Group(_first_paragraph(cls), keys)


def _is_required(one: "Field[Any]") -> bool:
    return one.default is MISSING and one.default_factory is MISSING


def _default(one: "Field[Any]") -> Any:
    if one.default is not MISSING:
        return spec_to_dict(one.default)
    if one.default_factory is not MISSING:
        return spec_to_dict(one.default_factory())
    return None


def _node(hint: Any, bounds: Mapping[str, Any]) -> Node:
    members = typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, types.UnionType) else (hint,)
    types_of_value = [member for member in members if member is not type(None)]
    if all(map(_is_part, types_of_value)):
        return _kinds({member.kind: member for member in types_of_value})
    if len(types_of_value) > 1:
        return Either(tuple(_scalar_form(one, bounds) for one in types_of_value))
    [inner] = types_of_value
    if typing.get_origin(inner) is tuple:
        return ListOf(_node(typing.get_args(inner)[0], bounds))
    if typing.get_origin(inner) is dict:
        return MappingOf(Scalar(WORD))
    if is_dataclass(inner):
        return _group(typing.cast(type, inner))
    return Scalar(_TYPE_NAMES[inner], bounds.get("low"), bounds.get("high"), bounds.get("one_of") or ())


def _scalar_form(inner: Any, bounds: Mapping[str, Any]) -> Scalar:
    """Return one of several plain types that a value may have: words have choices, numbers have bounds."""
    if inner is str:
        return Scalar(WORD, choices=bounds.get("one_of") or ())
    return Scalar(_TYPE_NAMES[inner], bounds.get("low"), bounds.get("high"))


def _is_part(cls: Any) -> bool:
    """Return whether a mapping has to name the class by its `kind`."""
    has_kind = is_dataclass(cls) and isinstance(getattr(cls, "kind", None), str)
    return has_kind and "kind" not in names_of(fields(cls))


# ---------------------------------------------------------------- texts of the source


def _first_paragraph(cls: type) -> str:
    return " ".join((inspect.getdoc(cls) or "").split("\n\n")[0].split())


def _field_comments(cls: type) -> dict[str, str]:
    """Return the comment behind or above each field of a dataclass, by the field's name; those of its bases included."""
    comments: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        if is_dataclass(base):
            comments |= _documented_attributes(base) | _own_field_comments(base)
    return comments


def _documented_attributes(cls: type) -> dict[str, str]:
    """Return what the section Attributes of a docstring says of each field."""
    _, _, section = (inspect.getdoc(cls) or "").partition("\nAttributes:\n")
    attributes: dict[str, str] = {}
    names: list[str] = []
    for line in section.split("\n\n")[0].splitlines():
        name, separator, text = line.strip().partition(": ")
        if separator and line.startswith("    ") and not line.startswith("     "):
            names = name.split(", ")
            attributes |= dict.fromkeys(names, text)
        elif attributes:
            for name in names:
                attributes[name] += f" {line.strip()}"
    return attributes


def _own_field_comments(cls: type) -> dict[str, str]:
    file = Path(inspect.getsourcefile(cls) or "")
    beside, above = _comments(file)
    comments = {}
    for line, last_line, name in _annotated_lines(file, cls.__name__):
        lines: list[str] = []
        while (line := line - 1) in above:
            lines.insert(0, above[line])
        if comment := " ".join(filter(None, (*lines, beside.get(last_line, "")))):
            comments[name] = comment
    return comments


@cache
def _annotated_lines(file: Path, class_name: str) -> list[tuple[int, int, str]]:
    """Return first line, last line and name of each field of a class, as its file has them."""
    for node in ast.walk(ast.parse(file.read_bytes())):
        if isinstance(node, ast.ClassDef) and node.name == class_name:
            return list(_fields_in(node))
    return []


def _fields_in(node: ast.ClassDef) -> Iterator[tuple[int, int, str]]:
    for item in node.body:
        if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name):
            yield item.lineno, item.end_lineno or item.lineno, item.target.id


@cache
def _comments(file: Path) -> tuple[dict[int, str], dict[int, str]]:
    """Return the comments of a file by their lines: those behind code, and those alone in a line."""
    beside: dict[int, str] = {}
    above: dict[int, str] = {}
    with tokenize.open(file) as stream:
        text = stream.read()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            comments = beside if token.line[: token.start[1]].strip() else above
            comments[token.start[0]] = token.string.lstrip("# ").rstrip()
    return beside, above
