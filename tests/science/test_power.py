"""The share of injected faults that a detector catches: by enumeration, and for scores that are of no use."""

from dataclasses import replace
from itertools import groupby

import numpy as np
import pytest

from ae_models import power
from ae_models.errors import SampleError
from ae_models.faults import find_changed, inject, standard_faults
from ae_models.intervals import clopper_pearson
from ae_models.power import FAULT_SEED, Detection, Power, conformal_threshold, measure_power, threshold_detectors
from ae_models.spec import InputSpec

SPEC = InputSpec("image", (1, 8, 8))


@pytest.fixture(scope="module")
def normals() -> np.ndarray:
    """Smooth images: a bright spot that moves a little, on grey."""
    generator = np.random.default_rng(0)
    y, x = np.mgrid[:8, :8]
    centre_y, centre_x = generator.uniform(3, 4, (2, 40, 1, 1, 1))
    spots = np.exp(-((y - centre_y) ** 2 + (x - centre_x) ** 2) / 6)
    return (60 + 150 * spots).round().astype(np.uint8)


def roughness(samples: np.ndarray) -> np.ndarray:
    values = samples.astype(float)
    return np.square(np.diff(values, axis=2)).sum(axis=(1, 2, 3)) + np.square(np.diff(values, axis=3)).sum(axis=(1, 2, 3))


@pytest.fixture(scope="module")
def rough_power(normals) -> Power:
    """That of roughness at 5 %."""
    return power_of(roughness, conformal_threshold(roughness(normals), 0.05), normals)


def power_of(score_function, threshold: float, normals: np.ndarray, **settings) -> Power:
    detect = threshold_detectors(lambda samples: {"it": score_function(samples)}, {"it": threshold})
    return measure_power(detect, normals, SPEC, **settings)["it"]


def test_each_cell_is_the_share_of_changed_samples_above_the_threshold(normals, rough_power) -> None:
    threshold = conformal_threshold(roughness(normals), 0.05)
    power = rough_power
    assert len(power.cells) == 5 * len(standard_faults("image"))
    cells = iter(power.cells)
    for fault in standard_faults("image"):
        for strength in fault.strengths:
            damaged = inject(fault, strength, normals, FAULT_SEED, SPEC)
            is_faulty = find_changed(normals, damaged)
            caught = (roughness(damaged)[is_faulty] > threshold).sum()
            cell = next(cells)
            assert (cell.fault, cell.strength, cell.faulty, cell.caught) == (fault.name, strength, is_faulty.sum(), caught)
            if cell.faulty:
                assert cell.share == caught / is_faulty.sum()
                assert cell.interval == clopper_pearson(int(caught), int(is_faulty.sum()))
                above = roughness(damaged)[is_faulty][:, None] - roughness(normals)
                assert cell.separation == pytest.approx(np.mean((above > 0) + 0.5 * (above == 0)))


def test_the_power_does_not_depend_on_how_many_samples_are_in_memory(normals, rough_power, monkeypatch) -> None:
    monkeypatch.setattr(power, "_BLOCK_VALUES", 5 * 7 * 64)  # seven samples at each of five strengths
    in_blocks = power_of(roughness, conformal_threshold(roughness(normals), 0.05), normals)
    assert in_blocks.cells == rough_power.cells
    np.testing.assert_array_equal(in_blocks.by_sample, rough_power.by_sample)


def test_the_mean_power_weighs_faults_alike_and_is_the_mean_over_samples(rough_power) -> None:
    power = rough_power
    by_fault = []
    for name, cells in groupby(power.cells, key=lambda cell: cell.fault):
        shares = [cell.share for cell in cells if cell.share is not None]
        assert power.by_fault[name] == pytest.approx(np.mean(shares))
        by_fault.append(np.mean(shares))
    assert 0.2 < power.mean < 0.9
    assert power.mean == pytest.approx(np.mean(by_fault))
    assert power.by_sample.mean() == pytest.approx(power.mean)
    low, high = power.interval(np.arange(40))
    assert low < power.mean < high


