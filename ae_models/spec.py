"""The sentence of an autoencoder, as frozen dataclasses: corrupt, encode, bottleneck, decode, compare, critic; score, threshold.

The same names stand in a recipe's YAML, in bundle.json and in the class that does the work. Standard library only, so
that a recipe can be checked in a light process. To add a part: a dataclass here with its bounds, its line in `PARTS`,
and the module of the same kind in the word's own file.
"""

import difflib
import math
import types
import typing
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from typing import Any, ClassVar, Self

from ae_models.errors import SpecError


def bounded(
    default: Any = MISSING, *, low: float | None = None, high: float | None = None, one_of: tuple[str, ...] | None = None
) -> Any:
    """A dataclass field whose value (or each item of a tuple) lies in [low, high], or is one of a few words."""
    return field(default=default, metadata={"low": low, "high": high, "one_of": one_of})


IMAGE, SERIES, TEXT = "image", "series", "text"
ARRAYS = (IMAGE, SERIES)  # kinds of input whose values are numbers with a meaning; a text is made of token ids
ANY = (IMAGE, SERIES, TEXT)


# ---------------------------------------------------------------- corrupt: what the encoder is given instead of the sample


@dataclass(frozen=True)
class NoCorruption:
    """The input goes in as it is."""

    kind: ClassVar[str] = "none"
    takes: ClassVar[tuple[str, ...]] = ANY


@dataclass(frozen=True)
class GaussianCorruption:
    """x + N(0, deviation^2), clipped to [0, 1]."""

    kind: ClassVar[str] = "gaussian"
    takes: ClassVar[tuple[str, ...]] = ARRAYS
    deviation: float = bounded(0.5, low=0.0, high=10.0)  # in units where a value lies in [0, 1]


@dataclass(frozen=True)
class SaltAndPepperCorruption:
    """A share of the pixels (or steps) becomes 0 or 1, each as likely, in all channels at once."""

    kind: ClassVar[str] = "salt-and-pepper"
    takes: ClassVar[tuple[str, ...]] = ARRAYS
    share: float = bounded(0.1, low=0.0, high=1.0)


@dataclass(frozen=True)
class MaskingCorruption:
    """A share of the input becomes 0: pixels (or steps) in all channels, square blocks of them, or single numbers."""

    kind: ClassVar[str] = "masking"
    takes: ClassVar[tuple[str, ...]] = ARRAYS
    share: float = bounded(0.5, low=0.0, high=1.0)
    unit: str = bounded("pixels", one_of=("pixels", "blocks", "features"))
    block: int = bounded(4, low=1, high=256)  # pixels a side of a block (steps, in a series)


