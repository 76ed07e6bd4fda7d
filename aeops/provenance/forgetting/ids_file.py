"""The file with the ids of samples that are to be forgotten: one a line."""

from pathlib import Path

from aeops.errors import UsageError
from aeops.kinds.decoding import DecodeError, decode_errors, read_file_content

MAX_BYTES = 256 * 2**20
NAMED_IDS = 5  # that a message names


def read_ids(path: Path) -> tuple[list[str], int]:
    """Return the ids in order, each once, and how many lines repeat one.

    Raises:
        UsageError: there is no such file, it is no text in UTF-8, or it holds no id.
    """
    if not path.is_file():
        raise UsageError(f"--ids {path}: no such file; expected a text file with one id a line")
    try:
        with decode_errors():
            lines = read_file_content(path, MAX_BYTES).decode("utf-8-sig").splitlines()
    except DecodeError as error:
        raise UsageError(f"--ids {path}: not readable as text in UTF-8 ({error}); expected one id a line") from error
    ids = [line.strip() for line in lines if line.strip()]
    if not ids:
        raise UsageError(f"--ids {path}: expected one id a line, got an empty file: nothing was deleted")
    distinct = list(dict.fromkeys(ids))
    return distinct, len(ids) - len(distinct)


def name_some(ids: list[str]) -> str:
    """Return the first few ids, and how many more there are."""
    more = f" and {len(ids) - NAMED_IDS:,} more" if len(ids) > NAMED_IDS else ""
    return ", ".join(ids[:NAMED_IDS]) + more
