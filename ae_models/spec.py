"""The sentence of an autoencoder, as frozen dataclasses: corrupt, encode, bottleneck, decode, compare; then score and threshold.

The same names stand in a recipe's YAML, in bundle.json and in the class that does the work. Standard library only, so
that a recipe can be checked in a light process. To add a part: a dataclass here with its bounds, its line in `PARTS`,
and the module of the same kind in the word's own file.
"""

import difflib
import types
import typing
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from typing import Any, ClassVar, Self

from ae_models.errors import SpecError


def bounded(
    default: Any = MISSING, *, low: float | None = None, high: float | None = None, one_of: tuple[str, ...] | None = None
) -> Any:
    """A dataclass field whose value (or each item of a tuple) lies in [low, high], or is one of a few words."""
    return field(default=default, metadata={"low": low, "high": high, "one_of": one_of})


# ---------------------------------------------------------------- corrupt


@dataclass(frozen=True)
class NoCorruption:
    """The input goes in as it is."""

    kind: ClassVar[str] = "none"


# ---------------------------------------------------------------- encode


@dataclass(frozen=True)
class ConvEncode:
    """Strided convolutions, each halving height and width, then one dense layer to the code."""

    kind: ClassVar[str] = "conv"
    widths: tuple[int, ...] = bounded((16, 32), low=1, high=4096)  # channels after each halving
    kernel: int = bounded(4, low=2, high=15)  # pixels a side; 4 covers every pixel equally often


# ---------------------------------------------------------------- bottleneck


@dataclass(frozen=True)
class IdentityBottleneck:
    """The code passes as it is: undercomplete by its size alone."""

    kind: ClassVar[str] = "identity"
    size: int = bounded(16, low=1, high=65536)  # numbers in a code


# ---------------------------------------------------------------- decode


@dataclass(frozen=True)
class ConvDecode:
    """One dense layer from the code, then transposed convolutions, each doubling height and width."""

    kind: ClassVar[str] = "conv"
    widths: tuple[int, ...] = bounded((32, 16), low=1, high=4096)  # channels before each doubling
    kernel: int = bounded(4, low=2, high=15)  # pixels a side


# ---------------------------------------------------------------- compare


@dataclass(frozen=True)
class MseCompare:
    """Mean squared error over every number of the batch, in units where an input lies in [0, 1]."""

    kind: ClassVar[str] = "mse"


# ---------------------------------------------------------------- augment: what else a training sample could have been


@dataclass(frozen=True)
class NoAugment:
    """Training samples as they are."""

    kind: ClassVar[str] = "none"


@dataclass(frozen=True)
class AffineAugment:
    """A small random affine map of each training image, drawn anew at each step; each number is the most it may be."""

    kind: ClassVar[str] = "affine"
    shift: float = bounded(1.0, low=0.0, high=64.0)  # pixels
    rotation: float = bounded(8.0, low=0.0, high=180.0)  # degrees
    scale: float = bounded(0.08, low=0.0, high=0.9)  # share of the size


# ---------------------------------------------------------------- score and threshold


@dataclass(frozen=True)
class NormalisedResidualScore:
    """log ||blurred (x - x')||^2 - energy * log ||x||^2: a residual that does not punish a sample for having much ink."""

    kind: ClassVar[str] = "normalised-residual"
    energy: float = bounded(0.5, low=0.0, high=1.0)  # 0: the plain log residual
    blur: float = bounded(0.0, low=0.0, high=16.0)  # standard deviation in pixels; 0: none


@dataclass(frozen=True)
class SplitConformalThreshold:
    """The smallest threshold whose false-alarm rate on exchangeable normals is at most the one asked for."""

    kind: ClassVar[str] = "split-conformal"
    false_alarm_rate: float = bounded(0.01, low=0.0001, high=0.5)  # share of normals that may be flagged


PARTS: dict[str, dict[str, type]] = {
    "corrupt": {part.kind: part for part in (NoCorruption,)},
    "encode": {part.kind: part for part in (ConvEncode,)},
    "bottleneck": {part.kind: part for part in (IdentityBottleneck,)},
    "decode": {part.kind: part for part in (ConvDecode,)},
    "compare": {part.kind: part for part in (MseCompare,)},
    "augment": {part.kind: part for part in (NoAugment, AffineAugment)},
    "score": {part.kind: part for part in (NormalisedResidualScore,)},
    "threshold": {part.kind: part for part in (SplitConformalThreshold,)},
}


