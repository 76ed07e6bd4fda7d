"""report/reference.parquet: the model's scores and codes of its calibration samples, for monitoring to compare with.

A row a calibration sample with the columns score, mean, std and code, as predictions have them, and values where samples have
columns. The file's metadata holds the settings of the threshold, the names of the columns, and of a series how its windows are
counted by blocks. Every version keeps the file in its MLflow run as monitoring/reference.parquet.
"""

import io
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ae_models.errors import SpecError
from ae_models.factory import build_part
from ae_models.spec import FitSpec
from ae_models.threshold_interface import ThresholdMethod
from ae_models.thresholds import THRESHOLDS, threshold_method, threshold_spec
from aeops.bundle.detector import Detector
from aeops.errors import DataError
from aeops.evaluation import model_input
from aeops.evaluation.block_scores import score_in_blocks
from aeops.evaluation.sample_blocks import release_pages, rows_of_blocks, sample_values
from aeops.kinds.results import WatchedColumn
from aeops.kinds.series_blocks import BlockRule
from aeops.predictions.rows import moments_of, scorer_of, summary_of_code

COLUMNS = ("score", "mean", "std", "code", "values")
REFERENCE_SEED = 1_414_213_562  # of the corruption of samples that are served corrupted; neither the test's nor training's
_RATE_KEY, _THRESHOLD_KEY, _BUNDLE_KEY = b"false_alarm_rate", b"threshold", b"bundle_sha256"
_COLUMNS_KEY, _BLOCKS_KEY = b"columns", b"blocks"


