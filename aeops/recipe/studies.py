"""What a recipe shows beside the standing measurements: its studies, as frozen dataclasses with their bounds.

Standard library only, so that a recipe can be checked in a light process. To add a study: a dataclass here and its line
in `STUDIES`, and the work in aeops/evaluation/studies/<name>.py (see aeops.evaluation.study). A dataclass may have
`misfits(fit)`, which says why the study and the recipe's sentence do not go together, and `holds`, the kinds of input that it
measures where these are not all.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from ae_models.spec import (
    ARRAY_KINDS,
    IMAGE,
    INPUT_KINDS,
    TEXT,
    FitSpec,
    GaussianCorruptionSpec,
    GreyCorruptionSpec,
    QuantisedBottleneckSpec,
    SpecReader,
    VariationalBottleneckSpec,
    bounded_field,
    format_value,
    input_shape,
    join_names,
    output_shape,
    read_fit_spec,
    suggest_match,
)

RIVAL_SECTIONS = ("model", "score", "train")  # of the recipe, that a rival may change
MODEL = "model"  # the recipe's own model among its rivals


@dataclass(frozen=True)
class DenoisingStudy:
    """How much of its Gaussian noise the model takes away, beside the best linear filter."""

    classifier: bool = True  # also how well one classifier, trained on clean samples, reads the noisy and the denoised ones

    def misfits(self, fit: FitSpec) -> list[str]:
        found = []
        if not isinstance(fit.model.corrupt, GaussianCorruptionSpec):
            found.append(f"it measures Gaussian noise: model.corrupt must be gaussian; {fit.model.corrupt.kind} given")
        if fit.input.given != "corrupted":
            found.append("it serves noisy samples: input.given must be corrupted")
        if fit.input.target_channels:
            found.append("it compares with the sample itself: input.target_channels must be 0")
        return found


@dataclass(frozen=True)
class RivalsStudy:
    """Other sentences, trained on the same samples for the same epochs and measured on the same test samples.

    In a recipe: a mapping from a name to what it changes in model, score or train. A part with the same kind (or none)
    keeps its other settings; another kind replaces the part.
    """

    rivals: Mapping[str, FitSpec]

    @classmethod
    def read(cls, reader: SpecReader, given: Any, where: str, fit: FitSpec | None) -> Self | None:
        """The rivals as whole sentences; None where there are mistakes, or where the recipe's own sentence has some."""
        if not isinstance(given, Mapping) or not given:
            allowed = f"{{NAME: {{overrides of {join_names(RIVAL_SECTIONS)}}}}}"
            reader.mistake(where, f"{format_value(given)} given; {allowed} with one name or more is allowed")
            return None
        before = len(reader.mistakes)
        found = {str(name): read_rival(reader, changes, f"{where}.{name}", fit) for name, changes in given.items()}
        if MODEL in found:
            reader.mistake(f"{where}.{MODEL}", "this is the name of the recipe's own model; another name is allowed")
        rivals = {name: rival for name, rival in found.items() if rival is not None}
        return cls(rivals) if len(reader.mistakes) == before and rivals else None


def read_rival(reader: SpecReader, changes: Any, where: str, fit: FitSpec | None) -> FitSpec | None:
    """The recipe's sentence with `changes`; None where there are mistakes."""
    if not isinstance(changes, Mapping) or not changes:
        reader.mistake(where, f"{format_value(changes)} given; a mapping with {join_names(RIVAL_SECTIONS)} is allowed")
        return None
    before = len(reader.mistakes)
    reader.check_keys(changes, RIVAL_SECTIONS, where)
    if fit is None or len(reader.mistakes) > before:
        return None
    inner = SpecReader(f"{reader.source}: {where}")
    rival, _ = read_fit_spec(inner, changed(fit.to_dict(), changes))
    reader.mistakes += inner.mistakes
    if rival is None:
        return None
    shapes = [list(input_shape(spec.model, spec.input)) for spec in (fit, rival)]
    if shapes[0] != shapes[1]:
        reader.mistake(where, f"it takes samples of shape {shapes[1]} and the recipe's model {shapes[0]}; both get the same")
    return rival


