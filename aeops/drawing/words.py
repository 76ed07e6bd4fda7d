"""Numbers as text for readers. A metric without a value is written as `not defined`."""

from collections.abc import Iterable

NOT_DEFINED = "not defined"


def format_number(value: float | None, digits: int = 3) -> str:
    """Return a number with `digits` digits after the point; `not defined` for None."""
    if value is None:
        return NOT_DEFINED
    return f"{value:,.{digits}f}"


def format_share(value: float | None, digits: int = 1) -> str:
    """Return a share in [0, 1] as a percentage; `not defined` for None."""
    if value is None:
        return NOT_DEFINED
    return f"{value * 100:.{digits}f} %"


def format_span(bounds: Iterable[float] | None, digits: int = 3) -> str:
    """Return an interval as `low to high`; `not defined` for None."""
    if bounds is None:
        return NOT_DEFINED
    return " to ".join(f"{bound:.{digits}f}" for bound in bounds)


def format_open_interval(bounds: Iterable[float | None] | None) -> str:
    """Return an interval as `low to high`, where None is an unbounded end; `not defined` for None."""
    if bounds is None:
        return NOT_DEFINED
    return " to ".join(map(_format_bound, bounds))


def _format_bound(bound: float | None) -> str:
    if bound is None:
        return "unbounded"
    return f"{bound:.4f}"
