"""ONNX export: one file from raw samples to score, p-value, verdict, reconstruction and code, and one for the way back."""

import warnings
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from ae_models.autoencoder import Autoencoder
from ae_models.input_bounds import InputBounds
from ae_models.model_output import ModelOutput
from ae_models.names import names_of
from ae_models.onnx_runtime import onnxruntime
from ae_models.sample_sets import SampleArray
from ae_models.score_interface import Score
from ae_models.spec import SampleRules
from ae_models.table_bounds import TableBounds
from ae_models.threshold_interface import CALIBRATION_SCORES, CalibratedThreshold

__all__ = ["AnomalyScorer", "CodeDecoder", "ExportCheck", "export_onnx"]

_OUTPUTS = ("score", "p_value", "is_anomaly", "reconstruction", "code")
_OPSET = 18


class AnomalyScorer(nn.Module):
    """An autoencoder with its score, its calibration and its preprocessing, as one plain module.

    Args:
        autoencoder: the trained model.
        score: has learnt what it needs to.
        threshold: with its m calibration scores.
        rules: for samples that are not as those of the training.
    """

    calibration_scores: Tensor
    score_above_normal: Tensor

    def __init__(
        self, autoencoder: Autoencoder, score: Score, threshold: CalibratedThreshold, rules: SampleRules | None = None
    ) -> None:
        super().__init__()
        self.autoencoder, self.score = autoencoder, score
        self.register_buffer("calibration_scores", torch.from_numpy(threshold.calibration_scores.copy()))
        for name, array in threshold.extra_arrays.items():
            self.register_buffer(name, torch.from_numpy(array.copy()))
        self.threshold = threshold
        self.rules = rules or SampleRules()
        self.bounds = _make_bounds(autoencoder, self.rules)
        highest_score = np.float32(max(threshold.value, float(threshold.calibration_scores.max())))
        self.register_buffer("score_above_normal", torch.from_numpy(np.nextafter(highest_score, np.float32(np.inf)).reshape(1)))

    @property
    def output_names(self) -> tuple[str, ...]:
        """Return the names of what `forward` returns."""
        names: tuple[str, ...] = _OUTPUTS
        if self.score.part_names():
            names = (*names, "part_scores")
        if self.score.bank_samples() is not None:
            names = (*names, "nearest")
        if self.score.has_pixel_map:
            names = (*names, "pixel_map")
        if self.score.has_token_surprise:
            names = (*names, "token_surprise")
        if self._has_column_shares:
            names = (*names, "column_shares")
        return names

    @property
    def _has_column_shares(self) -> bool:
        return self.autoencoder.preprocessing is not None and self.score.has_value_shares

    def forward(self, raw: Tensor) -> tuple[Tensor, ...]:
        """Score a batch.

        A sample with values outside [low, high] is less like a normal one than every calibration sample: its score is above all
        of theirs, the more so the further out it is, and its p-value is the smallest. So is that of a sample with missing values
        under the rule `flag`; under `refuse` it has the score and the p-value NaN.

        Args:
            raw: float32 (n, *given_shape), NaN where a value is missing; token ids int64 (n, tokens); or rows of a table float64
                (n, columns).

        Returns: score (n,), p_value (n,), is_anomaly (n,), reconstruction (n, *made_shape) in raw units, code (n, *code_shape);
            where the score has them, also part_scores (n, parts), nearest (n,), the nearest row of the bank, pixel_map (n, h, w),
            how far each pixel is from normal, token_surprise (n, tokens) in nats, and column_shares (n, columns), the share of
            each column of a row in its score.
        """
        score, output = self._score(raw)
        p_value = self.threshold.method.p_values(score, output.inputs, self._calibration())
        if self.bounds is not None:
            p_value = torch.where(torch.isnan(score), torch.nan, p_value)
        is_anomaly = self.threshold.method.flag(score, output.inputs, self._calibration(), self.threshold.value)
        reconstruction = self.autoencoder.denormalise(output.reconstruction)
        explanations = (
            self.score.part_scores(output),
            self.score.nearest(output),
            self.score.pixel_map(output),
            self.score.token_surprise(output),
            self._column_shares(output),
        )
        return score, p_value, is_anomaly, reconstruction, output.code, *(part for part in explanations if part is not None)

    def score_only(self, raw: Tensor) -> Tensor:
        """Return the scores of a batch, (n,), as `forward` does, in the precision of this module; nothing else is computed."""
        return self._score(raw)[0]

    def _score(self, raw: Tensor) -> tuple[Tensor, ModelOutput]:
        if self.bounds is None:
            output = self.autoencoder.run(self.autoencoder.normalise(raw))
            return self.score(output), output
        inputs, excess = self.bounds(raw.to(self.bounds.dtype))
        vectors = self.autoencoder.normalise(inputs).to(self.calibration_scores.dtype)
        output = self.autoencoder.run(vectors)
        score = self.score(output)
        outside_score = torch.maximum(score, self.score_above_normal) + (1 + excess).log()
        return torch.where(excess == 0, score, outside_score), output

    def _column_shares(self, output: ModelOutput) -> Tensor | None:
        preprocessing = self.autoencoder.preprocessing
        if preprocessing is None or not self._has_column_shares:
            return None
        shares = self.score.value_shares(output)
        assert shares is not None, "a score that has shares returns them"
        return shares @ preprocessing.membership

    def _calibration(self) -> dict[str, Tensor]:
        """Return the arrays of the threshold's calibration by their names."""
        names = (CALIBRATION_SCORES, *self.threshold.extra_arrays)
        return {name: getattr(self, name) for name in names}


