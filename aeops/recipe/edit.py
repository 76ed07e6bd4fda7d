"""Change single settings of a recipe's file as a person would: its other lines, its comments and its layout stay as they are.

text = with_settings(text, {"threshold.false_alarm_rate": 0.005, "model.encode.widths": [8, 16]}, "digits.yaml")
"""

import json
import re
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

import yaml

from ae_models.mappings import join_entries
from ae_models.spec import format_value
from aeops.errors import UsageError
from aeops.recipe.yaml_reader import parse_yaml

PLAIN_TEXT = re.compile(r"[A-Za-z_][\w./-]*")  # that YAML reads as a string without quotes
WORDS_OF_YAML = ("true", "false", "yes", "no", "on", "off", "null", "y", "n")  # that YAML reads as something else
NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+")  # as people write it and YAML 1.1 does not read it: 1e-3


def with_settings(text: str, settings: Mapping[str, Any], name: str) -> str:
    """Return the text of a recipe with these settings: changed where it has them, else added at the end of their mapping.

    Args:
        text: of the file.
        settings: path of a key, such as `train.epochs` or `score.scores.0.blur`, -> its value.
        name: the file's, for messages.

    Raises:
        UsageError: the file is no YAML, a path goes through something that holds no keys, or a value is written in a way that
            cannot be changed without touching other lines.
    """
    expected = parse_yaml(text.encode(), name)
    for path, value in settings.items():
        expected = _with_value(expected, path.split("."), value, f"{name}: {path}")
        text = _with_setting(text, path, value, name)
    if parse_yaml(text.encode(), name) != expected:
        raise _unsafe(settings, name)
    return text


def parse_setting(argument: str) -> tuple[str, Any]:
    """Return path and value of a setting as it is typed: `train.epochs=5`.

    Raises:
        UsageError: it has another form, or the value is no YAML.

    >>> parse_setting("train.learning_rate=1e-3"), parse_setting("model.encode.widths=[8, 16]")
    (('train.learning_rate', 0.001), ('model.encode.widths', [8, 16]))
    """
    path, separator, raw_value = argument.partition("=")
    path = path.strip()
    if not separator or not path or "" in path.split("."):
        raise UsageError(f"expected KEY=VALUE, such as train.epochs=5, got {argument!r}")
    if NUMBER.fullmatch(raw_value.strip()):
        return path, float(raw_value)
    return path, parse_yaml(raw_value.encode(), f"the value of {path}")


def _unsafe(settings: Mapping[str, Any], name: str) -> UsageError:
    wanted = join_entries(settings, _yaml_text)
    return UsageError(f"{name} cannot be changed safely: write {wanted} there by hand")


def _with_value(document: Any, path: Sequence[str], value: Any, place: str) -> Any:
    """Return what the YAML says once the value stands at the path."""
    if not path:
        return value
    key, *rest = path
    if isinstance(document, list):
        if not key.isdecimal() or int(key) >= len(document):
            raise UsageError(f"{place}: expected 0 to {len(document) - 1}, the number of an item, got {key!r}")
        index = int(key)
        return [*document[:index], _with_value(document[index], rest, value, place), *document[index + 1 :]]
    if document is None:
        document = {}
    if not isinstance(document, Mapping):
        raise UsageError(f"{place}: expected a mapping that may hold {key}, got {format_value(document)}")
    return {**document, key: _with_value(document.get(key), rest, value, place)}


# ---------------------------------------------------------------- in the text


def _with_setting(text: str, path: str, value: Any, name: str) -> str:
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    if root is None:
        return f"{text}{_nested_text(path.split('.'), value)}\n"
    node, rest = _deepest_node(root, path.split("."))
    if rest and isinstance(node, yaml.MappingNode):
        return _with_new_key(text, node, rest, value)
    is_block = isinstance(node, yaml.CollectionNode) and not node.flow_style
    if is_block or (rest and not _is_null(node)):
        raise _unsafe({path: value}, name)
    return text[: node.start_mark.index] + _as_value(rest, value) + text[node.end_mark.index :]


def _deepest_node(node: yaml.Node, path: list[str]) -> tuple[yaml.Node, list[str]]:
    """Return the node at the path, or the last one on the way to it with the keys that are missing."""
    while path:
        if isinstance(node, yaml.SequenceNode):
            children = {str(index): child for index, child in enumerate(node.value)}
        elif isinstance(node, yaml.MappingNode):
            children = {key.value: child for key, child in node.value}
        else:
            break
        if path[0] not in children:
            break
        node, path = children[path[0]], path[1:]
    return node, path


def _with_new_key(text: str, node: yaml.MappingNode, path: list[str], value: Any) -> str:
    addition = _nested_text(path, value)
    if node.flow_style:
        end = node.value[-1][1].end_mark.index if node.value else node.start_mark.index + 1
        return f"{text[:end]}{', ' if node.value else ''}{addition}{text[end:]}"
    end = _line_end(text, _last_leaf(node).end_mark.index)
    return f"{text[:end]}\n{' ' * node.value[0][0].start_mark.column}{addition}{text[end:]}"


def _last_leaf(node: yaml.Node) -> yaml.Node:
    """Return the last value that a block holds: where its own text ends, as comments after it belong to what follows."""
    while isinstance(node, yaml.CollectionNode) and not node.flow_style and node.value:
        last = node.value[-1]
        node = last[1] if isinstance(node, yaml.MappingNode) else last
    return node


def _line_end(text: str, index: int) -> int:
    end = text.find("\n", index)
    if end < 0:
        return len(text)
    # A block text ends at the beginning of the line after it.
    return index - 1 if text[index - 1 : index] == "\n" else end


def _is_null(node: yaml.Node) -> bool:
    return bool(node.tag == "tag:yaml.org,2002:null")


# ---------------------------------------------------------------- values


def _nested_text(path: Sequence[str], value: Any) -> str:
    key, *rest = path
    return f"{_yaml_text(key)}: {_as_value(rest, value)}"


def _as_value(path: Sequence[str], value: Any) -> str:
    for key in reversed(path):
        value = {key: value}
    return _yaml_text(value)


def _yaml_text(value: Any) -> str:
    """Return a value as YAML reads it back; 1e-05 would be a string there.

    >>> [_yaml_text(value) for value in (0.00001, "a/b.npy", "0123", "no", None, [True, 2], {"kind": "knn"})]
    ['0.00001', 'a/b.npy', '"0123"', '"no"', 'null', '[true, 2]', '{kind: knn}']
    """
    if isinstance(value, str):
        is_plain = PLAIN_TEXT.fullmatch(value) and value.lower() not in WORDS_OF_YAML
        return value if is_plain else json.dumps(value, ensure_ascii=False)
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_yaml_text(str(key))}: {_yaml_text(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_yaml_text, value)) + "]"
    if isinstance(value, int | float):
        return f"{Decimal(str(value)):f}"
    return json.dumps(str(value))
