"""Image files in a folder and its sub-folders: PNG, JPEG, TIFF, BMP and WebP, each a sample by the rules of the section input.

    shoes/good/0001.jpg       with `labels: {folder: 1}` the label is the name of the first folder
    shoes/scratch/0001.png    ids are the paths below the folder, such as scratch/0001.png
    shoes/ground_truth/...    with `masks: ground_truth`, masks of the defects, which evaluation alone reads

A file that cannot be decoded, is another format than its name says, has too many pixels, several pages or no known label is set
aside by name, and the rest goes on; those count in the recipe's quarantine budget. Files are decoded in parallel processes.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ae_models.mappings import without_none, without_zeros
from ae_models.names import names_not_in
from aeops.data.judged_samples import NamedLabels
from aeops.data.sources.files import fetched_path, source_folder
from aeops.data.sources.image_files import ImageFolder, folder_of, list_images, match_masks
from aeops.errors import DataError
from aeops.files import file_sha256
from aeops.project import Project
from aeops.recipe.image_sources import ImagesSource
from aeops.recipe.reader import Recipe

if TYPE_CHECKING:
    import numpy as np

    from aeops.data.sources.decode_pool import FileResult
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

        folder, listing = _list_folder(recipe, project)
        source: ImagesSource = recipe.data.source
        labels = _Labels.read(recipe, folder, listing)
        given_labels = NamedLabels(project, recipe)
        unread = _Unread.find(listing, known, labels, given_labels, recipe)
        names = names_not_in(listing.images, unread.checksums)
        count_writer = CountWriter(project.ingest_progress(recipe.name), len(names))
        decoded = decode_files(folder, names, recipe.fit.input, project.home / "sources", count_writer.write)
        results = dict(zip(names, decoded.results, strict=True))
        samples = _Samples.collect(listing, results, labels, given_labels, recipe)
        if not samples.ids and not unread.samples.ids:
            reasons = _first_reasons(samples.set_aside)
            raise DataError("; ".join([f"{source.path}: none of {len(listing.images):,} images can be a sample", *reasons]))
        array = SelectedRows(decoded.array, np.asarray(samples.rows, np.int64))
        masks = match_masks(listing.images, listing.masks, source.masks) if source.masks is not None else {}
        metadata = {"set_aside": len(samples.set_aside), "masked": len(masks), "other_files": len(listing.others)}
        return SourceSamples(
            array,
            np.asarray(samples.labels, np.int64) if labels is not None else None,
            source.path,
            splits=np.asarray(samples.splits) if source.test is not None else None,
            groups=np.asarray(samples.groups) if source.group is not None else None,
            metadata=without_zeros(metadata),
            ids=samples.ids,
            set_aside=samples.set_aside,
            checksums=_checksums(folder, listing, results, unread.checksums, source),
            unread=unread.samples.unread(labels is not None, source, unread.checksums) if unread.checksums else None,
            file_samples=samples.counts | unread.samples.counts,
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


def _checksums(
    folder: Path, listing: ImageFolder, decoded: "Mapping[str, FileResult]", unread: Mapping[str, str], source: ImagesSource
) -> dict[str, str]:
    """Return the SHA-256 of each of `ImagesReader.files`; those of the images were computed as they were decoded."""
    checksums = {name: decoded[name].sha256 if name in decoded else unread[name] for name in listing.images}
    others = list(listing.masks)
    if source.labels is not None and source.labels.file is not None:
        others.append(source.labels.file)
    for name in others:
        checksums[name] = file_sha256(folder / name)
    return checksums


def _list_folder(recipe: Recipe, project: Project) -> tuple[Path, ImageFolder]:
    source: ImagesSource = recipe.data.source
    next_step = f"put it there or correct data.source.path in recipes/{recipe.name}.yaml, then type ae run {recipe.name}"
    folder = fetched_path(recipe, project) or source_folder(project, source.path, next_step)
    listing = list_images(folder, source.masks)
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
    """The label of each image as a text, or why it has none."""

    texts: Mapping[str, str]
    problems: Mapping[str, str]

    @classmethod
    def read(cls, recipe: Recipe, folder: Path, listing: ImageFolder) -> "_Labels | None":
        source: ImagesSource = recipe.data.source
        if source.labels is None:
            return None
        if source.labels.folder is not None:
            found = {name: folder_of(name, source.labels.folder) for name in listing.images}
            missing = f"no label: it lies in fewer than {source.labels.folder} folders"
        else:
            from aeops.data.sources.label_file import read_label_file

            found = read_label_file(folder, source.labels, listing.images, recipe)
            missing = f"no label: {source.labels.file} does not name it"
        texts = without_none(found)
        return cls(texts, dict.fromkeys(names_not_in(listing.images, texts), missing))

    def number(self, name: str, recipe: Recipe) -> int | str:
        """Return an image's label as a number of data.labels, or a reason why it has none."""
        if name in self.problems:
            return self.problems[name]
        text, known = self.texts[name], recipe.label_names
        if known:
            return known.index(text) if text in known else f"unknown label {text!r}: data.labels does not name it"
        try:
            number = int(text)
        except ValueError:
            return f"unknown label {text!r}: data.labels holds whole numbers"
        return number if number in recipe.data.labels else f"unknown label {text!r}: data.labels does not name it"


