"""Arrays in .npy and .npz files and in the IDX files of MNIST: what they hold, and the recipe that is proposed for them."""

import math
import struct
from collections import Counter
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from aeops.data.sources.table_columns import whole
from aeops.errors import DataError, UsageError
from aeops.intake.common_sections import data_section, gate_section, threshold_section
from aeops.intake.image_model import evaluate_section, image_validate_section, model_sections, train_section
from aeops.intake.image_probe import ValueRange
from aeops.intake.proposal import Choices, Proposal, Understanding, find_name, source_path, split_labels
from aeops.intake.recipe_text import Entry
from aeops.intake.sizing import count_anomalies, count_normal, split_sizes
from aeops.intake.tables import propose_rows, propose_table
from aeops.intake.wording import format_counts
from aeops.kinds.decoding import DecodeError, decode_errors
from aeops.kinds.npy_bytes import map_npy
from aeops.kinds.unpacking import read_gzip, require_archive_size
from aeops.recipe.sources import IDX_FILES, IDX_NAMES
from aeops.recipe.table_sources import TableSource

SAMPLE_NAMES = ("x", "x_train", "images", "samples", "data", "train_x", "arr_0")
LABEL_NAMES = ("y", "y_train", "labels", "label", "train_y", "target", "targets", "classes")
MEASURED = 2000  # samples whose values are measured, evenly spaced
MOST_LABELS = 100
CHANNELS = (1, 3, 4)
CONVERT = """python -c "import numpy as n; x = n.load('{name}'); n.save('new.npy', {expression})\""""


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
    """

    samples: np.ndarray
    labels: np.ndarray | None
    source: list[Entry]
    label_entry: Entry | None
    layout: str
    has_test: bool = False


def is_idx_folder(folder: Path) -> bool:
    """Return whether a folder holds the four IDX files of MNIST, with or without .gz."""
    names = {file.name.removesuffix(".gz") for file in folder.iterdir()}
    return set(IDX_NAMES) <= names


def propose_arrays(path: Path, root: Path, dataset: str, choices: Choices) -> Proposal:
    """Look at arrays and propose a recipe.

    Args:
        path: a .npy or .npz file, or a folder of IDX files.
        root: of the project.
        dataset: its name in the recipe.
        choices: what the person said; `labels` names an array or a file.

    Raises:
        DataError: they cannot be read, or are of a shape that no source reads.
        UsageError: an option that does not fit.
    """
    understood = Understanding("image", source_path(path, root, choices), 0)
    try:
        with decode_errors():
            if path.is_dir():
                found = _find_idx(path, understood)
            elif path.suffix.lower() == ".npy":
                found = _find_npy(path, understood, choices, root)
            else:
                found = _find_npz(path, understood, choices)
    except DecodeError as error:
        raise DataError(
            f"{path}: not readable as an array ({error}): expected a file written by numpy, without objects"
        ) from error
    if found.samples.dtype.names is not None or found.samples.ndim == 2:
        return _propose_rows(found, understood, path, root, dataset, choices)
    return _propose_images(found, understood, path, dataset, choices)


def _find_npy(path: Path, understood: Understanding, choices: Choices, root: Path) -> FoundArrays:
    samples = _load(path)
    labels_path = None
    if choices.labels not in (None, "none"):
        labels_path = Path(str(choices.labels)).expanduser()
        if not labels_path.is_file():
            raise UsageError(f"--labels {choices.labels}: expected a .npy file with one label a sample")
    elif choices.labels is None:
        labels_path = _labels_beside(path)
    labels = None if labels_path is None else _load(labels_path)
    if labels is not None and labels.shape != samples.shape[:1]:
        raise DataError(f"{labels_path}: expected {len(samples):,} labels, one a sample, got an array of shape {labels.shape}")
    entry = None if labels_path is None else Entry("labels", source_path(labels_path, root, choices))
    source = [Entry("kind", "npy"), Entry("path", understood.source)]
    return FoundArrays(samples, labels, source, entry, "nhw" if samples.ndim == 3 else _layout(samples.shape))


def _load(path: Path) -> np.ndarray:
    """Return an array; one of named fields is read by numpy itself, which refuses pickled objects."""
    try:
        return map_npy(path)
    except DecodeError:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
        if array.dtype.names is None:
            raise
        return np.asarray(array)


def _labels_beside(path: Path) -> Path | None:
    """Return the file of labels that belongs to a file of samples by its name; None without one."""
    own_names = (f"{path.stem}_labels.npy", f"{path.stem}.labels.npy", f"{path.stem}-labels.npy")
    for name in (*own_names, "labels.npy", "y.npy"):
        file = path.with_name(name)
        if file.is_file() and file != path:
            return file
    return None


def _find_npz(path: Path, understood: Understanding, choices: Choices) -> FoundArrays:
    require_archive_size(path, str(path))
    with np.load(path, allow_pickle=False) as archive:
        arrays = dict(archive)
    understood.facts.append(("arrays", ", ".join(f"{name} {array.shape} {array.dtype}" for name, array in arrays.items())))
    candidates = [name for name, array in arrays.items() if array.ndim >= 2]
    if not candidates:
        raise DataError(f"{path}: expected an array of samples, got {', '.join(arrays) or 'none'}")
    samples = find_name(candidates, SAMPLE_NAMES) or max(candidates, key=lambda name: arrays[name].size)
    labels = None
    if choices.labels not in (None, "none"):
        if choices.labels not in arrays:
            raise UsageError(f"--labels {choices.labels}: expected an array out of {', '.join(arrays)}")
        labels = choices.labels
    elif choices.labels is None:
        fitting = []
        for name, array in arrays.items():
            if array.shape == arrays[samples].shape[:1] and array.dtype.kind in "biuU":
                fitting.append(name)
        labels = find_name(fitting, LABEL_NAMES)
    array = arrays[samples]
    if array.ndim == 2:
        source = [Entry("kind", "table"), Entry("path", understood.source), Entry("samples", samples, "the array with the rows")]
        entry = None if labels is None else Entry("labels", labels)
        return FoundArrays(array, None if labels is None else arrays[labels], source, entry, "")
    layout = "nhw" if array.ndim == 3 else _layout(array.shape)
    source = [
        Entry("kind", "npz"),
        Entry("path", understood.source),
        Entry("samples", {"train": samples}, "the array with the images"),
        Entry("layout", layout, "the axes: number, channels, height, width"),
    ]
    entry = None if labels is None else Entry("labels", {"train": labels})
    return FoundArrays(array, None if labels is None else arrays[labels], source, entry, layout)


def _find_idx(folder: Path, understood: Understanding) -> FoundArrays:
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
    return "nchw" if len(shape) == 4 and shape[1] in CHANNELS else "nhwc"


# ---------------------------------------------------------------- rows


def _propose_rows(
    found: FoundArrays, understood: Understanding, path: Path, root: Path, dataset: str, choices: Choices
) -> Proposal:
    """Propose a table for rows of numbers, or of named fields."""
    understood.kind = "table"
    if path.suffix.lower() == ".npy":
        return propose_table(path, root, dataset, choices)
    width = found.samples.shape[1]
    columns: dict[str, Any] = {}
    for place in range(width):
        columns[f"c{place}"] = np.array(found.samples[:, place], np.float64)
    label_name = None
    if found.labels is not None and found.label_entry is not None:
        label_name = str(found.label_entry.value)
        columns[label_name] = found.labels.astype(str) if found.labels.dtype.kind == "U" else found.labels.astype(np.float64)
    table = whole(columns, len(found.samples), path.name)
    source = TableSource(understood.source, samples=str(found.source[2].value))
    options = Choices(labels=label_name or "none", anomalies=choices.anomalies, identity=None)
    return propose_rows(table, source, understood, dataset, options, 1)


# ---------------------------------------------------------------- images


def _propose_images(found: FoundArrays, understood: Understanding, path: Path, dataset: str, choices: Choices) -> Proposal:
    samples = found.samples
    if samples.ndim not in (3, 4) or samples.dtype.kind not in "uif":
        raise DataError(
            f"{path}: expected images (n, h, w), (n, c, h, w) or rows (n, columns), got {samples.shape} of {samples.dtype}"
        )
    _require_readable(found, path)
    shape = _image_shape(samples.shape, found.layout)
    places = np.unique(np.linspace(0, len(samples) - 1, min(MEASURED, len(samples))).astype(int))
    measured = np.asarray(samples[places], np.float64)
    low, high = _value_range(measured, samples.dtype)
    labels = _label_counts(found.labels)
    anomalies = split_labels(list(labels), choices, understood) if len(labels) > 1 else ()
    understood.count = len(samples)
    understood.facts.insert(0, ("kind", f"image: {len(samples):,} arrays {shape} of {samples.dtype} in {understood.source}"))
    extremes = f"{np.nanmin(measured):g} to {np.nanmax(measured):g}"
    understood.facts.append(("values", f"{extremes}; the range is taken to be {low:g} to {high:g}"))
    if labels:
        understood.facts.append(("labels", format_counts(islice(labels.items(), 20))))
    bad = int(np.isnan(measured).any(axis=tuple(range(1, measured.ndim))).sum())
    if bad:
        understood.oddities.append(f"{bad:,} of {len(measured):,} measured have NaN values, and will be set aside")
    sizes = split_sizes(count_normal(sum(labels.values()) if labels else len(samples), labels, anomalies))
    if found.has_test:
        sizes.shares.pop("test")
    source = list(found.source)
    if labels and found.label_entry is not None:
        source.append(found.label_entry)
    proposal = Proposal(understood, understood.source, f"Images of {understood.source}.")
    proposal.entries = [
        data_section(dataset, source, list(labels), anomalies, sizes),
        image_validate_section(len(samples), _measure(measured, low, high), bad / len(measured)),
        Entry(
            "input", {"kind": "image", "shape": list(shape), "low": low, "high": high}, "channels, height, width, as in the file"
        ),
        *model_sections(shape, sizes.train),
        threshold_section(sizes),
        train_section(shape, sizes.train),
        evaluate_section(sizes.train, has_masks=False),
        gate_section(count_anomalies(labels, anomalies)),
    ]
    return proposal


def _require_readable(found: FoundArrays, path: Path) -> None:
    """Raise DataError, with the command to convert it, where no source reads an array of this layout or type."""
    samples = found.samples
    expression = ""
    if samples.dtype.newbyteorder("=").name not in ("uint8", "float32", "float64"):
        expression = "x.astype('float32')"
    elif path.suffix.lower() == ".npy" and found.layout == "nhwc":
        expression = "n.moveaxis(x, 3, 1)"
    if expression:
        command = CONVERT.format(name=path.name, expression=expression)
        wanted = "uint8, float32 or float64, (n, h, w) or channels first (n, c, h, w)"
        raise DataError(f"{path}: expected {wanted}, got {samples.dtype} of shape {samples.shape}: convert it by `{command}`")
    height, width = _image_shape(samples.shape, found.layout)[1:]
    filled_height, filled_width = _fill_up(height), _fill_up(width)
    if (filled_height, filled_width) != (height, width):
        rows, columns = (0, filled_height - height), (0, filled_width - width)
        padding = {
            "nhw": [(0, 0), rows, columns],
            "nchw": [(0, 0), (0, 0), rows, columns],
            "nhwc": [(0, 0), rows, columns, (0, 0)],
        }
        command = CONVERT.format(name=path.name, expression=f"n.pad(x, {padding[found.layout]}, 'edge')")
        raise DataError(
            f"{path}: expected sides that are multiples of 4, as the network halves them twice, got {height} x {width}: "
            f"fill them up by `{command}`"
        )


def _image_shape(shape: tuple[int, ...], layout: str) -> tuple[int, int, int]:
    if layout == "nhw":
        return 1, shape[1], shape[2]
    if layout == "nchw":
        return shape[1], shape[2], shape[3]
    return shape[3], shape[1], shape[2]


def _value_range(measured: np.ndarray, dtype: np.dtype) -> tuple[float, float]:
    """Return low and high of the section input: 0 to 255 of bytes, 0 to 1 of numbers that lie there, else what was measured."""
    if dtype == np.uint8:
        return 0, 255
    low, high = float(np.nanmin(measured)), float(np.nanmax(measured))
    for one in ((0, 1), (-1, 1), (0, 255)):
        if one[0] <= low and high <= one[1]:
            return one
    room = 0.25 * (high - low)
    return math.floor(low - room), math.ceil(high + room)


def _fill_up(side: int) -> int:
    """Return the smallest side from this one on that the network can halve twice."""
    return max(8, 4 * math.ceil(side / 4))


def _label_counts(labels: np.ndarray | None) -> dict[str, int]:
    """Return label -> samples; empty where there are too many to be labels."""
    if labels is None:
        return {}
    values = labels.tolist()
    if labels.dtype.kind in "biuf":
        values = list(map(int, values))
    texts = Counter(map(str, values))
    return dict(sorted(texts.items())) if len(texts) <= MOST_LABELS else {}


def _measure(measured: np.ndarray, low: float, high: float) -> ValueRange:
    flat = (measured.reshape(len(measured), -1) - low) / (high - low)
    flat = flat[~np.isnan(flat).any(axis=1)]
    stds = flat.std(axis=1)
    shown = stds[stds > 0] if (stds > 0).any() else stds
    means = flat.mean(axis=1)
    return ValueRange(
        (float(means.min()), float(means.max())), (float(shown.min()), float(shown.max())), int((stds == 0).sum()), 0
    )
