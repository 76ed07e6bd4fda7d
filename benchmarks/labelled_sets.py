"""Labelled sets at hand, each with raw samples of a kind of input: normals for three uses, and labelled anomalies."""

import gzip
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
from benchmark_tools import find_file, mnist_digits

from ae_models.spec import InputSpec

TRAIN_SHARE, CALIBRATION_SHARE = 0.5, 0.25  # of the normals; the rest are test samples
MAX_TRAIN, MAX_CALIBRATION = 2000, 1000
MAX_NOVELTY = 1000
TEXT_BYTES = 400
NAB_STEPS, NAB_STRIDE, NAB_BLOCK = 48, 12, 20  # of a window; between windows; windows that go to the same use
NAB_MIN_WINDOWS, NAB_MIN_NOVELTY = 250, 5
NAB_LABELLED_SHARE = 0.5  # of its steps that have to lie in a labelled stretch for a window to be an anomaly


@dataclass(frozen=True)
class LabelledSet:
    """A labelled set.

    Attributes:
        spec: of one sample.
        train, calibration, test: normals, raw (n, *spec.shape).
        novelty: labelled anomalies, raw.
    """

    spec: InputSpec
    train: np.ndarray
    calibration: np.ndarray
    test: np.ndarray
    novelty: np.ndarray


def list_sets() -> dict[str, Callable[[], LabelledSet]]:
    """Return a reader of each set at hand by its name."""
    sets: dict[str, Callable[[], LabelledSet]] = {}
    for digit in range(10):
        sets[f"digits, {digit} is new"] = lambda digit=digit: read_digits(digit)
    if find_file("mnist"):
        for digit in range(10):
            sets[f"mnist, {digit} is normal"] = lambda digit=digit: read_mnist(digit)
    if find_file("cifar10"):
        for label in range(10):
            sets[f"cifar10, {label} is normal"] = lambda label=label: read_cifar(label)
    if find_file("magnetic_tile"):
        sets["magnetic tiles"] = read_tiles
    if folder := find_file("timeseries/nab"):
        for file in sorted(folder.glob("*/*.csv.gz")):
            name = f"{file.parent.name}/{file.name.removesuffix('.gz')}"
            if has_enough_windows(folder, name):
                sets[f"nab, {file.name.removesuffix('.csv.gz')}"] = lambda folder=folder, name=name: read_nab(folder, name)
    if find_file("text"):
        for topic in sorted(set(read_documents()[1])):
            sets[f"bbc, {topic} is new"] = lambda topic=topic: read_bbc(topic)
    return sets


def split_normals(spec: InputSpec, normals: np.ndarray, novelty: np.ndarray) -> LabelledSet:
    """Return a set whose normals are drawn for their uses at random, the same way each time."""
    generator = np.random.default_rng(0)
    normals = normals[generator.permutation(len(normals))]
    train_rows = int(TRAIN_SHARE * len(normals))
    rest_rows = train_rows + int(CALIBRATION_SHARE * len(normals))
    if len(novelty) > MAX_NOVELTY:
        novelty = novelty[generator.permutation(len(novelty))[:MAX_NOVELTY]]
    train, calibration = normals[:train_rows][:MAX_TRAIN], normals[train_rows:rest_rows][:MAX_CALIBRATION]
    return LabelledSet(spec, train, calibration, normals[rest_rows:], novelty)


def read_digits(digit: int) -> LabelledSet:
    images, labels = mnist_digits()
    return split_normals(InputSpec("image", (1, 28, 28)), images[labels != digit], images[labels == digit])


def read_mnist(digit: int) -> LabelledSet:
    """Return one digit as the normal one; the anomalies are others of the test file."""
    images, labels = read_idx("train")
    test_images, test_labels = read_idx("t10k")
    return split_normals(InputSpec("image", (1, 28, 28)), images[labels == digit], test_images[test_labels != digit])


@cache
def read_idx(part: str) -> tuple[np.ndarray, np.ndarray]:
    folder = find_file("mnist")
    assert folder is not None
    images = np.frombuffer(gzip.decompress((folder / f"{part}-images-idx3-ubyte.gz").read_bytes()), np.uint8, offset=16)
    labels = np.frombuffer(gzip.decompress((folder / f"{part}-labels-idx1-ubyte.gz").read_bytes()), np.uint8, offset=8)
    return images.reshape(-1, 1, 28, 28), labels


