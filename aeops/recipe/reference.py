"""Say what each key of a recipe is, in words: docs/recipe-reference.md and `ae recipe explain`. Standard library only."""

import json
from collections.abc import Iterator
from typing import Any

from ae_models.mappings import join_entries
from ae_models.spec import join_choices, join_names, suggest_match
from aeops.errors import UsageError
from aeops.recipe.structure import Either, Group, Key, Kinds, ListOf, MappingOf, Node, Scalar, recipe_structure

_PLURALS = {"a whole number": "whole numbers", "a number": "numbers", "a text": "texts", "true or false": "true or false"}
_INTRODUCTION = """\
# Every key of a recipe

Written by `docs/generate_recipe_reference.py` from the code that reads recipes. One key: `ae recipe explain train.epochs`.
A file: `ae recipe check recipes/digits.yaml`.

An editor that knows YAML schemas (VS Code with the YAML extension, say) completes and checks the keys of a recipe: type
`ae recipe schema > recipes/recipe.schema.json`, and begin the recipe with the line
`# yaml-language-server: $schema=recipe.schema.json`.
"""


# ---------------------------------------------------------------- values


def value_text(node: Node) -> str:
    """Say what a value may be.

    >>> value_text(Scalar("a number", low=0.0, high=0.5))
    'a number, 0 to 0.5'
    >>> value_text(ListOf(Scalar("a whole number", low=1)))
    'a list of whole numbers, 1 or more'
    """
    if isinstance(node, Scalar):
        return _scalar_text(node, node.type_name)
    if isinstance(node, ListOf):
        return f"a list of {_plural_text(node.item)}"
    if isinstance(node, MappingOf):
        return f"NAME: {value_text(node.value)}"
    if isinstance(node, Kinds):
        return f"kind {join_choices(node.groups)}"
    if isinstance(node, Either):
        return " or ".join(map(value_text, node.forms))
    return f"{{{join_names(node.keys)}}}"


def _plural_text(node: Node) -> str:
    if isinstance(node, Scalar):
        return _scalar_text(node, _PLURALS.get(node.type_name, node.type_name))
    if isinstance(node, Either):
        return " or ".join(map(_plural_text, node.forms))
    return value_text(node)


def _scalar_text(scalar: Scalar, type_name: str) -> str:
    if scalar.choices:
        return join_choices(scalar.choices)
    if scalar.low is None and scalar.high is None:
        return type_name
    if scalar.high is None:
        return f"{type_name}, {scalar.low:g} or more"
    if scalar.low is None:
        return f"{type_name}, {scalar.high:g} or less"
    return f"{type_name}, {_bound(scalar.low)} to {_bound(scalar.high)}"


def _bound(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 and value == int(value) else f"{value:g}"


def default_text(key: Key) -> str:
    """Say what a key is where it is left out: a value as YAML has it, "required", or "-" for nothing."""
    if key.is_required:
        return "required"
    if key.default is None:
        return "-"
    return _yaml_text(key.default)


def _yaml_text(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + join_entries(value, _yaml_text) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_yaml_text, value)) + "]"
    if isinstance(value, str):
        return value or '""'
    return json.dumps(value)


# ---------------------------------------------------------------- one key


def explain(path: str) -> list[str]:
    """Return lines about a key or a kind of a part, and about what it may hold.

    Args:
        path: such as `train.epochs`, `model.encode` or `model.encode.conv`; empty for the sections.

    Raises:
        UsageError: there is no such key; names the near match.
    """
    key = Key(recipe_structure(), "")
    done: list[str] = []
    for name in filter(None, path.split(".")):
        choices = _children(key.node)
        if name not in choices:
            place = ".".join(done) or "a recipe"
            expected = f"expected {join_choices(choices)} in {place}" if choices else f"{place} has no keys"
            raise UsageError(f"no key {name!r}: {expected}{suggest_match(name, choices)}")
        key = choices[name]
        done.append(name)
    return list(_explanation(path, key))


def _children(node: Node) -> dict[str, Key]:
    """Return what may follow in a path: keys, kinds, and the keys of what a list or a mapping of names holds."""
    if isinstance(node, Group):
        return dict(node.keys)
    if isinstance(node, Kinds):
        return {kind: Key(group, group.description) for kind, group in node.groups.items()}
    if isinstance(node, ListOf):
        return _children(node.item)
    if isinstance(node, MappingOf):
        return _children(node.value)
    if isinstance(node, Either):
        children: dict[str, Key] = {}
        for form in node.forms:
            children |= _children(form)
        return children
    return {}


def _explanation(path: str, key: Key) -> Iterator[str]:
    if path:
        yield f"{path}: {value_text(key.node)}"
        yield f"  default    {default_text(key)}"
        if key.description:
            yield f"  {key.description}"
    children = _children(key.node)
    if not children:
        return
    if path:
        yield ""
    width = max(map(len, children))
    for name, child in children.items():
        facts = [value_text(child.node)] if isinstance(child.node, Scalar | ListOf) else []
        if child.is_required:
            facts.append("required")
        elif child.default is not None:
            facts.append(f"default {default_text(child)}")
        lines = list(filter(None, ("; ".join(facts), child.description)))
        yield f"  {name:<{width}}  {''.join(lines[:1])}".rstrip()
        for line in lines[1:]:
            yield f"  {'':<{width}}  {line}"


# ---------------------------------------------------------------- the page


def reference_page() -> str:
    """Return docs/recipe-reference.md."""
    lines = [_INTRODUCTION]
    for name, key in recipe_structure().keys.items():
        lines += [f"## {name}", ""]
        if key.description:
            lines += [_sentence(key.description), ""]
        if isinstance(key.node, Scalar):
            lines += [f"Value: {value_text(key.node)}. Default: {_code(default_text(key))}.", ""]
        lines += _node_lines(name, key.node)
    return "\n".join(lines).rstrip() + "\n"


def _node_lines(path: str, node: Node) -> Iterator[str]:
    """Yield a table of a mapping's keys, then those of the mappings in it."""
    if isinstance(node, Group):
        yield from _table(node)
        for name, key in node.keys.items():
            yield from _nested_lines(f"{path}.{name}", key)
    elif isinstance(node, Kinds):
        for kind, group in node.groups.items():
            yield from (f"### {path}.{kind}", "", _sentence(group.description), "")
            yield from _node_lines(f"{path}.{kind}", group)
    elif isinstance(node, MappingOf):
        yield from _node_lines(f"{path}.NAME", node.value)
    elif isinstance(node, Either):
        for form in node.forms:
            if isinstance(form, Group):
                yield from (_sentence(form.description), "")
            yield from _node_lines(path, form)


def _nested_lines(path: str, key: Key) -> Iterator[str]:
    node = key.node.item if isinstance(key.node, ListOf) else key.node
    if path == "score.combined.scores":
        return  # the single scores, which have headings of their own
    if isinstance(node, Group):
        yield from (f"### {path}", "")
        if key.description:
            yield from (_sentence(key.description), "")
    yield from _node_lines(path, node)


def _table(group: Group) -> Iterator[str]:
    if not group.keys:
        yield from ("No other keys.", "")
        return
    yield from ("| key | value | default | meaning |", "|---|---|---|---|")
    for name, key in group.keys.items():
        cells = (_code(name), value_text(key.node), _code(default_text(key)), key.description)
        yield "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
    yield ""


def _code(text: str) -> str:
    return text if text in ("-", "required") else f"`{text}`"


def _sentence(text: str) -> str:
    text = text[:1].upper() + text[1:]
    return text if text.endswith((".", ":")) else f"{text}."
