"""Claims about the estimators: scikit-learn's own checks, frames with categories, bundles, and what people get wrong."""

import doctest
import json
import pickle
import shutil
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars
import pyarrow as pa
import pytest
import torch
from shared_data import load_adbench
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator

from ae_models.errors import BundleError, SpecError
from ae_models.row_blocks import compute_by_blocks
from ae_models.sklearn import AutoencoderDetector, MemoryDetector
from ae_models.table_fit import LEAST_ROWS
from ae_models.typical_samples import find_typical
from aeops.bundle.detector import Detector

PAGE = Path(__file__).parents[2] / "docs" / "sklearn.md"
QUICK = {"members": 1, "epochs": 1, "least_steps": 20, "widths": (8,)}
DETECTORS = [MemoryDetector(), AutoencoderDetector(**QUICK)]
# What takes seconds goes through the other one in the long tests.
SLOW = [DETECTORS[0], pytest.param(DETECTORS[1], marks=pytest.mark.long)]
NAMES = ["memory", "autoencoder"]


@pytest.fixture(scope="module")
def orders() -> pd.DataFrame:
    """400 orders with columns of every type, some of them missing."""
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "amount": rng.lognormal(3, 1, 400),
            "items": rng.integers(1, 9, 400),
            "member": rng.random(400) < 0.3,
            "country": rng.choice(["fr", "de", "uk"], 400, p=[0.6, 0.3, 0.1]),
            "ordered": pd.Timestamp("2024-01-01") + pd.to_timedelta(rng.integers(0, 10_000, 400), unit="h"),
        }
    )
    frame["plan"] = pd.Categorical(rng.choice(["a", "b"], 400))
    frame.loc[::9, "amount"] = np.nan
    frame.loc[3, "country"] = None
    return frame


@pytest.fixture(scope="module", params=DETECTORS, ids=NAMES)
def fitted(request: pytest.FixtureRequest, orders: pd.DataFrame) -> Any:
    return clone(request.param).fit(orders)


@pytest.mark.slow
@pytest.mark.parametrize("detector", SLOW, ids=NAMES)
def test_scikit_learns_own_checks_pass(detector: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # rows of the checks are too few for the rate, and it says which checks were skipped
        check_estimator(clone(detector), on_skip=None)


def test_anomalies_of_a_real_table_are_found_and_normal_rows_keep_the_promise() -> None:
    rows, labels = load_adbench("6_cardio")
    normal, novel = rows[labels == 0], rows[labels == 1]
    normal = normal[np.random.default_rng(0).permutation(len(normal))]
    detector = MemoryDetector(false_alarm_rate=0.1).fit(normal[:1000])
    fresh = normal[1000:]
    scores = np.r_[detector.score_samples(fresh), detector.score_samples(novel)]
    assert roc_auc_score(np.r_[np.ones(len(fresh)), np.zeros(len(novel))], scores) > 0.9
    assert (detector.predict(novel) == -1).mean() > 0.6
    assert (detector.predict(fresh) == -1).mean() < 0.17  # 200 calibration rows: 99.9 % of draws are below it
    assert np.mean(detector.p_values(fresh) <= 0.1) == np.mean(detector.predict(fresh) == -1)


def test_frames_of_other_libraries_have_the_same_scores(fitted: Any, orders: pd.DataFrame) -> None:
    expected = fitted.score_samples(orders)
    table = pa.Table.from_pandas(orders, preserve_index=False)
    np.testing.assert_array_equal(fitted.score_samples(table), expected)
    np.testing.assert_array_equal(fitted.score_samples(polars.from_pandas(orders)), expected)


def test_an_unknown_category_a_far_number_and_a_far_date_are_anomalies(fitted: Any, orders: pd.DataFrame) -> None:
    odd = orders.iloc[10:14].copy()
    odd.iloc[0, odd.columns.get_loc("country")] = "nowhere"
    odd.iloc[1, odd.columns.get_loc("items")] = 5000
    odd.iloc[2, odd.columns.get_loc("ordered")] = pd.Timestamp("2090-01-01")
    odd["items"] = odd["items"].astype(float)
    odd.iloc[3, odd.columns.get_loc("items")] = np.nan  # none was missing in fit
    assert fitted.predict(odd).tolist() == [-1, -1, -1, -1]


@pytest.fixture(scope="module", params=SLOW, ids=NAMES)
def saved(request: pytest.FixtureRequest, orders: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    """A detector and its bundle; an export takes seconds."""
    detector, folder = clone(request.param).fit(orders), tmp_path_factory.mktemp("estimator") / "bundle"
    detector.save(folder)
    return detector, folder


@pytest.mark.slow
def test_a_bundle_scores_as_the_detector_in_onnxruntime_and_comes_back(saved: tuple[Any, Path], orders: pd.DataFrame) -> None:
    fitted, bundle = saved
    scores = fitted.score_samples(orders)
    loaded = type(fitted).load(bundle)
    np.testing.assert_allclose(loaded.score_samples(orders), scores, atol=1e-9)
    np.testing.assert_array_equal(loaded.p_values(orders), fitted.p_values(orders))
    assert list(loaded.feature_names_in_) == list(orders.columns)
    assert loaded.model_.document == json.loads(json.dumps(fitted.model_.document))
    outputs = Detector(bundle).score(fitted._read_rows(orders))
    np.testing.assert_allclose(outputs["score"], -scores, atol=1e-3)
    assert {file.suffix for file in bundle.iterdir()} == {".json", ".safetensors", ".onnx", ""}


def test_an_altered_bundle_is_refused(saved: tuple[Any, Path], tmp_path: Path) -> None:
    shutil.copytree(saved[1], tmp_path / "bundle")
    weights = tmp_path / "bundle" / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"?")
    with pytest.raises(BundleError, match=r"weights\.safetensors"):
        MemoryDetector.load(tmp_path / "bundle")


def test_a_pickled_detector_and_the_same_seed_give_the_same_scores(fitted: Any, orders: pd.DataFrame) -> None:
    scores = fitted.score_samples(orders)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(fitted)).score_samples(orders), scores)  # noqa: S301
    np.testing.assert_array_equal(clone(fitted).fit(orders).score_samples(orders), scores)
    if isinstance(fitted, AutoencoderDetector):  # a memory of all rows draws nothing
        other = clone(fitted).set_params(random_state=1).fit(orders).score_samples(orders)
        assert not np.array_equal(other, scores)


