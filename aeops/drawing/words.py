"""Numbers as text for readers. A metric without a value is written as `not defined`."""

from collections.abc import Iterable

NOT_DEFINED = "not defined"
NO_LABELS = "no labels, so which of them are false is not known"  # of alarms


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


def format_count(count: int, noun: str) -> str:
    """Return a number of things.

    >>> format_count(1, "row"), format_count(2000, "row")
    ('1 row', '2,000 rows')
    """
    if count == 1:
        return f"1 {noun}"
    return f"{count:,} {noun}s"


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


def format_odds(power: float) -> str:
    """Return evidence, given as a power of ten, as odds with three significant digits: from 10⁵ as a power of ten.

    >>> format_odds(-1), format_odds(2.91), format_odds(11.7)
    ('0.1 to 1', '813 to 1', '10¹² to 1')
    """
    if power >= 5:
        return f"{format_power_of_ten(power)} to 1"
    if power < 1:
        return f"{10.0**power:,.2g} to 1"
    return f"{float(f'{10.0**power:.3g}'):,.0f} to 1"


def format_power_of_ten(power: float) -> str:
    """Return a power of ten, such as 10¹²."""
    return "10" + f"{power:.0f}".translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
