"""Change single settings of a recipe's file as a person would: its other lines, its comments and its layout stay as they are.

text = with_settings(text, "threshold", {"false_alarm_rate": 0.005}, "digits.yaml")
"""

import json
import re
from collections.abc import Mapping
from decimal import Decimal

import yaml

from aeops.errors import UsageError
from aeops.recipe.yaml_reader import parse_yaml

PLAIN_TEXT = re.compile(r"[A-Za-z_][\w./-]*")  # that YAML reads as a string without quotes


def with_settings(text: str, section: str, settings: Mapping[str, float | str], name: str) -> str:
    """Return the text of a recipe in which a section has these settings: changed where it has them, else added at its end.

    Args:
        text: of the file.
        section: one of the recipe's sections, a mapping.
        settings: key -> value.
        name: the file's, for messages.

    Raises:
        UsageError: the file is no YAML, or the section is written in a way that cannot be changed without touching other lines.
    """
    before = parse_yaml(text.encode(), name)
    if not isinstance(before, Mapping) or not isinstance(before.get(section), Mapping):
        raise UsageError(f"{name}: expected a section {section} with settings, got none: write one by hand")
    node = _find_section(text, section)
    for key, value in settings.items():
        text = _with_setting(text, node, key, _yaml_scalar(value))
        node = _find_section(text, section)
    expected = {**before, section: {**before[section], **settings}}
    if parse_yaml(text.encode(), name) != expected:
        wanted = ", ".join(f"{key}: {_yaml_scalar(value)}" for key, value in settings.items())
        raise UsageError(f"{name}: the section {section} cannot be changed safely: write {wanted} there by hand")
    return text


def _find_section(text: str, section: str) -> yaml.MappingNode:
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    assert root is not None, "the text was parsed before, and is no empty one"
    for key, value in root.value:
        if key.value == section and isinstance(value, yaml.MappingNode):
            return value
    raise AssertionError("the text was parsed before, with this section in it")


def _with_setting(text: str, node: yaml.MappingNode, key: str, scalar: str) -> str:
    for key_node, value_node in node.value:
        if key_node.value == key:
            return text[: value_node.start_mark.index] + scalar + text[value_node.end_mark.index :]
    first_key, last_value = node.value[0][0], node.value[-1][1]
    separator = ", " if node.flow_style else "\n" + " " * first_key.start_mark.column
    end = last_value.end_mark.index
    return f"{text[:end]}{separator}{key}: {scalar}{text[end:]}"


def _yaml_scalar(value: float | str) -> str:
    """Return a value as YAML reads it back; 1e-05 would be a string there.

    >>> _yaml_scalar(0.00001), _yaml_scalar("a/b.npy"), _yaml_scalar("0123")
    ('0.00001', 'a/b.npy', '"0123"')
    """
    if isinstance(value, str):
        return value if PLAIN_TEXT.fullmatch(value) else json.dumps(value)
    return f"{Decimal(str(value)):f}"
