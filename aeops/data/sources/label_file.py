"""Labels of image files in a CSV file, by the files' paths or names."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from ae_models.mappings import without_none
from aeops.errors import DataError
from aeops.kinds.decoding import DecodeError, decode_errors, read_file_content
from aeops.recipe.image_sources import ImageLabels
from aeops.recipe.reader import Recipe

DELIMITERS = ",;\t"


def read_label_file(folder: Path, labels: ImageLabels, images: Sequence[str], recipe: Recipe) -> dict[str, str | None]:
    """Return the label of each image that the file names; None where it gives two different ones.

    Args:
        folder: of the source.
        labels: which file and columns.
        images: paths below the folder.
        recipe: whose source it is, for messages.

    Raises:
        DataError: the file cannot be read, or lacks a column.
    """
    from aeops.data.sources.samples import repair_hint

    name = labels.file or ""
    try:
        with decode_errors():
            rows = parse_label_rows(read_file_content(folder / name))
    except DecodeError as error:
        raise DataError(f"{name}: not readable as CSV in UTF-8 ({error}): {repair_hint(recipe)}") from error
    for column in (labels.name, labels.label):
        if rows and column not in rows[0]:
            raise DataError(f"{name}: expected a column {column}, got {', '.join(rows[0])}: {repair_hint(recipe)}")
    found: dict[str, str | None] = {}
    by_name = paths_by_name(images)
    known = set(images)
    for row in rows:
        path, label = PurePosixPath((row[labels.name] or "").replace("\\", "/")), (row[labels.label] or "").strip()
        image = path.as_posix() if path.as_posix() in known else by_name.get(path.name)
        if image is not None:
            found[image] = label if found.get(image, label) == label and label else None
    return found


def parse_label_rows(content: bytes) -> list[dict[str, str]]:
    """Return the rows of a CSV file with a header line, by the most frequent delimiter of that line."""
    text = content.decode("utf-8-sig")
    head = text.partition("\n")[0]
    delimiter = max(DELIMITERS, key=head.count)
    rows = []
    for row in csv.DictReader(io.StringIO(text), delimiter=delimiter):
        rows.append({str(key).strip(): value for key, value in row.items()})
    return rows


def paths_by_name(images: Sequence[str]) -> dict[str, str]:
    """Return name -> path of the images whose names stand once."""
    paths: dict[str, str | None] = {}
    for image in images:
        name = PurePosixPath(image).name
        paths[name] = None if name in paths else image
    return without_none(paths)
