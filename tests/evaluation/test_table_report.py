"""What a report says of a table: the error of each column, correlations, and baselines without a range."""

from pathlib import Path

import numpy as np
import pytest
from wine_table import fit_wines, wine_rows

from aeops.bundle.detector import Detector
from aeops.evaluation import line_charts
from aeops.evaluation.baselines import FittedBaselines, PcaBaseline, ResidualTreatment
from aeops.evaluation.measures import MEASURE_FUNCTIONS
from aeops.scoring.inbox import InboxFile, read_fingerprint
from aeops.scoring.score_file import score_blocks


@pytest.fixture(scope="module")
def detector(tmp_path_factory: pytest.TempPathFactory) -> Detector:
    return Detector(fit_wines(tmp_path_factory.mktemp("wine")))


@pytest.mark.slow
def test_the_table_of_errors_names_the_columns_and_adds_up(detector: Detector) -> None:
    rows = wine_rows()[120:]
    outputs = detector.score(rows, reconstruction=True)
    target, made = detector.to_measured(rows), detector.to_measured(outputs["reconstruction"])
    table = detector.data_kind.examples(rows, outputs["reconstruction"], target, made, detector.spec)
    assert table is not None
    assert {row[0] for row in table.rows} == {"alcohol", "proline", "hue", "is strong", "cultivar", "bottled"}
    errors = [float(row[4]) for row in table.rows]
    assert errors == sorted(errors, reverse=True)
    measured = MEASURE_FUNCTIONS["columns"](target, made, np.arange(len(rows)))
    assert measured["mse"] * target.shape[1] == pytest.approx(sum(errors), rel=0.01)
    assert sum(float(row[5].rstrip("%")) for row in table.rows) == pytest.approx(100, abs=0.5)


def test_correlations_leave_categories_out_and_take_constant_columns(detector: Detector, tmp_path: Path) -> None:
    rows = wine_rows()
    columns = detector.data_kind.column_values(rows, detector.spec)
    assert columns is not None
    assert columns.names == ["alcohol", "proline", "hue", "is strong", "bottled"]
    made = columns.values.copy()
    made[:, 0] = 1.0
    line_charts.draw_correlations(tmp_path / "correlations.svg", columns.names, columns.values, made)
    text = (tmp_path / "correlations.svg").read_text(encoding="utf-8")
    assert "<svg" in text
    assert len(text) < 60_000


def test_baselines_of_rows_are_not_clipped(detector: Detector) -> None:
    samples = detector.data_kind.baseline(wine_rows(), detector.spec)
    assert samples.vectors is not None
    assert samples.vectors.min() < -1
    pca = PcaBaseline.fit(samples.vectors, samples.vectors.shape[1])
    fitted = FittedBaselines(samples.vectors, 3, ResidualTreatment(0.0, 0.0), pca, samples.limits)
    far = samples.vectors[:1].copy()
    far[0, 1] += 100
    assert fitted.score(far)["knn"] > fitted.score(samples.vectors)["knn"].max()
    # All components rebuild every row, so that only clipping could leave a residual.
    assert fitted.score(samples.vectors)["pca_residual"].max() < np.log(1e-4)


def test_the_inbox_scores_a_csv_file_as_a_request_is_scored(detector: Detector, tmp_path: Path) -> None:
    from wine_table import wines

    path = tmp_path / "new" / "wine.csv"
    path.parent.mkdir()
    wines()[:5].to_csv(path, index=False)
    file = InboxFile("new/wine.csv", path, read_fingerprint(path))
    [(names, samples, outputs)] = list(score_blocks(file, detector))
    assert names == [f"new/wine.csv[{row}]" for row in range(5)]
    np.testing.assert_array_equal(samples, wine_rows()[:5])
    np.testing.assert_array_equal(outputs["score"], detector.score(wines()[:5])["score"])