def test_it_stands_in_a_pipeline() -> None:
    rows = np.random.default_rng(0).normal(size=(100, 3))
    pipeline = make_pipeline(StandardScaler(), MemoryDetector(false_alarm_rate=0.1)).fit(rows)
    assert set(pipeline.predict(rows)) <= {-1, 1}


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda frame: frame.drop(columns="amount"), ValueError, "yet now missing"),
        (lambda frame: frame.rename(columns={"amount": "sum"}), ValueError, "unseen at fit time"),
        (lambda frame: frame.assign(extra=1), ValueError, "unseen at fit time"),
        (lambda frame: frame[frame.columns[::-1]], ValueError, "same order"),
        (lambda frame: frame.assign(country=1.0), TypeError, r"column 'country': expected the type category.*got number"),
        (lambda frame: frame.assign(amount="much"), TypeError, r"column 'amount': expected the type number.*got category"),
        (lambda frame: frame.assign(amount=np.inf), ValueError, "finite values, got infinity in amount"),
        (lambda frame: frame.to_numpy(), TypeError, "expected a frame, since country, plan are categories"),
        (lambda frame: frame.assign(amount=[[1.0]] * len(frame)), TypeError, "column 'amount': expected numbers"),
    ],
)
def test_frames_unlike_those_of_fit_are_refused_by_name(
    change: Any, error: type[Exception], message: str, orders: pd.DataFrame, memory_of_orders: MemoryDetector
) -> None:
    with pytest.raises(error, match=message):
        memory_of_orders.predict(change(orders))


@pytest.fixture(scope="module")
def memory_of_orders(orders: pd.DataFrame) -> MemoryDetector:
    return MemoryDetector().fit(orders)


def test_what_was_not_fitted_says_so(tmp_path: Path) -> None:
    for use in (lambda: MemoryDetector().predict([[1.0]]), lambda: MemoryDetector().save(tmp_path / "bundle")):
        with pytest.raises(NotFittedError, match="not fitted yet"):
            use()


def test_too_few_rows_and_infinite_ones_are_refused() -> None:
    with pytest.raises(ValueError, match=f"expected {LEAST_ROWS} rows or more to learn from, got 1"):
        MemoryDetector().fit(np.ones((1, 3)))
    rows = np.ones((50, 3))
    rows[7, 1] = np.inf
    with pytest.raises(ValueError, match="infinity"):
        MemoryDetector().fit(rows)


def test_every_wrong_parameter_is_named_at_once() -> None:
    rows = np.random.default_rng(0).normal(size=(60, 2))
    with pytest.raises(SpecError) as error:
        MemoryDetector(neighbours=1, ridge=-1.0, rows=0, false_alarm_rate=1.5, calibration_share=0.0, trim=1.0).fit(rows)
    names = ("neighbours", "ridge", "rows", "false_alarm_rate", "calibration_share", "trim")
    assert all(name in str(error.value) for name in names)


