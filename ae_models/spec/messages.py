"""Wording that the messages about a faulty setting share."""

import difflib
from collections.abc import Iterable
from typing import Any

__all__ = ["format_value", "join_choices", "join_names", "suggest_match"]

_MIN_ABBREVIATION = 3  # letters
_LEAST_RATIO = 0.6  # of difflib's likeness of two names, 0 to 1
_LEAST_RATIO_OTHER_START = 0.75  # where the first letters differ: `bogus` is not meant to be `logs`


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
    >>> suggest_match("pochs", ["epochs", "batch"]), suggest_match("bogus", ["logs", "runs"])
    (': did you mean epochs?', '')
    """
    known = list(choices)
    close_matches = _close_matches(str(name), known) or _abbreviations(str(name), known)
    if not close_matches:
        return ""
    return f": did you mean {close_matches[0]}?"


def _close_matches(name: str, choices: list[str]) -> list[str]:
    """Return the choice that is most like a name, if it is like enough."""
    matches = difflib.get_close_matches(name, choices, n=1, cutoff=_LEAST_RATIO)
    if matches and matches[0][:1] != name[:1]:
        return difflib.get_close_matches(name, matches, n=1, cutoff=_LEAST_RATIO_OTHER_START)
    return matches


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
