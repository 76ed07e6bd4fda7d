"""What .npy, .npz and IDX files hold: samples, their labels and their groups."""

import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ae_models.names import names_not_in
from aeops.drawing.words import format_count
from aeops.errors import DataError, UsageError
from aeops.intake.proposal import Choices, Understanding, find_name, source_path
from aeops.intake.recipe_text import Entry
from aeops.kinds.decoding import DecodeError
from aeops.kinds.npy_bytes import map_npy
from aeops.kinds.unpacking import read_gzip, require_archive_size
from aeops.recipe.sources import IDX_FILES, IDX_NAMES

SAMPLE_NAMES = ("x", "x_train", "images", "samples", "data", "train_x", "arr_0")
LABEL_NAMES = ("y", "y_train", "labels", "label", "train_y", "target", "targets", "classes")
GROUP_ARRAYS = ("groups", "group", "group_id", "group_ids", "groups_train", "group_train")
TIME_ARRAYS = ("t", "time", "times", "timestamp", "timestamps", "dates", "date")
LEAST_GROUPS = 10  # of which groups are proposed: fewer do not fill the splits
CHANNELS = (1, 3, 4)


@dataclass(frozen=True)
class FoundArrays:
    """Samples and labels of a source.

    Attributes:
        samples: (n, ...), memory-mapped where the file allows it.
        labels: (n,), or None.
        source: entries of data.source, without labels.
        label_entry: the entry of data.source that names the labels, or None.
        layout: of images: nchw, nhwc or nhw.
        has_test: whether the source has a test part of its own.
        groups: (n,), or None.
        group_entry: the entry of data.source that names the groups, or None.
    """

    samples: np.ndarray
    labels: np.ndarray | None
    source: list[Entry]
    label_entry: Entry | None
    layout: str
    has_test: bool = False
    groups: np.ndarray | None = None
    group_entry: Entry | None = None


def is_idx_folder(folder: Path) -> bool:
    """Return whether a folder holds the four IDX files of MNIST, with or without .gz."""
    names = {file.name.removesuffix(".gz") for file in folder.iterdir()}
    return set(IDX_NAMES) <= names


def find_npy(path: Path, understood: Understanding, choices: Choices, root: Path) -> FoundArrays:
    """Return the samples of a .npy file, with the labels and groups of those beside it."""
    samples = _load(path)
    source = [Entry("kind", "npy"), Entry("path", understood.source)]
    if are_rows(samples):  # whose labels and groups are columns
        return FoundArrays(samples, None, source, None, "")
    found: dict[str, np.ndarray | None] = {}
    entries: dict[str, Entry | None] = {}
    for option, chosen in (("labels", choices.labels), ("groups", choices.group)):
        file = _file_beside(path, option, chosen)
        found[option] = None if file is None else _load(file)
        entries[option] = None if file is None else Entry(option, source_path(file, root, choices))
        array = found[option]
        if array is not None and array.shape != samples.shape[:1]:
            raise DataError(f"{file}: expected {len(samples):,} {option}, one a sample, got an array of shape {array.shape}")
        if option == "groups" and array is not None and not _fill_splits(array, str(file), chosen, understood):
            found[option] = entries[option] = None
    layout = _layout(samples.shape)
    return FoundArrays(
        samples, found["labels"], source, entries["labels"], layout, groups=found["groups"], group_entry=entries["groups"]
    )


def are_rows(samples: np.ndarray) -> bool:
    """Return whether samples are rows of a table: of named fields, or (n, columns)."""
    return samples.dtype.names is not None or samples.ndim == 2


def _load(path: Path) -> np.ndarray:
    """Return an array; one of named fields is read by numpy itself, which refuses pickled objects."""
    try:
        return map_npy(path)
    except DecodeError:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
        if array.dtype.names is None:
            raise
        return np.asarray(array)


def _file_beside(path: Path, noun: str, chosen: str | None) -> Path | None:
    """Return the file of labels or groups that a person chose, or that belongs to samples by its name; None without one.

    Args:
        path: of the samples.
        noun: labels or groups.
        chosen: what the person said: a file, or none.
    """
    if chosen == "none":
        return None
    if chosen is not None:
        file = Path(chosen).expanduser()
        if not file.is_file():
            option = "--group" if noun == "groups" else "--labels"
            raise UsageError(f"{option} {chosen}: expected a .npy file with one of the {noun} a sample")
        return file
    own_names = [f"{path.stem}_{noun}.npy", f"{path.stem}.{noun}.npy", f"{path.stem}-{noun}.npy", f"{noun}.npy"]
    if noun == "labels":
        own_names.append("y.npy")
    for name in own_names:
        file = path.with_name(name)
        if file.is_file() and file != path:
            return file
    return None


def _fill_splits(groups: np.ndarray, name: str, chosen: str | None, understood: Understanding) -> bool:
    """Return whether groups are read; what a person did not choose is named where it is too little for the splits."""
    count = len(np.unique(groups))
    if chosen is None and count < LEAST_GROUPS:
        understood.oddities.append(f"{name} is not read: {format_count(count, 'group')} of samples cannot fill the splits")
        return False
    understood.facts.append(("groups", f"{name}: {format_count(count, 'group')}, each in one split"))
    return True


