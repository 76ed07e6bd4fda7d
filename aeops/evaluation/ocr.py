"""Reading the text of an image with Tesseract, a program beside the project, and counting the characters it gets wrong."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytesseract
from PIL import Image
from rapidfuzz.distance import Levenshtein

INSTALL = "apt install tesseract-ocr"
LANGUAGE = "eng"
ONE_BLOCK = "--psm 6"  # the page is one block of text: nothing is read differently because the layout was guessed anew
THREADS = "OMP_THREAD_LIMIT"


def missing() -> str:
    """What to type where Tesseract cannot read English here; the empty string where it can."""
    if shutil.which(pytesseract.pytesseract.tesseract_cmd) is None or LANGUAGE not in pytesseract.get_languages():
        return INSTALL
    return ""


def read(image: np.ndarray) -> str:
    """The text of a grey image (h, w) with values in [0, 1], dark on light; white space runs are single blanks.

    Raises:
        pytesseract.TesseractNotFoundError: Tesseract is not installed; ask `missing` first.
    """
    levels = (image.clip(0, 1) * 255).round().astype(np.uint8)
    with on_one_thread():
        found: str = pytesseract.image_to_string(Image.fromarray(levels), lang=LANGUAGE, config=ONE_BLOCK)
    return " ".join(found.split())


@contextmanager
def on_one_thread() -> Iterator[None]:
    """Tesseract is slower with several on images this small. Put back at once: a training under such a limit never ends."""
    before = os.environ.get(THREADS)
    os.environ[THREADS] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[THREADS]
        else:
            os.environ[THREADS] = before


def character_error_rate(references: list[str], found: list[str]) -> float | None:
    """Edits that turn what was found into the references, over the references' characters, all texts together.

    Edits are insertions, deletions and substitutions of one character (Levenshtein 1966), so the rate may be above 1.
    None where the references hold no character.
    """
    characters = sum(map(len, references))
    edits = sum(Levenshtein.distance(*pair) for pair in zip(references, found, strict=True))
    return edits / characters if characters else None
