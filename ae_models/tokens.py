"""Texts as token ids and back, by a byte-level byte-pair encoding (Sennrich et al. 2016) that is learned from the texts.

Texts come as rows of UTF-8 bytes, uint8 (n, bytes), padded with zeros. They are normalised first (Unicode NFKC, lower case),
so decoding returns the normalised text. Every byte is a token of its own, so no text has an unknown part. Training is
deterministic: ties go to the smaller ids, and the ids of the bytes are fixed.

No torch here: serving uses this file, too.
"""

import codecs
import os
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

__all__ = [
    "END",
    "PADDING",
    "SPECIAL_TOKENS",
    "bytes_to_texts",
    "decode_ids",
    "encode_texts",
    "texts_to_bytes",
    "tokenizer_from_json",
    "tokenizer_to_json",
    "train_tokenizer",
]

PADDING, END = 0, 1  # ids of no token, and of the end of a text, at which decoding stops
SPECIAL_TOKENS = ["[PADDING]", "[END]"]  # their names in the tokenizer's file
_MIN_PAIR_COUNT = 2  # pairs that are seen less often make no token


def train_tokenizer(rows: npt.NDArray[np.uint8], vocabulary: int) -> Tokenizer:
    """Train a tokenizer.

    Args:
        rows: texts as bytes, (n, bytes).
        vocabulary: maximum number of tokens, 258 or more: PADDING, END, the 256 bytes, then pairs of tokens.

    Raises:
        ValueError: bytes that are no UTF-8.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        min_frequency=_MIN_PAIR_COUNT,
        special_tokens=SPECIAL_TOKENS,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    with _single_threaded_tokenizers():
        tokenizer.train_from_iterator(bytes_to_texts(rows), trainer)
    return tokenizer_from_json(tokenizer_to_json(tokenizer))


def tokenizer_to_json(tokenizer: Tokenizer) -> str:
    """Return the tokenizer as JSON of the `tokenizers` library; equal training texts give equal text."""
    return tokenizer.to_str()


def tokenizer_from_json(text: str) -> Tokenizer:
    """Return the tokenizer that `tokenizer_to_json` wrote."""
    tokenizer = Tokenizer.from_str(text)
    # A user's text may contain the word "[END]": it is text like any other. The file cannot say so.
    tokenizer.encode_special_tokens = True
    return tokenizer


def encode_texts(tokenizer: Tokenizer, rows: npt.NDArray[np.uint8], length: int) -> npt.NDArray[np.int64]:
    """Encode texts.

    Args:
        tokenizer: of the model.
        rows: texts as bytes, (n, bytes).
        length: ids a text.

    Returns:
        Token ids (n, length): each text's own, cut where it is too long, then END, then PADDING.

    Raises:
        ValueError: bytes that are no UTF-8.
    """
    ids = np.full((len(rows), length), PADDING, np.int64)
    for id_row, text in zip(ids, bytes_to_texts(rows), strict=True):
        # One by one: a batch would start threads, after which the library warns at every fork.
        text_ids = tokenizer.encode(text).ids[: length - 1]
        id_row[: len(text_ids) + 1] = [*text_ids, END]
    return ids


def decode_ids(tokenizer: Tokenizer, ids: npt.NDArray[np.int64]) -> list[str]:
    """Decode rows of ids (n, length), each up to its first END and without PADDING.

    Bytes that are no UTF-8, as a model may make them, become U+FFFD.
    """
    has_ended = np.cumsum(ids == END, axis=1) > 0
    in_use = ~has_ended & (ids != PADDING)
    return [tokenizer.decode(row[is_used].tolist()) for row, is_used in zip(ids, in_use, strict=True)]


def texts_to_bytes(texts: list[str]) -> npt.NDArray[np.uint8]:
    """Return texts as rows of UTF-8 bytes (n, bytes of the longest), padded with zeros.

    Raises:
        ValueError: a text that has no UTF-8 (half of a surrogate pair).

    >>> texts_to_bytes(["hi", "a"]).tolist()
    [[104, 105], [97, 0]]
    """
    encoded_texts = list(map(str.encode, texts))
    rows = np.zeros((len(texts), max(map(len, encoded_texts), default=0)), np.uint8)
    for row, encoded_text in zip(rows, encoded_texts, strict=True):
        row[: len(encoded_text)] = np.frombuffer(encoded_text, np.uint8)
    return rows


def bytes_to_texts(rows: npt.NDArray[np.uint8]) -> Iterator[str]:
    """Yield rows of bytes as strings. A character that is cut by the end of its row is left out.

    Raises:
        ValueError: bytes that are no UTF-8.

    >>> list(bytes_to_texts(texts_to_bytes(["hi", "a"])))
    ['hi', 'a']
    """
    for index, row in enumerate(rows):
        try:
            yield codecs.getincrementaldecoder("utf-8")().decode(row.tobytes().rstrip(b"\0"))
        except UnicodeDecodeError as error:
            raise ValueError(f"text {index} is no UTF-8 ({error}): only UTF-8 is allowed; convert it, as with iconv") from error


@contextmanager
def _single_threaded_tokenizers() -> Iterator[None]:
    """Keep the library from starting threads: it warns at every fork that comes after they ran.

    It reads the environment each time it is about to start some.
    """
    name = "TOKENIZERS_PARALLELISM"
    value_before = os.environ.get(name)
    os.environ[name] = "false"
    try:
        yield
    finally:
        if value_before is None:
            del os.environ[name]
        else:
            os.environ[name] = value_before
