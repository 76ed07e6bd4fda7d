"""Jinja environment and filters of the self-contained HTML pages."""

import json
from collections.abc import Mapping
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from aeops.drawing.words import format_number, format_open_interval, format_share, format_span
from aeops.machine.terminal import escape_line, escape_value
from aeops.report.tables import best_value


def strict_html_environment(package: str) -> Environment:
    """Return a Jinja environment for the HTML templates of a package: it escapes every value and fails at an undefined name.

    Args:
        package: its dotted name; the templates are in its folder `templates`.
    """
    return Environment(
        loader=PackageLoader(package),
        autoescape=True,
        finalize=escape_value,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


@cache  # a template is compiled once a process
def html_environment() -> Environment:
    """Return the Jinja environment of reports, with their filters."""
    jinja_environment = strict_html_environment("aeops.report")
    jinja_environment.filters |= {
        "number": format_number,
        "share": format_share,
        "span": format_span,
        "open_interval": format_open_interval,
        "value": format_json_value,
        "part": format_part,
        "best": best_value,
        "one_line": escape_line,
    }
    return jinja_environment


def format_json_value(value: Any) -> str:
    """Return a short text of any JSON value of a rule or an expectation."""
    if isinstance(value, list):
        return " to ".join(map(format_json_value, value))
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {format_json_value(item)}" for key, item in value.items())
    if value is None:
        return "not defined"
    if value is True:
        return "yes"
    if value is False:
        return "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    return str(value)


def format_part(section: Any) -> str:
    """Return a part of a recipe's model on one line, such as `conv, widths [16, 32]`."""
    if not isinstance(section, Mapping):
        return str(section)
    texts = []
    if "kind" in section:
        texts.append(str(section["kind"]))
    for key, item in section.items():
        if key != "kind":
            texts.append(f"{key} {json.dumps(item)}")
    return ", ".join(texts)
