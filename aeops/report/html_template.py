"""Jinja environment and filters of the self-contained HTML pages."""

import json
from collections.abc import Mapping
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from aeops.drawing.words import number, share, span
from aeops.report import model_card
from aeops.report.tables import best


@cache  # a template is compiled once a process
def environment() -> Environment:
    """Jinja2 that escapes everything and stops at a name that is not there."""
    made = Environment(
        loader=PackageLoader("aeops.report"), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    made.filters |= {
        "number": number,
        "share": share,
        "span": span,
        "value": value,
        "part": part,
        "best": best,
        "ends": model_card.ends,
    }
    return made


def value(given: Any) -> str:
    """Any JSON value of a rule or an expectation, short."""
    if isinstance(given, list):
        return " to ".join(map(value, given))
    if isinstance(given, Mapping):
        return ", ".join(f"{key} {value(item)}" for key, item in given.items())
    if isinstance(given, bool) or given is None:
        return {True: "yes", False: "no", None: "not defined"}[given]
    return f"{given:.4g}" if isinstance(given, float) else str(given)


def part(given: Any) -> str:
    """A word of the recipe's sentence, such as `conv, widths [16, 32]`."""
    if not isinstance(given, Mapping):
        return str(given)
    settings = [f"{key} {json.dumps(item)}" for key, item in given.items() if key != "kind"]
    return ", ".join([str(given["kind"]), *settings] if "kind" in given else settings)
