"""Image files in a folder and its sub-folders: PNG, JPEG, TIFF, BMP and WebP, each a sample by the rules of the section input.

    shoes/good/0001.jpg       with `labels: {folder: 1}` the label is the name of the first folder
    shoes/scratch/0001.png    ids are the paths below the folder, such as scratch/0001.png
    shoes/ground_truth/...    with `masks: ground_truth`, masks of the defects, which evaluation alone reads

A file that cannot be decoded, is another format than its name says, has too many pixels, several pages or no known label is set
aside by name, and the rest goes on; those count in the recipe's quarantine budget. Files are decoded in parallel processes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import compress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ae_models.mappings import without_none, without_zeros
from ae_models.names import names_not_in
from aeops.data.judged_samples import NamedLabels
from aeops.data.source_record import STAMP_NUMBERS, FileRecord, RecordedFiles, file_stamp
from aeops.data.sources.files import fetched_path, source_folder
from aeops.data.sources.image_files import ImageFolder, folder_of, list_images, match_masks
from aeops.errors import DataError
from aeops.files import file_sha256
from aeops.project import Project
from aeops.recipe.image_sources import ImagesSource
from aeops.recipe.reader import Recipe

if TYPE_CHECKING:
    import numpy as np

    from aeops.data.sources.decode_pool import DecodedFiles
    from aeops.data.sources.samples import KnownSamples, SourceSamples, UnreadSamples

NAMED_FILES = 3  # that a message names


class ImagesReader:
    """The source of kind images."""

    def files(self, recipe: Recipe, project: Project) -> dict[str, Path]:
        """Return each image, each mask and the file of labels by its path below the folder.

        Raises:
            DataError: there is no such folder, or no image in it.
        """
        folder, listing = _list_folder(recipe, project)
        source: ImagesSource = recipe.data.source
        names = [*listing.images, *listing.masks]
        if source.labels is not None and source.labels.file is not None:
            names.append(source.labels.file)
        return {name: folder / name for name in names}

    def read(self, recipe: Recipe, project: Project) -> "SourceSamples":
        """Return the samples, decoded to disk, with their labels and groups; what was set aside is in `set_aside`.

        Raises:
            DataError: there is no such folder, no image in it, none that can be read, or a file of labels that cannot be read.
        """
        return self.read_new(recipe, project, None)

    def read_new(self, recipe: Recipe, project: Project, known: "KnownSamples | None") -> "SourceSamples":
        """Return the same, without decoding the files whose samples are known; None: no file is."""
        import numpy as np

        from aeops.data.sources.decode_pool import SelectedRows, decode_files
        from aeops.data.sources.samples import SourceSamples
        from aeops.machine.progress import CountWriter

        folder, listing = _list_folder(recipe, project, are_opened_next=True)
        source: ImagesSource = recipe.data.source
        labels = _read_labels(recipe, project, folder, listing)
        unread = _find_unread(folder, listing, known, labels)
        names = names_not_in(listing.images, unread)
        count_writer = CountWriter(project.ingest_progress(recipe.name), len(names))
        decoded = decode_files(folder, names, recipe.fit.input, project.home / "sources", count_writer.write)
        set_aside = listing.problems | decoded.problems
        for name in filter(labels.problems.__contains__, names):
            set_aside.setdefault(name, labels.problems[name])
        is_good = np.fromiter((name not in set_aside for name in names), bool, len(names))
        given = np.asarray(decoded.counts, np.int64)
        is_chosen = np.repeat(is_good, given)
        rows = decoded.rows[is_chosen]
        columns = _sample_columns(names, np.where(is_good, given, 0), labels, source)
        if not len(rows) and not unread:
            reasons = _first_reasons(set_aside)
            raise DataError("; ".join([f"{source.path}: none of {len(listing.images):,} images can be a sample", *reasons]))
        masks = match_masks(listing.images, listing.masks, source.masks) if source.masks is not None else {}
        metadata = {"set_aside": len(set_aside), "masked": len(masks), "other_files": len(listing.others)}
        files = _recorded_files(folder, listing, decoded, columns.counts, unread, source)
        return SourceSamples(
            SelectedRows(decoded.samples, rows),
            columns.labels,
            source.path,
            splits=columns.splits,
            groups=columns.groups,
            metadata=without_zeros(metadata),
            ids=columns.ids,
            set_aside=set_aside,
            checksums=files.checksums,
            files=files,
            unread=_unread_samples(unread, labels, source) if unread else None,
            sha256=list(compress(decoded.sample_sha256, is_chosen)),
        )


SOURCE = ImagesReader()


def read_masks(recipe: Recipe, project: Project, source_sha256: str, ids: Sequence[str]) -> "np.ndarray":
    """Return the masks of samples, bool (k, h, w), by their ids; one without a mask has no marked pixel.

    Args:
        recipe: whose source it is.
        project: where the folder is looked for.
        source_sha256: of the source when the samples were ingested, as dataset.json holds it.
        ids: of the samples: paths below the folder.

    Raises:
        DataError: the folder is missing, is another one than the samples came from, or a mask cannot be read.
    """
    import numpy as np

    from aeops.data.sources.catalogue import source_digest
    from aeops.kinds.decoding import read_file_content
    from aeops.kinds.picture_samples import mask_sample
    from aeops.kinds.pictures import MAX_IMAGE_BYTES

    folder, listing = _list_folder(recipe, project)
    digest = source_digest(recipe, project)
    if digest != source_sha256:
        raise DataError(
            f"{folder}: expected the files that the samples came from (source {source_sha256[:12]}), got others ({digest[:12]}): "
            f"put the old ones back, or type ae run {recipe.name} to ingest the new ones"
        )
    found = match_masks(listing.images, listing.masks, recipe.data.source.masks or "")
    rules = recipe.fit.input
    masks = np.zeros((len(ids), *rules.shape[-2:]), bool)
    for row, sample_id in enumerate(ids):
        name = found.get(sample_id) or found.get(sample_id.rpartition("#")[0])
        if name is not None:
            masks[row] = mask_sample(read_file_content(folder / name, MAX_IMAGE_BYTES), rules, name)
    return masks


def _recorded_files(
    folder: Path,
    listing: ImageFolder,
    decoded: "DecodedFiles",
    counts: list[int],
    unread: Mapping[str, FileRecord],
    source: ImagesSource,
) -> RecordedFiles:
    """Return all of `ImagesReader.files` as they were read: their stamps are from before that.

    Args:
        folder: of the source.
        listing: its files.
        decoded: those that were decoded.
        counts: how many samples each of those gave.
        unread: those that need not be read.
        source: the recipe's.
    """
    files = RecordedFiles(list(decoded.names), decoded.stamps, decoded.sha256, list(counts))
    if "" in decoded.sha256:  # some may not be read
        files = RecordedFiles()
        for place, (name, sha256, count) in enumerate(zip(decoded.names, decoded.sha256, counts, strict=True)):
            if sha256:
                files.add(name, decoded.stamps[place * STAMP_NUMBERS : (place + 1) * STAMP_NUMBERS], sha256, count)
    for name, known in unread.items():
        files.add(name, *known)
    others = list(listing.masks)
    if source.labels is not None and source.labels.file is not None:
        others.append(source.labels.file)
    for name in others:
        stamp = file_stamp(folder / name)
        sha256 = file_sha256(folder / name)
        if stamp is not None:
            files.add(name, stamp, sha256)
    return files


def _list_folder(recipe: Recipe, project: Project, *, are_opened_next: bool = False) -> tuple[Path, ImageFolder]:
    source: ImagesSource = recipe.data.source
    next_step = f"put it there or correct data.source.path in recipes/{recipe.name}.yaml, then type ae run {recipe.name}"
    folder = fetched_path(recipe, project) or source_folder(project, source.path, next_step)
    listing = list_images(folder, source.masks, are_opened_next=are_opened_next)
    if source.labels is not None and source.labels.file is not None and not (folder / source.labels.file).is_file():
        raise DataError(f"{folder}: expected the file of labels {source.labels.file}, got none: {next_step}")
    if not listing.images:
        message = f"{folder}: expected image files in it, got {len(listing.others):,} others: {next_step}"
        raise DataError("; ".join([message, *_first_reasons(listing.problems)]))
    return folder, listing


def _first_reasons(reasons: Mapping[str, str]) -> list[str]:
    return [f"{name}: {reason}" for name, reason in list(reasons.items())[:NAMED_FILES]]


# ---------------------------------------------------------------- labels


@dataclass(frozen=True)
class _Labels:
    """The label of each image as a number of data.labels.

    Attributes:
        numbers: of images that have one; None where the source has no labels.
        problems: image -> why it has none.
    """

    numbers: Mapping[str, int] | None
    problems: Mapping[str, str]


def _read_labels(recipe: Recipe, project: Project, folder: Path, listing: ImageFolder) -> _Labels:
    """Return the label of each image, by its source or by a person."""
    source: ImagesSource = recipe.data.source
    if source.labels is None:
        return _Labels(None, {})
    if source.labels.folder is not None:
        found = {name: folder_of(name, source.labels.folder) for name in listing.images}
        missing = f"no label: it lies in fewer than {source.labels.folder} folders"
    else:
        from aeops.data.sources.label_file import read_label_file

        found = read_label_file(folder, source.labels, listing.images, recipe)
        missing = f"no label: {source.labels.file} does not name it"
    texts = without_none(found)
    known = {text: _label_number(text, recipe) for text in set(texts.values())}
    given_labels = NamedLabels(project, recipe)
    numbers: dict[str, int] = {}
    problems: dict[str, str] = {}
    for name in listing.images:
        label = known[texts[name]] if name in texts else missing
        if isinstance(label, str) and (given := given_labels.find(name, label)) is not None:
            label = given
        if isinstance(label, str):
            problems[name] = label
        else:
            numbers[name] = label
    return _Labels(numbers, problems)


def _label_number(text: str, recipe: Recipe) -> int | str:
    """Return a label as a number of data.labels, or why it is none."""
    known = recipe.label_names
    if known:
        return known.index(text) if text in known else f"unknown label {text!r}: data.labels does not name it"
    try:
        number = int(text)
    except ValueError:
        return f"unknown label {text!r}: data.labels holds whole numbers"
    return number if number in recipe.data.labels else f"unknown label {text!r}: data.labels does not name it"


# ---------------------------------------------------------------- columns


class _Columns(NamedTuple):
    """What is known of samples beside their pixels: `counts` has a number a file, the others a value a sample or None."""

    counts: list[int]
    ids: list[str]
    labels: "np.ndarray | None"
    groups: "np.ndarray | None"
    splits: "np.ndarray | None"


def _sample_columns(names: Sequence[str], counts: "np.ndarray", labels: _Labels, source: ImagesSource) -> _Columns:
    """Return the columns of the samples of files.

    Args:
        names: of the files.
        counts: how many samples each file gives, (files,).
        labels: of the files that give some.
        source: the recipe's.
    """
    import numpy as np

    from aeops.kinds.image import frame_names

    ids: list[str] = []
    for name, count in zip(names, counts.tolist(), strict=True):
        if count == 1:
            ids.append(name)
        elif count:
            ids += frame_names(name, count)

    def by_sample(values: list[Any], dtype: Any = None) -> "np.ndarray":
        return np.repeat(np.asarray(values, dtype), counts)

    numbers = groups = splits = None
    if labels.numbers is not None:
        numbers = by_sample([labels.numbers.get(name, 0) for name in names], np.int64)
    if source.group is not None:
        groups = by_sample([folder_of(name, source.group) or name for name in names])
    if source.test is not None:
        splits = by_sample(["test" if folder_of(name, 1) == source.test else "train" for name in names])
    return _Columns(counts.tolist(), ids, numbers, groups, splits)


# ---------------------------------------------------------------- what need not be read


def _find_unread(folder: Path, listing: ImageFolder, known: "KnownSamples | None", labels: _Labels) -> dict[str, FileRecord]:
    """Return the files that need not be read with what is recorded of them; one whose label is unknown now is read."""
    from aeops.kinds.image import frame_names

    unread: dict[str, FileRecord] = {}
    if known is None:
        return unread
    for name in listing.images:
        if name not in labels.problems and known.ids_of(name, f"{folder}/{name}", partial(frame_names, name)):
            recorded = known.record.files.get(name)
            assert recorded is not None, "its ids are known"
            unread[name] = recorded
    return unread


def _unread_samples(unread: Mapping[str, FileRecord], labels: _Labels, source: ImagesSource) -> "UnreadSamples":
    import numpy as np

    from aeops.data.sources.samples import UnreadSamples

    counts = np.asarray([recorded.samples for recorded in unread.values()], np.int64)
    columns = _sample_columns(list(unread), counts, labels, source)
    return UnreadSamples(columns.ids, columns.labels, columns.groups, columns.splits)
