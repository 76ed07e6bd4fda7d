"""A bundle, loaded and ready to score: onnxruntime and numpy, no torch.

    detector = Detector(Path("artifacts/digits/bundle"))     # refuses a bundle whose checksums are wrong
    detector.score(samples)["is_anomaly"]                     # samples in raw units, as in the dataset; or texts

The logged MLflow model carries this file, so it imports little of the project: the errors, the checksums, helpers for
names and mappings, the import of onnxruntime and the kinds of data.
"""

import json
import math
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np

from ae_models.checksums import VerifiedBundle
from ae_models.errors import BundleError
from ae_models.mappings import drop_keys, select_keys
from ae_models.names import names_in, names_not_in
from ae_models.onnx_outputs import keep_outputs, list_outputs
from ae_models.onnx_runtime import onnxruntime
from aeops.errors import DataError
from aeops.kinds.flags import INFINITE, MISSING, OUT_OF_RANGE, REFUSED, UNEXPECTED, UNKNOWN_CATEGORY, describe_flags
from aeops.kinds.interface import load_kind
from aeops.kinds.results import Explanation, NearestSample, ScoredPart
from aeops.kinds.samples import CheckedSamples, FileSamples, SampleSpec

BUNDLE_FORMATS = (1, 2, 3, 4)  # a format once written stays readable for ever
# With small samples a run gains nothing from threads of its own, since one layer is too little work to share: on two cores 256
# digits took as long with two threads as with one, and 0.6 of that in parts that each have a core.
SMALL_SAMPLE_VALUES = 4096  # values of a sample, at most
PART_ROWS = 64  # small samples that a core scores at once
SCORE_NAMES = ("score", "p_value", "is_anomaly")
RECORDED_NAMES = (*SCORE_NAMES, "code")  # what a prediction is recorded with: most requests ask for no more
# Outputs of those models whose score has them.
EXPLANATION_NAMES = ("part_scores", "nearest", "pixel_map", "token_surprise", "column_shares")
NO_NUMBER = {"code": -1, "reconstruction": 0, "nearest": -1}  # of a refused sample, where numbers are whole: no word, no token
PROVIDER_NAMES = ("CUDAExecutionProvider", "CPUExecutionProvider")  # the first that this machine's onnxruntime offers is used