def read_cifar(label: int) -> LabelledSet:
    images, labels = read_cifar_arrays()
    return split_normals(InputSpec("image", (3, 32, 32)), images[labels == label], images[labels != label])


@cache
def read_cifar_arrays() -> tuple[np.ndarray, np.ndarray]:
    folder = find_file("cifar10")
    assert folder is not None
    arrays = np.load(folder / "cifar10_5k.npz")
    images = np.concatenate([arrays["x_train"], arrays["x_test"]]).transpose(0, 3, 1, 2)
    return np.ascontiguousarray(images), np.concatenate([arrays["y_train"], arrays["y_test"]])


def read_tiles() -> LabelledSet:
    """Return every other pixel of the tiles; those of one group show the same tile, so a good one of each group is drawn."""
    folder = find_file("magnetic_tile")
    assert folder is not None
    arrays = np.load(folder / "magnetic_tile_96.npz")
    images = arrays["images"][:, None, ::2, ::2]
    good = np.flatnonzero(arrays["labels"] == 0)
    _, first = np.unique(arrays["group"][good], return_index=True)
    return split_normals(InputSpec("image", (1, 48, 48)), images[good[first]], images[arrays["labels"] > 0])


# ---------------------------------------------------------------- windows of series


def read_nab(folder: Path, name: str) -> LabelledSet:
    """Return windows of a series; of neighbouring windows, which overlap, all go to the same use."""
    windows, label_shares = cut_windows(folder, name)
    normals = windows[label_shares == 0]
    use = np.arange(len(normals)) // NAB_BLOCK % 4  # two of four blocks to train on
    spec = InputSpec("series", (1, NAB_STEPS), low=float(windows.min()), high=float(windows.max()))
    novelty = windows[label_shares >= NAB_LABELLED_SHARE]
    return LabelledSet(spec, normals[use < 2], normals[use == 2], normals[use == 3], novelty)


def has_enough_windows(folder: Path, name: str) -> bool:
    windows, label_shares = cut_windows(folder, name)
    novelty_rows = int((label_shares >= NAB_LABELLED_SHARE).sum())
    return len(windows) >= NAB_MIN_WINDOWS and novelty_rows >= NAB_MIN_NOVELTY and bool(windows.min() < windows.max())


@cache
def cut_windows(folder: Path, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the windows of a series, float32 (n, 1, steps), and the share of each that a label covers, (n,)."""
    series = pd.read_csv(folder / f"{name}.gz", parse_dates=["timestamp"])
    stretches = json.loads((folder / "combined_windows.json").read_text(encoding="utf-8"))[name]
    is_labelled = np.zeros(len(series), dtype=bool)
    for start, end in stretches:
        is_labelled |= series["timestamp"].between(pd.Timestamp(start), pd.Timestamp(end)).to_numpy()
    starts = np.arange(0, len(series) - NAB_STEPS + 1, NAB_STRIDE)
    places = starts[:, None] + np.arange(NAB_STEPS)
    values = series["value"].to_numpy(np.float32)
    return values[places][:, None], is_labelled[places].mean(axis=1)


# ---------------------------------------------------------------- texts


def read_bbc(topic: str) -> LabelledSet:
    """Return the beginnings of news of all topics but one; those of this one are new."""
    rows, topics = read_documents()
    is_new = np.array(topics) == topic
    return split_normals(InputSpec("text", (TEXT_BYTES,)), rows[~is_new], rows[is_new])


@cache
def read_documents() -> tuple[np.ndarray, tuple[str, ...]]:
    folder = find_file("text")
    assert folder is not None
    table = pd.read_csv(folder / "bbc_news_summary.csv.gz", keep_default_na=False)
    rows = np.zeros((len(table), TEXT_BYTES), np.uint8)
    for row, document in zip(rows, table["document"], strict=True):
        content = " ".join(document.split()).encode()[:TEXT_BYTES].decode(errors="ignore").encode()
        row[: len(content)] = np.frombuffer(content, np.uint8)
    return rows, tuple(table["category"])
