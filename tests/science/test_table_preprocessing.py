"""Claims about the preprocessing of tables: what is learnt, what odd columns become, and that it survives ONNX."""

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from scipy.stats import norm, rankdata

from ae_models.spec import ColumnSpec, InputSpec, SpecReader, number_columns
from ae_models.table_preprocessing import ONE_HOT, TAIL, TablePreprocessing

SCALINGS = ("robust", "standard", "quantile", "normal")
MIXED = (
    ColumnSpec("amount", missing=True),
    ColumnSpec("country", "category", categories=("fr", "de", "uk")),
    ColumnSpec("member", "boolean"),
    ColumnSpec("age", "integer", min=0.0, max=120.0),
    ColumnSpec("plan", "category", missing=True, categories=("a", "b")),
)


def learn(rows: np.ndarray, spec: InputSpec) -> TablePreprocessing:
    preprocessing = TablePreprocessing(spec)
    preprocessing.learn(rows)
    return preprocessing


def vectors(preprocessing: TablePreprocessing, rows: np.ndarray) -> np.ndarray:
    return preprocessing(torch.from_numpy(rows)).numpy()


@pytest.fixture(scope="module")
def mixed_rows() -> np.ndarray:
    rng = np.random.default_rng(0)
    rows = np.stack(
        [rng.lognormal(3, 2, 400), rng.integers(0, 3, 400), rng.integers(0, 2, 400), rng.integers(18, 90, 400), np.zeros(400)], 1
    )
    rows[::7, 0] = np.nan
    rows[::5, 4] = np.nan
    return rows


def test_plain_arrays_of_numbers_become_standard_scores() -> None:
    rows = np.random.default_rng(1).normal(50, 4, (1000, 3))
    preprocessing = learn(rows, InputSpec("table", columns=number_columns(3), scaling="standard"))
    np.testing.assert_allclose(vectors(preprocessing, rows), (rows - rows.mean(0)) / rows.std(0), atol=1e-5)


def test_robust_scaling_divides_by_the_quartile_distance_and_shortens_the_tail() -> None:
    rows = np.arange(1, 1002, dtype=np.float64)[:, None]
    preprocessing = learn(rows, InputSpec("table", columns=number_columns(1)))
    spread = 500 / 1.3489795
    far = np.array([[501 + 2 * spread], [501 + (TAIL + 9) * spread]])
    np.testing.assert_allclose(vectors(preprocessing, far)[:, 0], [2, TAIL + np.log(10)], rtol=1e-5)


def test_quantile_map_is_uniform_with_unit_deviation_and_still_tells_how_far_out_a_value_is() -> None:
    rows = np.random.default_rng(2).lognormal(0, 3, (4000, 1))
    preprocessing = learn(rows, InputSpec("table", columns=number_columns(1), scaling="quantile"))
    mapped = vectors(preprocessing, rows)[:, 0]
    assert abs(mapped.std() - 1) < 0.02
    assert abs(np.median(mapped)) < 0.05
    outside = vectors(preprocessing, np.array([[rows.max()], [rows.max() * 10], [rows.max() * 1000]]))[:, 0]
    assert outside[0] < outside[1] < outside[2]


def test_normal_map_makes_any_column_normal_and_still_tells_how_far_out_a_value_is() -> None:
    rows = np.random.default_rng(2).lognormal(0, 2, (2000, 1))
    preprocessing = learn(rows, InputSpec("table", columns=number_columns(1), scaling="normal"))
    scaled = vectors(preprocessing, rows)[:, 0]
    expected = norm.ppf((rankdata(rows[:, 0]) - 0.5) / 2000)
    inner = np.abs(expected) < 2.5
    assert np.abs(scaled - expected)[inner].max() < 0.1
    assert scaled.std() == pytest.approx(1, abs=0.03)
    end, beyond, far = vectors(preprocessing, rows.max() * np.array([[1.0], [2.0], [1000.0]]))[:, 0]
    assert 3 < end < beyond < far < 20


