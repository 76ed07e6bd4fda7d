"""A bundle, loaded and ready to score: onnxruntime and numpy, no torch.

    detector = Detector(Path("artifacts/digits/bundle"))     # refuses a bundle whose sums do not hold
    detector.score(samples)["is_anomaly"]                     # samples in raw units, as in the dataset; or texts

The logged MLflow model carries this file, so it imports little of the project: the errors, the sums, onnxruntime's door and, for
texts, the tokens.
"""

import json
import math
import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ae_models.errors import BundleError
from ae_models.runtime import onnxruntime
from ae_models.sums import bundle_sha256, verify
from aeops.errors import DataError

FORMATS = (1, 2)  # a format once written stays readable for ever
BLOCK = 1024  # samples scored at once: bounds the memory that activations take
BLOCK_VALUES = 2**20  # and values: fewer samples at once where they are large
# Of small samples a run's own threads gain nothing, as each layer of each is too little to share: on two cores 256 digits took as
# long by two threads as by one, and 0.6 of that in parts of which each core has its own.
SMALL = 4096  # values of a sample, at most
PART = 64  # small samples that a core scores at once
TEXTS = 64  # at once: inside the model each token of a text becomes a number for every word of the vocabulary
PROVIDERS = ("CUDAExecutionProvider", "CPUExecutionProvider")  # the first that this machine's onnxruntime offers does the work


