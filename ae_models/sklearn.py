"""Anomaly detectors for tables with scikit-learn's interface. The one module here that imports scikit-learn and narwhals.

    from ae_models.sklearn import MemoryDetector

    detector = MemoryDetector().fit(frame)           # an array, or a frame of pandas, polars or Arrow; no labels
    detector.predict(new)                            # 1: normal, -1: an anomaly
    detector.p_values(new)                           # exact for normal rows, whatever their distribution
    detector.save(folder)                            # the bundle of `python -m ae_models fit`: no pickle

As in scikit-learn, `score_samples` and `decision_function` are higher for normal rows.
"""

from collections.abc import Sequence
from dataclasses import replace
from itertools import compress
from pathlib import Path
from typing import Any, Self

import narwhals as nw
import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, OutlierMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from ae_models.names import names_of
from ae_models.sample_sets import SampleArray
from ae_models.spec import (
    BOOLEAN,
    CATEGORY,
    DATE,
    INTEGER,
    NUMBER,
    ColumnSpec,
    CombinedScoreSpec,
    InputSpec,
    KnnScoreSpec,
    LocalHullScoreSpec,
    NormalisedResidualScoreSpec,
    TrainSpec,
    number_columns,
)
from ae_models.table_fit import LEAST_ROWS, TableModel, TableSettings, fit_table

__all__ = ["AutoencoderDetector", "MemoryDetector"]

_FLAT_TYPES = {NUMBER: nw.Float64, INTEGER: nw.Float64, BOOLEAN: nw.Float64}
_LARGEST_SEED = 2**31 - 1
_CALIBRATIONS = ("leave-one-out", "split")
_NEAREST = 5  # rows whose mean distance stands beside the hull


# ---------------------------------------------------------------- frames


def _read_columns(frame: "nw.DataFrame[Any]") -> tuple[ColumnSpec, ...]:
    """Return the columns of training rows: their types, whether values are missing, categories from frequent to rare.

    Raises:
        TypeError: a column of a type that is not supported.
    """
    columns = []
    for name in frame.columns:
        series = frame[name]
        column_type = _column_type(name, series)
        categories: tuple[str, ...] = ()
        if column_type == CATEGORY:
            texts, counts = np.unique(list(filter(None, _texts(series))), return_counts=True)
            categories = tuple(map(str, texts[np.argsort(-counts, kind="stable")]))
        values = _column_values(ColumnSpec(name, column_type, categories=categories), series)
        columns.append(ColumnSpec(name, column_type, missing=bool(np.isnan(values).any()), categories=categories))
    return tuple(columns)


def _column_values(column: ColumnSpec, series: "nw.Series[Any]") -> npt.NDArray[np.float64]:
    """Return a column as `ae_models.spec.ColumnSpec` says, float64 (n,), NaN where a value is missing.

    Raises:
        TypeError: the series is of another type than the column.
    """
    given_type = _column_type(column.name, series)
    if column.type == CATEGORY and given_type == CATEGORY:
        codes: dict[str | None, float] = {None: np.nan}
        for code, category in enumerate(column.categories):
            codes[category] = code
        unknown = len(column.categories)
        return np.array([codes.get(text, unknown) for text in _texts(series)], np.float64)
    if column.type == DATE and given_type == DATE:
        ticks = series.cast(nw.Datetime("us")).dt.timestamp("us")
        return _floats(ticks) / 1e6
    if column.type in _FLAT_TYPES and given_type in _FLAT_TYPES:
        return _floats(series)
    raise TypeError(f"column {column.name!r}: expected the type {column.type}, as in fit, got {given_type} ({series.dtype})")


def _column_type(name: str, series: "nw.Series[Any]") -> str:
    dtype = series.dtype
    if dtype == nw.Boolean:
        return BOOLEAN
    if dtype.is_integer():
        return INTEGER
    if dtype.is_numeric():
        return NUMBER
    if dtype in (nw.Datetime, nw.Date):
        return DATE
    if dtype in (nw.String, nw.Categorical, nw.Enum) or _holds_texts(series):
        return CATEGORY
    raise TypeError(
        f"column {name!r}: expected numbers, booleans, dates, texts or categories, got {dtype}: convert it or leave it out"
    )