def _label_of(name: str, labels: _Labels | None, given_labels: NamedLabels, recipe: Recipe) -> int | str:
    """Return the number of an image's label, by its source or by a person; or a reason why it has none."""
    label = 0 if labels is None else labels.number(name, recipe)
    if isinstance(label, str) and (given := given_labels.find(name, label)) is not None:
        return given
    return label


class _Samples:
    """Samples as they are collected, file by file."""

    def __init__(self, set_aside: Mapping[str, str]) -> None:
        self.ids: list[str] = []
        self.rows: list[int] = []
        self.labels: list[int] = []
        self.groups: list[str] = []
        self.splits: list[str] = []
        self.set_aside: dict[str, str] = dict(set_aside)
        self.counts: dict[str, int] = {}

    @classmethod
    def collect(
        cls,
        listing: ImageFolder,
        decoded: "Mapping[str, FileResult]",
        labels: _Labels | None,
        given_labels: NamedLabels,
        recipe: Recipe,
    ) -> "_Samples":
        from aeops.kinds.image import frame_names

        samples, source = cls(listing.problems), recipe.data.source
        for name, result in decoded.items():
            label = _label_of(name, labels, given_labels, recipe)
            problem = result.problem or (label if isinstance(label, str) else None)
            if problem is not None:
                samples.set_aside[name] = problem
                continue
            samples.add(name, frame_names(name, len(result.rows)), result.rows, label, source)
        return samples

    def add(self, name: str, ids: list[str], rows: Iterable[int], label: int | str, source: ImagesSource) -> None:
        assert isinstance(label, int), "a reason was set aside"
        self.ids += ids
        self.counts[name] = len(ids)
        self.rows += rows
        self.labels += [label] * len(ids)
        group = name if source.group is None else folder_of(name, source.group) or name
        self.groups += [group] * len(ids)
        self.splits += ["test" if source.test is not None and folder_of(name, 1) == source.test else "train"] * len(ids)

    def unread(self, is_labelled: bool, source: ImagesSource, checksums: Mapping[str, str]) -> "UnreadSamples":
        """Return them as samples whose files were not read."""
        import numpy as np

        from aeops.data.sources.samples import UnreadSamples

        return UnreadSamples(
            self.ids,
            np.asarray(self.labels, np.int64) if is_labelled else None,
            np.asarray(self.groups) if source.group is not None else None,
            np.asarray(self.splits) if source.test is not None else None,
            checksums,
        )


@dataclass(frozen=True)
class _Unread:
    """Files that need not be read: their samples, and their SHA-256."""

    samples: _Samples
    checksums: dict[str, str]

    @classmethod
    def find(
        cls,
        listing: ImageFolder,
        known: "KnownSamples | None",
        labels: _Labels | None,
        given_labels: NamedLabels,
        recipe: Recipe,
    ) -> "_Unread":
        from aeops.kinds.image import frame_names

        unread, source = cls(_Samples({}), {}), recipe.data.source
        if known is None:
            return unread
        for name in listing.images:
            ids = known.ids_of(name, partial(frame_names, name))
            label = _label_of(name, labels, given_labels, recipe)
            if not ids or isinstance(label, str):  # one whose label is unknown now is set aside with the reason
                continue
            unread.samples.add(name, list(ids), (), label, source)
            unread.checksums[name] = known.files[name].sha256
        return unread