def changed(plain: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """`plain` with `changes` laid over it, mapping by mapping; one of another kind takes the place of the old one."""
    merged = dict(plain)
    for key, change in changes.items():
        old = plain.get(key)
        if isinstance(old, Mapping) and isinstance(change, Mapping) and change.get("kind", old.get("kind")) == old.get("kind"):
            merged[key] = changed(old, change)
        else:
            merged[key] = change
    return merged


@dataclass(frozen=True)
class SparsityStudy:
    """How few numbers of a code are in use, beside PCA with as many."""

    threshold: float = bounded_field(0.0, low=0.0, high=1.0)  # share of the largest number up to which one counts as 0

    def misfits(self, fit: FitSpec) -> list[str]:
        if isinstance(fit.model.bottleneck, QuantisedBottleneckSpec):
            return ["it counts the numbers of a code that are not 0; the codes of model.bottleneck vq are words"]
        return []


@dataclass(frozen=True)
class GenerationStudy:
    """What a variational model knows of its samples (evidence lower bound), and what it makes of draws from N(0, I)."""

    holds: ClassVar[tuple[str, ...]] = ARRAY_KINDS
    samples: int = bounded_field(64, low=1, high=1024)  # drawn from the model and from the baseline

    def misfits(self, fit: FitSpec) -> list[str]:
        if not isinstance(fit.model.bottleneck, VariationalBottleneckSpec):
            return [f"it needs a Gaussian a sample: model.bottleneck must be variational; {fit.model.bottleneck.kind} given"]
        if fit.input.target_channels or fit.input.given != "clean":
            return ["it needs a model that is given what it makes: input.target_channels must be 0 and input.given clean"]
        return []


@dataclass(frozen=True)
class CodesStudy:
    """Maps of the codes, and whether codes that are near belong to one label, beside PCA and UMAP of the same size."""

    neighbours: int = bounded_field(10, low=1, high=1000)  # nearest codes asked for their label
    rows: int = bounded_field(3000, low=20, high=100_000)  # training samples for PCA and UMAP; test samples at most


@dataclass(frozen=True)
class CodecStudy:
    """Bytes an image and what is left of it, beside JPEG, WebP and PNG."""

    holds: ClassVar[tuple[str, ...]] = (IMAGE,)
    qualities: tuple[int, ...] = bounded_field((0, 2, 5, 20, 50), low=0, high=100)  # of JPEG and WebP: points of their curves

    def validation_errors(self) -> list[str]:
        return [] if self.qualities else ["qualities is empty: one number or more, 0 to 100, is allowed"]

    def misfits(self, fit: FitSpec) -> list[str]:
        found = []
        if not isinstance(fit.model.bottleneck, QuantisedBottleneckSpec):
            found.append(f"it codes words: model.bottleneck must be vq; {fit.model.bottleneck.kind} given")
        if fit.input.shape[0] not in (1, 3):
            found.append("it compares with JPEG and WebP: input.shape must have 1 or 3 channels")
        if fit.input.given != "clean" or fit.input.target_channels:
            found.append("it gives the images back that it is given: input.given must be clean and input.target_channels 0")
        return found


@dataclass(frozen=True)
class DocumentsStudy:
    """Whole pages put together from denoised tiles: how near they come to the clean ones, and what Tesseract reads on them."""

    holds: ClassVar[tuple[str, ...]] = (IMAGE,)

    def misfits(self, fit: FitSpec) -> list[str]:
        if (fit.input.target_channels, output_shape(fit.model, fit.input)[0]) != (1, 1):
            return ["it needs tiles of two channels, noisy and clean: input.target_channels must be 1"]
        return []


@dataclass(frozen=True)
class ColourStudy:
    """How near made colours come to the true ones, beside grey and beside the training samples' mean colour."""

    def misfits(self, fit: FitSpec) -> list[str]:
        found = []
        if not isinstance(fit.model.corrupt, GreyCorruptionSpec):
            found.append(f"it gives colour to grey: model.corrupt must be grey; {fit.model.corrupt.kind} given")
        if fit.input.target_channels:
            found.append("it compares with the sample itself: input.target_channels must be 0")
        return found


@dataclass(frozen=True)
class EdgesStudy:
    """How well the model draws the edges of an image, beside a threshold on the Sobel gradient."""

    holds: ClassVar[tuple[str, ...]] = (IMAGE,)

    def misfits(self, fit: FitSpec) -> list[str]:
        found = []
        if fit.input.target_channels != 1:
            found.append("it needs images with their edges as last channel: input.target_channels must be 1")
        if fit.input.given != "clean":
            found.append(f"it looks for edges in the images themselves: input.given must be clean; {fit.input.given} given")
        return found


@dataclass(frozen=True)
class SentencesStudy:
    """What codes of sentences are worth beside TF-IDF and beside an untrained network: similarity, topics, summaries."""

    holds: ClassVar[tuple[str, ...]] = (TEXT,)
    pairs: str  # a CSV file with the columns sentence1, sentence2 and score, found as sources are
    pairs_sha256: str
    documents: str  # one with the columns document, summary and category, which the recipe's source reads too
    documents_sha256: str
    neighbours: int = bounded_field(10, low=1, high=1000)  # nearest sentences of other documents
    share: float = bounded_field(0.44, low=0.01, high=1.0)  # of a document's words in its summary
    relevance: float = bounded_field(0.8, low=0.0, high=1.0)  # against redundancy, in the choice of a summary's sentences

    def validation_errors(self) -> list[str]:
        found = []
        for key in ("pairs_sha256", "documents_sha256"):
            if not re.fullmatch("[0-9a-f]{64}", getattr(self, key)):
                found.append(f"{key} is no SHA-256: 64 digits of 0 to 9 and a to f are allowed, in quotes")
        return found

    def misfits(self, fit: FitSpec) -> list[str]:
        return text_misfits(fit)


@dataclass(frozen=True)
class WordsStudy:
    """Which words the model holds to be alike: those with the nearest token embeddings, beside the untrained ones."""

    holds: ClassVar[tuple[str, ...]] = (TEXT,)
    words: tuple[str, ...]  # asked for; each a frequent word of the training texts
    neighbours: int = bounded_field(5, low=1, high=50)

    def validation_errors(self) -> list[str]:
        return [] if self.words else ["words is empty: one word or more is allowed"]

    def misfits(self, fit: FitSpec) -> list[str]:
        return text_misfits(fit)


def text_misfits(fit: FitSpec) -> list[str]:
    """Why a study of texts does not go with a sentence."""
    if isinstance(fit.model.bottleneck, QuantisedBottleneckSpec):
        return ["it measures angles between codes; the codes of model.bottleneck vq are words of a codebook"]
    return []


STUDIES: dict[str, type] = {
    "denoising": DenoisingStudy,
    "rivals": RivalsStudy,
    "sparsity": SparsityStudy,
    "generation": GenerationStudy,
    "codes": CodesStudy,
    "codec": CodecStudy,
    "documents": DocumentsStudy,
    "colour": ColourStudy,
    "edges": EdgesStudy,
    "sentences": SentencesStudy,
    "words": WordsStudy,
}


def read_studies(reader: SpecReader, given: Mapping[str, Any], where: str, fit: FitSpec | None) -> dict[str, Any]:
    """The studies that a recipe asks for, in its order; mistakes are noted in `reader`.

    Args:
        reader: collects the mistakes.
        given: name -> settings.
        where: their place in the recipe.
        fit: the recipe's sentence; None where it has mistakes itself, and whether a study fits it is not judged.
    """
    studies = {}
    for name, settings in given.items():
        if name not in STUDIES:
            reader.mistake(where, f"no study {format_value(name)}; {join_names(STUDIES)} allowed{suggest_match(name, STUDIES)}")
            continue
        studies[name] = read_study(reader, STUDIES[name], settings, f"{where}.{name}", fit)
    return studies


def read_study(reader: SpecReader, cls: Any, settings: Any, where: str, fit: FitSpec | None) -> Any:
    if hasattr(cls, "read"):
        return cls.read(reader, settings, where, fit)
    study = reader.read(cls, settings, where)
    if study is not None and fit is not None:
        kinds = getattr(cls, "holds", INPUT_KINDS)
        if fit.input.kind not in kinds:
            reader.mistake(where, f"input.kind {fit.input.kind} given; {join_names(kinds)} allowed")
        elif hasattr(study, "misfits"):
            for why in study.misfits(fit):
                reader.mistake(where, why)
    return study