@dataclass(frozen=True)
class CalibrationReference:
    """Content of the file, for m calibration samples.

    Attributes:
        score, mean, std: (m,).
        code: (m, k).
        threshold: the method that chose the threshold.
        bundle_sha256: of the bundle that scored the samples.
        values: of the watched columns, (m, columns), each column ascending: no row is a sample; none in the file of an older
            version.
        columns: these columns; empty for samples without.
        blocks: how windows of a series are counted; None for other samples, and in the file of an older version.
        machines: of the windows, str (m,); empty without blocks.
        block_numbers: of the blocks that the windows lie in, int64 (m,); empty without blocks.
    """

    score: np.ndarray
    mean: np.ndarray
    std: np.ndarray
    code: np.ndarray
    threshold: ThresholdMethod
    bundle_sha256: str
    values: np.ndarray = field(default_factory=lambda: np.empty((0, 0)))
    columns: tuple[WatchedColumn, ...] = ()
    blocks: BlockRule | None = None
    machines: np.ndarray = field(default_factory=lambda: np.empty(0, str))
    block_numbers: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))

    @property
    def rank(self) -> int | None:
        """The threshold's rank among the calibration scores, from 1; None where the threshold is none of them.

        Of windows that are counted by blocks it is that among the highest scores of the blocks, where the threshold judges these.
        """
        windows = 1 if self.blocks is None else self.blocks.windows
        if self.threshold.block != windows:
            return None
        return self.threshold.calibration_rank(len(self.score) // windows)


def write_reference(
    file: Path, fit: FitSpec, calibration: np.ndarray, detector: Detector, names: Sequence[str] | None = None
) -> None:
    """Score the calibration samples and write the file. The same samples and bundle give the same bytes.

    Args:
        file: to write.
        fit: the recipe's model.
        calibration: (m, ...) in raw units, as prepared.
        detector: the bundle.
        names: of windows of a series, machine and time; None: unknown, or other samples.
    """
    inputs = model_input.served_inputs(fit, calibration, REFERENCE_SEED, file.parent)
    predictions = score_in_blocks(detector, inputs, file.parent, code=True)
    moments, scorer = [], scorer_of("", "", detector)
    for rows in rows_of_blocks(len(inputs), sample_values(inputs)):
        moments.append(moments_of(inputs[rows], scorer))
        release_pages(inputs)
    mean, std = map(np.concatenate, zip(*moments, strict=True))
    code = summary_of_code(predictions["code"])
    columns = {
        "score": pa.array(predictions["score"], pa.float32()),
        "mean": pa.array(mean, pa.float32()),
        "std": pa.array(std, pa.float32()),
        "code": pa.array(list(code), pa.list_(pa.float32())),
    }
    spec = threshold_spec(detector.bundle["threshold"])
    metadata = {}
    requested_rate = build_part(THRESHOLDS, spec).requested_rate
    if requested_rate is not None:
        metadata[_RATE_KEY] = str(requested_rate).encode()  # what an older version reads
    watched_columns = detector.data_kind.watched_columns(detector.spec)
    values = detector.data_kind.watched_values(inputs)
    if watched_columns and values is not None:
        # Each column in an order of its own: tests look at columns alone, and no row of a sample is kept.
        columns["values"] = pa.array(list(np.sort(values, axis=0)), pa.list_(pa.float32()))
        metadata[_COLUMNS_KEY] = json.dumps(list(map(asdict, watched_columns))).encode()
    blocks = detector.data_kind.block_rule(detector.spec, build_part(THRESHOLDS, spec).block)
    if blocks is not None:
        metadata[_BLOCKS_KEY] = json.dumps(asdict(blocks)).encode()
        machines, numbers = blocks.number(names, len(inputs))
        columns |= {"machine": pa.array(machines, pa.string()), "block": pa.array(numbers, pa.int64())}
    metadata |= {
        _THRESHOLD_KEY: json.dumps({"kind": spec.kind} | asdict(spec)).encode(),
        _BUNDLE_KEY: detector.sha256.encode(),
    }
    buffer = io.BytesIO()  # in memory first: an error of Python's own write names the cause, such as a full disk
    pq.write_table(pa.table(columns).replace_schema_metadata(metadata), buffer, compression="zstd")
    file.write_bytes(buffer.getvalue())


def read_reference(file: Path) -> CalibrationReference:
    """Read the file.

    Raises:
        DataError: it cannot be read, or is no such file.
    """
    try:
        table = pq.read_table(file)
        metadata = table.schema.metadata or {}
        return CalibrationReference(
            score=table["score"].to_numpy(),
            mean=table["mean"].to_numpy(),
            std=table["std"].to_numpy(),
            code=_read_lists(table, "code"),
            threshold=threshold_method(_threshold_section(metadata)),
            bundle_sha256=metadata[_BUNDLE_KEY].decode(),
            values=_read_lists(table, "values"),
            columns=_read_columns(metadata),
            **_read_blocks(table, metadata),
        )
    except (pa.ArrowInvalid, OSError, KeyError, ValueError, SpecError) as error:
        reason = str(error).splitlines()[0]
        raise DataError(
            f"{file}: expected the calibration scores that monitoring compares with, got another content ({reason}): remove the "
            "file, and it is downloaded again"
        ) from error


def _read_lists(table: pa.Table, name: str) -> np.ndarray:
    """Return a column of lists of one length as an array (m, k); (m, 0) where the file lacks it."""
    if not table.num_rows or name not in table.column_names:
        return np.empty((table.num_rows, 0))
    values: np.ndarray = table[name].combine_chunks().flatten().to_numpy().reshape(table.num_rows, -1)
    return values


def _read_columns(metadata: dict[bytes, bytes]) -> tuple[WatchedColumn, ...]:
    columns = []
    for column in json.loads(metadata.get(_COLUMNS_KEY, b"[]")):
        columns.append(WatchedColumn(column["name"], column["type"], tuple(column["categories"])))
    return tuple(columns)


def _read_blocks(table: pa.Table, metadata: dict[bytes, bytes]) -> dict[str, Any]:
    """Return the fields of a reference that say how windows are counted; none where they are counted one by one."""
    if _BLOCKS_KEY not in metadata:
        return {}
    return {
        "blocks": BlockRule(**json.loads(metadata[_BLOCKS_KEY])),
        "machines": np.array(table["machine"].to_pylist(), str),
        "block_numbers": table["block"].to_numpy(),
    }


def _threshold_section(metadata: dict[bytes, bytes]) -> dict[str, Any]:
    if _THRESHOLD_KEY in metadata:
        section: dict[str, Any] = json.loads(metadata[_THRESHOLD_KEY])
        return section
    return {"kind": "split-conformal", "false_alarm_rate": float(metadata[_RATE_KEY])}  # a file of an older version
