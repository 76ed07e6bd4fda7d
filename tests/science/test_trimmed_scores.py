"""With `train.trim` a score learns nothing of the training samples that look least like the others, in what it compares."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ae_models import bank_scores
from ae_models.autoencoder import Autoencoder
from ae_models.bank_scores import BankScore, KnnScore, LocalHullScore
from ae_models.bundle import load_bundle
from ae_models.calibration import calibrate
from ae_models.errors import SpecError
from ae_models.linear_scores import PcaResidualScore
from ae_models.patch_scores import PatchBankScore
from ae_models.sample_sets import ArraySampleSet, SampleRoles
from ae_models.score_samples import ScoreSamples
from ae_models.spec import FitSpec, LocalHullScoreSpec

ROWS, STRIPED = 300, 15  # training samples, and how many of them show stripes: the first of each twenty
INPUT_SPACE = {"space": "input", "blur": 1.0, "energy": 0.5, "pool": 1, "rows": 1000, "coreset": "random"}
ORIENTATIONS = {**INPUT_SPACE, "space": "orientations", "blur": 0.7, "energy": 0.0, "pool": 4}
CODES = {**INPUT_SPACE, "space": "code", "blur": 0.0, "energy": 0.0}


@pytest.fixture(scope="module")
def contaminated(digits: np.ndarray) -> np.ndarray:
    """Digits of which one in twenty shows stripes, each in its own direction, uint8 (300, 1, 28, 28)."""
    samples = digits[:ROWS].copy()
    rows, columns = np.mgrid[:28, :28]
    for place, angle in enumerate(np.random.default_rng(0).uniform(0, np.pi, STRIPED)):
        waves = np.sin(2 * (rows * np.cos(angle) + columns * np.sin(angle)))
        samples[place * ROWS // STRIPED, 0] = np.where(waves > 0, 255, 0)
    return samples


@pytest.fixture(scope="module")
def autoencoder(spec: FitSpec) -> Autoencoder:
    """A model before its training, whose codes differ as its inputs do."""
    torch.manual_seed(0)
    return Autoencoder(spec.model, spec.input).eval()


def samples_of(autoencoder: Autoencoder, spec: FitSpec, train: np.ndarray, trim: float) -> ScoreSamples:
    return ScoreSamples(autoencoder, spec.input, ArraySampleSet(train), ArraySampleSet(train[:8]), seed=3, trim=trim)


@pytest.mark.parametrize("rows", [1000, 100])
@pytest.mark.parametrize(
    ("score_class", "settings"),
    [
        (KnnScore, {"neighbours": 5, **INPUT_SPACE}),
        (LocalHullScore, {"neighbours": 20, "ridge": 0.3, **ORIENTATIONS, "coreset": "k-centre"}),
        (KnnScore, {"neighbours": 5, **CODES, "coreset": "k-centre"}),
    ],
    ids=["input", "orientations", "code"],
)
def test_no_untypical_sample_is_left_in_a_bank(
    autoencoder: Autoencoder,
    spec: FitSpec,
    contaminated: np.ndarray,
    score_class: type[BankScore],
    settings: dict[str, Any],
    rows: int,
) -> None:
    striped = {sample.tobytes() for sample in contaminated[:: ROWS // STRIPED]}
    in_bank = {}
    for trim in (0.0, 0.1):
        score = score_class(**{**settings, "rows": rows})
        score.attach(autoencoder)
        score.fit(samples_of(autoencoder, spec, contaminated, trim))
        stored = score.bank_samples()
        assert stored is not None
        assert len(stored) == min(rows, ROWS - int(trim * ROWS)) == score.bank.shape[1]
        in_bank[trim] = sum(sample.tobytes() in striped for sample in stored)
    assert in_bank[0.0] > 0
    assert in_bank[0.1] == 0


def test_a_bank_of_more_rows_than_are_compared_is_trimmed_as_well(
    autoencoder: Autoencoder, spec: FitSpec, contaminated: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bank_scores, "_K_CENTRE_CANDIDATES", 50)
    score = KnnScore(neighbours=5, **{**INPUT_SPACE, "rows": 200})
    score.fit(samples_of(autoencoder, spec, contaminated, 0.1))
    assert score.bank.shape[1] == 180, "a tenth of 200 candidates is left out"


def test_axes_are_those_of_the_other_samples(autoencoder: Autoencoder, spec: FitSpec, contaminated: np.ndarray) -> None:
    clean = np.delete(contaminated, slice(None, None, ROWS // STRIPED), axis=0)
    means = []
    for train, trim in ((contaminated, 0.05), (clean, 0.0), (contaminated, 0.0)):
        score = PcaResidualScore(components=8, variance=0.95, blur=0.0, energy=0.0, pool=1)
        score.fit(samples_of(autoencoder, spec, train, trim))
        means.append(score.mean)
    torch.testing.assert_close(means[0], means[1])
    assert float((means[2] - means[1]).abs().max()) > 0.01


def test_patches_of_an_untypical_sample_are_left_out(autoencoder: Autoencoder, spec: FitSpec, contaminated: np.ndarray) -> None:
    few = contaminated[:20]  # the first shows stripes
    by_trim = {}
    for trim in (0.0, 0.2):
        score = PatchBankScore(rows=20_000, coreset="random", neighbours=1, blur=1.0)
        samples = samples_of(autoencoder, spec, few, trim)
        score.fit(samples)
        [output] = samples.outputs("train", np.arange(1))
        with torch.no_grad():
            by_trim[trim] = float(score(output))
    assert len(score.bank) == 20 * 49 - 196
    assert by_trim[0.2] > by_trim[0.0] + 1, "without a trim its patches stand in the bank"


def test_too_few_samples_after_the_trim_are_named(autoencoder: Autoencoder, spec: FitSpec, digits: np.ndarray) -> None:
    samples = samples_of(autoencoder, spec, digits[:6], 0.5)
    with pytest.raises(SpecError, match=r"at most 3, the number of training samples that train.trim leaves, got 5"):
        KnnScore(neighbours=5, **INPUT_SPACE).fit(samples)


def test_a_calibration_reads_the_trim_of_the_recipe(
    spec: FitSpec, digits: np.ndarray, fit_into: Callable[..., Any], tmp_path: Path
) -> None:
    trimmed = dataclasses.replace(
        spec, train=dataclasses.replace(spec.train, trim=0.1, epochs=1), score=LocalHullScoreSpec(neighbours=5)
    )
    fitted = fit_into(trimmed, tmp_path / "fitted")
    roles = SampleRoles(*(ArraySampleSet(part) for part in (digits[:320], digits[320:384], digits[384:])))
    calibrate(trimmed, fitted.history, roles, content_sha256="0" * 64, bundle=tmp_path / "bundle")
    assert load_bundle(tmp_path / "bundle").document["score_facts"] == {"bank_rows": 288}
