"""Text recognition with Tesseract, a program that is installed apart from this project, and its character error rate."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytesseract
from PIL import Image
from rapidfuzz.distance import Levenshtein

INSTALL_COMMAND = "apt install tesseract-ocr"
_OCR_LANGUAGE = "eng"
_ONE_BLOCK = "--psm 6"  # the page is one block of text, so that a new guess of the layout cannot change the result
_THREAD_VARIABLE = "OMP_THREAD_LIMIT"


def installation_command() -> str:
    """Return the command that installs Tesseract with English; the empty string where both are installed."""
    if shutil.which(pytesseract.pytesseract.tesseract_cmd) is None:
        return INSTALL_COMMAND
    if _OCR_LANGUAGE not in pytesseract.get_languages():
        return INSTALL_COMMAND
    return ""


def read_text(image: np.ndarray) -> str:
    """Return the text of a grey image (h, w) with values in [0, 1], dark on light; white space runs become single blanks.

    Raises:
        pytesseract.TesseractNotFoundError: Tesseract is not installed; call `installation_command` first.
    """
    levels = (image.clip(0, 1) * 255).round().astype(np.uint8)
    with _one_thread():
        page_text: str = pytesseract.image_to_string(Image.fromarray(levels), lang=_OCR_LANGUAGE, config=_ONE_BLOCK)
    return " ".join(page_text.split())


@contextmanager
def _one_thread() -> Iterator[None]:
    """Limit OpenMP to one thread: Tesseract is slower with several on images this small.

    The limit is removed at once: a training under it never ends.
    """
    previous_limit = os.environ.get(_THREAD_VARIABLE)
    os.environ[_THREAD_VARIABLE] = "1"
    try:
        yield
    finally:
        if previous_limit is None:
            del os.environ[_THREAD_VARIABLE]
        else:
            os.environ[_THREAD_VARIABLE] = previous_limit


def character_error_rate(expected_texts: list[str], texts: list[str]) -> float | None:
    """Return the edits that turn the texts into the expected ones, over the expected characters, all texts together.

    Edits are insertions, deletions and substitutions of one character (Levenshtein 1966), so the rate may be above 1.

    Returns:
        None where the expected texts hold no character.
    """
    characters = sum(map(len, expected_texts))
    if not characters:
        return None
    edit_count = 0
    for expected_text, text in zip(expected_texts, texts, strict=True):
        edit_count += Levenshtein.distance(expected_text, text)
    return edit_count / characters