@pytest.mark.slow
def test_rows_that_are_set_aside_keep_the_promise_exactly_and_a_wrong_word_is_refused() -> None:
    rng = np.random.default_rng(0)
    alarms = []
    for seed in range(20):
        detector = MemoryDetector(calibration="split", false_alarm_rate=0.1, random_state=seed).fit(rng.normal(size=(100, 2)))
        alarms.append(float(np.mean(detector.predict(rng.normal(size=(200, 2))) == -1)))
    assert 0.05 < np.mean(alarms) < 0.12  # 20 calibration rows: a mean rate of 2 / 21, with a deviation of 0.014 over 20 draws
    with pytest.raises(ValueError, match="calibration: expected leave-one-out or split, got 'all'"):
        MemoryDetector(calibration="all").fit(rng.normal(size=(100, 2)))


def test_a_rate_that_the_rows_cannot_promise_is_replaced_aloud() -> None:
    rows = np.random.default_rng(0).normal(size=(50, 2))
    with pytest.warns(UserWarning, match="needs 19 calibration rows, got 10"):
        detector = MemoryDetector(calibration="split").fit(rows)
    assert detector.false_alarm_rate_ == pytest.approx(1 / 11, abs=1e-5)


def test_constant_columns_constant_tables_and_missing_columns_give_finite_scores() -> None:
    rows = np.random.default_rng(0).normal(size=(200, 3))
    rows[:, 1] = 7
    rows[::2, 2] = np.nan
    detector = MemoryDetector().fit(rows)
    assert np.isfinite(detector.score_samples(rows)).all()
    assert detector.predict([[0.0, 8.0, np.nan]]).tolist() == [-1]
    constant = MemoryDetector().fit(np.ones((100, 2)))
    assert constant.predict(np.ones((3, 2))).tolist() == [1, 1, 1]
    assert constant.predict([[1.0, 2.0]]).tolist() == [-1]


def test_a_group_of_anomalies_among_the_rows_is_trimmed() -> None:
    rng = np.random.default_rng(0)
    vectors = np.r_[rng.normal(size=(950, 4)), rng.normal(6, 0.1, size=(50, 4))].astype(np.float32)
    is_typical = find_typical(torch.from_numpy(vectors), 0.1, seed=0)
    assert (~is_typical).sum() == 100
    assert not is_typical[950:].any()
    assert find_typical(torch.from_numpy(vectors), 0.0, seed=0).all()


def test_anomalies_among_the_training_rows_cost_less_where_they_are_trimmed() -> None:
    rng = np.random.default_rng(0)
    novel = rng.normal(5, 0.2, size=(100, 5))
    train, fresh = np.r_[rng.normal(size=(950, 5)), novel[:50]], rng.normal(size=(500, 5))
    truth = np.r_[np.zeros(500), np.ones(50)]
    aurocs = []
    for trim in (0.0, 0.1):
        detector = MemoryDetector(trim=trim).fit(train)
        aurocs.append(roc_auc_score(truth, -detector.score_samples(np.r_[fresh, novel[50:]])))
    assert aurocs[1] > max(0.99, aurocs[0])


@pytest.mark.parametrize("detector", DETECTORS, ids=NAMES)
def test_a_row_of_many_scores_as_it_does_among_few_on_any_number_of_threads(detector: Any) -> None:
    rng = np.random.default_rng(0)
    fitted, rows = clone(detector).fit(rng.normal(size=(200, 4))), rng.normal(size=(9000, 4))
    threads_before = torch.get_num_threads()
    try:
        scores = []
        for threads in (1, 3):
            torch.set_num_threads(threads)
            scores.append(fitted.score_samples(rows))
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(threads_before)
    np.testing.assert_array_equal(scores[0], scores[1])
    few = np.concatenate([fitted.score_samples(part) for part in np.split(rows, [3000, 6000])])
    np.testing.assert_allclose(scores[0], few, rtol=1e-4, atol=1e-4)  # single precision beside double


def test_work_on_blocks_that_fails_leaves_torch_its_threads() -> None:
    def fail(block: torch.Tensor) -> torch.Tensor:
        raise RuntimeError(f"{len(block)} rows, {torch.get_num_threads()} thread")

    threads_before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        with pytest.raises(RuntimeError, match="5 rows, 1 thread"):
            compute_by_blocks(fail, np.zeros((20, 2)), 5)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads_before)


@pytest.mark.slow
def test_the_examples_of_the_page_run() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        results = doctest.testfile(str(PAGE), module_relative=False, optionflags=doctest.NORMALIZE_WHITESPACE)
    assert results.attempted > 15
    assert results.failed == 0
