"""Windows cut from a dataset of steps, for training and evaluation: the stage prepare writes them.

A window lies in one split. Where the splits follow each other in time, the first `length` steps after each border are left out,
on all machines alike: no step lies in windows of two splits, and those of two splits are a window apart.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from ae_models.spec import InputSpec
from aeops.data.dataset import read_shards
from aeops.errors import DataError
from aeops.kinds.series_steps import TIME, learn_ranges, machine_names, step_values
from aeops.kinds.series_windows import cut_windows, run_bounds, spread_starts, step_names
from aeops.recipe.reader import Recipe
from aeops.recipe.sections import BY_TIME

SPLIT_NAMES = ("train", "validation", "calibration", "test")
NO_LABEL = -1
CALIBRATION_WINDOWS = "calibration.parquet"  # names of the windows in calibration.npy


@dataclass(frozen=True)
class WindowSets:
    """The windows of each split.

    Attributes:
        spec: the section input with the learnt ranges of the channels.
        steps: one row a step: machine, time (seconds since 1970), split (`gap` for those that are left out), label, novelty.
        values: of the channels, float64 (steps, channels).
        starts: split -> the first step of each window, int64 (n,).
        labels: split -> the label of each window, int64 (n,); -1 without one.
        novelty: split -> whether a window holds a step of the novelty, bool (n,).
        runs: split -> the number of each window's unbroken run, int64 (n,).
    """

    spec: InputSpec
    steps: pd.DataFrame
    values: np.ndarray
    starts: dict[str, np.ndarray]
    labels: dict[str, np.ndarray]
    novelty: dict[str, np.ndarray]
    runs: dict[str, np.ndarray]

    def cut(self, split: str) -> np.ndarray:
        """Return the windows of a split, float32 (n, channels, length)."""
        return cut_windows(self.values, self.starts[split], self._length)

    @property
    def _length(self) -> int:
        return self.spec.shape[1]

    def table(self, split: str) -> pd.DataFrame:
        """Return a row for each window of a split: id, label, group, novelty, machine, time, run and start.

        Windows that share many steps are of one group.
        """
        starts = self.starts[split]
        machines, times = self.steps["machine"].to_numpy()[starts], self.steps["time"].to_numpy()[starts]
        groups = [f"{run}:{start // self._length}" for run, start in zip(self.runs[split].tolist(), starts.tolist(), strict=True)]
        labels = pd.array(self.labels[split], dtype="Int64")
        labels[self.labels[split] == NO_LABEL] = pd.NA
        return pd.DataFrame(
            {
                "id": step_names(machines, times),
                "label": labels,
                "group": groups,
                "novelty": self.novelty[split],
                "machine": machines,
                "time": times,
                "run": self.runs[split],
                "start": starts,
            }
        )


def calibration_names(file: Path) -> list[str] | None:
    """Return the names of the windows in a calibration file, machine and time; None of other samples.

    Args:
        file: calibration.npy of a folder that the stage prepare wrote, or samples from elsewhere.
    """
    windows = file.with_name(CALIBRATION_WINDOWS)
    if file.name != "calibration.npy" or not windows.is_file():
        return None
    return list(pd.read_parquet(windows)["id"])


def cut_window_sets(dataset: Path, index: pd.DataFrame, is_novelty: pd.Series, recipe: Recipe) -> WindowSets:
    """Cut the windows of an accepted dataset.

    Windows of training, validation and calibration hold no step of the novelty; those of the test may.

    Args:
        dataset: its folder.
        index: a row a step.
        is_novelty: whether the label of each step is one of the novelty.
        recipe: its input and its split.

    Raises:
        DataError: a split has too few windows: its unbroken runs are shorter than one.
    """
    spec = recipe.fit.input
    assert spec.steps is not None, "a series with channels has steps"
    steps, values = _read_steps(dataset, index, is_novelty, spec)
    if recipe.data.split.by == BY_TIME:
        _leave_gaps(steps, spec.steps.length * spec.steps.every)
    splits = steps["split"].to_numpy()
    runs = run_bounds(steps["machine"].to_numpy(), steps["time"].to_numpy(), spec.steps.every, splits)
    run_numbers = np.repeat(np.arange(len(runs)), [end - first for first, end in runs])
    longest = dict.fromkeys(SPLIT_NAMES, 0)
    starts: dict[str, np.ndarray] = {}
    has_novelty: dict[str, np.ndarray] = {}
    for name in SPLIT_NAMES:
        own = [run for run in runs if splits[run[0]] == name]
        longest[name] = max((end - first for first, end in own), default=0)
        starts[name] = spread_starts(own, spec.steps.length, spec.steps.stride)
        has_novelty[name] = _holds(steps["novelty"].to_numpy(), starts[name], spec.steps.length)
    for name in SPLIT_NAMES[:-1]:
        starts[name] = starts[name][~has_novelty[name]]
        has_novelty[name] = np.zeros(len(starts[name]), bool)
    _require_windows(starts, has_novelty, longest, recipe)
    labels, own_runs = {}, {}
    for name in SPLIT_NAMES:
        labels[name] = _window_labels(steps, starts[name], has_novelty[name], spec.steps.length)
        own_runs[name] = run_numbers[starts[name]]
    trained = _covered(starts["train"], spec.steps.length, len(steps))
    learnt = spec.with_ranges(learn_ranges(values[trained].min(axis=0), values[trained].max(axis=0), spec.channels))
    return WindowSets(learnt, steps, values, starts, labels, has_novelty, own_runs)


def _read_steps(dataset: Path, index: pd.DataFrame, is_novelty: pd.Series, spec: InputSpec) -> tuple[pd.DataFrame, np.ndarray]:
    """Return the steps in the order of machines and time, and their values (n, channels)."""
    blocks, rows = [], []
    for part, block in read_shards(dataset, index):
        blocks.append(block)
        rows.append(part)
    block, table = np.concatenate(blocks), pd.concat(rows)
    machines, times = machine_names(block), block[TIME]
    order = np.lexsort((times, machines))
    steps = pd.DataFrame(
        {
            "machine": machines[order],
            "time": times[order],
            "split": table["split"].to_numpy(dtype=object)[order],
            "label": table["label"].fillna(NO_LABEL).to_numpy(dtype=np.int64)[order],
            "novelty": is_novelty[table.index].to_numpy()[order],
        }
    )
    return steps, step_values(block, spec.channels)[order]


def _leave_gaps(steps: pd.DataFrame, seconds: float) -> None:
    """Mark the steps of the first `seconds` of each split but the first as `gap`, in place."""
    times, splits = steps["time"].to_numpy(), steps["split"].to_numpy(dtype=object).copy()
    for name in SPLIT_NAMES[1:]:
        own = splits == name
        if own.any():
            splits[own & (times < times[own].min() + seconds)] = "gap"
    steps["split"] = splits


def _holds(is_marked: np.ndarray, starts: np.ndarray, length: int) -> np.ndarray:
    """Return whether each window holds a marked step, bool (n,)."""
    sums = np.concatenate([[0], np.cumsum(is_marked)])
    return np.asarray(sums[starts + length] > sums[starts])


def _covered(starts: np.ndarray, length: int, steps: int) -> np.ndarray:
    changes = np.zeros(steps + 1, np.int64)
    np.add.at(changes, starts, 1)
    np.add.at(changes, starts + length, -1)
    return np.asarray(np.cumsum(changes)[:-1] > 0)


def _window_labels(steps: pd.DataFrame, starts: np.ndarray, has_novelty: np.ndarray, length: int) -> np.ndarray:
    """Return the label of each window: that of its first step of the novelty, else that of its first step."""
    places = np.where(steps["novelty"].to_numpy(), np.arange(len(steps)), len(steps))
    next_novelty = np.minimum.accumulate(places[::-1])[::-1]  # the first one at or after each step
    chosen = np.where(has_novelty, next_novelty[starts] if len(starts) else starts, starts)
    return np.asarray(steps["label"].to_numpy()[chosen], np.int64)


def _require_windows(
    starts: dict[str, np.ndarray], novelty: dict[str, np.ndarray], longest: dict[str, int], recipe: Recipe
) -> None:
    assert recipe.fit.input.steps is not None
    length, problems = recipe.fit.input.steps.length, []
    for name in SPLIT_NAMES:
        count, needed = int((~novelty[name]).sum()), 1 if name == "test" else 2
        if count < needed:
            problems.append(
                f"{count} normal windows of {length} steps in {name}, expected {needed} or more: its longest unbroken run has "
                f"{longest[name]:,} steps"
            )
    if recipe.data.novelty and not novelty["test"].any():
        problems.append("no window with a novelty label in test")
    if problems:
        raise DataError(
            f"{recipe.data.dataset}: {'; '.join(problems)} (the first {length} steps after a border of data.split are left out, "
            "and a gap ends a run): bring a longer series, shorten input.steps.length, raise input.steps.fill, or change "
            f"data.split in recipes/{recipe.name}.yaml, then type ae run {recipe.name}"
        )
