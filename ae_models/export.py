"""One file that serves: raw samples in; score, p-value, verdict, reconstruction and code out, with nothing beside it."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from ae_models.autoencoder import Autoencoder
from ae_models.runtime import onnxruntime
from ae_models.threshold import Threshold

OPSET = 18
OUTPUTS = ("score", "p_value", "is_anomaly", "reconstruction", "code")


class Scorer(nn.Module):
    """An autoencoder with its score, its calibration and its preprocessing, as one plain module.

    Args:
        autoencoder: the sentence.
        score: maps an Answer to (n,).
        threshold: with its m calibration scores.
    """

    calibration_scores: Tensor

    def __init__(self, autoencoder: Autoencoder, score: nn.Module, threshold: Threshold) -> None:
        super().__init__()
        self.autoencoder, self.score = autoencoder, score
        self.register_buffer("calibration_scores", torch.from_numpy(threshold.calibration_scores.copy()))
        self.threshold = threshold

    def forward(self, raw: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """From what is served, float32 (n, *given_shape) in [low, high] or token ids int64 (n, tokens): score (n,), p_value
        (n,), is_anomaly (n,), reconstruction (n, *made_shape) in the same units, and code (n, *code_shape)."""
        answer, kept = self.autoencoder.answer(self.autoencoder.normalise(raw))
        score = self.score(answer)
        return score, self.p_value(score), score > self.threshold.value, self.autoencoder.raw(answer.made), kept

    def p_value(self, score: Tensor) -> Tensor:
        """(1 + #{calibration scores >= score}) / (m + 1). Compared one by one: ONNX has no search in a sorted list."""
        at_least = (self.calibration_scores >= score.unsqueeze(1)).float().sum(1)
        return (1 + at_least) / (self.calibration_scores.shape[0] + 1)


class Decoder(nn.Module):
    """The way back alone: codes, as the scorer gives them, to reconstructions."""

    def __init__(self, autoencoder: Autoencoder) -> None:
        super().__init__()
        self.autoencoder = autoencoder

    def forward(self, code: Tensor) -> Tensor:
        return self.autoencoder.raw(self.autoencoder.opened(code))


def export_onnx(scorer: Scorer, model: Path, decoder: Path, samples: npt.NDArray[Any]) -> dict[str, Any]:
    """Writes the scorer and its decoder as ONNX and says how far onnxruntime's answers are from torch's.

    Args:
        scorer: put in evaluation mode and on the CPU by this call.
        model, decoder: written in place.
        samples: two or more as they are served, (n, *given_shape); a batch of one would be exported as a batch of always one.

    Returns:
        `max_difference`, the largest absolute difference of a reconstruction (in [0, 1]; for texts the share of tokens that
        differ) or of a score, and `rows`.
    """
    scorer = scorer.cpu().eval().to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    of_text = scorer.autoencoder.of_text
    raw = torch.from_numpy(samples.astype(np.int64 if of_text else np.float32))
    with torch.inference_mode():
        wanted = dict(zip(OUTPUTS, scorer(raw), strict=True))
    export(scorer, raw, model, "input", OUTPUTS)
    export(Decoder(scorer.autoencoder).eval(), wanted["code"].clone(), decoder, "code", ("reconstruction",))
    given = answers(model, {"input": raw.numpy()}) | {
        "opened": answers(decoder, {"code": wanted["code"].numpy()})["reconstruction"]
    }
    return {"max_difference": max_difference(scorer.autoencoder, wanted, given), "rows": len(samples)}


def export(module: nn.Module, example: Tensor, file: Path, takes: str, gives: tuple[str, ...]) -> None:
    with warnings.catch_warnings():
        # The newer exporter needs onnxscript, takes 6 s and splits the model over two files; the legacy one says it is old,
        # and that shapes, which do not change here, were taken as constants.
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.simplefilter("ignore", torch.jit.TracerWarning)  # type: ignore[attr-defined]
        torch.onnx.export(
            module,
            (example,),
            str(file),
            dynamo=False,
            opset_version=OPSET,
            input_names=[takes],
            output_names=list(gives),
            dynamic_axes={name: {0: "n"} for name in (takes, *gives)},
        )


def answers(file: Path, given: dict[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, given), strict=True))


def max_difference(autoencoder: Autoencoder, wanted: dict[str, Tensor], given: dict[str, npt.NDArray[Any]]) -> float:
    """Of scores and of reconstructions, both straight and from the code."""
    wanted = wanted | {"opened": wanted["reconstruction"]}
    if autoencoder.of_text:
        parts = [(given[name] != wanted[name].numpy()).mean() for name in ("reconstruction", "opened")]
    else:
        span = autoencoder.high - autoencoder.low
        parts = [np.abs(given[name] - wanted[name].numpy()).max() / span for name in ("reconstruction", "opened")]
    return max(float(part) for part in (*parts, np.abs(given["score"] - wanted["score"].numpy()).max()))
