"""What each column of a table is: its type, what is missing, and whether it is an id, a label, a time, constant or a text."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from itertools import filterfalse
from typing import Any

import numpy as np

from ae_models.spec import BOOLEAN, CATEGORY, DATE, INTEGER, NUMBER
from aeops.intake.wording import format_counts, utf8_length
from aeops.kinds.table_cells import CATEGORY_BYTES, FALSE_WORDS, MISSING_WORDS, TRUE_WORDS

NULL_WORDS = (
    "?",
    "-",
    "--",
    ".",
    "*",
    "n.a.",
    "n.d.",
    "#n/a",
    "#na",
    "unknown",
    "missing",
    "(null)",
    "\\n",
    "x",
    "nd",
    "k.a.",
    "nil",
)
SENTINELS = (-1.0, -9.0, -99.0, -999.0, -9999.0, -99999.0, 99.0, 999.0, 9999.0, 99999.0, 999999.0, -32768.0, 1e20, -1e30, 1e30)
DATE_FORMATS = (
    *("%Y-%m-%d %H:%M:%S", "%d.%m.%Y %H:%M:%S", "%d.%m.%Y %H:%M", "%d.%m.%Y", "%Y/%m/%d %H:%M:%S", "%Y/%m/%d"),
    *("%d/%m/%Y %H:%M:%S", "%d/%m/%Y %H:%M", "%d/%m/%Y", "%m/%d/%Y %H:%M:%S", "%m/%d/%Y %H:%M", "%m/%d/%Y"),
    *("%d-%m-%Y", "%d %b %Y", "%b %d, %Y", "%Y%m%d", "%d.%m.%y", "%m/%d/%y"),
)
_WITH_UNIT = re.compile(r"(?P<before>[€$£¥])?\s?[+-]?\d[\d.,]*\s?(?P<behind>%|[€$£¥]|[a-zA-Zµ°/]{1,4})?")
MOST_CATEGORIES = 1000
LONG_TEXT = 64  # bytes on average, from which cells are texts and no categories
ENOUGH = 0.98  # share of cells that decide a type; the others are named
PROFILED_ROWS = 200_000  # evenly spaced


@dataclass
class ColumnProfile:
    """A column as it was found.

    Attributes:
        name: of the column.
        type: one of the types of `ae_models.spec.ColumnSpec`; empty for texts and for what no column can be.
        missing: share of cells without a value.
        nulls: cells that mean a missing value, as they are written.
        date_format: of texts of dates that are not ISO 8601.
        distinct: number of different values.
        description: of its values, for people.
        odd_cells: cells that are not of the type: the first few.
        odd_count: how many.
        values: parsed: numbers as float64, or texts; NaN and empty where missing.
        ambiguous: what could also be meant.
        unit: that the numbers of a column of texts stand with, such as % or kg; empty for other columns.
        span: the lowest and the highest finite number that is a value; None where there is none.
        time_unit: of times that are numbers since 1970: s, ms, us or ns; None for other columns.
        time_of_day: the column with the time of day of these dates; None where they have it, or there is none.
    """

    name: str
    type: str = ""
    missing: float = 0.0
    nulls: tuple[str, ...] = ()
    date_format: str | None = None
    distinct: int = 0
    description: str = ""
    odd_cells: list[str] = field(default_factory=list)
    odd_count: int = 0
    values: Any = None
    ambiguous: str = ""
    unit: str = ""
    span: tuple[float, float] | None = None
    time_unit: str | None = None
    time_of_day: str | None = None

    @property
    def is_constant(self) -> bool:
        """Whether all its values are one."""
        return self.distinct <= 1

    @property
    def has_missing(self) -> bool:
        """Whether a cell has no value, or one that means that."""
        return bool(self.missing or self.nulls)


def profile_columns(
    columns: Mapping[str, Any], from_text: bool, as_number: Mapping[str, Any] | None = None
) -> list[ColumnProfile]:
    """Return the profile of each column, in order.

    Args:
        columns: name -> cells.
        from_text: whether all cells are texts that stand for values.
        as_number: the same cells with numbers written with a point; None: they are so already.
    """
    profiles = []
    for name, cells in columns.items():
        plain = cells if as_number is None else as_number[name]
        profiles.append(_profile(name, cells, plain, from_text))
    return profiles


def _profile(name: str, cells: Any, plain: Any, from_text: bool) -> ColumnProfile:
    if isinstance(cells, np.ndarray) and cells.dtype.kind in "iufb":
        return _profile_numbers(ColumnProfile(name), cells.astype(np.float64), is_boolean=cells.dtype.kind == "b")
    if isinstance(cells, np.ndarray) and cells.dtype.kind == "M":
        return _profile_dates(ColumnProfile(name), _without_nan(cells), len(cells))
    values = _without_nan(cells)
    if not from_text:
        kinds = {type(cell) for cell in values if cell is not None}
        if kinds and kinds <= {int, float}:
            return _profile_numbers(ColumnProfile(name), np.array(values, np.float64))  # None becomes NaN
        if kinds == {bool}:
            return _profile_numbers(ColumnProfile(name), np.array(values, np.float64), is_boolean=True)
        if kinds and all(issubclass(kind, date) for kind in kinds):
            return _profile_dates(ColumnProfile(name), values, len(values))
        from_text = kinds == {str} and _are_decimals(values)
    return _profile_texts(ColumnProfile(name), _stripped_texts(values), _stripped_texts(plain), from_text)


def _are_decimals(cells: Iterable[Any]) -> bool:
    """Return whether most texts are numbers with a point, which a tool wrote as texts; digits alone may be codes."""
    texts = list(filter(None, cells))
    decimals = sum(1 for text in texts if "." in text and _is_number(text))
    return decimals > 0.5 * len(texts)


def _without_nan(cells: Iterable[Any]) -> list[Any]:
    """Return cells with None for NaN and NaT, which differ from themselves."""
    return [None if cell is None or cell != cell else cell for cell in cells]


def _stripped_texts(cells: Iterable[Any]) -> list[str]:
    return ["" if cell is None else str(cell).strip() for cell in cells]


# ---------------------------------------------------------------- numbers and dates


def _profile_numbers(profile: ColumnProfile, numbers: np.ndarray, is_boolean: bool = False) -> ColumnProfile:
    present = numbers[~np.isnan(numbers)]
    profile.values = numbers
    profile.missing = 1 - len(present) / max(1, len(numbers))
    profile.distinct = len(np.unique(present))
    if is_boolean:
        profile.type, profile.description = BOOLEAN, f"{present.mean() if len(present) else 0:.0%} true"
        return profile
    finite = present[np.isfinite(present)]
    is_whole = bool(len(finite)) and bool((finite == np.floor(finite)).all()) and bool((np.abs(finite) < 2**53).all())
    profile.type = INTEGER if is_whole else NUMBER
    if not len(finite):
        profile.description = "no values"
        return profile
    sentinels = _sentinels(finite)
    if sentinels:
        profile.nulls = tuple(f"{value:.17g}" for value in sentinels)
        finite = finite[~np.isin(finite, sentinels)]
    low, middle, high = np.quantile(finite, (0, 0.5, 1)) if len(finite) else (0, 0, 0)
    profile.span = (float(low), float(high)) if len(finite) else None
    profile.description = f"{low:.4g} to {high:.4g}, median {middle:.4g}"
    if len(present) > len(present[np.isfinite(present)]):
        profile.description += f"; {len(present) - np.isfinite(present).sum()} infinite"
    return profile


def _sentinels(values: np.ndarray) -> list[float]:
    """Return numbers that probably mean a missing value: known ones that repeat, and lie far from all others."""
    found: list[float] = []
    for sentinel in SENTINELS:
        count = int((values == sentinel).sum())
        others = values[~np.isin(values, [*found, sentinel])]
        if count < 2 or len(others) < 10:
            continue
        low, high = np.quantile(others, (0.0, 1.0))
        span = max(float(high - low), abs(float(high)) * 0.01, 1e-12)
        beyond = sentinel < low - span if sentinel < 0 else sentinel > high + span
        if sentinel == -1.0:
            beyond = low >= 0 and high >= 5 and count >= 3
        if beyond:
            found.append(sentinel)
    return found


def _profile_dates(profile: ColumnProfile, cells: Sequence[Any], count: int) -> ColumnProfile:
    present = [str(cell)[:19].replace("T", " ") for cell in cells if cell is not None]
    profile.type, profile.values = DATE, ["" if cell is None else str(cell) for cell in cells]
    profile.missing, profile.distinct = 1 - len(present) / max(1, count), len(set(present))
    profile.description = f"{min(present)} to {max(present)}" if present else "no values"
    return profile


# ---------------------------------------------------------------- texts


def _profile_texts(profile: ColumnProfile, texts: list[str], plain: list[str], from_text: bool) -> ColumnProfile:
    words = set(MISSING_WORDS)
    present, plain_present = [], []
    for text, plain_text in zip(texts, plain, strict=True):
        if text.lower() not in words:
            present.append(text)
            plain_present.append(plain_text)
    profile.missing = 1 - len(present) / max(1, len(texts))
    if not present:
        profile.type, profile.description, profile.values = NUMBER, "no values", np.full(len(texts), np.nan)
        return profile
    counts = Counter(present)
    profile.distinct = len(counts)
    if from_text and (found := _as_numbers(profile, plain_present, counts)) is not None:
        return _profile_odd_numbers(profile, texts, plain, found, words)
    if found_dates := _as_dates(profile, counts):
        return found_dates_profile(profile, texts, found_dates, words)
    folded = set(map(str.lower, counts))
    if from_text and folded <= (TRUE_WORDS | FALSE_WORDS) and len(folded) == 2 and not folded <= {"0", "1"}:
        profile.type, profile.values = BOOLEAN, texts
        profile.description = format_counts(counts.most_common(2))
        return profile
    return _profile_categories(profile, texts, counts)


def _as_numbers(profile: ColumnProfile, cells: Sequence[str], counts: Counter[str]) -> list[str] | None:
    """Return the different cells that are no numbers, where most are; None where they are not."""
    odd = Counter(filterfalse(_is_number, cells))
    if sum(odd.values()) <= (1 - ENOUGH) * len(cells):
        return list(odd)
    if len(odd) == 1 and next(iter(odd)).lower() in NULL_WORDS and sum(odd.values()) < 0.9 * len(cells):
        return list(odd)
    return None


def _profile_odd_numbers(
    profile: ColumnProfile, texts: list[str], plain: list[str], odd: list[str], words: set[str]
) -> ColumnProfile:
    nulls, others = [], []
    for cell in odd:
        if cell.lower() in NULL_WORDS:
            nulls.append(cell)
        else:
            others.append(cell)
    numbers = np.full(len(texts), np.nan)
    for row, (cell, text) in enumerate(zip(plain, texts, strict=True)):
        if _is_number(cell) and text.lower() not in words:
            numbers[row] = float(cell)
    missing = profile.missing
    _profile_numbers(profile, numbers)
    profile.odd_cells = others[:3]
    profile.odd_count = sum(cell in others for cell in plain)
    profile.nulls = (*nulls, *profile.nulls)
    profile.missing = missing
    return profile


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return "_" not in text


def _as_dates(profile: ColumnProfile, counts: Counter[str]) -> str | None:
    """Return the format of a column of dates, `iso` for ISO 8601; None where it holds none."""
    sample = [text for text, _ in counts.most_common(2000)]
    if sum(map(_may_be_date, sample[:20])) < 0.8 * len(sample[:20]):
        return None
    if _share_of_dates(sample, "iso") >= ENOUGH and not all(map(str.isdigit, sample)):
        return "iso"
    fitting = [date_format for date_format in DATE_FORMATS if _share_of_dates(sample, date_format) >= ENOUGH]
    if not fitting:
        return None
    if len(fitting) > 1 and fitting[0].replace("%d", "").replace("%m", "") == fitting[1].replace("%d", "").replace("%m", ""):
        profile.ambiguous = f"day and month cannot be distinguished: read as {fitting[0]}, it may be {fitting[1]}"
    return fitting[0]


def _may_be_date(text: str) -> bool:
    """Return whether a text has a digit and the length of a date."""
    return 6 <= len(text) <= 40 and re.search(r"\d", text) is not None


def _parse_date(text: str, date_format: str) -> datetime:
    if date_format == "iso":
        return datetime.fromisoformat(text)
    return datetime.strptime(text, date_format)


def _share_of_dates(texts: Sequence[str], date_format: str) -> float:
    good = 0
    for text in texts:
        try:
            _parse_date(text, date_format)
        except ValueError:
            continue
        good += 1
    return good / max(1, len(texts))


def found_dates_profile(profile: ColumnProfile, texts: list[str], date_format: str, words: set[str]) -> ColumnProfile:
    """Return the profile of a column of dates in texts."""
    parsed = []
    for text in texts:
        try:
            parsed.append(None if text.lower() in words else _parse_date(text, date_format).replace(tzinfo=None))
        except ValueError:
            parsed.append(None)
            profile.odd_count += 1
            profile.odd_cells = [*profile.odd_cells, text][:3]
    missing = profile.missing
    _profile_dates(profile, parsed, len(texts))
    profile.missing = missing
    profile.date_format = None if date_format == "iso" else date_format
    return profile


def _profile_categories(profile: ColumnProfile, texts: list[str], counts: Counter[str]) -> ColumnProfile:
    profile.values = texts
    longest = max(map(utf8_length, counts))
    mean = sum(utf8_length(text) * count for text, count in counts.items()) / counts.total()
    if mean > LONG_TEXT or longest > CATEGORY_BYTES:
        profile.description = f"texts of about {mean:.0f} bytes, the longest of {longest:,}"
        return profile
    nulls = [text for text in counts if text.lower() in NULL_WORDS and text.lower() != "x"]
    profile.nulls = tuple(nulls)
    profile.type, profile.unit = CATEGORY, _common_unit(counts)
    shown = format_counts(counts.most_common(3))
    profile.description = f"{len(counts):,} values: {shown}{', ...' if len(counts) > 3 else ''}"
    return profile


def _common_unit(texts: Iterable[str]) -> str:
    """Return the unit that all texts have beside a number; empty where one has none or another.

    >>> _common_unit(["12.5 kg", "3 kg"]), _common_unit(["€ 1.50"]), _common_unit(["K-12", "K-13"]), _common_unit(["1 kg", "2 g"])
    ('kg', '€', '', '')
    """
    units = set()
    for text in texts:
        match = _WITH_UNIT.fullmatch(text)
        units.add("" if match is None else match["before"] or match["behind"] or "")
    return units.pop() if len(units) == 1 else ""
