"""A bundle, loaded and ready to score: onnxruntime and numpy, no torch.

    detector = Detector(Path("artifacts/digits/bundle"))     # refuses a bundle whose sums do not hold
    detector.score(samples)["is_anomaly"]                     # samples in raw units, as in the dataset; or texts

The logged MLflow model carries this file, so it imports little of the project: the errors, the sums, onnxruntime's door and the
kinds of data.
"""

import json
import math
import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ae_models.checksums import bundle_sha256, verify_bundle
from ae_models.errors import BundleError
from ae_models.onnx_runtime import onnxruntime
from aeops.errors import DataError
from aeops.kinds.interface import load_kind
from aeops.kinds.samples import FileSamples, SampleSpec

FORMATS = (1, 2)  # a format once written stays readable for ever
# Of small samples a run's own threads gain nothing, as each layer of each is too little to share: on two cores 256 digits took as
# long by two threads as by one, and 0.6 of that in parts of which each core has its own.
SMALL = 4096  # values of a sample, at most
PART = 64  # small samples that a core scores at once
PROVIDERS = ("CUDAExecutionProvider", "CPUExecutionProvider")  # the first that this machine's onnxruntime offers does the work


class Detector:
    """Scores samples with the bundle in a folder.

    Attributes:
        folder: the bundle's.
        bundle: bundle.json.
        kind: of a sample: one of `aeops.kinds.KINDS`.
        data_kind: the kind itself.
        spec: the samples that it takes, and what it makes of them.
        shape, made_shape, low, high: those of the spec.
        sha256: the bundle's name by content.
    """

    def __init__(self, bundle: Path) -> None:
        """Verifies the bundle, then loads it.

        Raises:
            DataError: a file is missing, surplus or altered, or the format is unknown.
        """
        try:
            verify_bundle(bundle)
        except BundleError as error:
            raise DataError(str(error)) from error
        self.folder = bundle
        self.sha256 = bundle_sha256(bundle)
        self.bundle: dict[str, Any] = json.loads((bundle / "bundle.json").read_text(encoding="utf-8"))
        require_known_format(bundle, self.bundle.get("format"))
        self.kind: str = self.bundle["input"]["kind"]
        self.data_kind = load_kind(self.kind)
        self.spec = SampleSpec.from_bundle(self.bundle)
        self.shape, self.made_shape = self.spec.shape, self.spec.output_shape
        self.low, self.high = self.spec.low, self.spec.high
        self._encoder = self.data_kind.open_encoder(bundle, self.spec)
        self._is_small = self.data_kind.FIXED_SHAPE and math.prod(self.shape) <= SMALL
        self._model = Network(bundle / "model.onnx", self._is_small)

    @cached_property
    def word_counts(self) -> np.ndarray | None:
        """How often each word stands in each slot of the training samples' codes, (slots, words) int64; None where codes are
        not made of words."""
        from safetensors.numpy import load_file  # here, so that a served model does without

        return load_file(self.folder / "scorer.safetensors").get("word_counts")

    def example(self) -> Any:
        """Two samples that it takes, in raw units."""
        return self.data_kind.example(self.spec)

    def read_file(self, path: Path) -> FileSamples:
        """The samples of a file or folder, as the kind reads them.

        Raises:
            UsageError: there is no such file.
            DataError: it holds no samples that the model takes.
        """
        return self.data_kind.read_file(path, self.spec)

    def check(self, samples: Any) -> np.ndarray:
        """The samples as a batch that the model takes: float32 (n, *shape) in raw units, or token ids int64.

        Args:
            samples: one sample or a batch; the leading axis of a one-channel sample may be left out. Texts: a string, a list of
                strings, or bytes as uint8 (n, length) filled up with zeros.

        Raises:
            DataError: no samples, another shape, not numbers, NaN, or values outside low..high.
        """
        return self._encoder.check(self._encoder.encode(samples), first=0)

    def score(self, samples: Any, reconstruction: bool = False, code: bool = False) -> dict[str, np.ndarray]:
        """Scores one sample or a batch, block by block.

        Args:
            samples: as `check` takes them, also memory-mapped.
            reconstruction: also return what the model makes of each sample, (n, *made_shape) in raw units; of texts, texts.
            code: also return each sample's code, (n, size), or (n, slots) words.

        Returns:
            `score` float32 (n,), `p_value` float32 (n,) in (0, 1], `is_anomaly` bool (n,), and what was asked for.

        Raises:
            DataError: as `check`.
        """
        batch = self._encoder.encode(samples)
        said = self._run(
            (self._encoder.check(batch[part], part.start) for part in self._parts(batch)), outputs(reconstruction, code)
        )
        return said | {"reconstruction": self.readable(said["reconstruction"])} if reconstruction else said

    def score_checked(self, checked: np.ndarray, reconstruction: bool = False, code: bool = False) -> dict[str, np.ndarray]:
        """Scores what `check` gave, without another look at it: as `score`, but reconstructions are left as the model makes
        them, which of texts are token ids, int64 (n, tokens)."""
        return self._run((checked[part] for part in self._parts(checked)), outputs(reconstruction, code))

    def _parts(self, batch: np.ndarray) -> Iterator[slice]:
        size = self.data_kind.rows_at_once(batch[0].size)
        return (slice(first, first + size) for first in range(0, len(batch), size))

    def _run(self, blocks: Iterable[np.ndarray], names: list[str]) -> dict[str, np.ndarray]:
        said = [part for block in blocks for part in self._model.run(names, {"input": block})]
        return {name: np.concatenate(parts) for name, parts in zip(names, zip(*said, strict=True), strict=True)}

    def decode(self, codes: np.ndarray) -> np.ndarray:
        """What the model makes of codes (n, *code shape), as `score` gives them: (n, *made_shape) in raw units, or texts.

        Raises:
            DataError: a bundle of format 1, which has no decoder.
        """
        size = self.data_kind.rows_at_once(1)  # codes are small
        blocks = (codes[first : first + size] for first in range(0, len(codes), size))
        made = [part for block in blocks for [part] in self._decoder.run(["reconstruction"], {"code": block})]
        return self.readable(np.concatenate(made))

    @cached_property
    def _decoder(self) -> "Network":
        if not (self.folder / "decoder.onnx").is_file():
            raise DataError(f"the bundle {self.folder} is of format 1, which has no decoder: train it again with ae run")
        return Network(self.folder / "decoder.onnx", self._is_small)

    def readable(self, made: np.ndarray) -> np.ndarray:
        """Reconstructions as a person reads them: token ids as texts, object (n,); others as they are."""
        return self._encoder.decode(made)

    def measurable(self, samples: np.ndarray) -> np.ndarray:
        """Samples, or reconstructions as `score` gives them, as errors are measured: in [0, 1], or as token ids (n, tokens)."""
        return self._encoder.measurable(samples)

    def explain(self, checked: np.ndarray, made: np.ndarray) -> list[dict[str, Any]]:
        """What stands behind the score of each sample, ready for JSON; see docs/serving.md.

        Args:
            checked: the samples as `check` gave them.
            made: the reconstructions as `score_checked` gives them.

        Raises:
            DataError: the model makes something that cannot be compared with what it is given, such as edges of a photograph.
        """
        return self._encoder.explain(checked, made)


