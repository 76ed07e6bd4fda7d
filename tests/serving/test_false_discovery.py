"""`ae score --fdr`: the step-up procedure by brute force, its promise by simulation, and what a person sees of it."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from aeops.bundle.detector import Detector
from aeops.bundle.false_discovery import find_discoveries
from aeops.cli import score
from aeops.cli.main import main
from aeops.project import Project


def conformal_p_values(scores: np.ndarray, calibration: np.ndarray) -> np.ndarray:
    at_least = len(calibration) - np.searchsorted(np.sort(calibration), scores, side="left")
    return ((1 + at_least) / (len(calibration) + 1)).astype(np.float32)


def step_up(p_values: np.ndarray, share: float) -> set[int]:
    """Benjamini and Hochberg (1995) as they state it."""
    order = np.argsort(p_values, kind="stable")
    largest = max((i for i in range(1, len(order) + 1) if p_values[order[i - 1]] <= i * share / len(order)), default=0)
    return set(order[:largest].tolist())


@pytest.mark.parametrize("share", [0.05, 0.2, 0.5])
def test_the_discoveries_are_those_of_the_step_up_procedure(share: float) -> None:
    random = np.random.default_rng(0)
    for _ in range(50):
        p_values = random.uniform(0, 1, 40) ** random.integers(1, 6)
        assert set(np.flatnonzero(find_discoveries(p_values, share, 999).is_discovery).tolist()) == step_up(p_values, share)


def test_on_average_over_batches_at_most_the_share_of_those_called_are_normal() -> None:
    random, share, false_shares, found = np.random.default_rng(1), 0.1, [], 0
    for _ in range(600):
        calibration = random.normal(size=500)
        batch = np.concatenate([random.normal(size=80), random.normal(4, 1, 20)])
        called = find_discoveries(conformal_p_values(batch, calibration), share, 500).is_discovery
        false_shares.append(called[:80].sum() / max(called.sum(), 1))
        found += int(called[80:].sum())
    assert np.mean(false_shares) < share
    assert np.mean(false_shares) > 0.04  # and no more is given away than 1 - 20 / 100
    assert found > 0.8 * 600 * 20


def test_a_p_value_at_its_bound_counts_although_it_is_rounded_to_float32() -> None:
    p_values = np.array([1 / 20, 0.9, 0.9, 0.9, 0.9], np.float32)
    assert find_discoveries(p_values, 0.25, 19).count == 1  # 1/20 <= 1 * 0.25 / 5


def test_without_samples_that_have_a_p_value_nothing_is_called() -> None:
    for p_values in (np.array([]), np.array([np.nan, np.nan])):
        result = find_discoveries(p_values, 0.1, 99)
        assert (result.count, result.cutoff, len(result.is_discovery)) == (0, None, len(p_values))
    refused_beside = find_discoveries(np.array([np.nan, 0.01]), 0.1, 99)
    assert refused_beside.is_discovery.tolist() == [False, True]


def test_few_calibration_samples_for_a_large_batch_ask_for_several_at_once() -> None:
    p_values = np.full(1000, 0.5)
    p_values[:9] = 1 / 100
    few = find_discoveries(p_values, 0.1, 99)
    assert (few.count, few.fewest) == (0, 100)
    p_values[:100] = 1 / 100
    assert find_discoveries(p_values, 0.1, 99).count == 100


# ---------------------------------------------------------------- the command


@pytest.fixture
def batch(project: Project, digits: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(project.root)
    monkeypatch.setenv("COLUMNS", "160")
    for name in ("MLFLOW_TRACKING_URI", "AE_HOME"):
        monkeypatch.delenv(name, raising=False)
    np.save(tmp_path / "batch.npy", np.concatenate([digits[:6], 255 - digits[:4]]))
    return tmp_path / "batch.npy"


def score_batch(file: Path, fdr: float, capsys: pytest.CaptureFixture[str], *, as_json: bool) -> str:
    score.run(
        SimpleNamespace(
            recipe="digits", file=file, version="1", json=as_json, inbox=False, fdr=fdr, explain=False, on=None, shards=None
        )
    )  # type: ignore[arg-type]
    return capsys.readouterr().out


def test_the_output_says_which_samples_are_called_beside_the_threshold(
    batch: Path, capsys: pytest.CaptureFixture[str], linear_bundle: Path
) -> None:
    p_values = Detector(linear_bundle).score(np.load(batch))["p_value"]
    expected = step_up(p_values, 0.2)
    assert expected
    answer: dict[str, Any] = json.loads(score_batch(batch, 0.2, capsys, as_json=True))
    assert {index for index, row in enumerate(answer["samples"]) if row["is_discovery"]} == expected
    assert answer["fdr"]["discoveries"] == len(expected)
    assert answer["fdr"]["share"] == 0.2
    table = score_batch(batch, 0.2, capsys, as_json=False)
    assert "by --fdr" in table
    assert f"{len(expected)} samples of this batch called; on average over batches at most 20.00% of those called" in table


def test_none_called_is_explained_by_the_calibration_samples() -> None:
    line = score.discovery_line(find_discoveries(np.full(1000, 1 / 100), 0.001, 99))
    assert line.startswith("--fdr 0.001: 0 samples of this batch called")
    assert "with so few calibration samples for a batch of this size none is called unless 10000 or more" in line
    assert "unless" not in score.discovery_line(find_discoveries(np.full(10, 0.5), 0.1, 999))
    assert "unless" not in score.discovery_line(find_discoveries(np.full(1000, 0.5), 0.001, None))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["batch.npy", "--fdr", "1.5"], "--fdr: expected a share above 0 and below 1, such as 0.05, got 1.5"),
        (["batch.npy", "--fdr", "nan"], "--fdr: expected a share above 0 and below 1, such as 0.05, got nan"),
        (["--inbox", "--fdr", "0.1"], "--inbox: expected no --fdr, which is about the samples of one FILE"),
    ],
)
def test_a_share_that_makes_no_sense_is_refused(
    batch: Path, options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["score", "digits", *options]) == 2
    assert message in capsys.readouterr().err
