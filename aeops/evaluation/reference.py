"""report/reference.parquet: the model's scores and codes of its calibration samples, for monitoring to compare with.

A row a calibration sample with the columns score, mean, std and code, as predictions have them. The file's metadata holds the
settings of the threshold. Every version keeps the file in its MLflow run as monitoring/reference.parquet.
"""

import io
import json
from dataclasses import asdict, dataclass
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
from aeops.predictions.rows import moments_of, scorer_of, summary_of_code

COLUMNS = ("score", "mean", "std", "code")
REFERENCE_SEED = 1_414_213_562  # of the corruption of samples that are served corrupted; neither the test's nor training's
_RATE_KEY, _THRESHOLD_KEY, _BUNDLE_KEY = b"false_alarm_rate", b"threshold", b"bundle_sha256"


@dataclass(frozen=True)
class CalibrationReference:
    """Content of the file, for m calibration samples.

    Attributes:
        score, mean, std: (m,).
        code: (m, k).
        threshold: the method that chose the threshold.
        bundle_sha256: of the bundle that scored the samples.
    """

    score: np.ndarray
    mean: np.ndarray
    std: np.ndarray
    code: np.ndarray
    threshold: ThresholdMethod
    bundle_sha256: str

    @property
    def rank(self) -> int | None:
        """The threshold's rank among the calibration scores, from 1; None where the threshold is none of them."""
        return self.threshold.calibration_rank(len(self.score))


def write_reference(file: Path, fit: FitSpec, calibration: np.ndarray, detector: Detector) -> None:
    """Score the calibration samples and write the file. The same samples and bundle give the same bytes.

    Args:
        file: to write.
        fit: the recipe's model.
        calibration: (m, ...) in raw units, as prepared.
        detector: the bundle.
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
            code=_read_codes(table),
            threshold=threshold_method(_threshold_section(metadata)),
            bundle_sha256=metadata[_BUNDLE_KEY].decode(),
        )
    except (pa.ArrowInvalid, OSError, KeyError, ValueError, SpecError) as error:
        reason = str(error).splitlines()[0]
        raise DataError(
            f"{file}: expected the calibration scores that monitoring compares with, got another content ({reason}): remove the "
            "file, and it is downloaded again"
        ) from error


def _read_codes(table: pa.Table) -> np.ndarray:
    if not table.num_rows:
        return np.empty((0, 0))
    codes: np.ndarray = table["code"].combine_chunks().flatten().to_numpy().reshape(table.num_rows, -1)
    return codes


def _threshold_section(metadata: dict[bytes, bytes]) -> dict[str, Any]:
    if _THRESHOLD_KEY in metadata:
        section: dict[str, Any] = json.loads(metadata[_THRESHOLD_KEY])
        return section
    return {"kind": "split-conformal", "false_alarm_rate": float(metadata[_RATE_KEY])}  # a file of an older version
