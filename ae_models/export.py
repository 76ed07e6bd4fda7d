"""One file that serves: raw samples in; score, p-value, verdict, reconstruction and code out, with nothing beside it."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime
import torch
from torch import Tensor, nn

from ae_models.autoencoder import Autoencoder
from ae_models.threshold import Threshold

OPSET = 18
OUTPUTS = ("score", "p_value", "is_anomaly", "reconstruction", "code")


class Scorer(nn.Module):
    """An autoencoder with its score, its calibration and its preprocessing, as one plain module.

    Args:
        autoencoder: the sentence.
        score: maps samples and reconstructions in [0, 1] to (n,).
        threshold: with its m calibration scores.
    """

    calibration_scores: Tensor

    def __init__(self, autoencoder: Autoencoder, score: nn.Module, threshold: Threshold) -> None:
        super().__init__()
        self.autoencoder, self.score = autoencoder, score
        self.register_buffer("calibration_scores", torch.from_numpy(threshold.calibration_scores.copy()))
        self.threshold = threshold

    def forward(self, raw: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """From float32 (n, c, h, w) in [low, high]: score (n,), p_value (n,), is_anomaly (n,), reconstruction (in the
        units of `raw`) and code (n, size)."""
        x = self.autoencoder.normalise(raw)
        y, z = self.autoencoder(x)
        score = self.score(x, y)
        low, high = self.autoencoder.low, self.autoencoder.high
        return score, self.p_value(score), score > self.threshold.value, y * (high - low) + low, z

    def p_value(self, score: Tensor) -> Tensor:
        """(1 + #{calibration scores >= score}) / (m + 1). Compared one by one: ONNX has no search in a sorted list."""
        at_least = (self.calibration_scores >= score.unsqueeze(1)).float().sum(1)
        return (1 + at_least) / (self.calibration_scores.shape[0] + 1)


def export_onnx(scorer: Scorer, file: Path, samples: npt.NDArray[Any]) -> dict[str, Any]:
    """Writes the scorer as ONNX and says how far onnxruntime's answers are from torch's.

    Args:
        scorer: put in evaluation mode and on the CPU by this call.
        file: written in place.
        samples: two or more raw ones (n, c, h, w); a batch of one would be exported as a batch of always one.

    Returns:
        `max_difference`, the largest absolute difference of a reconstruction (in [0, 1]) or of a score, and `rows`.
    """
    scorer = scorer.cpu().eval().to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    raw = torch.from_numpy(samples.astype(np.float32))
    with warnings.catch_warnings():
        # The newer exporter needs onnxscript, takes 6 s and splits the model over two files; the legacy one says it is old.
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.onnx.export(
            scorer,
            (raw,),
            str(file),
            dynamo=False,
            opset_version=OPSET,
            input_names=["input"],
            output_names=list(OUTPUTS),
            dynamic_axes={name: {0: "n"} for name in ("input", *OUTPUTS)},
        )
    return {"max_difference": max_difference(scorer, file, raw), "rows": len(samples)}


def max_difference(scorer: Scorer, file: Path, raw: Tensor) -> float:
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    with torch.inference_mode():
        wanted = dict(zip(OUTPUTS, scorer(raw), strict=True))
    given = dict(zip(OUTPUTS, session.run(list(OUTPUTS), {"input": raw.numpy()}), strict=True))
    span = {"reconstruction": scorer.autoencoder.high - scorer.autoencoder.low, "score": 1.0}
    return max(float(np.abs(given[name] - wanted[name].numpy()).max()) / unit for name, unit in span.items())
