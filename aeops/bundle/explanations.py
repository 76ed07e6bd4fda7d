"""Explanations of scores in words, for the terminal, the page and the report: one phrase a cause.

    describe_explanation(explanation)
    # 'local-hull +5.2, residual +1.3; rows 7-13, columns 21-27: 34 % of the error; nearest normal sample: row 12'

Places count from 0, as in the arrays that a model is given, and both ends belong to a range.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from aeops.drawing.words import format_share
from aeops.kinds.results import AreaShare, Explanation, ScoredPart

MAX_EXPLAINED_SAMPLES = 1024  # at once: each takes as long as a hundred scores
NAMED_PARTS = 3  # of a score, and tokens of a text, in a sentence
SHORT_NAMES = {"normalised-residual": "residual"}  # of parts of a score, where the kind is long
SPACE_NAMES = {"(input)": "of inputs", "(orientations)": "of edges", "(code)": "of codes"}  # what parts of one kind compare
AXIS_NAMES = {1: ("steps",), 2: ("rows", "columns")}  # by the number of axes of a sample's channel
# Below the parts, wherever they are shown.
PARTS_UNIT = (
    "A part of the score is 0 at the median of normal samples and 1 one spread above it; the parts' mean is the score of a "
    "sample whose values lie inside the range."
)


def short_part_name(name: str) -> str:
    """Return the name of a part of a score as sentences and figures have it."""
    kind, separator, settings = name.partition(" ")
    return f"{SHORT_NAMES.get(kind, kind)}{separator}{SPACE_NAMES.get(settings, settings)}"


def describe_explanation(explanation: Explanation) -> str:
    """Return why a sample has its score, in one line; empty for a refused sample, which has none.

    Args:
        explanation: of `Detector.explain`, or of a service's /explain.
    """
    phrases = []
    if "parts" in explanation:
        phrases.append(describe_parts(explanation["parts"]))
    if explanation.get("outside"):
        phrases.append(f"{count_values(explanation['outside'])} outside the range")
    if explanation.get("missing"):
        phrases.append(f"{count_values(explanation['missing'])} missing")
    phrases += describe_columns(explanation)
    phrases += describe_residual(explanation)
    if "pixel_map" in explanation:
        phrases.append(describe_farthest_place(np.asarray(explanation["pixel_map"])))
    phrases += describe_tokens(explanation)
    if "nearest" in explanation:
        phrases.append(f"nearest normal sample: row {explanation['nearest']['row']}")
    return "; ".join(phrases)


def describe_parts(parts: Sequence[ScoredPart]) -> str:
    """Return the parts of a score that say most, such as "local-hull +5.2, residual +1.3"."""
    return ", ".join(f"{short_part_name(part['score'])} {part['value']:+.1f}" for part in parts[:NAMED_PARTS])


def describe_columns(explanation: Explanation) -> list[str]:
    """Return the columns of a row that say most: the value, what is usual, and the share of the score."""
    phrases = []
    for entry in explanation.get("columns", [])[:NAMED_PARTS]:
        phrases.append(
            f"{entry['column']} {format_cell(entry['value'])} (usually {format_cell(entry['usual'])}): "
            f"{format_share(entry['share'], 0)}"
        )
    return phrases


def format_cell(value: Any) -> str:
    """Return a value of a column, or its usual range, in short."""
    if value is None:
        return "missing"
    if isinstance(value, list):
        return " to ".join(map(format_cell, value))
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def describe_residual(explanation: Explanation) -> list[str]:
    """Return where most of the reconstruction error lies: in which area, and in which of several channels."""
    if not explanation.get("total"):
        return []
    largest = max(explanation["areas"], key=lambda area: area["share"])
    phrases = [f"{describe_area(largest)}: {format_share(largest['share'], 0)} of the error"]
    if "channels" in explanation:
        channel = explanation["channels"][0]
        phrases.append(f"channel {channel['channel']}: {format_share(channel['share'], 0)}")
    return phrases


def count_values(count: int) -> str:
    return "1 value" if count == 1 else f"{count:,} values"


def describe_area(area: AreaShare) -> str:
    """Return the place of an area, such as "rows 7-13, columns 21-27"."""
    starts, ends = area["from"], area["to"]
    spans = []
    for axis, start, end in zip(AXIS_NAMES[len(starts)], starts, ends, strict=True):
        spans.append(f"{axis} {start}-{end - 1}")
    return ", ".join(spans)


def describe_farthest_place(pixel_map: np.ndarray) -> str:
    """Return where an image is farthest from normal, given the map of its score, (height, width)."""
    row, column = np.unravel_index(int(pixel_map.argmax()), pixel_map.shape)
    return f"farthest from normal at row {row}, column {column}"


def describe_tokens(explanation: Explanation) -> list[str]:
    """Return which tokens of a text are wrong, and which ones are the least expected."""
    phrases = []
    if wrong := explanation.get("wrong"):
        examples = []
        for token in wrong[:NAMED_PARTS]:
            examples.append(f"{quote_token(token['given'])} read as {quote_token(token['made'])}")
        phrases.append(f"{len(wrong)} of {explanation['tokens']} tokens wrong: {', '.join(examples)}")
    if surprises := explanation.get("surprise"):
        order = sorted(surprises, key=lambda token: -token["surprise"])
        words = ", ".join(quote_token(token["given"]) for token in order[:NAMED_PARTS])
        phrases.append(f"least expected: {words}")
    return phrases


def quote_token(token: str) -> str:
    """Return a token in quotes, without the space before a word; `nothing` for an empty one, such as the end of a text."""
    if not token:
        return "nothing"
    return repr(token.strip() or token)


def count_leading_parts(names: Sequence[str], part_scores: np.ndarray) -> Counter[str]:
    """Return how many samples each part says most of.

    Args:
        names: of the parts.
        part_scores: (n, parts).
    """
    leading_parts = Counter(dict.fromkeys(names, 0))
    leading_parts.update(leading_part_names(names, part_scores))
    return leading_parts


def leading_part_names(names: Sequence[str], part_scores: np.ndarray) -> list[str]:
    """Return the name of the part that says most of each sample; see `count_leading_parts`."""
    return [names[index] for index in part_scores.argmax(axis=1).tolist()]


def caption_scores(scores: np.ndarray, names: Sequence[str], part_scores: np.ndarray | None) -> list[str]:
    """Return captions of samples in a figure: each score and, below it, the part of the score that says most.

    Args:
        scores: (n,).
        names: of the parts.
        part_scores: (n, parts); None for a single score.
    """
    captions = [f"{score:#.3g}" for score in scores]
    if part_scores is None:
        return captions
    part_captions = []
    for caption, name in zip(captions, leading_part_names(names, part_scores), strict=True):
        part_lines = short_part_name(name).replace("-", "-\n").replace(" ", "\n", 1)  # for a narrow column
        part_captions.append(f"{caption}\n{part_lines}")
    return part_captions


def to_json_values(explanation: Explanation) -> dict[str, Any]:
    """Return an explanation with lists in place of arrays, for `json`."""
    values: dict[str, Any] = dict(explanation)
    for name in ("residual", "pixel_map"):
        if name in values:
            values[name] = values[name].tolist()
    if "nearest" in explanation:
        row, sample = explanation["nearest"]["row"], explanation["nearest"]["sample"]
        values["nearest"] = {"row": row, "sample": sample.tolist() if isinstance(sample, np.ndarray) else sample}
    return values