class Detector:
    """Scores samples with the bundle in a folder.

    Attributes:
        folder: the bundle's.
        bundle: bundle.json.
        kind: of a sample: one of `aeops.kinds.KIND_INFOS`.
        data_kind: the kind itself.
        spec: the samples that it takes, and their reconstructions.
        shape, output_shape, low, high: those of the spec.
        sha256: the bundle's name by content.
    """

    def __init__(self, bundle: Path, expected_sha256: str | None = None, cores: int | None = None) -> None:
        """Verify the bundle, then load it. Each file is verified again as it is read, also those that are read later.

        Args:
            expected_sha256: of the bundle that was checked before; None to load whichever bundle the folder holds.
            cores: to score on; None: all that this process may use. The results do not depend on it.

        Raises:
            DataError: a file is missing, surplus or altered, the format is unknown, or it is not the expected bundle.
        """
        try:
            self._files = VerifiedBundle(bundle)
        except BundleError as error:
            raise DataError(str(error)) from error
        self.folder, self.sha256 = bundle, self._files.sha256
        if expected_sha256 not in (None, self.sha256):
            raise DataError(
                f"the bundle {bundle} is {self.sha256}, expected {expected_sha256}: it was replaced after it was checked. "
                "Nothing of it was loaded; type the same command again"
            )
        self.bundle: dict[str, Any] = json.loads(self._read_file("bundle.json"))
        require_format(bundle, self.bundle.get("format"))
        self.kind: str = self.bundle["input"]["kind"]
        self.data_kind = load_kind(self.kind)
        self.spec = SampleSpec.from_bundle(self.bundle)
        self.shape, self.output_shape = self.spec.shape, self.spec.output_shape
        self.low, self.high = self.spec.low, self.spec.high
        self._encoder = self.data_kind.open_encoder(self._read_file, self.spec)
        self._is_small = self.data_kind.FIXED_SHAPE and math.prod(self.shape) <= SMALL_SAMPLE_VALUES
        self._cores = cores
        model = self._read_file("model.onnx")
        self._model_outputs = list_outputs(model)
        # onnxruntime computes all outputs of a model. These often need no decoder, and no search for the nearest row.
        self._score_network = OnnxNetwork(keep_outputs(model, RECORDED_NAMES), self._is_small, cores)

    def _read_file(self, name: str) -> bytes:
        try:
            return self._files.read(name)
        except BundleError as error:
            raise DataError(str(error)) from error

    @property
    def word_counts(self) -> np.ndarray | None:
        """Counts of each word in each slot of the training samples' codes, (slots, words) int64; None for codes without words."""
        return self._scorer_arrays.get("word_counts")

    @property
    def calibration_scores(self) -> np.ndarray:
        """Scores of the calibration samples, ascending, float32 (m,)."""
        return self._scorer_arrays["calibration_scores"]

    @cached_property
    def _scorer_arrays(self) -> dict[str, np.ndarray]:
        from safetensors.numpy import load  # here, so that a served model does without

        arrays: dict[str, np.ndarray] = load(self._read_file("scorer.safetensors"))
        return arrays

    def example(self) -> Any:
        """Return two samples that the model takes, in raw units."""
        return self.data_kind.example(self.spec)

    def read_file(self, path: Path) -> FileSamples:
        """Read the samples of a file or folder.

        Raises:
            UsageError: there is no such file.
            DataError: it holds no samples that the model takes.
        """
        return self.data_kind.read_file(path, self.spec)

    def check(self, samples: Any) -> CheckedSamples:
        """Convert samples to a batch that the model takes, float32 (n, *shape) in raw units or token ids int64, with their flags.

        Args:
            samples: one sample or a batch; the leading axis of a one-channel sample may be left out. Texts: a string, a list of
                strings, or bytes as uint8 (n, length) filled up with zeros.

        Raises:
            DataError: no samples, another shape, or not numbers.
        """
        return self._encoder.check(self._encoder.encode(samples))

    def score(
        self, samples: Any, reconstruction: bool = False, code: bool = False, explanation: bool = False
    ) -> dict[str, np.ndarray]:
        """Score one sample or a batch, block by block.

        Args:
            samples: as `check` takes them, also memory-mapped.
            reconstruction: also return the reconstruction of each sample, (n, *output_shape) in raw units; of texts, texts.
            code: also return each sample's code, (n, size), or (n, slots) words.
            explanation: also return EXPLANATION_NAMES where the score has them: `part_scores` (n, parts) in the order of
                `part_names`, `nearest` (n,), each sample's place in `bank_samples` or -1, and `token_surprise` (n, tokens).

        Returns:
            `score` float32 (n,), `p_value` float32 (n,) in (0, 1], `is_anomaly` bool (n,), `flags` (n,), which
            `aeops.kinds.flags` reads, and the optional arrays. A sample is an anomaly if its score is above the threshold, or if
            it is flagged as unlike those of the training. A refused one has the score and the p-value NaN and is no anomaly.

        Raises:
            DataError: as `check`.
        """
        checked_blocks = self._check_blocks(self._encoder.encode(samples))
        outputs = self._run_model(checked_blocks, self._output_names(reconstruction, code, explanation))
        if reconstruction:
            outputs["reconstruction"] = self.decode_outputs(outputs["reconstruction"])
        return outputs

    def score_frame(self, frame: Any, reconstruction: bool = False, code: bool = False) -> dict[str, np.ndarray]:
        """Score a frame of pandas by the names of its columns; return one answer a row, see `DataKind.score_frame`.

        Raises:
            DataError: a missing column, a cell of another type, or nothing that can be scored.
        """
        return self.data_kind.score_frame(frame, self, reconstruction, code)

    def score_checked(
        self, checked: CheckedSamples, reconstruction: bool = False, code: bool = False, explanation: bool = False
    ) -> dict[str, np.ndarray]:
        """Score the result of `check` without checking it again.

        As `score`, but reconstructions are those of the model: of texts they are token ids, int64 (n, tokens). With `explanation`
        they are always there: `explain` reads them.
        """
        model_input, flags = checked
        blocks = (CheckedSamples(model_input[rows], flags[rows]) for rows in self._block_slices(model_input))
        return self._run_model(blocks, self._output_names(reconstruction or explanation, code, explanation))

    def _output_names(self, reconstruction: bool, code: bool, explanation: bool) -> list[str]:
        """Return the names of the model's outputs that are needed, those of an explanation among them."""
        names = output_names(reconstruction, code)
        if explanation:
            names += names_in(EXPLANATION_NAMES, self._model_outputs)
        return names

    def _block_slices(self, batch: np.ndarray) -> Iterator[slice]:
        """Yield slices of the batch that are scored at once."""
        rows_at_once = self.data_kind.rows_at_once(np.size(batch[0]))
        for start in range(0, len(batch), rows_at_once):
            yield slice(start, start + rows_at_once)

    def _check_blocks(self, encoded: np.ndarray) -> Iterator[CheckedSamples]:
        """Yield the blocks of a batch as the network takes them."""
        for rows in self._block_slices(encoded):
            yield self._encoder.check(encoded[rows])

    def _run_model(self, blocks: Iterable[CheckedSamples], names: list[str]) -> dict[str, np.ndarray]:
        results, block_flags = [], []
        network = self._whole_network if names_not_in(names, RECORDED_NAMES) else self._score_network
        for block in blocks:
            results += network.run(names, {"input": block.model_input})
            block_flags.append(block.flags)
        columns = dict(zip(names, map(np.concatenate, zip(*results, strict=True)), strict=True))
        outputs = select_keys(columns, SCORE_NAMES)
        outputs["flags"] = np.concatenate(block_flags)
        outputs |= drop_keys(columns, SCORE_NAMES)
        if outputs["flags"].any():
            apply_flags(outputs)
        return outputs

    def require_scored(self, flags: np.ndarray) -> None:
        """Check that at least one sample is not refused.

        Args:
            flags: of samples that were checked or scored.

        Raises:
            DataError: all are refused; the message says why the first one is.
        """
        if (flags & REFUSED).all():
            raise DataError(f"sample 0 holds {self.describe_refusal(int(flags[0]))}")

    def describe_refusal(self, flags: int) -> str:
        """Return why a sample with these flags is refused, and what is expected, to go on after "the sample holds"."""
        reasons = describe_flags(flags & (OUT_OF_RANGE | MISSING | UNKNOWN_CATEGORY | INFINITE)) or describe_flags(
            flags & ~REFUSED
        )
        message = f"{reasons}, expected {self.data_kind.expected_values(self.spec)}"
        if self.spec.rules is None and self.data_kind.FIXED_SHAPE:
            message += ": this bundle is of an older format, which scores no others; `ae run` makes a new one"
        return message

    def decode(self, codes: np.ndarray) -> np.ndarray:
        """Reconstruct samples from codes (n, *code shape) that `score` returned.

        Returns:
            (n, *output_shape) in raw units, or texts.

        Raises:
            DataError: a bundle of format 1, which has no decoder.
        """
        parts = []
        for block in split_rows(codes, self.data_kind.rows_at_once(1)):  # codes are small
            for [part] in self._decoder_network.run(["reconstruction"], {"code": block}):
                parts.append(part)
        return self.decode_outputs(np.concatenate(parts))

    @cached_property
    def _whole_network(self) -> "OnnxNetwork":
        """The network with all its outputs, opened when more than the score is asked for; its scores have the same bits."""
        return OnnxNetwork(self._read_file("model.onnx"), self._is_small, self._cores)

    @cached_property
    def _decoder_network(self) -> "OnnxNetwork":
        if "decoder.onnx" not in self._files:
            raise DataError(f"the bundle {self.folder} is of format 1, which has no decoder: train it again with ae run")
        return OnnxNetwork(self._read_file("decoder.onnx"), self._is_small)

    def decode_outputs(self, outputs: np.ndarray) -> np.ndarray:
        """Convert the model's reconstructions to samples: token ids to texts, object (n,); others stay as they are."""
        return self._encoder.decode(outputs)

    def to_measured(self, samples: np.ndarray) -> np.ndarray:
        """Convert samples or decoded reconstructions to the form of errors: in [0, 1], or token ids (n, tokens)."""
        return self._encoder.to_measured(samples)

    def explain(self, model_input: np.ndarray, outputs: Mapping[str, np.ndarray]) -> list[Explanation]:
        """Explain the score of each sample, ready for JSON; see docs/serving.md. A refused sample has no score to explain.

        Args:
            model_input: the result of `check`.
            outputs: the result of `score_checked` with `explanation`.
        """
        explanations = self._encoder.explain(model_input, outputs)
        for row, explanation in enumerate(explanations):
            if outputs["flags"][row] & REFUSED:
                explanations[row] = {}
                continue
            if "part_scores" in outputs:
                explanation["parts"] = self._rank_parts(outputs["part_scores"][row])
            if "nearest" in outputs:
                explanation["nearest"] = self._nearest_sample(int(outputs["nearest"][row]))
            if "pixel_map" in outputs:
                explanation["pixel_map"] = outputs["pixel_map"][row]
        return explanations

    def _rank_parts(self, values: np.ndarray) -> list[ScoredPart]:
        """Return the parts of a combined score, the one that says most first.

        The mean of their values is the score of a sample whose values lie inside the range.
        """
        parts: list[ScoredPart] = []
        for name, value in zip(self.part_names, values.tolist(), strict=True):
            parts.append({"score": name, "value": value})
        return sorted(parts, key=lambda part: -part["value"])

    def _nearest_sample(self, place: int) -> NearestSample:
        [sample] = self.data_kind.read_array(self.bank_samples[place : place + 1], self.spec)
        return {"row": place, "sample": self.data_kind.plain_sample(sample, self.spec)}

    @cached_property
    def part_names(self) -> list[str]:
        """Names of the parts of a combined score, in the order of `part_scores`; empty for a single score.

        A name is the kind, with a setting that tells them apart where there are several of one kind; see `name_parts`.
        """
        return name_parts(self._part_settings(is_chosen=True))

    @property
    def left_out_part_names(self) -> list[str]:
        """Names of the parts that the recipe has and the score does not, as injected faults were found without them."""
        return name_parts(self._part_settings(is_chosen=False))

    def _part_settings(self, *, is_chosen: bool) -> list[dict[str, Any]]:
        """Return the settings of the parts of a combined score that are, or are not, in it; none of a single score."""
        if self.bundle.get("score", {}).get("kind") != "combined":
            return []
        part_settings = []
        for settings, facts in zip(self.bundle["score"]["scores"], self.bundle["score_facts"]["parts"], strict=True):
            if facts["chosen"] == is_chosen:
                part_settings.append(settings)
        return part_settings

    @property
    def column_types(self) -> list[tuple[str, str]]:
        """Name and type of each column of a table; empty for other kinds."""
        return [(column.spec.name, column.spec.type) for column in self.spec.columns]

    @property
    def has_bank(self) -> bool:
        """Whether the score compares samples with a bank of normal ones, so that the nearest is known."""
        return "nearest" in self._model_outputs

    @property
    def has_pixel_map(self) -> bool:
        """Whether the score has a map of anomaly, as that of patches has."""
        return "pixel_map" in self._model_outputs

    @property
    def explained_values(self) -> int:
        """How many numbers an explanation has: of its residual, its nearest normal sample and its map of pixels."""
        size = math.prod(self.shape)
        pixels = math.prod(self.shape[1:]) if self.has_pixel_map else 0
        return size * (1 + self.has_bank) + pixels

    @cached_property
    def bank_samples(self) -> np.ndarray:
        """Raw training samples in the bank of the score, (rows, ...), to which the output `nearest` points.

        Raises:
            DataError: the score has no bank.
        """
        from safetensors.numpy import load  # here, so that a served model does without

        arrays = load(self._read_file("scorer.safetensors"))
        for name in sorted(arrays, key=lambda name: (len(name), name)):  # parts.2 before parts.10
            if name.startswith("score.") and name.endswith("samples") and len(arrays[name]):
                return arrays[name]
        raise DataError(f"the bundle {self.folder} has no bank of samples: its score is {self.bundle['score']['kind']}")