@dataclass(frozen=True)
class InputSpec:
    """What one sample is: an image of shape (channels, height, width) with values in [low, high]."""

    kind: str = bounded("image", one_of=("image",))
    shape: tuple[int, ...] = bounded((1, 28, 28), low=1, high=65536)
    low: float = bounded(0.0)
    high: float = bounded(255.0)

    def contradictions(self) -> list[str]:
        found = []
        if len(self.shape) != 3:
            found.append(f"shape is {list(self.shape)}: an image needs [channels, height, width]")
        if not self.low < self.high:
            found.append(f"low is {self.low:g} and high is {self.high:g}: low must be below high")
        return found


@dataclass(frozen=True)
class Sentence:
    """A whole autoencoder. Each word is one of its `PARTS`, told by `kind`."""

    corrupt: Any
    encode: Any
    bottleneck: Any
    decode: Any
    compare: Any

    @classmethod
    def words(cls) -> tuple[str, ...]:
        return tuple(word.name for word in fields(cls))


@dataclass(frozen=True)
class TrainSpec:
    """How a sentence is trained."""

    epochs: int = bounded(10, low=1, high=100_000)
    batch: int = bounded(128, low=1, high=1_000_000)  # samples a step
    learning_rate: float = bounded(1e-3, low=1e-8, high=10.0)  # the peak, after warming up
    augment: Any = field(default=NoAugment(), metadata={"part": "augment"})  # one of PARTS["augment"]
    seed: int = bounded(0, low=0, high=2**31 - 1)
    threads: int = bounded(2, low=1, high=1024)  # of the CPU; another number may train other bits, so it is no machine's choice
    accelerator: str = bounded("auto", one_of=("auto", "cpu", "gpu"))
    devices: str = bounded("auto", one_of=("auto", "1"))  # one: a batch is not yet shared between several
    precision: str = bounded("auto", one_of=("auto", "32", "bf16-mixed"))


# ---------------------------------------------------------------- reading, with every mistake at once


def plain(spec: Any) -> Any:
    """A spec, or a value of one, as JSON-ready dicts, lists and numbers; parts carry their `kind` first."""
    if isinstance(spec, Sentence):
        return {word: plain(getattr(spec, word)) for word in Sentence.words()}
    if is_dataclass(spec) and not isinstance(spec, type):
        kind = {"kind": spec.kind} if hasattr(spec, "kind") else {}
        return kind | {key.name: plain(getattr(spec, key.name)) for key in fields(spec)}
    if isinstance(spec, tuple):
        return list(spec)
    return spec


