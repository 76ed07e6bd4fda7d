"""Wording that the messages about a faulty setting share."""

import difflib
from collections.abc import Iterable
from typing import Any

__all__ = ["format_value", "join_choices", "join_names", "suggest_match"]

_MIN_ABBREVIATION = 3  # letters


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
    *first_choices, last_choice = choices
    if not first_choices:
        return last_choice
    return f"{', '.join(first_choices)} or {last_choice}"


def suggest_match(name: Any, choices: Iterable[str]) -> str:
    """Return `: did you mean X?` for the choice that is most like `name`, or an empty string.

    >>> suggest_match("epoch", ["epochs", "batch"]), suggest_match("convolution", ["conv", "dense"])
    (': did you mean epochs?', ': did you mean conv?')
    """
    known = list(choices)
    close_matches = difflib.get_close_matches(str(name), known, n=1, cutoff=0.6) or _abbreviations(str(name), known)
    if not close_matches:
        return ""
    return f": did you mean {close_matches[0]}?"


def _abbreviations(name: str, choices: list[str]) -> list[str]:
    """Return the choices that a name begins with."""
    return [choice for choice in choices if len(choice) >= _MIN_ABBREVIATION and name.startswith(choice)]


def format_value(raw_value: Any) -> str:
    """Return a value as a message quotes it.

    >>> format_value("conv"), format_value(None)
    ("'conv'", 'nothing')
    """
    if raw_value is None:
        return "nothing"
    return repr(raw_value)