def test_a_rare_value_of_a_column_of_two_is_as_far_out_as_it_is_rare() -> None:
    rows = np.zeros((1000, 1))
    rows[:20] = 1
    preprocessing = learn(rows, InputSpec("table", columns=number_columns(1), scaling="normal"))
    common, rare = vectors(preprocessing, np.array([[0.0], [1.0]]))[:, 0]
    assert abs(common) < 0.1
    assert rare == pytest.approx(norm.ppf(0.99), abs=0.2)


@pytest.mark.parametrize("scaling", SCALINGS)
def test_places_of_a_row_are_those_that_the_spec_says(scaling: str, mixed_rows: np.ndarray) -> None:
    spec = InputSpec("table", columns=MIXED, scaling=scaling)
    preprocessing = learn(mixed_rows, spec)
    row = vectors(preprocessing, np.array([[np.nan, 2.0, 1.0, 40.0, np.nan], [5.0, 3.0, 0.0, 40.0, 1.0]]))
    amount, country, member, _, plan = spec.blocks
    assert row.shape == (2, 12)
    assert row[:, country.places].tolist() == pytest.approx(np.array([[0, 0, ONE_HOT, 0], [0, 0, 0, ONE_HOT]]))  # 3: unknown
    assert row[:, member.start].tolist() == [0.5, -0.5]
    assert amount.indicator is not None
    assert row[:, amount.indicator].tolist() == [1, 0]
    assert plan.indicator is not None
    assert row[:, plan.indicator].tolist() == [1, 0]
    median = vectors(preprocessing, np.array([[np.nanmedian(mixed_rows[:, 0]), 2.0, 1.0, 40.0, 0.0]]))
    assert row[0, amount.start] == median[0, amount.start]


@pytest.mark.parametrize("scaling", SCALINGS)
def test_vectors_come_back_as_rows(scaling: str, mixed_rows: np.ndarray) -> None:
    preprocessing = learn(mixed_rows, InputSpec("table", columns=MIXED, scaling=scaling))
    whole = mixed_rows[~np.isnan(mixed_rows).any(1)]
    back = preprocessing.invert(preprocessing(torch.from_numpy(whole))).numpy()
    np.testing.assert_allclose(back, whole, rtol=2e-4, atol=1e-3)


@pytest.mark.parametrize("scaling", SCALINGS)
def test_odd_columns_give_finite_vectors(scaling: str) -> None:
    rng = np.random.default_rng(3)
    rows = np.stack(
        [np.full(50, 7.0), np.full(50, np.nan), rng.standard_cauchy(50) * 1e200, np.r_[np.zeros(49), 5.0], rng.normal(size=50)], 1
    )
    rows[3, 4] = np.inf
    preprocessing = learn(rows, InputSpec("table", columns=number_columns(5, missing=True), scaling=scaling))
    strange = np.array([[8.0, 3.0, np.inf, -np.inf, 1e308], [np.nan] * 5])
    for values in (rows, strange):
        assert np.isfinite(vectors(preprocessing, values)).all()
    assert vectors(preprocessing, strange[:1])[0, 0] != vectors(preprocessing, rows[:1])[0, 0], "another constant is seen"
    assert vectors(preprocessing, strange[:1])[0, 1] == 0, "a column without any training value has no scale"


def test_one_training_row_is_enough() -> None:
    preprocessing = learn(np.array([[1.0, 2.0]]), InputSpec("table", columns=number_columns(2)))
    assert vectors(preprocessing, np.array([[1.0, 3.0]])).tolist() == [[0, 1]]


def test_nothing_is_learnt_of_rows_that_are_only_transformed() -> None:
    rows = np.random.default_rng(4).normal(size=(100, 2))
    preprocessing = learn(rows, InputSpec("table", columns=number_columns(2)))
    before = {name: value.clone() for name, value in preprocessing.state_dict().items()}
    vectors(preprocessing, rows * 100)
    assert all(
        torch.equal(
            before[name],
            value,
        )
        or torch.isnan(value).all()
        for name, value in preprocessing.state_dict().items()
    )


