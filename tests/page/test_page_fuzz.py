"""Uploads to the form that nobody would make by hand: each gets a score or one line of text, in time and without a traceback."""

import io
import time
from collections.abc import Iterator
from urllib.parse import quote

import httpx
import numpy as np
import pytest
from fuzz_settings import fuzz_settings
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image

from .conftest import Served

EXAMPLES = 30
SECONDS = 5.0
MEDIA_TYPES = ["image/png", "image/jpeg", "application/x-npy", "application/json", "text/plain", "text/plain; charset=x", "", "é"]
QUIET = fuzz_settings(EXAMPLES)
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
    lambda children: st.lists(children, max_size=4) | st.dictionaries(st.sampled_from(["inputs", "params", "x"]), children),
    max_leaves=20,
)


def npy_content() -> bytes:
    stream = io.BytesIO()
    np.save(stream, np.zeros((1, 28, 28), np.uint8))
    return stream.getvalue()


def png_content() -> bytes:
    stream = io.BytesIO()
    Image.new("L", (28, 28), 7).save(stream, "PNG")
    return stream.getvalue()


WHOLE_FILES = [npy_content(), png_content(), b"0 " * 784]


@st.composite
def altered_files(draw: st.DrawFn) -> bytes:
    """A valid upload with a part of it replaced, or without its end."""
    content = bytearray(draw(st.sampled_from(WHOLE_FILES)))
    start = draw(st.integers(0, len(content)))
    replacement = draw(st.binary(max_size=8))
    content[start : start + draw(st.integers(0, 8))] = replacement
    return bytes(content[: draw(st.integers(0, len(content)))]) if draw(st.booleans()) else bytes(content)


@pytest.fixture(scope="module")
def client(served: Served) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=served.address, timeout=60) as made:
        yield made


def test_no_upload_ends_in_a_server_error(client: httpx.Client) -> None:
    @QUIET
    @example(b"9" * 5000, "text/plain", "a", "0", "auto")
    @example(b"[" * 5000, "application/json", "a", "0", "auto")
    @example(b'{"inputs": [1e999, NaN]}', "application/json", "a", "0", "auto")
    @given(
        content=altered_files() | st.binary(max_size=64) | JSON_VALUES.map(lambda value: str(value).encode("utf-8", "replace")),
        media_type=st.sampled_from(MEDIA_TYPES),
        name=st.text(max_size=20),
        row=st.sampled_from(["0", "1", "-1", "", "9" * 30, "x", "٣"]),
        invert=st.sampled_from(["auto", "yes", "no", "maybe"]),
    )
    def check(content: bytes, media_type: str, name: str, row: str, invert: str) -> None:
        headers = {b"content-type": media_type.encode("latin-1"), b"x-file-name": quote(name, errors="replace").encode()}
        started = time.monotonic()
        answer = client.post("/try/digits", params={"row": row, "invert": invert}, content=content, headers=headers)
        assert time.monotonic() - started < SECONDS
        assert answer.status_code in (200, 422), answer.text
        if answer.status_code == 422:
            assert answer.text.count("\n") == 1
            assert "Traceback" not in answer.text

    check()
