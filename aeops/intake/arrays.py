"""Arrays in .npy and .npz files and in the IDX files of MNIST: what they hold, and the recipe that is proposed for them."""

import math
from collections import Counter
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from aeops.data.sources.table_columns import whole
from aeops.errors import DataError
from aeops.intake.array_search import FoundArrays, are_rows, find_idx, find_npy, find_npz
from aeops.intake.common_sections import data_section, gate_section, threshold_section
from aeops.intake.image_model import evaluate_section, image_validate_section, model_sections, train_section
from aeops.intake.image_probe import ValueRange, require_different
from aeops.intake.proposal import Choices, Proposal, Understanding, source_path, split_labels
from aeops.intake.recipe_text import Entry
from aeops.intake.sizing import count_anomalies, count_normal, split_sizes
from aeops.intake.tables import propose_rows, propose_table
from aeops.intake.wording import format_counts
from aeops.kinds.decoding import DecodeError, decode_errors
from aeops.recipe.table_sources import TableSource

MEASURED = 2000  # samples whose values are measured, evenly spaced
MOST_LABELS = 100
CONVERT = """python -c "import numpy as n; x = n.load('{name}'); n.save('new.npy', {expression})\""""


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
                found = find_idx(path, understood)
            elif path.suffix.lower() == ".npy":
                found = find_npy(path, understood, choices, root)
            else:
                found = find_npz(path, understood, choices)
    except DecodeError as error:
        raise DataError(
            f"{path}: not readable as an array ({error}): expected a file written by numpy, without objects"
        ) from error
    if are_rows(found.samples):
        return _propose_rows(found, understood, path, root, dataset, choices)
    return _propose_images(found, understood, path, dataset, choices)


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
    label_name = group_name = None
    if found.labels is not None and found.label_entry is not None:
        label_name = str(found.label_entry.value)
        columns[label_name] = _column_cells(found.labels)
    if found.groups is not None and found.group_entry is not None:
        group_name = str(found.group_entry.value)
        columns[group_name] = _column_cells(found.groups)
    table = whole(columns, len(found.samples), path.name)
    source = TableSource(understood.source, samples=str(found.source[2].value))
    options = Choices(labels=label_name or "none", anomalies=choices.anomalies, identity=None, group=group_name)
    return propose_rows(table, source, understood, dataset, options, 1)


def _column_cells(array: np.ndarray) -> np.ndarray:
    return array.astype(str) if array.dtype.kind == "U" else array.astype(np.float64)


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
    values = _measure(measured, low, high)
    require_different(values, str(path))
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
    if found.group_entry is not None:
        source.append(found.group_entry)
    proposal = Proposal(understood, understood.source, f"Images of {understood.source}.")
    proposal.entries = [
        data_section(dataset, source, list(labels), anomalies, sizes),
        image_validate_section(len(samples), values, bad / len(measured)),
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
    different = {sample.tobytes() for sample in flat[stds > 0]}
    extremes = (float(means.min()), float(means.max())), (float(shown.min()), float(shown.max()))
    return ValueRange(*extremes, int((stds == 0).sum()), 0, len(flat), len(different))