def test_ten_thousand_categories_share_a_few_places() -> None:
    categories = tuple(f"c{index}" for index in range(10_000))
    spec = InputSpec("table", columns=(ColumnSpec("id", "category", categories=categories),), one_hot=16)
    rows = np.random.default_rng(5).integers(0, 10_000, (300, 1)).astype(np.float64)
    row = vectors(learn(rows, spec), np.array([[3.0], [16.0], [9_999.0], [10_000.0]]))
    assert row.shape == (4, 17)
    assert row.argmax(1).tolist() == [3, 16, 16, 16]


@pytest.mark.parametrize("scaling", SCALINGS)
def test_onnx_computes_the_same_vectors(scaling: str, mixed_rows: np.ndarray, tmp_path: Path) -> None:
    preprocessing = learn(mixed_rows, InputSpec("table", columns=MIXED, scaling=scaling)).eval()
    example = torch.from_numpy(mixed_rows[:8])
    file = str(tmp_path / "table.onnx")
    torch.onnx.export(
        preprocessing, (example,), file, dynamo=False, opset_version=18, input_names=["rows"], dynamic_axes={"rows": {0: "n"}}
    )
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    [actual] = session.run(None, {"rows": mixed_rows})
    np.testing.assert_allclose(actual, vectors(preprocessing, mixed_rows), atol=1e-6)


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
@pytest.mark.parametrize("scaling", ["quantile", "normal"])
def test_the_graph_finds_the_places_of_repeated_values_by_sums_as_torch_does_by_search(scaling: str) -> None:
    rng = np.random.default_rng(0)
    columns = [rng.normal(size=500), rng.integers(0, 2, 500), np.round(rng.normal(size=500)), np.full(500, 3.0)]
    rows = np.stack([*columns, rng.lognormal(0, 3, 500)], 1)
    preprocessing = learn(rows, InputSpec("table", columns=number_columns(5), scaling=scaling))
    knots = preprocessing.knots.numpy()
    probes = torch.from_numpy(
        np.concatenate([rows, knots, knots + 1e-9, 3 * rows - 1, np.full((1, 5), 1e300), np.full((1, 5), -9.0)])
    )
    graph = torch.jit.trace(preprocessing, probes[:4])
    np.testing.assert_allclose(graph(probes).numpy(), preprocessing(probes).numpy(), atol=1e-6)


def test_every_mistake_in_the_columns_is_reported_at_once() -> None:
    reader = SpecReader("t.yaml")
    raw = {
        "kind": "table",
        "given": "corrupted",
        "columns": [
            {"name": "a", "min": 3, "max": 1},
            {"name": "a", "type": "boolean", "headroom": 1},
            {"name": "", "type": "category", "categories": ["x", "x", ""]},
            {"name": "d", "type": "text"},
        ],
    }
    assert reader.read(InputSpec, raw, "input") is None
    text = "\n".join(reader.mistakes)
    for part in (
        "min is 3 and max is 1",
        "headroom are of numbers",
        "printable name",
        "names x twice",
        "expected number, integer",
    ):
        assert part in text
    reader = SpecReader("t.yaml")
    reader.read(InputSpec, {**raw, "columns": [{"name": "a"}, {"name": "a"}], "shape": [3], "low": 2}, "input")
    text = "\n".join(reader.mistakes)
    for part in ("columns names a twice", "shape is [3]", "low is 2", "given is corrupted"):
        assert part in text
    image = SpecReader("t.yaml")
    image.read(InputSpec, {"kind": "image", "columns": [{"name": "a"}]}, "input")
    assert "columns is set, expected none for kind image" in image.mistakes[0]


def test_a_table_reads_back_from_its_document_and_other_kinds_keep_theirs() -> None:
    from ae_models.spec import spec_to_dict

    spec = InputSpec("table", columns=MIXED, scaling="quantile")
    reader = SpecReader("bundle.json")
    assert reader.read(InputSpec, spec_to_dict(spec), "input") == spec
    assert set(spec_to_dict(InputSpec())) == {"kind", "shape", "low", "high", "target_channels", "given"}