def _holds_texts(series: "nw.Series[Any]") -> bool:
    """Return whether a column of Python objects holds texts and missing values alone."""
    return series.dtype == nw.Object and all(isinstance(value, str) or value is None or value != value for value in series)


def _texts(series: "nw.Series[Any]") -> list[str | None]:
    """Return the texts of a column; None for missing and empty ones."""
    values = series.to_list() if series.dtype == nw.Object else series.cast(nw.String).to_list()
    return [value if isinstance(value, str) and value else None for value in values]


def _floats(series: "nw.Series[Any]") -> npt.NDArray[np.float64]:
    floats = series.cast(nw.Float64)
    return np.asarray(floats.fill_null(float("nan")).to_numpy(), dtype=np.float64)


# ---------------------------------------------------------------- the detectors


class _TableDetector(OutlierMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """What the detectors share: frames, the split, scores as scikit-learn names them, and bundles."""

    model_: TableModel
    offset_: float
    false_alarm_rate_: float | None
    n_features_in_: int

    false_alarm_rate: float
    calibration_share: float
    random_state: Any
    threads: int

    def fit(self, X: Any, y: Any = None) -> Self:
        """Learn what is normal.

        Args:
            X: rows that are taken for normal: an array (n, columns), or a frame of pandas, polars or Arrow.
            y: not used.

        Raises:
            ValueError: too few rows, an infinite value, no columns, or a parameter out of its bounds, all of these at once.
            TypeError: a column of a type that is not supported.
        """
        columns, rows = self._read_training_rows(X)
        if len(rows) < LEAST_ROWS:
            raise ValueError(f"expected {LEAST_ROWS} rows or more to learn from, got {len(rows)} (n_samples={len(rows)})")
        seed = int(check_random_state(self.random_state).randint(_LARGEST_SEED)) if self.random_state is not None else 0
        self.model_ = fit_table(
            InputSpec("table", columns=columns, scaling="normal"),
            rows,
            self._settings(len(rows)),
            seed,
        )
        self._take_threshold()
        return self

    def _settings(self, rows: int) -> TableSettings:
        """Return the settings of a fit of so many rows."""
        raise NotImplementedError

    def score_samples(self, X: Any) -> npt.NDArray[np.float64]:
        """Return how normal rows are, (n,): the negative score, lower for anomalies.

        Args:
            X: rows as in `fit`; a value that is missing where `fit` saw none makes a row less normal than all of `fit`'s.
        """
        rows = self._read_rows(X)
        return -self.model_.score(rows)

    def decision_function(self, X: Any) -> npt.NDArray[np.float64]:
        """Return `score_samples` less the threshold, (n,): below 0 for anomalies."""
        return self.score_samples(X) - self.offset_

    def predict(self, X: Any) -> npt.NDArray[np.int64]:
        """Return 1 for normal rows and -1 for anomalies, (n,).

        Of rows like those of `fit`, which `fit` has not seen, at most the share `false_alarm_rate_` is -1 on average.
        """
        return np.where(self.decision_function(X) < 0, -1, 1)

    def p_values(self, X: Any) -> npt.NDArray[np.float64]:
        """Return conformal p-values, (n,) in (0, 1]: for a normal row below a with a probability of at most a."""
        return self.model_.p_values(-self.score_samples(X))

    def save(self, folder: str | Path) -> None:
        """Write the bundle, as `python -m ae_models fit` does: JSON, safetensors and ONNX, no pickle. Replaces the folder."""
        check_is_fitted(self)
        self.model_.save(Path(folder))

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Return a fitted detector of a bundle of a table, whoever wrote it. Its parameters are the defaults.

        Raises:
            BundleError: an incomplete or altered bundle, or one of another kind of input.
        """
        detector = cls()
        detector.model_ = TableModel.load(Path(folder))
        columns = detector.model_.columns
        detector.n_features_in_ = len(columns)
        names = names_of(columns)
        if names != names_of(number_columns(len(names))):
            detector.feature_names_in_ = np.array(names, dtype=object)
        detector._take_threshold()
        return detector

    def _take_threshold(self) -> None:
        self.offset_ = -self.model_.threshold
        self.false_alarm_rate_ = self.model_.false_alarm_rate

    def _read_training_rows(self, X: Any) -> tuple[tuple[ColumnSpec, ...], SampleArray]:
        frame = _as_frame(X)
        if frame is None:
            rows = _require_numbers(validate_data(self, X, dtype=np.float64, ensure_all_finite="allow-nan"))
            is_missing = np.any(np.isnan(rows), axis=0).tolist()
            columns = number_columns(rows.shape[1])
            return tuple(replace(column, missing=flag) for column, flag in zip(columns, is_missing, strict=True)), rows
        validate_data(self, X, skip_check_array=True)
        columns = _read_columns(frame)
        return columns, _frame_rows(columns, frame)

    def _read_rows(self, X: Any) -> SampleArray:
        check_is_fitted(self)
        frame = _as_frame(X)
        columns = self.model_.columns
        if frame is not None:
            validate_data(self, X, skip_check_array=True, reset=False)
            return _frame_rows(columns, frame)
        if named := [column.name for column in columns if column.type == CATEGORY]:
            raise TypeError(f"expected a frame, since {', '.join(named)} are categories, got {type(X).__name__}")
        return _require_numbers(validate_data(self, X, dtype=np.float64, ensure_all_finite="allow-nan", reset=False))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.categorical = True
        return tags


class AutoencoderDetector(_TableDetector):
    """Compares a row with its reconstruction by small autoencoders, which are trained together: the mean of their log residuals.

    Args:
        widths: numbers after each layer of the encoder; the decoder has the same in reverse.
        code_size: numbers of the code; at most as many as the vector of a row has.
        members: autoencoders, which differ in their seed.
        epochs: passes over the training rows; where they are few, as many more as `least_steps` takes.
        least_steps: of the optimiser.
        batch_size: rows a step.
        learning_rate: the peak.
        trim: share of the training rows that are left out, those that look least like the others: they may be anomalies.
        false_alarm_rate, calibration_share, random_state, threads: as of `MemoryDetector`.

    Attributes:
        offset_, false_alarm_rate_, n_features_in_, feature_names_in_: as of `MemoryDetector`.
    """

    def __init__(
        self,
        widths: tuple[int, ...] = (64, 32),
        code_size: int = 8,
        members: int = 8,
        epochs: int = 5,
        least_steps: int = 500,
        batch_size: int = 256,
        learning_rate: float = 3e-3,
        trim: float = 0.05,
        false_alarm_rate: float = 0.05,
        calibration_share: float = 0.2,
        random_state: Any = 0,
        threads: int = 1,
    ) -> None:
        self.widths = widths
        self.code_size = code_size
        self.members = members
        self.epochs = epochs
        self.least_steps = least_steps
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.trim = trim
        self.false_alarm_rate = false_alarm_rate
        self.calibration_share = calibration_share
        self.random_state = random_state
        self.threads = threads

    def _settings(self, rows: int) -> TableSettings:
        steps_per_epoch = -(-rows // self.batch_size)
        training = TrainSpec(
            epochs=max(self.epochs, -(-self.least_steps // steps_per_epoch)),
            batch=self.batch_size,
            learning_rate=self.learning_rate,
            members=self.members,
            threads=self.threads,
            accelerator="cpu",
        )
        return TableSettings(
            score=NormalisedResidualScoreSpec(energy=0.0),
            false_alarm_rate=self.false_alarm_rate,
            calibration_share=self.calibration_share,
            trim=self.trim,
            threads=self.threads,
            training=training,
            widths=tuple(self.widths),
            size=self.code_size,
        )


class MemoryDetector(_TableDetector):
    """Compares a row with its nearest training rows: the residual on their hull, together with the distance to them.

    Args:
        neighbours: rows that a row is compared with.
        ridge: keeps the hull near its rows; relative to their mean squared distance from their centre.
        rows: training rows that are remembered, at most, chosen at random.
        trim: share of the training rows that are forgotten, those that look least like the others: they may be anomalies.
        calibration: "leave-one-out", all rows are remembered, and each is scored without itself for the threshold; or "split",
            rows are set aside for the threshold, so that the promise is exact. More rows than `rows` are always split.
        false_alarm_rate: of normal rows, that the threshold promises.
        calibration_share: of the rows of `fit`, set aside for the threshold where they are split.
        random_state: of the split and of the remembered rows.
        threads: of the CPU, while it learns.

    Attributes:
        offset_: `score_samples` of the threshold.
        false_alarm_rate_: what is promised: more than was asked for where the rows were too few for that.
        n_features_in_, feature_names_in_: as in scikit-learn.
    """

    def __init__(
        self,
        neighbours: int = 20,
        ridge: float = 1.0,
        rows: int = 5000,
        trim: float = 0.05,
        calibration: str = "leave-one-out",
        false_alarm_rate: float = 0.05,
        calibration_share: float = 0.2,
        random_state: Any = 0,
        threads: int = 1,
    ) -> None:
        self.neighbours = neighbours
        self.ridge = ridge
        self.rows = rows
        self.trim = trim
        self.calibration = calibration
        self.false_alarm_rate = false_alarm_rate
        self.calibration_share = calibration_share
        self.random_state = random_state
        self.threads = threads

    def _settings(self, rows: int) -> TableSettings:
        if self.calibration not in _CALIBRATIONS:
            raise ValueError(f"calibration: expected {' or '.join(_CALIBRATIONS)}, got {self.calibration!r}")
        hull = LocalHullScoreSpec(neighbours=self.neighbours, ridge=self.ridge, rows=self.rows)
        nearest = KnnScoreSpec(neighbours=_NEAREST, distance="mean", rows=self.rows)
        return TableSettings(
            score=CombinedScoreSpec((hull, nearest)),
            false_alarm_rate=self.false_alarm_rate,
            calibration_share=self.calibration_share,
            trim=self.trim,
            threads=self.threads,
            leaves_one_out=self.calibration == _CALIBRATIONS[0],
        )


def _as_frame(X: Any) -> "nw.DataFrame[Any] | None":
    """Return a frame of pandas, polars, Arrow or another library that narwhals knows; None for anything else.

    Columns whose names are no texts have no names for scikit-learn, either: such a frame is read as an array.
    """
    frame = nw.from_native(X, eager_only=True, pass_through=True)
    if isinstance(frame, nw.DataFrame) and all(isinstance(name, str) for name in frame.columns):
        return frame
    return None


def _frame_rows(columns: Sequence[ColumnSpec], frame: "nw.DataFrame[Any]") -> SampleArray:
    """Return the rows of a frame, float64 (n, columns)."""
    values = [_column_values(column, frame[column.name]) for column in columns]
    return _require_numbers(np.stack(values, axis=1), columns)


def _require_numbers(rows: SampleArray, columns: Sequence[ColumnSpec] | None = None) -> SampleArray:
    """Return rows without infinite values.

    Raises:
        ValueError: some are; the message names their columns.
    """
    is_infinite = np.any(np.isinf(rows), axis=0)
    if is_infinite.any():
        names = names_of(columns or number_columns(rows.shape[1]))
        infinite_names = ", ".join(compress(names, is_infinite))
        raise ValueError(
            f"expected finite values, got infinity in {infinite_names}: leave these rows out, or make them missing (NaN)"
        )
    return rows
