"""Wording that the messages about a faulty setting share."""

import difflib
from collections.abc import Iterable
from typing import Any

__all__ = ["format_value", "join_choices", "join_names", "suggest_match"]


def join_names(names: Iterable[str]) -> str:
    """Join names with commas.

    >>> join_names(["conv", "dense"])
    'conv, dense'
    """
    return ", ".join(names)


def join_choices(choices: Iterable[str]) -> str:
    """Join the allowed values for a message that says "expected ...".

    >>> join_choices(["conv", "dense", "tokens"])
    'conv, dense or tokens'
    """
    *others, last = choices
    if not others:
        return last
    return f"{', '.join(others)} or {last}"


def suggest_match(name: Any, choices: Iterable[str]) -> str:
    """Return `: did you mean X?` for the choice that is most like `name`, or an empty string.

    >>> suggest_match("epoch", ["epochs", "batch"])
    ': did you mean epochs?'
    """
    matches = difflib.get_close_matches(str(name), list(choices), n=1, cutoff=0.5)
    if not matches:
        return ""
    return f": did you mean {matches[0]}?"


def format_value(raw_value: Any) -> str:
    """Return a value as a message quotes it.

    >>> format_value("conv"), format_value(None)
    ("'conv'", 'nothing')
    """
    if raw_value is None:
        return "nothing"
    return repr(raw_value)