def name_parts(settings: list[dict[str, Any]]) -> list[str]:
    """Return a name for each part of a combined score, given its settings: its kind, unless another part is of that kind, too.

    Then the first setting that tells all of them apart is added, or, where none does, all in which they differ.
    """
    kinds = Counter(map(itemgetter("kind"), settings))
    names = []
    for part in settings:
        name: str = part["kind"]
        if kinds[name] > 1:
            keys = distinguishing_settings([other for other in settings if other["kind"] == name])
            name += f" ({', '.join(describe_setting(key, part[key]) for key in keys)})"
        names.append(name)
    return names


def distinguishing_settings(parts: list[dict[str, Any]]) -> list[str]:
    """Return the settings that tell parts of one kind apart; see `name_parts`."""
    differing = []
    for key, first_value in parts[0].items():
        if any(part[key] != first_value for part in parts):
            differing.append(key)
    for key in differing:
        if len({describe_setting(key, part[key]) for part in parts}) == len(parts):
            return [key]
    return differing


def describe_setting(key: str, value: Any) -> str:
    """Return a setting in short: a word says by itself what it is about, a number does not."""
    return value if isinstance(value, str) else f"{key} {value}"


class OnnxNetwork:
    """A network of a bundle, ready to run on a batch: on all cores at once, or in parts that the cores share.

    The parts do not depend on the number of cores, so neither do the last bits of the outputs.
    """

    def __init__(self, model: bytes, is_small: bool, cores: int | None = None) -> None:
        """
        Args:
            model: the network as ONNX stores it.
            is_small: whether its samples are so small that a run gains nothing from threads of its own.
            cores: that share the parts, or that one run uses; None: all that this process may use.
        """
        cores = cores or usable_cores()
        self._session = open_session(model, cores)
        self._model, self._threads = model, None
        if is_small and self._session.get_providers()[0] == "CPUExecutionProvider":
            self._threads = ThreadPoolExecutor(cores, thread_name_prefix="score")

    @cached_property
    def _single_thread_session(self) -> onnxruntime.InferenceSession:
        """The session for parts, opened for the first batch that has several: a session takes several times the model's size."""
        return open_session(self._model, 1)

    def run(self, names: list[str], inputs: dict[str, np.ndarray]) -> list[list[np.ndarray]]:
        """Return the outputs with these names, for each part of the one input, in order."""
        [(input_name, block)] = inputs.items()
        if self._threads is None or len(block) <= PART_ROWS:
            return [self._session.run(names, inputs)]
        session = self._single_thread_session

        def run_part(part: np.ndarray) -> list[np.ndarray]:
            outputs: list[np.ndarray] = session.run(names, {input_name: part})
            return outputs

        return list(self._threads.map(run_part, split_rows(block, PART_ROWS)))


