"""Texts from files that people have: .txt, a text a line."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from aeops.bundle.read_samples import Samples, read_samples
from aeops.errors import DataError, UsageError

if TYPE_CHECKING:
    from aeops.bundle.detector import Detector

ENDING = ".txt"


def read_texts(file: Path) -> Samples:
    """The texts of a .txt file in UTF-8, one a line, as strings, object (n,); each is called by its file and line, from 1.

    White space around a text is left out, and a line with nothing else is no text.

    Raises:
        UsageError: there is no such file.
        DataError: it is a folder, does not end in .txt, is no UTF-8, or holds no text.
    """
    if file.is_dir():
        raise DataError(f"{file} is a folder; a {ENDING} file with one text a line is allowed")
    if not file.is_file():
        raise UsageError(f"no file {file}; a {ENDING} file with one text a line is allowed")
    if file.suffix.lower() != ENDING:
        raise DataError(f"{file} does not end in {ENDING}: this recipe takes texts: write them to a {ENDING} file, one a line")
    try:
        lines = file.read_text(encoding="utf-8-sig").split("\n")  # not splitlines: a text may hold other breaks than these
    except UnicodeDecodeError as error:
        place = file.read_bytes()[: error.start].count(b"\n") + 1
        raise DataError(f"{file}, line {place}: no UTF-8: convert the file, as with iconv -t UTF-8") from error
    texts = {f"{file.name}:{place}": line.strip() for place, line in enumerate(lines, start=1) if line.strip()}
    if not texts:
        raise DataError(f"{file} holds no text; one text a line is allowed")
    return Samples(list(texts), np.array(list(texts.values()), dtype=object))


def samples_of(file: Path, detector: "Detector") -> Samples:
    """The samples of a file as the detector takes them: texts, or what `read_samples` reads; raises as these do."""
    return read_texts(file) if detector.kind == "text" else read_samples(file, detector.shape)