class Reader:
    """Builds dataclasses from plain mappings and collects every mistake on the way.

    >>> reader = Reader("digits.yaml")
    >>> spec = reader.read(TrainSpec, {"epochs": 3}, "train")
    >>> reader.finish()     # raises SpecError with all mistakes, if there were any
    """

    def __init__(self, source: str) -> None:
        self.source = source
        self.mistakes: list[str] = []

    def mistake(self, where: str, text: str) -> None:
        self.mistakes.append(f"{self.source}: {where}: {text}")

    def finish(self) -> None:
        if self.mistakes:
            raise SpecError(self.mistakes)

    def read(self, cls: type, given: Any, where: str) -> Any:
        """An instance of the dataclass `cls`, or None where `given` has mistakes."""
        if not isinstance(given, Mapping):
            self.mistake(where, f"{shown(given)} given; a mapping with {listed(names(cls))} is allowed")
            return None
        before = len(self.mistakes)
        hints = typing.get_type_hints(cls)
        self.unknown_keys(given, names(cls), where)
        values = {}
        for spec in fields(cls):
            if spec.name in given:
                values[spec.name] = self.value(hints[spec.name], given[spec.name], f"{where}.{spec.name}", spec.metadata)
            elif spec.default is MISSING and spec.default_factory is MISSING:
                self.mistake(where, f"the key {spec.name} is missing")
        if len(self.mistakes) > before:
            return None
        built = cls(**values)
        for text in getattr(built, "contradictions", list)():
            self.mistake(where, text)
        return built

    def part(self, word: str, given: Any, where: str) -> Any:
        """The part of `word` that `given["kind"]` names."""
        kinds = PARTS[word]
        if not isinstance(given, Mapping) or "kind" not in given:
            self.mistake(where, f"{shown(given)} given; {{kind: ...}} with one of {listed(kinds)} is allowed")
            return None
        kind = given["kind"]
        if kind not in kinds:
            self.mistake(f"{where}.kind", f"no part {shown(kind)} of {word}; {listed(kinds)} allowed{near(kind, kinds)}")
            return None
        return self.read(kinds[kind], {key: value for key, value in given.items() if key != "kind"}, where)

    def sentence(self, given: Any, where: str) -> Sentence | None:
        words = Sentence.words()
        if not isinstance(given, Mapping):
            self.mistake(where, f"{shown(given)} given; a mapping with {listed(words)} is allowed")
            return None
        self.unknown_keys(given, words, where)
        parts = {}
        for word in words:
            if word in given:
                parts[word] = self.part(word, given[word], f"{where}.{word}")
            else:
                self.mistake(where, f"the key {word} is missing")
        return Sentence(**parts) if len(parts) == len(words) and None not in parts.values() else None

    def unknown_keys(self, given: Mapping[str, Any], allowed: typing.Iterable[str], where: str) -> None:
        allowed = list(allowed)
        for key in given:
            if key not in allowed:
                self.mistake(where, f"no key {shown(key)} here; {listed(allowed)} allowed{near(key, allowed)}")

    def value(self, hint: Any, given: Any, where: str, metadata: Mapping[str, Any]) -> Any:
        if "part" in metadata:
            return self.part(metadata["part"], given, where)
        origin, arguments = typing.get_origin(hint), typing.get_args(hint)
        if origin in (typing.Union, types.UnionType):
            if given is None and type(None) in arguments:
                return None
            hint = next(argument for argument in arguments if argument is not type(None))
            return self.value(hint, given, where, metadata)
        if origin is tuple:
            if not isinstance(given, list | tuple):
                self.mistake(where, f"{shown(given)} given; a list is allowed")
                return None
            return tuple(self.value(arguments[0], item, f"{where}[{i}]", metadata) for i, item in enumerate(given))
        if origin is dict:
            if not isinstance(given, Mapping):
                self.mistake(where, f"{shown(given)} given; a mapping is allowed")
                return None
            return dict(given)
        if is_dataclass(hint):
            return self.read(typing.cast(type, hint), given, where)
        return self.scalar(hint, given, where, metadata)

    def scalar(self, hint: Any, given: Any, where: str, metadata: Mapping[str, Any]) -> Any:
        word = {int: "a whole number", float: "a number", str: "a word", bool: "true or false"}.get(hint)
        if word is None:
            return given
        right = isinstance(given, int | float) if hint is float else isinstance(given, hint)
        if not right or (isinstance(given, bool) and hint is not bool) or given != given:
            self.mistake(where, f"{shown(given)} given; {word} is allowed")
            return None
        low, high, one_of = (metadata.get(key) for key in ("low", "high", "one_of"))
        if (low is not None and given < low) or (high is not None and given > high):
            self.mistake(where, f"{given} given; {between(low, high)} allowed")
        if one_of is not None and given not in one_of:
            self.mistake(where, f"{shown(given)} given; {listed(one_of)} allowed{near(given, one_of)}")
        return hint(given)


def names(cls: type) -> list[str]:
    return [spec.name for spec in fields(cls)]


def near(word: Any, allowed: typing.Iterable[str]) -> str:
    """`: did you mean X?` where something allowed looks like `word`, else nothing."""
    close = difflib.get_close_matches(str(word), list(allowed), n=1, cutoff=0.5)
    return f": did you mean {close[0]}?" if close else ""


def listed(allowed: typing.Iterable[str]) -> str:
    return ", ".join(allowed)


def shown(given: Any) -> str:
    return "nothing" if given is None else repr(given)


def between(low: float | None, high: float | None) -> str:
    if high is None:
        return f"{low:g} or more"
    return f"{high:g} or less" if low is None else f"{low:g} to {high:g}"


@dataclass(frozen=True)
class FitSpec:
    """All that a training needs to know beside its data: what `python -m ae_models fit --spec FILE` reads."""

    input: InputSpec
    model: Sentence
    score: Any
    threshold: Any
    train: TrainSpec

    @classmethod
    def from_plain(cls, given: Mapping[str, Any], source: str) -> Self:
        """Reads a mapping with the keys input, model, score, threshold and train.

        Raises:
            SpecError: with every mistake in it.
        """
        reader = Reader(source)
        spec = read_fit_spec(reader, given)
        reader.finish()
        return cls(**spec)

    def plain(self) -> dict[str, Any]:
        return {key.name: plain(getattr(self, key.name)) for key in fields(self)}


def read_fit_spec(reader: Reader, given: Mapping[str, Any]) -> dict[str, Any]:
    """The five sections of a FitSpec; what has mistakes is None and noted in `reader`."""
    return {
        "input": reader.read(InputSpec, given.get("input"), "input"),
        "model": reader.sentence(given.get("model"), "model"),
        "score": reader.part("score", given.get("score"), "score"),
        "threshold": reader.part("threshold", given.get("threshold"), "threshold"),
        "train": reader.read(TrainSpec, given.get("train"), "train"),
    }
