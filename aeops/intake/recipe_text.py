"""The text of a proposed recipe: YAML with a comment on every choice."""

import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from typing import Any

import yaml

from aeops.recipe.table_sources import TextFormat

WIDTH = 120


@dataclass(frozen=True)
class Entry:
    """A key of the recipe.

    Attributes:
        key: its name; empty for an item of a list.
        value: what YAML can hold, written on one line; or entries, written below it.
        reason: why it was chosen; written above it.
    """

    key: str
    value: Any
    reason: str = ""


def render(entries: Sequence[Entry], indent: int = 0) -> str:
    """Return entries as YAML.

    >>> print(render([Entry("train", [Entry("batch", 32, "few samples")])]), end="")
    train:
      # few samples
      batch: 32
    """
    lines = []
    for entry in entries:
        prefix = " " * indent
        if entry.reason:
            lines += textwrap.wrap(printable(entry.reason), WIDTH, initial_indent=f"{prefix}# ", subsequent_indent=f"{prefix}# ")
        head = f"{prefix}{entry.key}:" if entry.key else f"{prefix}-"
        if is_block(entry.value):
            lines.append(head)
            lines += render(entry.value, indent + 2).splitlines()
        else:
            lines.append(f"{head} {flow_text(entry.value)}")
        if not indent:
            lines.append("")
    return "\n".join(lines).rstrip("\n") + "\n"


def printable(text: str) -> str:
    """Return a text for a comment: values of data may hold characters that end a line, or that YAML refuses.

    >>> printable("a\\x00b\\u2028c")
    'a b c'
    """
    return "".join(letter if letter.isprintable() else " " for letter in text)


def list_entries(values: Iterable[Any]) -> list[Entry]:
    """Return the entries of a list, which have no keys."""
    return [Entry("", value) for value in values]


def is_block(value: Any) -> bool:
    """Return whether a value is entries, which stand below their key."""
    return isinstance(value, list) and bool(value) and all(isinstance(item, Entry) for item in value)


def flow_text(value: Any) -> str:
    """Return a value as YAML on one line.

    >>> flow_text({"kind": "mse", "rate": 0.05, "labels": ["good", "no"]})
    "{kind: mse, rate: 0.05, labels: [good, 'no']}"
    """
    text = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=10**9, allow_unicode=True)
    return text.strip().removesuffix("...").strip()


def changed_values(dialect: TextFormat) -> dict[str, Any]:
    """Return the keys of a dialect that differ from the default; the encoding where none does."""
    default = TextFormat()
    changed = {}
    for key in fields(dialect):
        value = getattr(dialect, key.name)
        if value != getattr(default, key.name):
            changed[key.name] = value
    return changed or {"encoding": dialect.encoding}
