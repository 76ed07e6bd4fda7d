"""Numbers as a reader wants them; a metric that is not defined says so."""

from collections.abc import Iterable

NONE = "not defined"


def number(given: float | None, digits: int = 3) -> str:
    """A number with so many digits after the point, or what is said where there is none."""
    return NONE if given is None else f"{given:,.{digits}f}"


def share(given: float | None, digits: int = 1) -> str:
    return NONE if given is None else f"{given * 100:.{digits}f} %"


def span(ends: Iterable[float] | None, digits: int = 3) -> str:
    return NONE if ends is None else " to ".join(f"{end:.{digits}f}" for end in ends)
