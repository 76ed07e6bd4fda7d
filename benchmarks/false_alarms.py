"""Do thresholds keep the rate that they promise? `python benchmarks/false_alarms.py` measures it on every data set at hand.

A set is its normal samples. Each of 20 splits draws them anew: two fifths to train on, three tenths to calibrate, three tenths
fresh. The score is the distance to the 5th nearest training sample (of values in [0, 1], or standardised columns of a table), so
nothing has to be trained. For each rate:

- **split-conformal**, where the calibration samples suffice: a split counts as inside where the alarms among the fresh samples
  do not contradict the rate by the beta-binomial law at 95 %. The share of such splits must not be below 95 % by a one-sided
  binomial test at 5 %. Without ties the law is exact in each split, whatever set and score; ties make alarms fewer, never more.
- **peaks over threshold**, where they do not: the measured rate is listed, and nothing is promised.
- **contamination quantile**, as PyOD sets its threshold: the quantile at 1 - rate of the training samples' own scores, each
  without itself among its neighbours. It needs no calibration samples, so it is trained on these, too.

Each set is a cell of benchmarks/records/false_alarms.json: it is stored as soon as it is measured, and not measured again
(`--again`: it is). docs/thresholds.md quotes the record (`--docs-only`: writes that section alone).
"""

import argparse
import gzip
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from benchmark_tools import RECORDS, ROOT, find_file, mnist_digits, replace_section, save_record
from scipy.stats import binomtest
from sklearn.neighbors import NearestNeighbors
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from ae_models.conformal_thresholds import SplitConformalThreshold
from ae_models.errors import SpecError
from ae_models.threshold_interface import CalibrationScores, StoredThreshold, ThresholdMethod
from ae_models.unpromised_thresholds import PeaksOverThreshold
from aeops.machine.stored_json import read_json
from aeops.report.model_card import markdown_table

RECORD, DOCS = RECORDS / "false_alarms.json", ROOT / "docs" / "thresholds.md"
BEGIN, END = "<!-- rates: written by `python benchmarks/false_alarms.py` -->", "<!-- rates: end -->"
RATES = (0.001, 0.01, 0.05)
SPLITS = 20
TRAIN_SHARE, CALIBRATION_SHARE = 0.4, 0.3
NEIGHBOURS = 5
MAX_ROWS = 20_000  # of a set
MAX_VALUES = 8_000_000  # of a set: of one with large samples fewer rows are taken, so that a split takes seconds
TAIL = 0.1  # share of the calibration scores that a tail is fitted to
CONFORMAL, EXTRAPOLATED, QUANTILE = "split-conformal", "peaks-over-threshold", "contamination"
LEVEL, SIGNIFICANCE = 0.95, 0.05


# ---------------------------------------------------------------- the data sets


@dataclass(frozen=True)
class NormalSet:
    """The normal samples of a data set.

    Attributes:
        vectors: (n, values).
        is_scaled: whether the values lie in [0, 1]; columns of a table do not, and are standardised on training samples.
    """

    vectors: np.ndarray
    is_scaled: bool


def list_sets() -> dict[str, Callable[[], NormalSet]]:
    """Return a reader of each data set at hand by its name: the digits, which ship, and those of the folder of sources."""
    sets: dict[str, Callable[[], NormalSet]] = {"digits": read_digits}
    readers = {
        "mnist": ("mnist/train-images-idx3-ubyte.gz", read_mnist),
        "cifar10": ("cifar10/cifar10_5k.npz", read_cifar),
        "magnetic-tile": ("magnetic_tile/magnetic_tile_96.npz", read_tiles),
    }
    for name, (path, reader) in readers.items():
        if file := find_file(path):
            sets[name] = lambda reader=reader, file=file: reader(file)
    if folder := find_file("adbench"):
        for file in sorted(folder.glob("*/*.npz"), key=lambda file: file.stem):
            sets[file.stem.partition("_")[2]] = lambda file=file: read_table(file)
    return sets


def read_digits() -> NormalSet:
    """Return the digits of recipes/digits.yaml without its novelty."""
    images, labels = mnist_digits()
    return NormalSet(images[labels != 5].reshape(-1, 784) / 255, is_scaled=True)


def read_mnist(file: Path) -> NormalSet:
    images = np.frombuffer(gzip.decompress(file.read_bytes()), np.uint8, offset=16)
    return NormalSet(images.reshape(-1, 784)[:MAX_ROWS] / 255, is_scaled=True)


def read_cifar(file: Path) -> NormalSet:
    return NormalSet(np.load(file)["x_train"].reshape(-1, 3072) / 255, is_scaled=True)


def read_tiles(file: Path) -> NormalSet:
    """Return one good tile of each group, every other pixel: images of one group show the same tile."""
    arrays = np.load(file)
    good = np.flatnonzero(arrays["labels"] == 0)
    _, first = np.unique(arrays["group"][good], return_index=True)
    return NormalSet(arrays["images"][good[first], ::2, ::2].reshape(len(first), -1) / 255, is_scaled=True)


