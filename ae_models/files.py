"""Files that are whole or not there: written aside in the same folder, then renamed."""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


def write_aside(file: Path, text: str) -> None:
    aside = file.with_name(f".{file.name}.aside")
    aside.write_text(text, encoding="utf-8")
    os.replace(aside, file)


def as_json(document: Any) -> str:
    """Two-space JSON in declared order with a final newline; NaN and infinity are refused."""
    return json.dumps(document, indent=2, allow_nan=False) + "\n"


@contextmanager
def folder_aside(folder: Path) -> Iterator[Path]:
    """An empty folder beside `folder` that takes its place when the block ends well, and goes when it does not.

    What a killed process left aside is dropped; so one writer a folder at a time.
    """
    aside = folder.with_name(f".{folder.name}.aside")
    new, old = aside / "new", aside / "old"
    if aside.exists():
        shutil.rmtree(aside)
    new.mkdir(parents=True)
    try:
        yield new
        if folder.exists():
            os.replace(folder, old)
        os.replace(new, folder)
    finally:
        shutil.rmtree(aside)
