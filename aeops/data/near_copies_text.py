"""The warning about near copies in different splits. Standard library only."""

from typing import Any


def warning_text(document: dict[str, Any]) -> str:
    """Return the warning about what validation.json says of near copies; empty where there are none.

    >>> pair = {"first": "a.png", "first_split": "train", "second": "b.png", "second_split": "test", "similarity": 0.99}
    >>> warning_text({"relation": "near", "count": 1, "samples": {"test": 1, "train": 1}, "pairs": [pair]})
    '1 pairs of near copies lie in two splits (1 samples of test, 1 of train), such as a.png in train and b.png in test'
    """
    if not document.get("count"):
        return ""
    what = "windows that share steps" if document["relation"] == "shared steps" else "near copies"
    samples = [f"{count:,} of {split}" for split, count in document["samples"].items()]
    samples[0] = samples[0].replace(" of ", " samples of ", 1)
    pair = document["pairs"][0]
    example = f"{pair['first']} in {pair['first_split']} and {pair['second']} in {pair['second_split']}"
    return f"{document['count']:,} pairs of {what} lie in two splits ({', '.join(samples)}), such as {example}"