def _make_bounds(autoencoder: Autoencoder, rules: SampleRules) -> InputBounds | TableBounds | None:
    if autoencoder.preprocessing is not None:
        return TableBounds(autoencoder.preprocessing, rules)
    if autoencoder.is_text:
        return None
    return InputBounds(*autoencoder.allowed, rules.missing)


class CodeDecoder(nn.Module):
    """The way back alone: codes, as the scorer returns them, to reconstructions in raw units."""

    def __init__(self, autoencoder: Autoencoder) -> None:
        super().__init__()
        self.autoencoder = autoencoder

    def forward(self, code: Tensor) -> Tensor:
        return self.autoencoder.denormalise(self.autoencoder.reconstruct(code))


class ExportCheck(NamedTuple):
    """Comparison of onnxruntime with torch.

    Attributes:
        max_difference: largest absolute difference of a reconstruction (in [0, 1]; for texts the share of tokens that differ; of
            a row, of its vector) or of a score.
        rows: number of compared samples.
    """

    max_difference: float
    rows: int


def export_onnx(scorer: AnomalyScorer, model_path: Path, decoder_path: Path, samples: SampleArray) -> ExportCheck:
    """Write the scorer and its decoder as ONNX, and compare onnxruntime with torch.

    Args:
        scorer: put in evaluation mode and on the CPU by this call.
        model_path: written in place.
        decoder_path: written in place.
        samples: two or more inputs of the served model, (n, *input_shape); a batch of one would be exported as a fixed size.
    """
    scorer = scorer.cpu().eval().to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    raw = torch.from_numpy(samples.astype(scorer.autoencoder.sample_dtype))
    with torch.inference_mode():
        expected = dict(zip(scorer.output_names, scorer(raw), strict=True))
    _export_module(scorer, raw, model_path, "input", scorer.output_names)
    decoder = CodeDecoder(scorer.autoencoder).eval()
    _export_module(decoder, expected["code"].clone(), decoder_path, "code", ("reconstruction",))
    onnx_outputs = _run_onnx(model_path, "input", raw.numpy())
    decoder_output = _run_onnx(decoder_path, "code", expected["code"].numpy())["reconstruction"]
    max_differences = []
    for reconstruction in (onnx_outputs["reconstruction"], decoder_output):
        expected_reconstruction = expected["reconstruction"].numpy()
        max_differences.append(_reconstruction_difference(scorer.autoencoder, expected_reconstruction, reconstruction))
    max_differences.append(float(np.abs(onnx_outputs["score"] - expected["score"].numpy()).max()))
    return ExportCheck(max(max_differences), len(samples))


def _export_module(module: nn.Module, example: Tensor, path: Path, input_name: str, output_names: tuple[str, ...]) -> None:
    with warnings.catch_warnings():
        # The newer exporter needs onnxscript, takes 6 s and splits the model over two files; the legacy one warns that it is
        # old, and that shapes, which do not change here, were taken as constants.
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.filterwarnings("ignore", message="Constant folding", category=UserWarning)  # of paddings, as they are exported
        warnings.simplefilter("ignore", torch.jit.TracerWarning)  # type: ignore[attr-defined]
        torch.onnx.export(
            module,
            (example,),
            str(path),
            dynamo=False,
            opset_version=_OPSET,
            input_names=[input_name],
            output_names=list(output_names),
            dynamic_axes={name: {0: "n"} for name in (input_name, *output_names)},
        )


def _run_onnx(path: Path, input_name: str, inputs: SampleArray) -> dict[str, SampleArray]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1  # so that the difference, which the bundle holds, does not depend on the number of cores
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    names = names_of(session.get_outputs())
    return dict(zip(names, session.run(names, {input_name: inputs}), strict=True))


def _reconstruction_difference(autoencoder: Autoencoder, expected: SampleArray, actual: SampleArray) -> float:
    if autoencoder.is_text:
        return float((actual != expected).mean())
    if autoencoder.preprocessing is not None:
        expected_vectors = autoencoder.preprocessing(torch.from_numpy(expected))
        actual_vectors = autoencoder.preprocessing(torch.from_numpy(actual))
        # Relative beyond 1: the numbers of a row have no range.
        return float(((expected_vectors - actual_vectors).abs() / expected_vectors.abs().clamp(min=1.0)).max())
    return float((np.abs(actual - expected) / np.asarray(autoencoder.high - autoencoder.low)).max())