def read_table(file: Path) -> NormalSet:
    arrays = np.load(file)
    return NormalSet(arrays["X"][arrays["y"] == 0].astype(np.float64), is_scaled=False)


# ---------------------------------------------------------------- one split


@dataclass(frozen=True)
class Split:
    """Scores of one split's samples.

    Attributes:
        calibration, fresh: by the training samples.
        own: of the training and calibration samples together, each by the others.
        own_fresh: of the fresh samples, by those.
    """

    calibration: np.ndarray
    fresh: np.ndarray
    own: np.ndarray
    own_fresh: np.ndarray


def draw_splits(data: NormalSet, splits: int) -> Iterator[Split]:
    """Yield the scores of so many splits, the same ones each time."""
    rows = min(len(data.vectors), MAX_ROWS, max(200, MAX_VALUES // data.vectors.shape[1]))
    train_rows, calibration_rows = int(TRAIN_SHARE * rows), int(CALIBRATION_SHARE * rows)
    for seed in range(splits):
        order = np.random.default_rng(seed).permutation(len(data.vectors))[:rows]
        train, calibration, fresh = np.split(data.vectors[order], [train_rows, train_rows + calibration_rows])
        whole = np.concatenate([train, calibration])
        if not data.is_scaled:
            center, scale = train.mean(0), train.std(0)
            scale[scale == 0] = 1
            train, calibration, fresh, whole = ((part - center) / scale for part in (train, calibration, fresh, whole))
        with threadpool_limits(1, "blas"):
            neighbours = NearestNeighbors(n_neighbors=NEIGHBOURS).fit(train)
            everyone = NearestNeighbors(n_neighbors=NEIGHBOURS).fit(whole)
            yield Split(
                *(farthest(neighbours, part) for part in (calibration, fresh)),
                *(farthest(everyone, part) for part in (None, fresh)),
            )


def farthest(neighbours: NearestNeighbors, samples: np.ndarray | None) -> np.ndarray:
    """Return each sample's distance to its farthest neighbour; None: of the fitted samples, each without itself."""
    distances = neighbours.kneighbors(samples)[0][:, -1]
    return np.asarray(distances, np.float32)


# ---------------------------------------------------------------- one cell


@dataclass
class RateCell:
    """Measurements of one threshold at one rate on one set, over all splits.

    Attributes:
        method: one of CONFORMAL, EXTRAPOLATED and QUANTILE.
        rate: the requested one.
        measured: mean share of flagged fresh samples.
        highest: the largest share in a split.
        inside: splits whose alarms do not contradict the rate; None where nothing is promised.
        splits: number of splits.
    """

    method: str
    rate: float
    measured: float
    highest: float
    inside: int | None
    splits: int


def measure_set(data: NormalSet, rates: Sequence[float], splits: int) -> dict[str, Any]:
    """Return the cell of one set: its numbers of samples, and the measurements of each threshold at each rate."""
    start_time = time.monotonic()
    all_splits = list(draw_splits(data, splits))
    calibration_rows, fresh_rows = len(all_splits[0].calibration), len(all_splits[0].fresh)
    cells = []
    for rate in rates:
        cell = measure_threshold(CONFORMAL, SplitConformalThreshold(rate), rate, all_splits)
        if cell is None:
            cell = measure_threshold(EXTRAPOLATED, PeaksOverThreshold(rate, TAIL), rate, all_splits)
        if cell is not None:
            cells.append(cell)
        shares = [float((split.own_fresh > np.quantile(split.own, 1 - rate)).mean()) for split in all_splits]
        inside = 0
        for share in shares:  # the law of a threshold that keeps the rate: it was chosen by as many samples as it has seen
            stored = StoredThreshold(SplitConformalThreshold(rate), 0.0, len(all_splits[0].own), {})
            inside += is_plausible(stored, round(share * fresh_rows), fresh_rows, rate)
        cells.append(RateCell(QUANTILE, rate, float(np.mean(shares)), max(shares), inside, splits))
    return {
        "calibration": calibration_rows,
        "fresh": fresh_rows,
        "values": data.vectors.shape[1],
        "seconds": round(time.monotonic() - start_time, 1),
        "rates": [asdict(cell) for cell in cells],
    }


def measure_threshold(name: str, method: ThresholdMethod, rate: float, splits: Sequence[Split]) -> RateCell | None:
    """Measure one kind of threshold; None where there are too few calibration samples for it, or no tail to fit."""
    shares, inside = [], 0
    for split in splits:
        try:
            threshold = method.calibrate(CalibrationScores(split.calibration))
        except SpecError:
            return None
        stored = StoredThreshold(method, threshold.value, len(split.calibration), threshold.details)
        alarms = int((split.fresh > threshold.value).sum())
        shares.append(alarms / len(split.fresh))
        if name == CONFORMAL:
            inside += is_plausible(stored, alarms, len(split.fresh), rate)
    return RateCell(name, rate, float(np.mean(shares)), max(shares), inside if name == CONFORMAL else None, len(splits))


def is_plausible(stored: StoredThreshold, alarms: int, normals: int, rate: float) -> bool:
    interval = stored.plausible_rates(alarms, normals, LEVEL)
    assert interval is not None
    return interval[0] <= rate <= interval[1]


# ---------------------------------------------------------------- docs/thresholds.md


def summarize(record: Mapping[str, Any] | None) -> str:
    """Return the section of docs/thresholds.md."""
    if record is None:
        return "Not measured yet: `python benchmarks/false_alarms.py` measures it."
    rates = record["settings"]["rates"]
    rows = []
    for name, cell in record["cells"].items():
        by_rate = {(row["method"], row["rate"]): row for row in cell["rates"]}
        rows.append([name, f"{cell['calibration']:,}", *(set_cell(by_rate, rate) for rate in rates)])
    heads = ["set", "calibration samples", *(f"{rate:.1%}" for rate in rates)]
    return "\n\n".join([*map(total_line, [record] * len(rates), rates), markdown_table(heads, rows)])


def total_line(record: Mapping[str, Any], rate: float) -> str:
    """Return how many splits of all sets are inside at one rate, for both thresholds."""
    texts = []
    for method, label in ((CONFORMAL, "split-conformal"), (QUANTILE, "contamination quantile")):
        inside, splits = count_inside(record, method, rate)
        if not splits:
            continue
        p_value = binomtest(inside, splits, LEVEL, alternative="less").pvalue
        result = "kept" if p_value > SIGNIFICANCE else "broken"
        texts.append(f"{label} {inside} of {splits} splits inside, {inside / splits:.1%} (p = {p_value:.2g}): **{result}**")
    return f"At {rate:.1%}: {'; '.join(texts) or 'no set has enough calibration samples'}."


def count_inside(record: Mapping[str, Any], method: str, rate: float) -> tuple[int, int]:
    """Return the splits inside and all splits, of the sets whose calibration allows the rate."""
    inside = splits = 0
    for cell in record["cells"].values():
        by_method = {row["method"]: row for row in cell["rates"] if row["rate"] == rate}
        if CONFORMAL in by_method:
            inside += by_method[method]["inside"]
            splits += by_method[method]["splits"]
    return inside, splits


def set_cell(by_rate: Mapping[tuple[str, float], Mapping[str, Any]], rate: float) -> str:
    """Return a set's measurements at one rate."""
    quantile = f"quantile {by_rate[QUANTILE, rate]['measured']:.2%}"
    if row := by_rate.get((CONFORMAL, rate)):
        return f"**{row['measured']:.2%}**, {row['inside']} of {row['splits']} inside; {quantile}"
    if row := by_rate.get((EXTRAPOLATED, rate)):
        return f"no promise: {row['measured']:.2%} by its tail, at most {row['highest']:.2%}; {quantile}"
    return f"too few samples; {quantile}"


def update_page(text: str, record: Mapping[str, Any] | None) -> str:
    """Return docs/thresholds.md with the section that quotes the record."""
    return replace_section(text, BEGIN, END, summarize(record), DOCS.name)


# ---------------------------------------------------------------- the program


def measure(out: Path, names: Sequence[str] | None, rates: Sequence[float], splits: int, *, again: bool) -> dict[str, Any]:
    """Measure the sets that the record lacks, and store each as soon as it is measured; return the record."""
    settings = {"rates": list(rates), "splits": splits, "neighbours": NEIGHBOURS, "max_rows": MAX_ROWS}
    record: dict[str, Any] = {"settings": settings, "cells": {}}
    if out.is_file() and not again:
        stored = read_json(out)
        if stored["settings"] == settings:
            record = stored
    for name, reader in list_sets().items():
        if name in record["cells"] or (names is not None and name not in names):
            continue
        record["cells"][name] = measure_set(reader(), rates, splits)
        save_record(out, record)
        print(name, record["cells"][name]["seconds"], "s", flush=True)
    return record


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Whether thresholds keep the rate of false alarms that they promise.")
    parser.add_argument("--sets", nargs="+", metavar="NAME", help="data sets [all at hand]")
    parser.add_argument("--rates", nargs="+", type=float, default=RATES, metavar="RATE", help="requested rates [0.001 0.01 0.05]")
    parser.add_argument("--splits", type=int, default=SPLITS, help=f"of each set [{SPLITS}]")
    parser.add_argument("--again", action="store_true", help="also measure what the record holds")
    parser.add_argument("--out", type=Path, default=RECORD, help="JSON to write [%(default)s]")
    parser.add_argument("--docs-only", action="store_true", help="only write docs/thresholds.md, from the record")
    args = parser.parse_args(arguments)
    if not args.docs_only:
        record = measure(args.out, args.sets, args.rates, args.splits, again=args.again)
        print(json.dumps({name: cell["rates"] for name, cell in record["cells"].items()}, indent=2))
    if args.out == RECORD:
        stored = read_json(RECORD) if RECORD.is_file() else None
        DOCS.write_text(update_page(DOCS.read_text(encoding="utf-8"), stored), encoding="utf-8")


if __name__ == "__main__":
    main()
