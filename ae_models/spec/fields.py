"""Fields with bounds, and unions of specs that are told apart by their `kind`."""

import typing
from dataclasses import MISSING, field
from typing import Any

__all__ = ["bounded_field", "specs_by_kind"]


def bounded_field(
    default: Any = MISSING,
    *,
    low: float | None = None,
    high: float | None = None,
    one_of: tuple[str, ...] | None = None,
    omit_default: bool = False,
) -> Any:
    """Return a dataclass field whose bounds `SpecReader` checks.

    Args:
        default: value of a key that is left out; without one the key is required.
        low: smallest allowed value (of each item, for a tuple).
        high: largest allowed value (of each item, for a tuple).
        one_of: allowed words.
        omit_default: whether documents leave the key out where it has its default. For keys that are younger than the format:
            a document that does not use them keeps its bytes, and its hash.

    >>> from dataclasses import dataclass
    >>> @dataclass(frozen=True)
    ... class NoiseSpec:
    ...     share: float = bounded_field(0.5, low=0.0, high=1.0)
    >>> NoiseSpec()
    NoiseSpec(share=0.5)
    """
    return field(default=default, metadata={"low": low, "high": high, "one_of": one_of, "omit_default": omit_default})


def specs_by_kind(union: Any) -> dict[str, type]:
    """Return the spec classes of a union (or of a single class), by their `kind`."""
    members = typing.get_args(union) or (union,)
    return {member.kind: member for member in members}
