"""What a sweep varies: keys of a recipe with the values to try, as they are typed.

axis = parse_axis("train.learning_rate=0.001,0.003,0.01")      # --over
axis.key, axis.values                                          # ("train.learning_rate", (0.001, 0.003, 0.01))
"""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, is_dataclass
from typing import Any

from ae_models.spec import format_value, join_names
from aeops.errors import UsageError
from aeops.recipe.edit import NUMBER, parse_setting
from aeops.recipe.reader import Recipe

BY_ERROR, BY_POWER, BY_SEPARATION = "error", "power", "separation"
METRICS = (BY_ERROR, BY_POWER, BY_SEPARATION)
DETECTION_SECTIONS = ("model", "train", "score")
# The sections that a metric depends on. Where the data or the threshold differ, two values of it would not mean the same.
SWEPT_SECTIONS = {BY_ERROR: ("model", "train"), BY_POWER: DETECTION_SECTIONS, BY_SEPARATION: DETECTION_SECTIONS}
NOT_SWEPT = {
    "train.seed": "the best of several seeds is a lucky one: type `ae seeds` for how much they differ",
    "train.devices": "it changes the speed and the last bits alone",
    "train.threads": "it changes the speed and the last bits alone: --threads sets it for all trials",
}
_KEY = re.compile(r"[\w-]+(\.[\w-]+)*")


@dataclass(frozen=True)
class Axis:
    """One key of a recipe and the values to try.

    Attributes:
        key: its path, such as `model.bottleneck.size`.
        values: two or more, all different, as YAML reads them.
    """

    key: str
    values: tuple[Any, ...]


def parse_axes(arguments: Sequence[str]) -> list[Axis]:
    """Return the axes that are typed.

    Args:
        arguments: each as `--over` takes it: `KEY=VALUE,VALUE,...`; a value may be a list, `model.encode.widths=[8,16],[16,32]`.

    Raises:
        UsageError: with every mistake in their form: none at all, no value, one value, a value or a key twice.
    """
    axes, mistakes = [], []
    for argument in arguments:
        try:
            axes.append(_parse_axis(argument))
        except UsageError as error:
            mistakes.append(f"--over: {error}")
    for key, count in Counter(axis.key for axis in axes).items():
        if count > 1:
            mistakes.append(f"--over {key}: expected one --over with all of its values, got {count}")
    if not arguments:
        mistakes.append("expected --over KEY=VALUE,VALUE,..., such as --over train.learning_rate=0.001,0.003,0.01, got none")
    if mistakes:
        raise UsageError("\n".join(mistakes))
    return axes


def _parse_axis(argument: str) -> Axis:
    key, separator, raw_values = argument.partition("=")
    key = key.strip()
    if not separator or not _KEY.fullmatch(key):
        raise UsageError(f"expected KEY=VALUE,VALUE,..., such as model.bottleneck.size=8,16,32, got {argument!r}")
    _, values = parse_setting(f"{key}=[{raw_values}]")
    if not isinstance(values, list) or len(values) < 2:
        setting = raw_values.strip() or "VALUE"
        raise UsageError(
            f"{key}: expected two or more values, got {raw_values.strip() or 'none'}: for a single one type "
            f"`ae run RECIPE --set {key}={setting}`"
        )
    values = list(map(_read_number, values))
    for index, value in enumerate(values):
        if any(_is_same(value, earlier) for earlier in values[:index]):
            raise UsageError(f"{key}: expected different values, got {format_value(value)} twice")
    return Axis(key, tuple(values))


def _read_number(value: Any) -> Any:
    """Return numbers as people write them, such as 1e-3, which YAML takes for a text."""
    if isinstance(value, str) and NUMBER.fullmatch(value):
        return float(value)
    return value


def _is_same(value: Any, other: Any) -> bool:
    return bool(value == other) and isinstance(value, bool) == isinstance(other, bool)


def axis_mistakes(axes: Sequence[Axis], metric: str, recipe: Recipe) -> Iterator[str]:
    """Yield a message for each key whose values the metric could not compare."""
    for axis in axes:
        section = axis.key.partition(".")[0]
        sections = SWEPT_SECTIONS[metric]
        reason = NOT_SWEPT.get(axis.key) or _incomparable_reason(axis.key, metric, recipe)
        if section not in sections:
            hint = ""
            if section in DETECTION_SECTIONS:
                hint = f": no reconstruction depends on the {section}, so type --by {BY_SEPARATION} or --by {BY_POWER}"
            yield f"--over {axis.key}: expected a key of {join_names(sections)}, which --by {metric} can compare{hint}"
        elif reason is not None:
            yield f"--over {axis.key}: {reason}"


def _incomparable_reason(key: str, metric: str, recipe: Recipe) -> str | None:
    """Return why errors at two values of a key are errors of different tasks; None where they are of the same."""
    if metric != BY_ERROR:
        return None
    if recipe.fit.input.given == "corrupted" and key.startswith("model.corrupt"):
        return "samples are served corrupted here, and less of it makes every error smaller: these trials cannot be compared"
    if recipe.fit.model.encode.kind == "tokens" and key in ("model.encode.vocabulary", "model.encode.length"):
        return "the error counts wrong tokens, and other tokens make it another measure: these trials cannot be compared"
    return None


def current_value(recipe: Recipe, key: str) -> Any:
    """Return the value that a recipe has at a key of its model, score, threshold or training; None where it has no such key."""
    value: Any = recipe.fit
    for name in key.split("."):
        if is_dataclass(value):
            value = getattr(value, name, None)
        elif isinstance(value, tuple | list) and name.isdecimal() and int(name) < len(value):
            value = value[int(name)]
        else:
            return None
    return list(value) if isinstance(value, tuple) else value