@dataclass(frozen=True)
class GreyCorruption:
    """Red, green and blue become their luma (Rec. ITU-R BT.601-7): three channels in, one out."""

    kind: ClassVar[str] = "grey"
    takes: ClassVar[tuple[str, ...]] = (IMAGE,)

    def shape_after(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return (1, *shape[1:])


@dataclass(frozen=True)
class WordDeletionCorruption:
    """A share of the tokens is taken out and the rest closes up; at least one stays (TSDAE, Wang et al. 2021)."""

    kind: ClassVar[str] = "word-deletion"
    takes: ClassVar[tuple[str, ...]] = (TEXT,)
    share: float = bounded(0.6, low=0.0, high=1.0)


# ---------------------------------------------------------------- encode and decode


@dataclass(frozen=True)
class ConvEncode:
    """Strided convolutions, each halving height and width, then one dense layer to the code; or a code that is a map."""

    kind: ClassVar[str] = "conv"
    takes: ClassVar[tuple[str, ...]] = (IMAGE,)
    widths: tuple[int, ...] = bounded((16, 32), low=1, high=4096)  # channels after each halving
    kernel: int = bounded(4, low=2, high=15)  # pixels a side; 4 covers every pixel equally often
    blocks: int = bounded(0, low=0, high=16)  # residual blocks after each halving
    dense: tuple[int, ...] = bounded((), low=1, high=65536)  # numbers after each dense layer before the code's own
    map: bool = False  # the code is a map of size / (h' w') channels, flattened: no dense layer

    def contradictions(self) -> list[str]:
        return map_mistakes(self.map, self.dense)


@dataclass(frozen=True)
class ConvDecode:
    """Mirror of the convolutional encoder: transposed convolutions, each doubling height and width."""

    kind: ClassVar[str] = "conv"
    takes: ClassVar[tuple[str, ...]] = (IMAGE,)
    widths: tuple[int, ...] = bounded((32, 16), low=1, high=4096)  # channels before each doubling
    kernel: int = bounded(4, low=2, high=15)  # pixels a side
    blocks: int = bounded(0, low=0, high=16)  # residual blocks before each doubling
    dense: tuple[int, ...] = bounded((), low=1, high=65536)  # numbers after each dense layer between the code and the map
    map: bool = False  # the code is a map, as the encoder's

    def contradictions(self) -> list[str]:
        return map_mistakes(self.map, self.dense)


def map_mistakes(is_map: bool, dense: tuple[int, ...]) -> list[str]:
    return [f"map is true and dense is {list(dense)}: a map has no dense layers, leave dense out"] if is_map and dense else []


@dataclass(frozen=True)
class DenseEncode:
    """Dense layers with ReLU between them, over all numbers of a sample."""

    kind: ClassVar[str] = "dense"
    takes: ClassVar[tuple[str, ...]] = ARRAYS
    widths: tuple[int, ...] = bounded((512, 128), low=1, high=65536)  # numbers after each layer; the code comes after


@dataclass(frozen=True)
class DenseDecode:
    """Dense layers with ReLU between them, from the code to all numbers of a sample."""

    kind: ClassVar[str] = "dense"
    takes: ClassVar[tuple[str, ...]] = ARRAYS
    widths: tuple[int, ...] = bounded((128, 512), low=1, high=65536)


@dataclass(frozen=True)
class TemporalEncode:
    """Strided convolutions along time, each halving the steps of a window, then one dense layer."""

    kind: ClassVar[str] = "temporal"
    takes: ClassVar[tuple[str, ...]] = (SERIES,)
    widths: tuple[int, ...] = bounded((16, 32), low=1, high=4096)
    kernel: int = bounded(4, low=2, high=63)  # steps


@dataclass(frozen=True)
class TemporalDecode:
    """Transposed convolutions along time, each doubling the steps."""

    kind: ClassVar[str] = "temporal"
    takes: ClassVar[tuple[str, ...]] = (SERIES,)
    widths: tuple[int, ...] = bounded((32, 16), low=1, high=4096)
    kernel: int = bounded(4, low=2, high=63)


@dataclass(frozen=True)
class TokensEncode:
    """Token embeddings, transformer layers, their mean over the tokens in use, one dense layer.

    Pooling by inverse frequency weighs a token by a / (a + p), p being its share of the training texts' tokens: what stands
    in every text says little of one (SIF, Arora et al. 2017).
    """

    kind: ClassVar[str] = "tokens"
    takes: ClassVar[tuple[str, ...]] = (TEXT,)
    vocabulary: int = bounded(4096, low=261, high=1_000_000)  # tokens at most: 256 bytes, a few special ones, and merges
    length: int = bounded(48, low=2, high=4096)  # tokens of a text; what is longer is cut
    width: int = bounded(128, low=1, high=8192)  # numbers a token
    layers: int = bounded(2, low=0, high=96)
    heads: int = bounded(4, low=1, high=128)
    pooling: str = bounded("mean", one_of=("mean", "inverse-frequency"))
    positions: bool = True  # whether a token's place counts; without layers either, a text is a bag of tokens

    def contradictions(self) -> list[str]:
        return heads_mistakes(self.width, self.heads)


@dataclass(frozen=True)
class TokensDecode:
    """The code beside each position's embedding, transformer layers, and a logit for each token of the vocabulary."""

    kind: ClassVar[str] = "tokens"
    takes: ClassVar[tuple[str, ...]] = (TEXT,)
    width: int = bounded(128, low=1, high=8192)
    layers: int = bounded(2, low=0, high=96)
    heads: int = bounded(4, low=1, high=128)

    def contradictions(self) -> list[str]:
        return heads_mistakes(self.width, self.heads)


def heads_mistakes(width: int, heads: int) -> list[str]:
    return [] if width % heads == 0 else [f"width is {width} and heads is {heads}: width must be a multiple of heads"]


# ---------------------------------------------------------------- bottleneck


@dataclass(frozen=True)
class IdentityBottleneck:
    """The code passes as it is: undercomplete by its size alone."""

    kind: ClassVar[str] = "identity"
    takes: ClassVar[tuple[str, ...]] = ANY
    size: int = bounded(16, low=1, high=1_000_000)  # numbers in a code


@dataclass(frozen=True)
class TopKBottleneck:
    """The `active` numbers of a code that are largest in magnitude pass, the rest becomes 0 (Makhzani and Frey 2013)."""

    kind: ClassVar[str] = "top-k"
    takes: ClassVar[tuple[str, ...]] = ANY
    size: int = bounded(1024, low=1, high=1_000_000)
    active: int = bounded(40, low=1, high=1_000_000)

    def contradictions(self) -> list[str]:
        return [] if self.active <= self.size else [f"active is {self.active} and size is {self.size}: active must not be above"]


@dataclass(frozen=True)
class L1Bottleneck:
    """ReLU on the code, and weight * sum |z| added to the loss: most numbers become exactly 0."""

    kind: ClassVar[str] = "l1"
    takes: ClassVar[tuple[str, ...]] = ANY
    size: int = bounded(1024, low=1, high=1_000_000)
    weight: float = bounded(0.01, low=0.0, high=1e6)


@dataclass(frozen=True)
class ContractiveBottleneck:
    """weight * ||dz/dx||_F^2 added to the loss (Rifai et al. 2011), estimated by a random projection a step."""

    kind: ClassVar[str] = "contractive"
    takes: ClassVar[tuple[str, ...]] = ARRAYS  # a token id has no derivative
    size: int = bounded(16, low=1, high=1_000_000)
    weight: float = bounded(0.01, low=0.0, high=1e6)


@dataclass(frozen=True)
class VariationalBottleneck:
    """A Gaussian a sample; z is drawn from it in training and is its mean otherwise. Adds beta * KL to the loss."""

    kind: ClassVar[str] = "variational"
    takes: ClassVar[tuple[str, ...]] = ANY
    size: int = bounded(16, low=1, high=1_000_000)
    beta: float = bounded(1.0, low=0.0, high=1e6)  # 1: the evidence lower bound, where compare is a likelihood
    free_bits: float = bounded(0.0, low=0.0, high=1e3)  # nats a number below which the KL costs nothing (Kingma et al. 2016)


@dataclass(frozen=True)
class QuantisedBottleneck:
    """The code as `slots` words of a learned codebook (VQ-VAE, van den Oord et al. 2017; EMA, dead words revived)."""

    kind: ClassVar[str] = "vq"
    takes: ClassVar[tuple[str, ...]] = ANY
    size: int = bounded(64, low=1, high=1_000_000)
    slots: int = bounded(32, low=1, high=65536)  # words a code; each stands for size / slots numbers
    words: int = bounded(256, low=2, high=65536)  # of the codebook
    shared: bool = False  # one codebook for all slots, instead of one a slot
    commitment: float = bounded(0.25, low=0.0, high=1e3)  # weight of ||z - word||^2
    decay: float = bounded(0.99, low=0.0, high=0.99999)  # of the running means that are the words

    def contradictions(self) -> list[str]:
        if self.size % self.slots:
            return [f"size is {self.size} and slots is {self.slots}: size must be a multiple of slots"]
        return []


@dataclass(frozen=True)
class MemoryBottleneck:
    """The code as a sparse mixture of learned items (MemAE, Gong et al. 2019): what no item resembles cannot be rebuilt."""

    kind: ClassVar[str] = "memory"
    takes: ClassVar[tuple[str, ...]] = ANY
    size: int = bounded(16, low=1, high=1_000_000)
    items: int = bounded(500, low=1, high=65536)
    shrink: float = bounded(0.0025, low=0.0, high=1.0)  # attention below this becomes 0
    entropy: float = bounded(0.0002, low=0.0, high=1e3)  # weight of the attention's entropy in the loss


# ---------------------------------------------------------------- compare: the loss

REDUCE = ("mean", "sum")  # mean: over all numbers of a batch; sum: over a sample's numbers, then the mean over samples


@dataclass(frozen=True)
class MseCompare:
    """(y - t)^2, in units where a value lies in [0, 1]."""

    kind: ClassVar[str] = "mse"
    takes: ClassVar[tuple[str, ...]] = ARRAYS
    reduce: str = bounded("mean", one_of=REDUCE)


@dataclass(frozen=True)
class L1Compare:
    """|y - t|."""

    kind: ClassVar[str] = "l1"
    takes: ClassVar[tuple[str, ...]] = ARRAYS
    reduce: str = bounded("mean", one_of=REDUCE)


@dataclass(frozen=True)
class HuberCompare:
    """(y - t)^2 / 2 up to delta, then delta (|y - t| - delta / 2) (Huber 1964)."""

    kind: ClassVar[str] = "huber"
    takes: ClassVar[tuple[str, ...]] = ARRAYS
    reduce: str = bounded("mean", one_of=REDUCE)
    delta: float = bounded(0.1, low=1e-6, high=10.0)


@dataclass(frozen=True)
class BceCompare:
    """-t log p - (1 - t) log(1 - p) with p = sigmoid(y): the decoder makes logits."""

    kind: ClassVar[str] = "bce"
    takes: ClassVar[tuple[str, ...]] = ARRAYS
    reduce: str = bounded("mean", one_of=REDUCE)
    positive: float = bounded(1.0, low=1e-3, high=1e3)  # weight of t's part, where ones are rare


@dataclass(frozen=True)
class SsimCompare:
    """1 - structural similarity (Wang et al. 2004), a Gaussian window of 11 x 11 pixels."""

    kind: ClassVar[str] = "ssim"
    takes: ClassVar[tuple[str, ...]] = (IMAGE,)
    reduce: str = bounded("mean", one_of=REDUCE)


@dataclass(frozen=True)
class CrossEntropyCompare:
    """-log softmax(y)[t] for tokens, or for values that are one of `categories` levels."""

    kind: ClassVar[str] = "cross-entropy"
    takes: ClassVar[tuple[str, ...]] = ANY
    reduce: str = bounded("mean", one_of=REDUCE)
    categories: int = bounded(0, low=0, high=4096)  # levels from low to high that a value may have; 0: tokens


# ---------------------------------------------------------------- critic: who else judges


@dataclass(frozen=True)
class NoCritic:
    """Nobody: the comparison alone."""

    kind: ClassVar[str] = "none"
    takes: ClassVar[tuple[str, ...]] = ANY


@dataclass(frozen=True)
class AdversarialCodeCritic:
    """Tells codes from draws of N(0, I); the encoder learns to pass (adversarial autoencoder, Makhzani et al. 2015)."""

    kind: ClassVar[str] = "aae"
    takes: ClassVar[tuple[str, ...]] = ANY
    widths: tuple[int, ...] = bounded((128, 128), low=1, high=65536)
    weight: float = bounded(0.01, low=0.0, high=1e6)  # of the encoder's share in the loss


@dataclass(frozen=True)
class GanomalyCritic:
    """Tells samples from reconstructions by features that the decoder learns to match, and encodes the reconstruction again
    (GANomaly, Akcay et al. 2018)."""

    kind: ClassVar[str] = "ganomaly"
    takes: ClassVar[tuple[str, ...]] = ARRAYS
    features: int = bounded(100, low=1, high=65536)
    adversarial: float = bounded(0.02, low=0.0, high=1e6)  # weight of the features' distance
    encoder: float = bounded(0.02, low=0.0, high=1e6)  # weight of the distance between code and second code


# ---------------------------------------------------------------- augment: what else a training sample could have been


@dataclass(frozen=True)
class NoAugment:
    """Training samples as they are."""

    kind: ClassVar[str] = "none"
    takes: ClassVar[tuple[str, ...]] = ANY


@dataclass(frozen=True)
class AffineAugment:
    """A small random affine map of each training image, drawn anew at each step; each number is the most it may be."""

    kind: ClassVar[str] = "affine"
    takes: ClassVar[tuple[str, ...]] = (IMAGE,)
    shift: float = bounded(1.0, low=0.0, high=64.0)  # pixels
    rotation: float = bounded(8.0, low=0.0, high=180.0)  # degrees
    scale: float = bounded(0.08, low=0.0, high=0.9)  # share of the size


@dataclass(frozen=True)
class FlipAugment:
    """Each training image or its mirror image, left to right, with equal chance."""

    kind: ClassVar[str] = "flip"
    takes: ClassVar[tuple[str, ...]] = (IMAGE,)


# ---------------------------------------------------------------- score and threshold


@dataclass(frozen=True)
class NormalisedResidualScore:
    """log ||blurred (x - x')||^2 - energy * log ||x||^2: a residual that does not punish a sample for having much ink."""

    kind: ClassVar[str] = "normalised-residual"
    takes: ClassVar[tuple[str, ...]] = ARRAYS
    energy: float = bounded(0.5, low=0.0, high=1.0)  # 0: the plain log residual
    blur: float = bounded(0.0, low=0.0, high=16.0)  # standard deviation in pixels (steps, in a series); 0: none


@dataclass(frozen=True)
class CodeResidualScore:
    """log ||z - z'||^2 between the code and that of the reconstruction: GANomaly's own score."""

    kind: ClassVar[str] = "code-residual"
    takes: ClassVar[tuple[str, ...]] = ARRAYS


@dataclass(frozen=True)
class AmbiguityScore:
    """Mean binary entropy of the output, in bits: how undecided the model is, where its output is a probability."""

    kind: ClassVar[str] = "ambiguity"
    takes: ClassVar[tuple[str, ...]] = ARRAYS


@dataclass(frozen=True)
class TokenSurpriseScore:
    """Mean of -log p of a text's own tokens, in nats a token."""

    kind: ClassVar[str] = "token-surprise"
    takes: ClassVar[tuple[str, ...]] = (TEXT,)


@dataclass(frozen=True)
class SplitConformalThreshold:
    """The smallest threshold whose false-alarm rate on exchangeable normals is at most the one asked for."""

    kind: ClassVar[str] = "split-conformal"
    takes: ClassVar[tuple[str, ...]] = ANY
    false_alarm_rate: float = bounded(0.01, low=0.0001, high=0.5)  # share of normals that may be flagged


def by_kind(*parts: Any) -> dict[str, type]:
    return {part.kind: part for part in parts}


PARTS: dict[str, dict[str, type]] = {
    "corrupt": by_kind(
        *(NoCorruption, GaussianCorruption, SaltAndPepperCorruption, MaskingCorruption, GreyCorruption, WordDeletionCorruption)
    ),
    "encode": by_kind(ConvEncode, DenseEncode, TemporalEncode, TokensEncode),
    "bottleneck": by_kind(
        *(IdentityBottleneck, TopKBottleneck, L1Bottleneck, ContractiveBottleneck),
        *(VariationalBottleneck, QuantisedBottleneck, MemoryBottleneck),
    ),
    "decode": by_kind(ConvDecode, DenseDecode, TemporalDecode, TokensDecode),
    "compare": by_kind(MseCompare, L1Compare, HuberCompare, BceCompare, SsimCompare, CrossEntropyCompare),
    "critic": by_kind(NoCritic, AdversarialCodeCritic, GanomalyCritic),
    "augment": by_kind(NoAugment, AffineAugment, FlipAugment),
    "score": by_kind(NormalisedResidualScore, CodeResidualScore, AmbiguityScore, TokenSurpriseScore),
    "threshold": by_kind(SplitConformalThreshold),
}

AXES = {IMAGE: "channels, height, width", SERIES: "channels, steps", TEXT: "bytes"}


@dataclass(frozen=True)
class InputSpec:
    """What one stored sample is: an image (channels, height, width), a window of a series (channels, steps), or a text.

    Values lie in [low, high]. A text is its UTF-8 bytes, filled up with zeros.
    """

    kind: str = bounded(IMAGE, one_of=ANY)
    shape: tuple[int, ...] = bounded((1, 28, 28), low=1, high=65536)
    low: float = bounded(0.0)
    high: float = bounded(255.0)
    target_channels: int = bounded(0, low=0, high=4096)  # the last ones of a sample are what is to be made of the others
    given: str = bounded("clean", one_of=("clean", "corrupted"))  # what the model gets when it serves, as it does in training

    def contradictions(self) -> list[str]:
        found = []
        axes = AXES[self.kind]
        if len(self.shape) != len(axes.split(", ")):
            found.append(f"shape is {list(self.shape)}: {self.kind} needs [{axes}]")
        if not self.low < self.high:
            found.append(f"low is {self.low:g} and high is {self.high:g}: low must be below high")
        if self.kind == TEXT and (self.low, self.high) != (0, 255):
            found.append(f"low is {self.low:g} and high is {self.high:g}: a text is made of bytes, 0 to 255")
        if self.kind == TEXT and self.given != "clean":
            found.append(f"given is {self.given}: a text is served as it is, clean")
        if self.target_channels and self.kind != IMAGE:
            found.append(f"target_channels is {self.target_channels} and kind is {self.kind}: only images have target channels")
        elif self.target_channels >= self.shape[0]:
            found.append(f"target_channels is {self.target_channels} of {self.shape[0]} channels: at least one must be given")
        return found


@dataclass(frozen=True)
class Sentence:
    """A whole autoencoder. Each word is one of its `PARTS`, told by `kind`."""

    corrupt: Any
    encode: Any
    bottleneck: Any
    decode: Any
    compare: Any
    critic: Any = NoCritic()

    @classmethod
    def words(cls) -> tuple[str, ...]:
        return tuple(word.name for word in fields(cls))


@dataclass(frozen=True)
class TrainSpec:
    """How a sentence is trained."""

    epochs: int = bounded(10, low=1, high=100_000)
    budget: float = bounded(1.0, low=0.001, high=10_000.0)  # the one dial: epochs are multiplied by it; the recipe says what for
    batch: int = bounded(128, low=1, high=1_000_000)  # samples a step
    learning_rate: float = bounded(1e-3, low=1e-8, high=10.0)  # the peak, after warming up
    augment: Any = field(default=NoAugment(), metadata={"part": "augment"})  # one of PARTS["augment"]
    seed: int = bounded(0, low=0, high=2**31 - 1)
    threads: int = bounded(2, low=1, high=1024)  # of the CPU; another number may train other bits, so it is no machine's choice
    accelerator: str = bounded("auto", one_of=("auto", "cpu", "gpu"))
    devices: str = bounded("auto", one_of=("auto", "1"))  # one: a batch is not yet shared between several
    precision: str = bounded("auto", one_of=("auto", "32", "bf16-mixed"))

    @property
    def epochs_in_all(self) -> int:
        """Epochs that the budget allows, at least one."""
        return max(1, round(self.epochs * self.budget))


# ---------------------------------------------------------------- what fits together


def given_shape(sentence: Sentence, source: InputSpec) -> tuple[int, ...]:
    """Shape of what the encoder gets: (c, h, w), (c, steps), or (tokens,)."""
    if source.kind == TEXT:
        return (sentence.encode.length,)
    clean = (source.shape[0] - source.target_channels, *source.shape[1:])
    after: tuple[int, ...] = getattr(sentence.corrupt, "shape_after", lambda shape: shape)(clean)
    return after


def made_shape(sentence: Sentence, source: InputSpec) -> tuple[int, ...]:
    """Shape of what the decoder makes of a code, which is the target's."""
    if source.kind == TEXT:
        return (sentence.encode.length,)
    return (source.target_channels or source.shape[0], *source.shape[1:])


def misfits(sentence: Sentence, source: InputSpec, score: Any, augment: Any) -> Iterator[tuple[str, str]]:
    """Where parts that are sound alone do not go together: (where, why), every one of them."""
    parts = {f"model.{word}": getattr(sentence, word) for word in Sentence.words()} | {"score": score, "train.augment": augment}
    foreign = {where: part for where, part in parts.items() if source.kind not in part.takes}
    for where, part in foreign.items():
        word = where.rpartition(".")[2]
        allowed = listed(kind for kind, other in PARTS[word].items() if source.kind in getattr(other, "takes", ()))
        yield f"{where}.kind", f"{part.kind} given with input.kind {source.kind}; {allowed} allowed"
    if foreign:
        return  # what follows asks for shapes, which these parts do not have
    yield from shape_misfits(sentence, source)
    yield from part_misfits(sentence, source, score)


def shape_misfits(sentence: Sentence, source: InputSpec) -> Iterator[tuple[str, str]]:
    clean = source.shape[0] - source.target_channels
    if isinstance(sentence.corrupt, GreyCorruption):
        if clean != 3:
            yield "model.corrupt", f"grey needs 3 channels, red, green and blue; {clean} given in input.shape"
        if source.given != "corrupted":
            yield "model.corrupt", "grey changes the shape of what the model is given: input.given must be corrupted"
    given, made = given_shape(sentence, source), made_shape(sentence, source)
    size, critic = sentence.bottleneck.size, sentence.critic
    maps = [("encode", given, "bottleneck.size", size), ("decode", made, "bottleneck.size", size)]
    if isinstance(critic, GanomalyCritic):
        maps.append(("encode", given, "critic.features", critic.features))
    for word, shape, key, numbers in maps:
        part = getattr(sentence, word)
        if getattr(part, "map", False):
            places = math.prod(halved(side, len(part.widths)) for side in shape[1:])
            if numbers % places:
                yield f"model.{word}", f"its map has {places} places and {key} is {numbers}: {key} must be a multiple of {places}"
    if isinstance(sentence.compare, SsimCompare) and min(made[1:]) < 11:
        yield "model.compare", f"ssim needs 11 pixels a side or more; {made[1]} x {made[2]} given in input.shape"


def part_misfits(sentence: Sentence, source: InputSpec, score: Any) -> Iterator[tuple[str, str]]:
    given, made = given_shape(sentence, source), made_shape(sentence, source)
    compare = sentence.compare
    if isinstance(compare, CrossEntropyCompare):
        if source.kind == TEXT and compare.categories:
            yield "model.compare.categories", f"{compare.categories} given with a text; 0 allowed: the tokens are the categories"
        if source.kind != TEXT and compare.categories < 2:
            yield "model.compare.categories", f"{compare.categories} given with input.kind {source.kind}; 2 or more allowed"
    if isinstance(sentence.critic, GanomalyCritic) and given != made:
        yield "model.critic", f"ganomaly compares input and output; {list(given)} and {list(made)} given"
    if isinstance(score, CodeResidualScore) and not isinstance(sentence.critic, GanomalyCritic):
        yield "score", f"code-residual needs the second code of model.critic ganomaly; {sentence.critic.kind} given"
    if isinstance(score, AmbiguityScore) and not isinstance(compare, BceCompare):
        yield "score", f"ambiguity needs outputs that are probabilities, as of model.compare bce; {compare.kind} given"
    if isinstance(score, NormalisedResidualScore) and given != made and (given[0], made[0]) != (1, 3):
        yield "score", f"normalised-residual needs input and output of one shape; {list(given)} and {list(made)} given"


def halved(size: int, times: int) -> int:
    """What `times` halvings, each rounding up, leave of `size`."""
    return -(-size // (1 << times))


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
        return self.of_kind(PARTS[word], "part", given, where)

    def of_kind(self, kinds: Mapping[str, type], what: str, given: Any, where: str) -> Any:
        """The dataclass that `given["kind"]` names among `kinds`, read from the other keys; None where there are mistakes."""
        if not isinstance(given, Mapping) or "kind" not in given:
            self.mistake(where, f"{shown(given)} given; {{kind: ...}} with one of {listed(kinds)} is allowed")
            return None
        kind = given["kind"]
        if kind not in kinds:
            self.mistake(f"{where}.kind", f"no {what} {shown(kind)}; {listed(kinds)} allowed{near(kind, kinds)}")
            return None
        return self.read(kinds[kind], {key: value for key, value in given.items() if key != "kind"}, where)

    def sentence(self, given: Any, where: str) -> Sentence | None:
        words = Sentence.words()
        if not isinstance(given, Mapping):
            self.mistake(where, f"{shown(given)} given; a mapping with {listed(words)} is allowed")
            return None
        self.unknown_keys(given, words, where)
        parts = {}
        for word in fields(Sentence):
            if word.name in given:
                parts[word.name] = self.part(word.name, given[word.name], f"{where}.{word.name}")
            elif word.default is MISSING:
                parts[word.name] = None
                self.mistake(where, f"the key {word.name} is missing")
        return Sentence(**parts) if None not in parts.values() else None

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
    before = len(reader.mistakes)
    spec = {
        "input": reader.read(InputSpec, given.get("input"), "input"),
        "model": reader.sentence(given.get("model"), "model"),
        "score": reader.part("score", given.get("score"), "score"),
        "threshold": reader.part("threshold", given.get("threshold"), "threshold"),
        "train": reader.read(TrainSpec, given.get("train"), "train"),
    }
    if len(reader.mistakes) == before:
        for where, why in misfits(spec["model"], spec["input"], spec["score"], spec["train"].augment):
            reader.mistake(where, why)
    return spec
