"""Finds labels, masks and a test part of a folder of images by the layouts that people use."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import filterfalse
from pathlib import Path, PurePosixPath

from aeops.data.sources.image_files import ImageFolder, folder_of
from aeops.data.sources.label_file import parse_label_rows, paths_by_name
from aeops.errors import DataError, UsageError
from aeops.intake.proposal import Choices, Understanding, names_among
from aeops.kinds.decoding import DecodeError, decode_errors, read_file_content
from aeops.recipe.image_sources import ImageLabels
from aeops.recipe.reader import is_label_name

MASK_FOLDERS = ("ground_truth", "masks", "mask", "annotations")
PART_FOLDERS = ("train", "test", "val", "valid", "validation")
LABEL_COLUMNS = ("label", "class", "category", "target", "defect")
MAX_LABELS = 100  # more are no labels, but names of things
MAX_LABEL_FILE = 256 * 2**20  # bytes
NO_LABELS, FOLDERS = "none", "folders"


@dataclass(frozen=True)
class ImageLayout:
    """How a folder of images is laid out.

    Attributes:
        labels: where labels stand, or None.
        counts: label -> number of images, in order of the names.
        unlabelled: images without a label.
        masks: the folder of masks, or None.
        description: of it all, for people.
    """

    labels: ImageLabels | None
    counts: dict[str, int]
    unlabelled: int
    masks: str | None
    description: str


def find_masks_folder(folder: Path) -> str | None:
    """Return the sub-folder that holds masks, by its name."""
    names = {}
    for entry in folder.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            names[entry.name.lower()] = entry.name
    for name in MASK_FOLDERS:
        if name in names:
            return names[name]
    return None


def find_layout(
    folder: Path, listing: ImageFolder, masks: str | None, choices: Choices, understood: Understanding
) -> ImageLayout:
    """Return the layout: labels by option, by a CSV file that names most images, or by folders.

    Raises:
        UsageError: an option names something that is not there.
    """
    if choices.labels == NO_LABELS:
        return ImageLayout(None, {}, 0, masks, "labels left out, as you asked")
    if choices.labels not in (None, FOLDERS):
        found = _layout_of_file(folder, str(choices.labels), listing, masks)
        if found is None:
            raise UsageError(f"--labels {choices.labels}: expected a CSV file below {folder} that names its images, or folders")
        return found
    if choices.labels is None:
        for name in listing.others:
            if PurePosixPath(name).suffix.lower() in (".csv", ".tsv") and (
                found := _layout_of_file(folder, name, listing, masks)
            ):
                return found
    level = _label_level(listing.images)
    if level is None:
        if choices.labels == FOLDERS:
            raise UsageError("--labels folders: expected sub-folders with images, got none")
        return ImageLayout(None, {}, 0, masks, "no labels: the images lie in one folder, or in too many")
    counts = _count_by_folder(listing.images, level)
    unlabelled = len(listing.images) - counts.total()
    unfit = list(filterfalse(is_label_name, counts))
    if unfit:
        understood.oddities.append(f"folders whose names cannot be labels: {', '.join(unfit[:3])}: their images have none")
        return ImageLayout(None, {}, 0, masks, "no labels: names of folders cannot be labels")
    return ImageLayout(
        ImageLabels(folder=level), dict(sorted(counts.items())), unlabelled, masks, f"names of folders, level {level}"
    )


def _count_by_folder(images: Sequence[str], level: int) -> Counter[str]:
    """Return folder -> images below it, of the folders of a level; images that lie higher are not counted."""
    counts: Counter[str] = Counter()
    for name in images:
        folder = folder_of(name, level)
        if folder is not None:
            counts[folder] += 1
    return counts


def _label_level(images: Sequence[str]) -> int | None:
    """Return which folder of a path is the label: the first whose names differ and are not those of parts of a set."""
    for level in (1, 2, 3):
        names = _count_by_folder(images, level)
        missing = len(images) - names.total()
        if not names or missing > len(images) / 2:
            return None
        if set(map(str.lower, names)) <= set(PART_FOLDERS) or len(names) == 1:
            continue
        return level if len(names) <= MAX_LABELS else None
    return None


def _layout_of_file(folder: Path, name: str, listing: ImageFolder, masks: str | None) -> ImageLayout | None:
    """Return the layout by a CSV file, or None where it does not name the images."""
    if name not in listing.others:
        return None
    try:
        with decode_errors():
            rows = parse_label_rows(read_file_content(folder / name, MAX_LABEL_FILE))
    except (DecodeError, DataError):
        return None
    if not rows:
        return None
    known, by_name = set(listing.images), paths_by_name(listing.images)
    columns = list(rows[0])
    named, labels = [], []
    for column in columns:
        if _names_images(rows, column, known, by_name):
            named.append(column)
        elif _could_be_labels(rows, column):
            labels.append(column)
    if not named or not labels:
        return None
    by_hint = names_among(labels, LABEL_COLUMNS)
    label = (by_hint or labels)[0]
    counts: Counter[str] = Counter()
    for row in rows:
        path = PurePosixPath((row[named[0]] or "").replace("\\", "/"))
        if path.as_posix() in known or path.name in by_name:
            counts[(row[label] or "").strip()] += 1
    unlabelled = max(0, len(listing.images) - sum(counts.values())) + counts.pop("", 0)
    spec = ImageLabels(file=name, name=named[0], label=label)
    return ImageLayout(
        spec, dict(sorted(counts.items())), unlabelled, masks, f"column {label} of {name}, by its column {named[0]}"
    )


def _names_images(rows: Sequence[dict[str, str]], column: str, known: set[str], by_name: dict[str, str]) -> bool:
    found = 0
    for row in rows:
        path = PurePosixPath((row[column] or "").replace("\\", "/"))
        found += path.as_posix() in known or path.name in by_name
    return 2 * found > len(rows)


def _could_be_labels(rows: Sequence[dict[str, str]], column: str) -> bool:
    distinct = {(row[column] or "").strip() for row in rows} - {""}
    return 1 < len(distinct) <= min(MAX_LABELS, max(2, len(rows) // 2)) and all(map(is_label_name, distinct))
