"""The tokenizer: what goes in comes back, and the same texts make the same file."""

import json
import subprocess
import sys
import unicodedata
from pathlib import Path

import numpy as np
import pytest

from ae_models import tokens

ROOT = Path(__file__).parents[2]
CORPUS = [
    "The cat sat on the mat, and the dog sat on the log.",
    "A stitch in time saves nine; nine tailors make a man.",
    "Grüße aus Köln: 12,50 € für drei Brötchen.",
    "Σ σ ς, ночь, улица, фонарь, аптека, 東京都",
    *(f"line {i}: the {word} is {word}er than the others" for i, word in enumerate(["small", "old", "new", "cold"] * 10)),
]
TEXTS = [
    *CORPUS,
    "",
    " ",
    "\t two  spaces\r\nand\u2028more",
    "never seen: ζψξ ქართული ᚠᛇᚻ \u0001\u007f",
    "👩\u200d👩\u200d👧\u200d👦 👍🏽 🇪🇺 e\u0301 é \ufb01nd ＡＢＣ",
    "[END] [PADDING] <pad> [UNK]",
    "a" * 500,
    chr(0x10FFFF) + "\uffff",
]


def normal(text: str) -> str:
    """NFKC, then each character in lower case by itself."""
    return "".join(character.lower() for character in unicodedata.normalize("NFKC", text))


@pytest.fixture(scope="module")
def tokenizer() -> tokens.Tokenizer:
    return tokens.train_tokenizer(tokens.texts_to_bytes(CORPUS), 400)


@pytest.mark.parametrize("text", TEXTS, ids=range(len(TEXTS)))
def test_any_text_comes_back_normalised(tokenizer: tokens.Tokenizer, text: str) -> None:
    ids = tokens.encode_texts(tokenizer, tokens.texts_to_bytes([text]), 600)
    assert tokens.decode_ids(tokenizer, ids) == [normal(text)]


def test_every_character_comes_back(tokenizer: tokens.Tokenizer) -> None:
    """Of those whose lower case one Unicode version settled long ago, in texts of fifty."""
    settled = [
        chr(point) for point in (*range(1, 0x250), *range(0x3040, 0x30A0), *range(0x4E00, 0x4F00), *range(0x1F300, 0x1F5FF))
    ]
    rows = ["".join(settled[first : first + 50]) for first in range(0, len(settled), 50)]
    assert tokens.decode_ids(tokenizer, tokens.encode_texts(tokenizer, tokens.texts_to_bytes(rows), 800)) == [
        normal(row) for row in rows
    ]


def test_ids_are_the_texts_own_then_the_end_then_padding(tokenizer: tokens.Tokenizer) -> None:
    ids = tokens.encode_texts(tokenizer, tokens.texts_to_bytes(["the cat", "", "the cat sat on the mat and on the mat"]), 6)
    assert ids.shape == (3, 6)
    assert ids.dtype == np.int64
    assert (ids[1] == [tokens.END, 0, 0, 0, 0, 0]).all()
    for row in ids:
        (end,) = np.flatnonzero(row == tokens.END)
        assert (row[:end] > tokens.END).all()
        assert (row[end + 1 :] == tokens.PADDING).all()
    assert ids[2, -1] == tokens.END
    whole = tokens.encode_texts(tokenizer, tokens.texts_to_bytes(["the cat sat on the mat and on the mat"]), 60)
    assert (ids[2, :-1] == whole[0, :5]).all()


def test_no_text_is_taken_for_the_end_or_for_padding(tokenizer: tokens.Tokenizer) -> None:
    ids = tokens.encode_texts(
        tokenizer, tokens.texts_to_bytes([f"{word} x {word.lower()}" for word in tokens.SPECIAL_TOKENS]), 60
    )
    assert ((ids == tokens.END).sum(axis=1) == 1).all()
    assert (np.diff((ids == tokens.PADDING).astype(int), axis=1) >= 0).all()


def test_a_character_that_the_row_cuts_is_left_out(tokenizer: tokens.Tokenizer) -> None:
    whole = "ab€👍".encode()
    cut = [whole[:length].ljust(len(whole), b"\0") for length in range(len(whole) + 1)]
    rows = np.stack([np.frombuffer(row, np.uint8) for row in cut])
    back = tokens.decode_ids(tokenizer, tokens.encode_texts(tokenizer, rows, 20))
    assert back == ["", "a", "ab", "ab", "ab", "ab€", "ab€", "ab€", "ab€", "ab€👍"]


