"""Lists of names: of things that have one, and of what is missing or unknown among them."""

from collections.abc import Container, Iterable
from typing import Protocol, TypeVar


class Named(Protocol):
    """What has a name."""

    @property
    def name(self) -> str:
        """Its name."""


NamedThing = TypeVar("NamedThing", bound=Named)


def names_of(things: Iterable[Named]) -> list[str]:
    """Return the name of each thing, in order."""
    return [thing.name for thing in things]


def index_by_name(things: Iterable[NamedThing]) -> dict[str, NamedThing]:
    """Return the things by their names, in order; of two with one name the second counts."""
    return {thing.name: thing for thing in things}


def attributes_with_values(thing: object, names: Iterable[str]) -> list[str]:
    """Return the names of those attributes that are not None, in order."""
    return [name for name in names if getattr(thing, name) is not None]


def names_outside(names: Iterable[str], known: Container[object]) -> list[str]:
    """Return the names that are not among the known ones, in order.

    >>> names_outside(["score", "flags", "p_value"], {"score", "p_value"})
    ['flags']
    """
    return [name for name in names if name not in known]