def split_rows(batch: np.ndarray, rows: int) -> Iterator[np.ndarray]:
    """Yield the batch in blocks of so many rows; the last may have fewer."""
    for start in range(0, len(batch), rows):
        yield batch[start : start + rows]


def output_names(reconstruction: bool, code: bool) -> list[str]:
    """Return the names of the outputs of every model that are needed."""
    return [*SCORE_NAMES] + ["reconstruction"] * reconstruction + ["code"] * code


def apply_flags(outputs: dict[str, np.ndarray]) -> None:
    """Make unexpected samples anomalies, and take the answers of refused ones away, in place."""
    flags = outputs["flags"]
    is_refused = flags & REFUSED > 0
    outputs["is_anomaly"] = (outputs["is_anomaly"] | (flags & UNEXPECTED > 0)) & ~is_refused
    if not is_refused.any():
        return
    for name in outputs.keys() - {"flags", "is_anomaly"}:
        values = np.array(outputs[name])
        values[is_refused] = np.nan if values.dtype.kind == "f" else NO_NUMBER[name]
        outputs[name] = values


def open_session(model: bytes, threads: int) -> onnxruntime.InferenceSession:
    """Open an onnxruntime session on the GPU where onnxruntime offers one, else on the CPU with so many threads a run."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors; warnings speak of graph optimisations
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # idle threads must not burn a server's cores
    available_providers = onnxruntime.get_available_providers()
    providers = names_in(PROVIDER_NAMES, available_providers)
    return onnxruntime.InferenceSession(model, options, providers=providers)


def usable_cores() -> int:
    """Return the number of cores that this process may use, which can be fewer than the machine has."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def require_format(bundle: Path, number: Any) -> None:
    """Raise DataError unless the bundle's format can be read."""
    if number not in BUNDLE_FORMATS:
        raise DataError(
            f"bundle {bundle}: expected format {BUNDLE_FORMATS[0]} to {BUNDLE_FORMATS[-1]}, got {number!r}: "
            "a newer version of this project wrote it, so update this one"
        )
