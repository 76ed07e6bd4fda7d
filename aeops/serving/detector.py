"""A bundle, loaded and ready to score: onnxruntime and numpy, no torch.

>>> detector = Detector(Path("artifacts/digits/bundle"))     # refuses a bundle whose sums do not hold
>>> detector.score(samples)["is_anomaly"]                     # samples in raw units, as in the dataset

The logged MLflow model carries this file, so it imports little of the project: the errors and the sums.
"""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from aeops.errors import DataError
from aeops.serving.sums import bundle_sha256, verify

FORMATS = (1,)  # a format once written stays readable for ever
BLOCK = 1024  # samples scored at once: bounds the memory that activations take
PROVIDERS = ("CUDAExecutionProvider", "CPUExecutionProvider")  # the first that this machine's onnxruntime offers does the work


class Detector:
    """Scores samples with the bundle in a folder.

    Attributes:
        bundle: bundle.json.
        shape: of one sample, such as (channels, height, width).
        low, high: the range of a sample's values.
        sha256: the bundle's name by content.
    """

    def __init__(self, bundle: Path) -> None:
        """Verifies the bundle, then loads it.

        Raises:
            DataError: a file is missing, surplus or altered, or the format is unknown.
        """
        verify(bundle)
        self.sha256 = bundle_sha256(bundle)
        self.bundle: dict[str, Any] = json.loads((bundle / "bundle.json").read_text(encoding="utf-8"))
        require_known_format(bundle, self.bundle.get("format"))
        self.shape: tuple[int, ...] = tuple(self.bundle["input"]["shape"])
        self.low = float(self.bundle["input"]["low"])
        self.high = float(self.bundle["input"]["high"])
        self._session = open_session(bundle / "model.onnx")

    def check(self, samples: Any) -> np.ndarray:
        """The samples as a float32 batch (n, *shape), values in raw units.

        Args:
            samples: one sample or a batch; the leading axis of a one-channel sample may be left out.

        Raises:
            DataError: no samples, another shape, not numbers, NaN, or values outside low..high.
        """
        return self._checked_values(self._batch(samples), first=0)

    def score(self, samples: Any, reconstruction: bool = False, code: bool = False) -> dict[str, np.ndarray]:
        """Scores one sample or a batch, block by block.

        Args:
            samples: as `check` takes them, also memory-mapped.
            reconstruction: also return what the model makes of each sample, (n, *shape) in raw units.
            code: also return each sample's code, (n, size).

        Returns:
            `score` float32 (n,), `p_value` float32 (n,) in (0, 1], `is_anomaly` bool (n,), and what was asked for.

        Raises:
            DataError: as `check`.
        """
        names = ["score", "p_value", "is_anomaly"] + ["reconstruction"] * reconstruction + ["code"] * code
        batch = self._batch(samples)
        blocks = [
            self._session.run(names, {"input": self._checked_values(batch[first : first + BLOCK], first)})
            for first in range(0, len(batch), BLOCK)
        ]
        return {name: np.concatenate(parts) for name, parts in zip(names, zip(*blocks, strict=True), strict=True)}

    def _batch(self, samples: Any) -> np.ndarray:
        try:
            given = samples if isinstance(samples, np.ndarray) else np.asarray(samples)
        except ValueError as error:
            raise DataError(f"samples of unequal shapes given; {self._allowed()} allowed") from error
        if given.dtype.kind not in "uif":
            raise DataError(f"samples of dtype {given.dtype} given; whole or real numbers are allowed")
        shapes = {self.shape, self.shape[1:]} if self.shape[0] == 1 else {self.shape}
        if given.shape in shapes:
            given = given[None]
        if given.shape[1:] not in shapes or given.ndim == 0:
            raise DataError(f"samples of shape {given.shape} given; {self._allowed()} allowed")
        if len(given) == 0:
            raise DataError("no samples given; at least one is needed")
        return given.reshape(len(given), *self.shape)

    def _checked_values(self, block: np.ndarray, first: int) -> np.ndarray:
        """The block as float32; `first` is its first sample's place in the whole batch, for the message."""
        values = np.ascontiguousarray(block, dtype=np.float32)
        inside = (values >= self.low) & (values <= self.high)  # false for NaN too
        if not inside.all():
            place = int(np.argmin(inside.reshape(len(values), -1).all(axis=1)))
            found = values[place][~inside[place]].flat[0]
            raise DataError(f"sample {first + place} holds {found:g}; values from {self.low:g} to {self.high:g} are allowed")
        return values

    def _allowed(self) -> str:
        return f"one sample of shape {self.shape} or a batch of shape ({', '.join(['n', *map(str, self.shape)])}) is"


def open_session(model: Path) -> onnxruntime.InferenceSession:
    """An onnxruntime session on the GPU where onnxruntime offers one, else on the CPU."""
    onnxruntime.disable_telemetry_events()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors; warnings speak of graph optimisations
    options.intra_op_num_threads = usable_cores()
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # idle threads must not burn a server's cores
    offered = onnxruntime.get_available_providers()
    return onnxruntime.InferenceSession(str(model), options, providers=[name for name in PROVIDERS if name in offered])


def usable_cores() -> int:
    """Cores that this process may use, which can be fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def require_known_format(bundle: Path, number: Any) -> None:
    if number not in FORMATS:
        raise DataError(
            f"bundle {bundle} has format {number!r}; {', '.join(map(str, FORMATS))} is known here: "
            "a newer version of this project wrote it, so update this one"
        )
