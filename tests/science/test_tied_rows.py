"""Rows that are equally near: a bank of values on a grid has noise, so that each engine finds the same nearest rows."""

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from ae_models.bank_scores import LocalHullScore
from ae_models.sklearn import MemoryDetector
from ae_models.tied_rows import count_ties, separate_rows


def survey(rows: int, seed: int) -> np.ndarray:
    """Answers from 1 to 5 to seven questions, which go together, float64 (rows, 7)."""
    random = np.random.default_rng(seed)
    answers = 3 + random.normal(size=(rows, 2)) @ np.random.default_rng(9).normal(size=(2, 7))
    return np.clip(np.round(answers + random.normal(0, 0.3, (rows, 7))), 1, 5)


@pytest.mark.parametrize(
    "rows", [survey(500, 0), np.arange(500)[:, None] % np.array([7, 13, 11]), np.random.default_rng(0).integers(0, 2, (200, 64))]
)
def test_values_on_a_grid_have_ties_and_noise_ends_them(rows: np.ndarray) -> None:
    bank = torch.from_numpy(np.unique(rows, axis=0).astype(np.float32))
    compared, ties, distance = count_ties(bank)
    assert compared == len(bank)
    assert ties > 0.02 * compared
    separated = separate_rows(bank, seed=0)
    assert count_ties(separated)[1] <= 1
    assert 0.02 * distance < float((separated - bank).norm(dim=1).mean()) < 0.08 * distance
    assert torch.equal(separated, separate_rows(bank, seed=0))


@pytest.mark.parametrize("copies", [1, 20])
def test_rows_without_ties_stay_as_they_are_and_copies_are_none(copies: int) -> None:
    bank = torch.from_numpy(np.random.default_rng(0).normal(size=(300, 5)).astype(np.float32)).repeat(copies, 1)
    assert count_ties(bank)[1] == 0
    assert separate_rows(bank, seed=0) is bank


def test_few_rows_are_not_compared() -> None:
    bank = torch.ones(5, 3)
    assert separate_rows(bank, seed=0) is bank


def test_an_exported_graph_finds_the_same_neighbours_of_answers_to_a_survey(tmp_path: Path) -> None:
    detector = MemoryDetector().fit(survey(600, 1))
    detector.save(tmp_path / "bundle")
    session = onnxruntime.InferenceSession(str(tmp_path / "bundle" / "model.onnx"), providers=["CPUExecutionProvider"])
    rows = survey(200, 2)
    [scores] = session.run(["score"], {session.get_inputs()[0].name: rows})
    np.testing.assert_allclose(scores, -detector.score_samples(rows), atol=1e-3)


def test_a_hull_of_copies_is_that_one_row() -> None:
    random = np.random.default_rng(0)
    row, sample = random.normal(size=7).astype(np.float32), random.normal(size=(1, 7)).astype(np.float32)
    score = LocalHullScore(ridge=0.1, space="input", blur=0.0, energy=0.0, pool=1, rows=100, coreset="random", neighbours=20)
    copies = torch.from_numpy(np.tile(row, (1, 20, 1)))
    residual = score.residual(torch.from_numpy(sample), copies, torch.from_numpy(sample))
    np.testing.assert_array_equal(residual.numpy(), sample - row)