class Detector:
    """Scores samples with the bundle in a folder.

    Attributes:
        folder: the bundle's.
        bundle: bundle.json.
        kind: of a sample: image, series or text.
        shape: of one sample as it is served, such as (channels, height, width); (tokens,) for texts.
        made_shape: of a reconstruction.
        low, high: the range of a sample's values.
        sha256: the bundle's name by content.
    """

    def __init__(self, bundle: Path) -> None:
        """Verifies the bundle, then loads it.

        Raises:
            DataError: a file is missing, surplus or altered, or the format is unknown.
        """
        try:
            verify(bundle)
        except BundleError as error:
            raise DataError(str(error)) from error
        self.folder = bundle
        self.sha256 = bundle_sha256(bundle)
        self.bundle: dict[str, Any] = json.loads((bundle / "bundle.json").read_text(encoding="utf-8"))
        require_known_format(bundle, self.bundle.get("format"))
        source = self.bundle["input"]
        self.kind: str = source["kind"]
        self.shape: tuple[int, ...] = tuple(self.bundle.get("given", source)["shape"])  # format 1 is given what is stored
        self.made_shape: tuple[int, ...] = tuple(self.bundle.get("made", source)["shape"])
        self.low, self.high = float(source["low"]), float(source["high"])
        self._is_small = self.kind != "text" and math.prod(self.shape) <= SMALL
        self._model = Network(bundle / "model.onnx", self._is_small)

    @cached_property
    def word_counts(self) -> np.ndarray | None:
        """How often each word stands in each slot of the training samples' codes, (slots, words) int64; None where codes are
        not made of words."""
        from safetensors.numpy import load_file  # here, so that a served model does without

        return load_file(self.folder / "scorer.safetensors").get("word_counts")

    def example(self) -> Any:
        """Two samples that it takes, in raw units: a ramp over its range and the same turned round; or two texts."""
        if self.kind == "text":
            return ["a short text", "and another one, which is longer"]
        ramp = np.linspace(self.low, self.high, math.prod(self.shape), dtype=np.float32).reshape(self.shape)
        return np.stack([ramp, ramp[..., ::-1]])

    def check(self, samples: Any) -> np.ndarray:
        """The samples as a batch that the model takes: float32 (n, *shape) in raw units, or token ids int64.

        Args:
            samples: one sample or a batch; the leading axis of a one-channel sample may be left out. Texts: a string, a list of
                strings, or bytes as uint8 (n, length) filled up with zeros.

        Raises:
            DataError: no samples, another shape, not numbers, NaN, or values outside low..high.
        """
        return self._checked_values(self._batch(samples), first=0)

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
        batch = self._batch(samples)
        said = self._run(
            (self._checked_values(batch[part], part.start) for part in self._parts(batch)), outputs(reconstruction, code)
        )
        return said | {"reconstruction": self.readable(said["reconstruction"])} if reconstruction else said

    def score_checked(self, checked: np.ndarray, reconstruction: bool = False, code: bool = False) -> dict[str, np.ndarray]:
        """Scores what `check` gave, without another look at it: as `score`, but reconstructions are left as the model makes
        them, which of texts are token ids, int64 (n, tokens)."""
        return self._run((checked[part] for part in self._parts(checked)), outputs(reconstruction, code))

    def _parts(self, batch: np.ndarray) -> Iterator[slice]:
        size = TEXTS if self.kind == "text" else at_once(batch)
        return (slice(first, first + size) for first in range(0, len(batch), size))

    def _run(self, blocks: Iterable[np.ndarray], names: list[str]) -> dict[str, np.ndarray]:
        said = [part for block in blocks for part in self._model.run(names, {"input": block})]
        return {name: np.concatenate(parts) for name, parts in zip(names, zip(*said, strict=True), strict=True)}

    def decode(self, codes: np.ndarray) -> np.ndarray:
        """What the model makes of codes (n, *code shape), as `score` gives them: (n, *made_shape) in raw units, or texts.

        Raises:
            DataError: a bundle of format 1, which has no decoder.
        """
        size = TEXTS if self.kind == "text" else BLOCK
        blocks = (codes[first : first + size] for first in range(0, len(codes), size))
        made = [part for block in blocks for [part] in self._decoder.run(["reconstruction"], {"code": block})]
        return self.readable(np.concatenate(made))

    @cached_property
    def _decoder(self) -> "Network":
        if not (self.folder / "decoder.onnx").is_file():
            raise DataError(f"the bundle {self.folder} is of format 1, which has no decoder: train it again with ae run")
        return Network(self.folder / "decoder.onnx", self._is_small)

    @cached_property
    def _tokenizer(self) -> Any:
        from ae_models import tokens

        return tokens.from_json((self.folder / "tokenizer.json").read_text(encoding="utf-8"))

    def readable(self, made: np.ndarray) -> np.ndarray:
        """Reconstructions as a person reads them: token ids as texts, object (n,); others as they are."""
        if self.kind != "text":
            return made
        from ae_models import tokens

        return np.array(tokens.texts(self._tokenizer, made), dtype=object)

    def words(self, ids: np.ndarray) -> list[str]:
        """What each token id of (n,) says by itself; nothing for the end and what comes after it."""
        from ae_models import tokens

        return tokens.texts(self._tokenizer, ids.reshape(-1, 1))

    def _batch(self, samples: Any) -> np.ndarray:
        return self._text_batch(samples) if self.kind == "text" else self._array_batch(samples)

    def _text_batch(self, samples: Any) -> np.ndarray:
        from ae_models import tokens

        given = [samples] if isinstance(samples, str) else samples
        try:
            stored = given if isinstance(given, np.ndarray) and given.dtype == np.uint8 else tokens.as_bytes(strings(given))
            if len(stored) == 0:
                raise DataError("no samples given; at least one is needed")
            ids: np.ndarray = tokens.ids(self._tokenizer, np.atleast_2d(stored), self.shape[0])
        except ValueError as error:  # bytes or characters that are no UTF-8
            raise DataError(str(error)) from error
        return ids

    def _array_batch(self, samples: Any) -> np.ndarray:
        try:
            given = samples if isinstance(samples, np.ndarray) else np.asarray(samples)
        except ValueError as error:
            raise DataError(f"samples of unequal shapes given; {self.allowed()} allowed") from error
        if given.dtype.kind not in "uif":
            raise DataError(f"samples of dtype {given.dtype} given; whole or real numbers are allowed")
        shapes = {self.shape, self.shape[1:]} if self.shape[0] == 1 else {self.shape}
        if given.shape in shapes:
            given = given[None]
        if given.shape[1:] not in shapes or given.ndim == 0:
            raise DataError(f"samples of shape {given.shape} given; {self.allowed()} allowed")
        if len(given) == 0:
            raise DataError("no samples given; at least one is needed")
        return given.reshape(len(given), *self.shape)

    def _checked_values(self, block: np.ndarray, first: int) -> np.ndarray:
        """The block as the model takes it; `first` is its first sample's place in the whole batch, for the message."""
        if self.kind == "text":
            return np.ascontiguousarray(block, dtype=np.int64)
        if within(block.dtype, self.low, self.high):
            return np.ascontiguousarray(block, dtype=np.float32)
        with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite, which lies outside
            values = np.ascontiguousarray(block, dtype=np.float32)
        inside = (values >= self.low) & (values <= self.high)  # false for NaN too
        if not inside.all():
            place = int(np.argmin(inside.reshape(len(values), -1).all(axis=1)))
            found = values[place][~inside[place]].flat[0]
            raise DataError(f"sample {first + place} holds {found:g}; values from {self.low:g} to {self.high:g} are allowed")
        return values

    def allowed(self) -> str:
        """What samples are allowed, for a message."""
        return f"one sample of shape {self.shape} or a batch of shape ({', '.join(['n', *map(str, self.shape)])}) is"


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


def strings(given: Any) -> list[str]:
    """The texts of a list or an array of strings; raises DataError where it is something else."""
    texts = list(np.atleast_1d(given)) if isinstance(given, np.ndarray) else given
    if isinstance(texts, list | tuple) and all(isinstance(text, str) for text in texts):
        return list(texts)
    raise DataError("samples that are no texts given; strings are allowed, or their bytes as uint8 (n, length)")


def outputs(reconstruction: bool, code: bool) -> list[str]:
    """The model's outputs that are needed, by name."""
    return ["score", "p_value", "is_anomaly"] + ["reconstruction"] * reconstruction + ["code"] * code


@cache  # numpy takes its time to tell a dtype's limits
def within(kind: np.dtype[Any], low: float, high: float) -> bool:
    """Whether every number of that dtype lies in low..high, so that none has to be looked at."""
    return kind.kind in "ui" and bool(low <= np.iinfo(kind).min and np.iinfo(kind).max <= high)


def at_once(batch: np.ndarray) -> int:
    """How many samples of a batch to score in one go."""
    return max(1, min(BLOCK, BLOCK_VALUES // max(1, int(batch[0].size))))


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
