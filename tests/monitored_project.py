"""A project that is watched: how to make one, and how to score samples in it on a day of one's choice."""

import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np

from aeops.bundle.detector import Detector
from aeops.predictions import prediction_store
from aeops.predictions.arrow_rows import build_rows
from aeops.predictions.rows import scorer_of
from aeops.project import Project
from aeops.registry import ledger

ROOT = Path(__file__).parents[1]
Score = Callable[..., None]


def make_project(root: Path) -> Project:
    (root / "recipes").mkdir(parents=True)
    shutil.copy(ROOT / "recipes" / "digits.yaml", root / "recipes")
    shutil.copy(ROOT / "dvc.yaml", root)
    return Project(root=root, home=root / ".ae")


def promotion_of(project: Project) -> datetime:
    """When the champion became so."""
    move = ledger.last_move(ledger.read_entries(project, "digits"))
    assert move is not None
    return move.timestamp


def scoring(project: Project, bundle: Path) -> Score:
    detector, promoted = Detector(bundle), promotion_of(project)

    def record(day: int, samples: np.ndarray, channel: str = "service", version: str = "1") -> None:
        scorer = scorer_of("digits", version, detector)
        moment = on_day(promoted, day)
        call = prediction_store.new_call(project)
        names = [f"{place}.png" for place in range(len(samples))]
        said = detector.score(samples, code=True)
        rows = build_rows(scorer, call=call, channel=channel, time=moment, names=names, samples=samples, outputs=said)
        prediction_store.write_call(prediction_store.call_file(project, "digits", moment, call), [rows])

    return record


def on_day(promoted: datetime, day: int) -> datetime:
    """Noon of a day after the promotion's."""
    return promoted.astimezone(UTC).replace(hour=12, minute=0, second=0, microsecond=0) + timedelta(days=day)
