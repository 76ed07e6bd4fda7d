"""Faults of texts: rows of UTF-8 bytes, uint8 (bytes,), padded with zeros.

A word is what stands between white space of ASCII, so a text in a script without spaces is one word. White space stays as it is.
What does not fit into the row is left out, in whole words: no character is cut.
"""

import re

import numpy as np

from ae_models.fault_interface import DonorFunction, Fault
from ae_models.sample_sets import SampleArray

__all__ = ["TEXT_FAULTS"]

_WORD_UNIT = "of the words"
_DONOR_DRAWS = 8  # other texts among which the one with the fewest words in common is of another topic; tries of another word


def _replace_words(row: SampleArray, strength: float, generator: np.random.Generator, draw_donor: DonorFunction) -> SampleArray:
    """Replace words by words of other texts; one that would not fit into the row stays."""
    words, gaps = _split(row)
    room = len(row) - sum(map(len, words)) - sum(map(len, gaps))
    for place in _draw_places(words, strength, generator, least=1):
        new_word = _draw_other_word(words[place], generator, draw_donor)
        growth = len(new_word) - len(words[place])
        if growth <= room:
            words[place], room = new_word, room - growth
    return _to_row(_join(words, gaps), len(row))


def _shuffle_words(row: SampleArray, strength: float, generator: np.random.Generator, draw_donor: DonorFunction) -> SampleArray:
    """Move words to the places of others; a text of one word stays as it is."""
    words, gaps = _split(row)
    if len(words) < 2:
        return row
    places = _draw_places(words, strength, generator, least=2)
    moved_words = [words[place] for place in [*places[1:], places[0]]]
    for place, word in zip(places, moved_words, strict=True):
        words[place] = word
    return _to_row(_join(words, gaps), len(row))


def _insert_foreign_text(
    row: SampleArray, strength: float, generator: np.random.Generator, draw_donor: DonorFunction
) -> SampleArray:
    """Replace the last words by the first ones of a text of another topic.

    Of another topic is, of a few texts, the one that has the smallest share of its words in common with this one. A text of one
    word stays as it is, and so does one where nothing foreign is found or fits into the row.
    """
    words, gaps = _split(row)
    if len(words) < 2:
        return row
    count = min(len(words) - 1, max(1, round(strength * len(words))))
    kept = len(words) - count
    start = _join(words[:kept], [*gaps[:kept], b""])
    passage = b""
    for word in _draw_foreign_words(words, draw_donor)[:count]:
        if len(start) + len(passage) + 1 + len(word) > len(row):
            break
        passage += b" " + word
    if not passage:
        return row
    return _to_row(start + passage, len(row))


def _draw_foreign_words(words: list[bytes], draw_donor: DonorFunction) -> list[bytes]:
    """Return the words of the text, of a few others, with the smallest share of known words; none where all are known."""
    own_words = {word.lower() for word in words}
    foreign_words: list[bytes] = []
    least_overlap = 1.0
    for _ in range(_DONOR_DRAWS):
        donor_words, _ = _split(draw_donor())
        overlap = _share_in_common(donor_words, own_words)
        if overlap < least_overlap:
            foreign_words, least_overlap = donor_words, overlap
    return foreign_words


def _share_in_common(donor_words: list[bytes], own_words: set[bytes]) -> float:
    """Return the share of a text's distinct words that are among the others; 1 for a text without a word."""
    distinct_words = {word.lower() for word in donor_words}
    if not distinct_words:
        return 1.0
    return len(distinct_words & own_words) / len(distinct_words)


def _draw_other_word(word: bytes, generator: np.random.Generator, draw_donor: DonorFunction) -> bytes:
    """Return a word of another text that is not this one; this one where some tries have found no other."""
    for _ in range(_DONOR_DRAWS):
        donor_words, _ = _split(draw_donor())
        if donor_words:
            new_word = donor_words[int(generator.integers(len(donor_words)))]
            if new_word != word:
                return new_word
    return word


def _draw_places(words: list[bytes], strength: float, generator: np.random.Generator, least: int) -> list[int]:
    """Return the places of a share of the words, at least so many if there are, in random order.

    Those of a smaller share are among those of a larger one.
    """
    count = min(len(words), max(least, round(strength * len(words))))
    places: list[int] = generator.permutation(len(words))[:count].tolist()
    return places


def _split(row: SampleArray) -> tuple[list[bytes], list[bytes]]:
    """Return the words of a row, and the white space before each and after the last."""
    parts = re.split(rb"(\S+)", row.tobytes().rstrip(b"\0"))
    return parts[1::2], parts[0::2]


def _join(words: list[bytes], gaps: list[bytes]) -> bytes:
    """Return the text of words and the white space before each and after the last."""
    text = gaps[0]
    for word, gap in zip(words, gaps[1:], strict=True):
        text += word + gap
    return text


def _to_row(text: bytes, length: int) -> SampleArray:
    return np.frombuffer(text.ljust(length, b"\0"), np.uint8)


TEXT_FAULTS = (
    Fault(
        "words-replaced",
        "The vocabulary is another one.",
        _WORD_UNIT,
        (0.1, 0.2, 0.4, 0.7, 1.0),
        highest=1.0,
        damage=_replace_words,
    ),
    Fault(
        "words-shuffled",
        "Words are right and their order is not.",
        _WORD_UNIT,
        (0.1, 0.2, 0.4, 0.7, 1.0),
        highest=1.0,
        damage=_shuffle_words,
    ),
    Fault(
        "foreign-text",
        "A passage is about something else.",
        _WORD_UNIT,
        (0.1, 0.2, 0.3, 0.4, 0.5),
        1.0,
        damage=_insert_foreign_text,
    ),
)