def test_bytes_that_are_no_text_are_refused_with_their_place(tokenizer: tokens.Tokenizer) -> None:
    rows = tokens.texts_to_bytes(["fine", "caf."])
    rows[1, 1] = 0xE9
    with pytest.raises(ValueError, match="text 1 is no UTF-8"):
        tokens.encode_texts(tokenizer, rows, 8)


def test_ids_that_a_model_makes_are_read_up_to_the_end(tokenizer: tokens.Tokenizer) -> None:
    (row,) = tokens.encode_texts(tokenizer, tokens.texts_to_bytes(["the cat"]), 12)
    own = row[row > tokens.END]
    made = [*own[:1], tokens.PADDING, *own[1:], tokens.END, *own, tokens.END]
    assert tokens.decode_ids(tokenizer, np.array([made])) == ["the cat"]


def test_ids_that_make_no_utf8_show_as_a_replacement(tokenizer: tokens.Tokenizer) -> None:
    (row,) = tokens.encode_texts(
        tokenizer, tokens.texts_to_bytes(["ქ"]), 6
    )  # in no training text, so each of its bytes is a token
    assert (row > tokens.END).sum() == 3
    (text,) = tokens.decode_ids(tokenizer, row[None, :2])
    assert set(text) == {"\ufffd"}


@pytest.mark.parametrize("vocabulary", [258, 261, 300, 4096])
def test_the_vocabulary_is_no_larger_than_asked_for_and_has_every_byte(vocabulary: int) -> None:
    tokenizer = tokens.train_tokenizer(tokens.texts_to_bytes(CORPUS), vocabulary)
    assert 258 <= tokenizer.get_vocab_size() <= vocabulary
    assert tokens.encode_texts(tokenizer, tokens.texts_to_bytes(TEXTS), 600).max() < tokenizer.get_vocab_size()
    assert tokenizer.token_to_id(tokens.SPECIAL_TOKENS[tokens.PADDING]) == tokens.PADDING
    assert tokenizer.token_to_id(tokens.SPECIAL_TOKENS[tokens.END]) == tokens.END


def test_frequent_words_are_one_token(tokenizer: tokens.Tokenizer) -> None:
    ids = tokens.encode_texts(tokenizer, tokens.texts_to_bytes([" than the others"]), 40)
    assert (ids > tokens.END).sum() == 3


def test_equal_texts_make_an_equal_file_in_every_process_and_order(tokenizer: tokens.Tokenizer) -> None:
    script = (
        "import sys, json; from ae_models import tokens; corpus = json.loads(sys.stdin.read()); "
        "sys.stdout.write(tokens.tokenizer_to_json(tokens.train_tokenizer(tokens.texts_to_bytes(corpus), 400)))"
    )
    for corpus in (CORPUS, CORPUS[::-1]):
        command = [sys.executable, "-c", script]
        done = subprocess.run(command, cwd=ROOT, input=json.dumps(corpus), capture_output=True, text=True, check=True)
        assert done.stdout == tokens.tokenizer_to_json(tokenizer)


def test_a_tokenizer_survives_its_file(tokenizer: tokens.Tokenizer) -> None:
    again = tokens.tokenizer_from_json(tokens.tokenizer_to_json(tokenizer))
    rows = tokens.texts_to_bytes(TEXTS)
    assert tokens.tokenizer_to_json(again) == tokens.tokenizer_to_json(tokenizer)
    assert (tokens.encode_texts(again, rows, 50) == tokens.encode_texts(tokenizer, rows, 50)).all()


def test_no_texts_are_no_ids_and_nothing_to_learn_from_leaves_the_bytes() -> None:
    tokenizer = tokens.train_tokenizer(np.zeros((2, 5), np.uint8), 300)
    assert tokenizer.get_vocab_size() == 258
    assert tokens.encode_texts(tokenizer, np.zeros((0, 5), np.uint8), 4).shape == (0, 4)
    assert tokens.decode_ids(tokenizer, np.zeros((0, 4), np.int64)) == []


def test_a_fork_afterwards_is_silent_and_torch_stays_out() -> None:
    script = (
        "import os, sys; from ae_models import tokens; rows = tokens.texts_to_bytes(['some text'] * 500); "
        "tokenizer = tokens.train_tokenizer(rows, 300); tokens.decode_ids(tokenizer, tokens.encode_texts(tokenizer, rows, 8)); "
        "child = os.fork(); tokens.encode_texts(tokenizer, rows, 8); child and os.waitpid(child, 0); "
        "assert 'TOKENIZERS_PARALLELISM' not in os.environ and 'torch' not in sys.modules; os._exit(0)"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
