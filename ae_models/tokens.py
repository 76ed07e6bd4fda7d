"""Texts as token ids and back, by a byte-level byte-pair encoding (Sennrich et al. 2016) that is learned from the texts.

Texts come as rows of UTF-8 bytes, uint8 (n, bytes), filled up with zeros. They are normalised first (Unicode NFKC, lower
case), so that is what comes back. Every byte is a token of its own, so no text has an unknown part. Training is
deterministic: ties go to the smaller ids, and the ids of the bytes are fixed.

No torch here: serving uses this file too.
"""

import codecs
import os
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

PADDING, END = 0, 1  # no token; the end of a text, which tells a decoder where to stop
SPECIAL = ["[PADDING]", "[END]"]  # their names in the tokenizer's file
RARE = 2  # pairs that are seen less often make no token


def train(rows: npt.NDArray[np.uint8], vocabulary: int) -> Tokenizer:
    """Learns at most `vocabulary` tokens, 258 or more: PADDING, END, the 256 bytes, and pairs of tokens from there on.

    Raises:
        ValueError: bytes that are no UTF-8.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        min_frequency=RARE,
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    with single_threaded():
        tokenizer.train_from_iterator(strings(rows), trainer)
    return from_json(as_json(tokenizer))


def as_json(tokenizer: Tokenizer) -> str:
    """The tokenizer as JSON of the `tokenizers` library; equal training texts give equal text."""
    return tokenizer.to_str()


def from_json(text: str) -> Tokenizer:
    """The inverse of `as_json`."""
    tokenizer = Tokenizer.from_str(text)
    # Someone's text may hold the word "[END]": it is text like any other. The file cannot say so.
    tokenizer.encode_special_tokens = True
    return tokenizer


def ids(tokenizer: Tokenizer, rows: npt.NDArray[np.uint8], length: int) -> npt.NDArray[np.int64]:
    """Token ids (n, length): each text's own, cut where it is too long, then END, then PADDING.

    Raises:
        ValueError: bytes that are no UTF-8.
    """
    made = np.full((len(rows), length), PADDING, np.int64)
    for row, text in zip(made, strings(rows), strict=True):
        # One by one: a batch would start threads, after which the library warns at every fork.
        own = tokenizer.encode(text).ids[: length - 1]
        row[: len(own) + 1] = [*own, END]
    return made


def texts(tokenizer: Tokenizer, rows: npt.NDArray[np.int64]) -> list[str]:
    """What rows of ids (n, length) say, each text up to its first END and without PADDING.

    Bytes that are no UTF-8, as a model may make them, become U+FFFD.
    """
    ended = np.cumsum(rows == END, axis=1) > 0
    used = ~ended & (rows != PADDING)
    return [tokenizer.decode(row[kept].tolist()) for row, kept in zip(rows, used, strict=True)]


def as_bytes(given: list[str]) -> npt.NDArray[np.uint8]:
    """Texts as rows of UTF-8 bytes (n, bytes of the longest), filled up with zeros.

    Raises:
        ValueError: a text that has no UTF-8 (half of a surrogate pair).
    """
    encoded = [text.encode() for text in given]
    rows = np.zeros((len(given), max(map(len, encoded), default=0)), np.uint8)
    for row, text in zip(rows, encoded, strict=True):
        row[: len(text)] = np.frombuffer(text, np.uint8)
    return rows


def strings(rows: npt.NDArray[np.uint8]) -> Iterator[str]:
    """Rows of bytes as strings. A character that is cut by the end of its row is left out.

    Raises:
        ValueError: bytes that are no UTF-8.
    """
    for place, row in enumerate(rows):
        try:
            yield codecs.getincrementaldecoder("utf-8")().decode(row.tobytes().rstrip(b"\0"))
        except UnicodeDecodeError as error:
            raise ValueError(f"text {place} is no UTF-8 ({error}): only UTF-8 is allowed; convert it, as with iconv") from error


@contextmanager
def single_threaded() -> Iterator[None]:
    """The library without threads of its own: it warns at every fork that comes after they ran. It reads the environment
    each time it is about to start some."""
    name = "TOKENIZERS_PARALLELISM"
    before = os.environ.get(name)
    os.environ[name] = "false"
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before
