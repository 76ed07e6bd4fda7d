"""Names of things and lists of them, as checks and their messages need them. Standard library only."""

from collections import Counter
from collections.abc import Container, Iterable
from typing import Protocol, TypeVar

__all__ = ["Named", "attributes_with_values", "index_by_name", "names_in", "names_not_in", "names_of", "repeated_names"]


class Named(Protocol):
    """Anything with a name: a column, a channel, a field of a dataclass, a path, an output of an ONNX model."""

    @property
    def name(self) -> str:
        """What it is called."""


_NamedItem = TypeVar("_NamedItem", bound=Named)


def names_of(items: Iterable[Named]) -> list[str]:
    """Return the names of items, in their order.

    >>> from pathlib import Path
    >>> names_of([Path("data/one.csv"), Path("data/two.csv")])
    ['one.csv', 'two.csv']
    """
    return [item.name for item in items]


def repeated_names(names: Iterable[str]) -> list[str]:
    """Return the names that stand twice or more, each once, in their order.

    >>> repeated_names(["a", "b", "c", "b", "a"])
    ['a', 'b']
    """
    return [name for name, count in Counter(names).items() if count > 1]


def names_in(names: Iterable[str], others: Container[object]) -> list[str]:
    """Return the names that are among the others, too, in their order.

    >>> names_in(["time", "machine", "torque"], {"torque", "time"})
    ['time', 'torque']
    """
    return [name for name in names if name in others]


def names_not_in(names: Iterable[str], others: Container[object]) -> list[str]:
    """Return the names that are not among the others, in their order.

    >>> names_not_in(["time", "machine", "torque"], {"time", "torque"})
    ['machine']
    """
    return [name for name in names if name not in others]


def index_by_name(items: Iterable[_NamedItem]) -> dict[str, _NamedItem]:
    """Return items by their names, in order; of two with one name the second counts."""
    return {item.name: item for item in items}


def attributes_with_values(item: object, names: Iterable[str]) -> list[str]:
    """Return the names of those attributes that are not None, in order."""
    return [name for name in names if getattr(item, name) is not None]
