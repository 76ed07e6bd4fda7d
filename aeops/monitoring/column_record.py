"""How a table's columns stand in verdict.json. Light: the page reads it without numpy."""

from typing import TypedDict


class ColumnRecord(TypedDict):
    """A column as verdict.json holds it.

    `moved`: in spreads of calibration; `usual` and `recent`: values in words; `missing_usually` and `missing_recently`: shares;
    `log10_e`: evidence of a change, as a power of ten; `alarm`: whether it is enough for an alarm.
    """

    column: str
    moved: float
    usual: str
    recent: str
    missing_usually: float
    missing_recently: float
    log10_e: float | None
    alarm: bool
