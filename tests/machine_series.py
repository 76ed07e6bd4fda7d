"""Readings of three machines with two channels, some of them broken in known ways, and a recipe of them."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from data_project import Room, make_room

from ae_models.fit import fit
from ae_models.spec import ChannelSpec, FitSpec, InputSpec, StepsSpec, spec_to_dict
from aeops.kinds.series_grid import to_steps
from aeops.kinds.series_readings import read_columns
from aeops.kinds.series_steps import learn_ranges
from aeops.kinds.series_windows import cut_windows, run_bounds, spread_starts

CHANNELS: list[dict[str, Any]] = [{"name": "temperature", "min": -40, "max": 200}, {"name": "pressure"}]
STEPS: dict[str, Any] = {"every": 60, "length": 16, "stride": 4, "fill": 2, "machine": "machine"}
SECTIONS: dict[str, Any] = {
    "model": {
        "corrupt": {"kind": "none"},
        "encode": {"kind": "dense", "widths": [16]},
        "bottleneck": {"kind": "identity", "size": 3},
        "decode": {"kind": "dense", "widths": [16]},
        "compare": {"kind": "mse"},
    },
    "score": {
        "kind": "combined",
        "scores": [{"kind": "knn", "neighbours": 3, "energy": 0}, {"kind": "normalised-residual", "energy": 0}],
    },
    "threshold": {"kind": "block-conformal", "false_alarm_rate": 0.2, "block": 4},
    "train": {"epochs": 2, "batch": 32, "threads": 1, "accelerator": "cpu"},
}
START = pd.Timestamp("2026-03-01T00:00:00Z")


def readings(steps: int = 400, machines: tuple[str, ...] = ("press-1", "press-2", "press-3")) -> pd.DataFrame:
    """A reading a minute of each machine: a daily course and its phase, with noise of a seeded generator."""
    generator = np.random.default_rng(5)
    parts = []
    for place, machine in enumerate(machines):
        phase = np.arange(steps) * 2 * np.pi / 48 + place
        parts.append(
            pd.DataFrame(
                {
                    "time": (START + pd.to_timedelta(np.arange(steps), unit="min")).strftime("%Y-%m-%dT%H:%M:%SZ"),
                    "machine": machine,
                    "temperature": 60 + 8 * np.sin(phase) + generator.normal(0, 0.5, steps),
                    "pressure": 2000 + 150 * np.cos(phase) + generator.normal(0, 8, steps),
                }
            )
        )
    return pd.concat(parts, ignore_index=True)


def series_room(root: Path, **changes: dict[str, Any]) -> Room:
    """A project whose recipe `mine` takes these readings; `changes` are keys of sections."""
    made = make_room(root, np.zeros((1, 1)), np.zeros(1))
    made.replace(
        data={
            "dataset": "mine",
            "source": {"kind": "series", "path": "readings.csv"},
            "split": {"by": "time", "validation": 0.15, "calibration": 0.25, "test": 0.25},
        },
        validate={"rows": {"min": 1, "max": 100000}, "mean_drift": 0.5, "quarantine_budget": 0.1, "completeness": 0.9},
        input={"kind": "series", "channels": CHANNELS, "steps": STEPS},
        evaluate={},
        gate={"served": {"check": "served"}},
        purpose="reconstruct",
        **SECTIONS,
    )
    made.edit(**changes)
    return made


def write(room: Room, frame: pd.DataFrame) -> None:
    frame.to_csv(room.root / "readings.csv", index=False)


def to_long(frame: pd.DataFrame) -> pd.DataFrame:
    """The same readings, one a row."""
    return frame.melt(["time", "machine"], ["temperature", "pressure"], "channel", "value")


def fit_bundle(folder: Path, steps: int = 400, **step_changes: Any) -> Path:
    """A bundle of these readings, made in a second; `step_changes` are keys of the steps that it takes."""
    spec = InputSpec(kind="series", channels=tuple(ChannelSpec(**one) for one in CHANNELS), steps=StepsSpec(**STEPS))
    assert spec.steps is not None
    frame = readings(steps)
    columns = {name: frame[name].to_numpy() for name in frame}
    made = to_steps(read_columns(columns, spec.channels, spec.steps, from_text=False), spec.steps)
    runs = run_bounds(made.machines, made.times, spec.steps.every)
    starts = spread_starts(runs, spec.steps.length, spec.steps.stride)
    windows = cut_windows(made.values, starts, spec.steps.length)
    spec = replace(spec, steps=replace(spec.steps, **step_changes))
    learnt = spec.with_ranges(learn_ranges(made.values.min(axis=0), made.values.max(axis=0), spec.channels))
    sections = {**SECTIONS, "train": {**SECTIONS["train"], "epochs": 30}}
    first, second = len(windows) // 2, 2 * len(windows) // 3
    fit(
        FitSpec.from_dict({"input": spec_to_dict(learnt), **sections}, "series"),
        windows[:first],
        windows[first:second],
        windows[second:],
        checkpoints=folder / "checkpoints",
        content_sha256="c" * 64,
        recipe="press",
        bundle=folder / "bundle",
        history=folder / "history",
        progress_bar=False,
    )
    return folder / "bundle"