def test_samples_that_a_fault_did_not_change_are_counted_nowhere(normals) -> None:
    flat = np.full((40, 1, 8, 8), 128, np.uint8)
    mixed = np.concatenate([normals[:20], flat[:20]])
    [occlusion] = [fault for fault in standard_faults("image") if fault.name == "occlusion"]
    [rotation] = [fault for fault in standard_faults("image") if fault.name == "rotation"]
    power = power_of(lambda samples: np.ones(len(samples)), 0.5, mixed, faults=[occlusion, rotation])
    assert {cell.faulty for cell in power.cells if cell.fault == "rotation"} == {20}
    assert power.mean == 1
    assert power.by_sample.mean() == pytest.approx(1)
    nothing = power_of(lambda samples: np.ones(len(samples)), 0.5, flat, faults=[rotation])
    assert [cell.share for cell in nothing.cells] == [None] * 5
    assert [cell.interval for cell in nothing.cells] == [None] * 5
    assert (nothing.mean, nothing.mean_separation, nothing.interval(np.arange(40))) == (None, None, None)
    assert nothing.by_fault == {"rotation": None}
    assert np.isnan(nothing.by_sample).all()


def test_a_constant_score_catches_nothing_and_separates_nothing(normals) -> None:
    constant = np.full(200, 0.3)
    power = power_of(lambda samples: np.full(len(samples), 0.3), conformal_threshold(constant, 0.05), normals)
    assert (power.mean, power.mean_separation, power.interval(np.arange(40))) == (0.0, 0.5, (0.0, 0.0))


def test_a_score_that_is_nan_catches_nothing_and_is_the_lowest(normals) -> None:
    power = power_of(lambda samples: np.full(len(samples), np.nan), 0.0, normals)
    assert (power.mean, power.mean_separation) == (0.0, 0.5)

    def nan_where_rough(samples: np.ndarray) -> np.ndarray:
        scores = roughness(samples)
        return np.where(scores > roughness(normals).max(), np.nan, scores)

    assert power_of(nan_where_rough, 0.0, normals).mean_separation < 0.5


def test_every_detector_gets_the_same_faulty_samples_and_may_decide_by_itself(normals) -> None:
    seen = []

    def detect(samples: np.ndarray) -> dict[str, Detection]:
        seen.extend(part.tobytes() for part in np.split(samples, len(samples) // 40))
        is_even = np.arange(len(samples)) % 2 == 0
        return {"even": Detection(np.zeros(len(samples)), is_even), "odd": Detection(np.zeros(len(samples)), ~is_even)}

    powers = measure_power(detect, normals[:40], SPEC, faults=standard_faults("image")[1:2])
    assert len(seen) == len(set(seen)) == 6  # clean, and five strengths
    assert [cell.share for cell in powers["even"].cells] == [20 / 40] * 5
    assert powers["odd"].by_sample == pytest.approx((np.arange(40) % 2).astype(float))


def test_samples_of_one_group_are_no_independent_evidence(rough_power) -> None:
    low, high = rough_power.interval(np.arange(40))
    thrice = replace(rough_power, by_sample=rough_power.by_sample.repeat(3))
    assert thrice.interval(np.arange(40).repeat(3)) == pytest.approx((low, high))
    alone_low, alone_high = thrice.interval(np.arange(120))
    assert alone_high - alone_low == pytest.approx((high - low) / np.sqrt(3), rel=0.02)
    assert thrice.interval(np.zeros(120)) is None


@pytest.mark.parametrize(("rows", "rate", "rank"), [(99, 0.01, 99), (999, 0.01, 990), (199, 0.05, 190), (20, 0.001, 20)])
def test_the_threshold_is_the_conformal_rank_or_the_largest_score_where_there_are_too_few(rows, rate, rank) -> None:
    scores = np.random.default_rng(0).permutation(rows) + 1.0
    assert conformal_threshold(scores, rate) == rank


def test_bad_samples_are_refused(normals) -> None:
    with pytest.raises(SampleError, match="expected 0 to 255"):
        power_of(lambda samples: np.zeros(len(samples)), 0.0, normals.astype(float) - 100)