class Network:
    """A file of a bundle, ready to run on a batch: by all cores at once, or in parts that the cores share.

    The parts do not depend on how many cores there are, so neither do the last bits of what comes out.
    """

    def __init__(self, file: Path, is_small: bool) -> None:
        """
        Args:
            is_small: whether its samples are, so that a run's own threads gain nothing.
        """
        cores = usable_cores()
        self._by_all = open_session(file, cores)
        self._by_one, self._threads = None, None
        if is_small and self._by_all.get_providers()[0] == "CPUExecutionProvider":
            self._by_one, self._threads = open_session(file, 1), ThreadPoolExecutor(cores, thread_name_prefix="score")

    def run(self, names: list[str], given: dict[str, np.ndarray]) -> list[list[np.ndarray]]:
        """The outputs of these names, for each part of the one input that is given, in order."""
        [(name, block)] = given.items()
        one = self._by_one
        if one is None or self._threads is None or len(block) <= PART:
            return [self._by_all.run(names, given)]
        parts = [block[first : first + PART] for first in range(0, len(block), PART)]
        return list(self._threads.map(lambda part: one.run(names, {name: part}), parts))


def outputs(reconstruction: bool, code: bool) -> list[str]:
    """The model's outputs that are needed, by name."""
    return ["score", "p_value", "is_anomaly"] + ["reconstruction"] * reconstruction + ["code"] * code


def open_session(model: Path, threads: int) -> onnxruntime.InferenceSession:
    """An onnxruntime session on the GPU where onnxruntime offers one, else on the CPU with so many threads a run."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors; warnings speak of graph optimisations
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # idle threads must not burn a server's cores
    offered = onnxruntime.get_available_providers()
    return onnxruntime.InferenceSession(str(model), options, providers=[name for name in PROVIDERS if name in offered])


def usable_cores() -> int:
    """Cores that this process may use, which can be fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def require_known_format(bundle: Path, number: Any) -> None:
    if number not in FORMATS:
        raise DataError(
            f"bundle {bundle} has format {number!r}; {', '.join(map(str, FORMATS))} are known here: "
            "a newer version of this project wrote it, so update this one"
        )
