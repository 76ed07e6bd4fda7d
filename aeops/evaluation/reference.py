"""report/reference.parquet: what the model says of its calibration samples, for monitoring to compare with.

A row a calibration sample with the columns score, mean, std and code, as predictions have them. Beside the rows lies what
belongs to the threshold. Every version keeps the file in its MLflow run as monitoring/reference.parquet.
"""

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ae_models.spec import FitSpec
from ae_models.thresholds import conformal_rank
from aeops.bundle.detector import Detector
from aeops.errors import DataError
from aeops.evaluation import model_input
from aeops.predictions.rows import moments_of, scorer_of, summary_of_code

COLUMNS = ("score", "mean", "std", "code")
REFERENCE_SEED = 1_414_213_562  # of what is drawn where samples are served corrupted; neither the test's nor training's
RATE, BUNDLE = b"false_alarm_rate", b"bundle_sha256"


@dataclass(frozen=True)
class Reference:
    """What the file holds, for m calibration samples.

    Attributes:
        score, mean, std: (m,).
        code: (m, k).
        rate: the false-alarm rate that the threshold was asked for.
        bundle_sha256: the bundle that scored them.
    """

    score: np.ndarray
    mean: np.ndarray
    std: np.ndarray
    code: np.ndarray
    rate: float
    bundle_sha256: str

    @property
    def rank(self) -> int:
        """The threshold's own rank among the calibration scores, from 1; above m where none of them is high enough."""
        return conformal_rank(len(self.score), self.rate)


def write_reference(place: Path, fit: FitSpec, calibration: np.ndarray, detector: Detector) -> None:
    """Scores the calibration samples, (n, ...) in raw units as prepared, and writes the file.

    The same samples and bundle give the same bytes.
    """
    given = model_input.given(fit, calibration, REFERENCE_SEED)
    said = detector.score(given, code=True)
    mean, std = moments_of(given, scorer_of("", "", detector))
    code = summary_of_code(said["code"])
    columns = {
        "score": pa.array(said["score"], pa.float32()),
        "mean": pa.array(mean, pa.float32()),
        "std": pa.array(std, pa.float32()),
        "code": pa.array(list(code), pa.list_(pa.float32())),
    }
    facts = {RATE: str(detector.bundle["threshold"]["false_alarm_rate"]).encode(), BUNDLE: detector.sha256.encode()}
    buffer = io.BytesIO()  # in memory first: Python's own write says why the disk refused
    pq.write_table(pa.table(columns).replace_schema_metadata(facts), buffer, compression="zstd")
    place.write_bytes(buffer.getvalue())


def read_reference(place: Path) -> Reference:
    """The file's content.

    Raises:
        DataError: it cannot be read, or is no such file.
    """
    try:
        table = pq.read_table(place)
        facts = table.schema.metadata or {}
        code = table["code"].combine_chunks()
        return Reference(
            score=table["score"].to_numpy(),
            mean=table["mean"].to_numpy(),
            std=table["std"].to_numpy(),
            code=code.flatten().to_numpy().reshape(table.num_rows, -1) if table.num_rows else np.empty((0, 0)),
            rate=float(facts[RATE]),
            bundle_sha256=facts[BUNDLE].decode(),
        )
    except (pa.ArrowInvalid, OSError, KeyError, ValueError) as error:
        why = str(error).splitlines()[0]
        raise DataError(f"{place} is no reference for monitoring ({why}): remove it, and it is fetched anew") from error
