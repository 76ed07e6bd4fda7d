"""From values to bins: ties are broken by lot, so that they are never evidence, and a second look finds the same."""

import numpy as np
import pytest

from aeops.monitoring.ranks import assign_bins, even_ranks, make_bins, tie_breaker


def name(row: int) -> str:
    return f"7f3a9c2e-{row}"


def test_even_bins_hold_all_gaps_and_differ_by_one_at_most() -> None:
    for m in (1, 5, 9, 10, 99, 900, 12_345):
        gaps = make_bins(np.arange(m, dtype=float), even_ranks(m)).gaps
        assert gaps.sum() == m + 1
        assert len(gaps) == min(10, m + 1)
        assert gaps.max() - gaps.min() <= 1


def test_a_value_lies_in_the_bin_whose_ends_enclose_it() -> None:
    column = make_bins(np.arange(1.0, 10.0), [3, 6])
    found = assign_bins(np.array([-5.0, 2.5, 3.5, 5.9, 6.1, 1e9]), name, column)
    assert found.tolist() == [0, 0, 1, 1, 2, 2]


def test_constant_values_fall_into_each_bin_as_often_as_the_null_says() -> None:
    column = make_bins(np.zeros(99), [50, 75])
    shares = np.bincount(assign_bins(np.zeros(20_000), name, column), minlength=3) / 20_000
    # Given one draw of tie breakers the chances are that draw's; those of the calibration lie about evenly.
    np.testing.assert_allclose(shares, np.diff([0, *column.tie_breakers, 1]), atol=0.015)
    np.testing.assert_allclose(shares, [0.5, 0.25, 0.25], atol=0.12)


def test_values_of_few_kinds_follow_the_urn_on_average_over_calibration_draws() -> None:
    random, drawn, found = np.random.default_rng(0), 3000, np.zeros(3)
    for draw in range(drawn):
        calibration = random.integers(0, 3, 11).astype(float)
        column = make_bins(calibration[random.permutation(11)], [4, 8])
        found[assign_bins(random.integers(0, 3, 1).astype(float), lambda _, draw=draw: f"{draw:08x}-0", column)[0]] += 1
    np.testing.assert_allclose(found / drawn, [1 / 3, 1 / 3, 1 / 3], atol=4 * np.sqrt(2 / 9 / drawn))


def test_a_prediction_keeps_its_place_at_every_look() -> None:
    column = make_bins(np.repeat([0.0, 1.0], 50), even_ranks(100))
    values = np.repeat([0.0, 1.0], 30)
    backwards = assign_bins(values[::-1], lambda row: name(59 - row), column)[::-1]
    np.testing.assert_array_equal(assign_bins(values, name, column), backwards)
    assert 0 <= tie_breaker("7f3a9c2e-0") < 1
    assert tie_breaker("7f3a9c2e-0") != tie_breaker("7f3a9c2e-1")


def test_what_is_not_a_number_is_the_strangest_of_all() -> None:
    column = make_bins(np.arange(99.0), even_ranks(99))
    assert assign_bins(np.array([np.nan, np.inf, -np.inf]), name, column).tolist() == [9, 9, 0]
    empty = make_bins(np.full(99, np.nan), even_ranks(99))  # where the calibration has nothing else, it is as usual
    assert len(set(assign_bins(np.full(200, np.nan), name, empty))) > 5


@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30])
def test_the_last_digits_which_hang_on_the_batch_do_not_count(scale: float) -> None:
    calibration = (np.full(99, 0.731) * scale).astype(np.float32)
    column = make_bins(calibration, [50])
    wobbling = np.nextafter(np.full(4000, np.float32(0.731 * scale)), np.float32(np.inf), dtype=np.float32)
    assert 0.3 < assign_bins(wobbling, name, column).mean() < 0.7