def find_npz(path: Path, understood: Understanding, choices: Choices) -> FoundArrays:
    """Return the samples of an .npz file, with their labels and groups."""
    require_archive_size(path, str(path))
    with np.load(path, allow_pickle=False) as archive:
        arrays = dict(archive)
    understood.facts.append(("arrays", ", ".join(f"{name} {array.shape} {array.dtype}" for name, array in arrays.items())))
    candidates = [name for name, array in arrays.items() if array.ndim >= 2]
    if not candidates:
        raise DataError(f"{path}: expected an array of samples, got {', '.join(arrays) or 'none'}")
    samples = find_name(candidates, SAMPLE_NAMES) or max(candidates, key=lambda name: arrays[name].size)
    array = arrays[samples]
    beside = {name: other for name, other in arrays.items() if other.shape == array.shape[:1]}
    labels = _named_array(arrays, beside, "--labels", choices.labels, LABEL_NAMES, "biuU")
    groups = _named_array(arrays, beside, "--group", choices.group, GROUP_ARRAYS, "iuU")
    if groups is not None and not _fill_splits(arrays[groups], groups, choices.group, understood):
        groups = None
    times = find_name(names_not_in(beside, (labels, groups)), TIME_ARRAYS)
    if times is not None:
        understood.oddities.append(
            f"{times} is not read: splits are drawn by content, or by group: --group ARRAY, such as one of days, keeps what "
            "belongs together in one split"
        )
    is_table, layout = array.ndim == 2, ""
    if not is_table:
        layout = _layout(array.shape)
        if labels is not None and arrays[labels].dtype == bool:
            reason = f"expected whole numbers or names as labels, got bool: write {labels}.astype('uint8') in its place"
            raise DataError(f"{path}: {labels}: {reason}")
    return FoundArrays(
        array,
        None if labels is None else arrays[labels],
        _npz_source(understood.source, samples, layout),
        _array_entry("labels", labels, is_table),
        layout,
        groups=None if groups is None else arrays[groups],
        group_entry=_array_entry("group" if is_table else "groups", groups, is_table),
    )


def _array_entry(key: str, name: str | None, is_table: bool) -> Entry | None:
    """Return the entry of data.source that names an array; None without one."""
    if name is None:
        return None
    return Entry(key, name if is_table else {"train": name})


def _npz_source(path: str, samples: str, layout: str) -> list[Entry]:
    if not layout:
        return [Entry("kind", "table"), Entry("path", path), Entry("samples", samples, "the array with the rows")]
    return [
        Entry("kind", "npz"),
        Entry("path", path),
        Entry("samples", {"train": samples}, "the array with the images"),
        Entry("layout", layout, "the axes: number, channels, height, width"),
    ]


def _named_array(
    arrays: Mapping[str, np.ndarray],
    beside: Mapping[str, np.ndarray],
    option: str,
    chosen: str | None,
    words: Sequence[str],
    kinds: str,
) -> str | None:
    """Return the name of an array that a person chose, or that has one of the words as its name; None without one.

    Args:
        arrays: all arrays by name.
        beside: those with one value a sample.
        option: of the command, for messages.
        chosen: by the person.
        words: names that such an array has.
        kinds: of its numpy types.
    """
    if chosen == "none":
        return None
    if chosen is None:
        return find_name([name for name, array in beside.items() if array.dtype.kind in kinds], words)
    if chosen not in arrays:
        raise UsageError(f"{option} {chosen}: expected an array out of {', '.join(arrays)}")
    if chosen not in beside or arrays[chosen].dtype.kind not in kinds:
        shape, dtype = arrays[chosen].shape, arrays[chosen].dtype
        raise UsageError(f"{option} {chosen}: expected one whole number or name a sample, got {dtype} of shape {shape}")
    return chosen


def find_idx(folder: Path, understood: Understanding) -> FoundArrays:
    """Return the images of a folder of IDX files, with their labels."""
    image_file, label_file = IDX_FILES["train"]
    images, labels = _read_idx(folder, image_file), _read_idx(folder, label_file)
    understood.facts.append(("parts", f"IDX files: {len(images):,} images to train on, and a test part of its own"))
    source = [Entry("kind", "idx"), Entry("folder", understood.source)]
    return FoundArrays(images, labels, source, None, "nhw", has_test=True)


def _read_idx(folder: Path, name: str) -> np.ndarray:
    file = folder / name
    if not file.is_file():
        file = folder / f"{name}.gz"
    content = read_gzip(file) if file.suffix == ".gz" else file.read_bytes()
    axes = content[3]
    shape = struct.unpack(f">{axes}I", content[4 : 4 + 4 * axes])
    return np.frombuffer(content, np.uint8, count=math.prod(shape), offset=4 + 4 * axes).reshape(shape)


def _layout(shape: tuple[int, ...]) -> str:
    if len(shape) == 3:
        return "nhw"
    return "nchw" if len(shape) == 4 and shape[1] in CHANNELS else "nhwc"
