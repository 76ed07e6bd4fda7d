"""Studies that a recipe adds to the standard measurements, as frozen dataclasses with their bounds.

Standard library only, so that a recipe can be checked in a light process. To add a study: a dataclass here and its line
in `STUDIES`, and the work in aeops/evaluation/studies/<name>.py (see aeops.evaluation.study). A dataclass may have
`check_fit(fit)` and `check_source(source)`, which return why the study does not go with the recipe's model or with its source,
`source_files()`, the files that it reads beside the samples, and `input_kinds`, the kinds of input that it measures where these
are not all.
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
from aeops.plugins import current_parts
from aeops.recipe.sections import SourceFile
from aeops.recipe.source_spec import SourceSpec
from aeops.recipe.sources import MaskedImagesSource, ScansSource, text_name

RIVAL_SECTIONS = ("model", "score", "train")  # of the recipe, that a rival may change
MODEL = "model"  # the recipe's own model among its rivals
POWER_STUDY = "power"  # the study that every recipe with purpose detect has


@dataclass(frozen=True)
class DenoisingStudy:
    """Share of Gaussian noise that the model removes, beside the best linear filter."""

    classifier: bool = True  # also how well one classifier, trained on clean samples, reads the noisy and the denoised ones

    def check_fit(self, fit: FitSpec) -> list[str]:
        errors = []
        if not isinstance(fit.model.corrupt, GaussianCorruptionSpec):
            errors.append(f"it measures Gaussian noise: expected model.corrupt gaussian, got {fit.model.corrupt.kind}")
        if fit.input.given != "corrupted":
            errors.append("it serves noisy samples: input.given must be corrupted")
        if fit.input.target_channels:
            errors.append("it compares with the sample itself: input.target_channels must be 0")
        return errors


@dataclass(frozen=True)
class RivalsStudy:
    """Other models, trained on the same samples for the same epochs and measured on the same test samples.

    In a recipe: a mapping from a name to what it changes in model, score or train. A part with the same kind (or none)
    keeps its other settings; another kind replaces the part.
    """

    rivals: Mapping[str, FitSpec]

    @classmethod
    def read(cls, reader: SpecReader, raw_rivals: Any, path: str, fit: FitSpec | None) -> Self | None:
        """Read the rivals as whole specs; None where there are mistakes, or where `fit`, the recipe's own, has some."""
        if not isinstance(raw_rivals, Mapping) or not raw_rivals:
            expected = f"{{NAME: {{overrides of {join_names(RIVAL_SECTIONS)}}}}}"
            reader.mistake(path, f"expected {expected} with one name or more, got {format_value(raw_rivals)}")
            return None
        mistakes_before = len(reader.mistakes)
        rival_specs = {}
        for name, overrides in raw_rivals.items():
            rival_spec = _read_rival(reader, overrides, f"{path}.{name}", fit)
            if rival_spec is not None:
                rival_specs[str(name)] = rival_spec
        if MODEL in raw_rivals:
            reader.mistake(f"{path}.{MODEL}", "expected another name, since this is that of the recipe's own model")
        if len(reader.mistakes) > mistakes_before or not rival_specs:
            return None
        return cls(rival_specs)


def _read_rival(reader: SpecReader, overrides: Any, path: str, fit: FitSpec | None) -> FitSpec | None:
    """Read the recipe's spec with `overrides`; None where there are mistakes."""
    if not isinstance(overrides, Mapping) or not overrides:
        reader.mistake(path, f"expected a mapping with {join_names(RIVAL_SECTIONS)}, got {format_value(overrides)}")
        return None
    mistakes_before = len(reader.mistakes)
    reader.check_keys(overrides, RIVAL_SECTIONS, path)
    if fit is None or len(reader.mistakes) > mistakes_before:
        return None
    rival_reader = SpecReader(f"{reader.source}: {path}")
    rival_spec, _ = read_fit_spec(rival_reader, apply_overrides(fit.to_dict(), overrides))
    reader.mistakes += rival_reader.mistakes
    if rival_spec is None:
        return None
    rival_shape, model_shape = input_shape(rival_spec.model, rival_spec.input), input_shape(fit.model, fit.input)
    if rival_shape != model_shape:
        reader.mistake(path, f"expected samples of shape {list(model_shape)}, as the recipe's model, got {list(rival_shape)}")
    return rival_spec


def apply_overrides(document: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Return `document` with `overrides` laid over it, mapping by mapping; one of another kind replaces the old one."""
    result = dict(document)
    for key, override in overrides.items():
        old_value = document.get(key)
        if isinstance(old_value, Mapping) and isinstance(override, Mapping) and _has_same_kind(old_value, override):
            result[key] = apply_overrides(old_value, override)
        else:
            result[key] = override
    return result


def _has_same_kind(document: Mapping[str, Any], overrides: Mapping[str, Any]) -> bool:
    """Return whether the overrides keep the part's kind: they name the same, or none."""
    return "kind" not in overrides or overrides["kind"] == document.get("kind")


@dataclass(frozen=True)
class SparsityStudy:
    """Count of the numbers of a code that are in use, beside PCA with as many."""

    threshold: float = bounded_field(0.0, low=0.0, high=1.0)  # share of the largest number up to which one counts as 0

    def check_fit(self, fit: FitSpec) -> list[str]:
        if isinstance(fit.model.bottleneck, QuantisedBottleneckSpec):
            return ["it counts the numbers of a code that are not 0; the codes of model.bottleneck vq are words"]
        return []


@dataclass(frozen=True)
class GenerationStudy:
    """Evidence lower bound of a variational model, and its reconstructions of draws from N(0, I)."""

    input_kinds: ClassVar[tuple[str, ...]] = ARRAY_KINDS
    samples: int = bounded_field(64, low=1, high=1024)  # drawn from the model and from the baseline

    def check_fit(self, fit: FitSpec) -> list[str]:
        if not isinstance(fit.model.bottleneck, VariationalBottleneckSpec):
            return [f"it needs a Gaussian a sample: expected model.bottleneck variational, got {fit.model.bottleneck.kind}"]
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

    input_kinds: ClassVar[tuple[str, ...]] = (IMAGE,)
    qualities: tuple[int, ...] = bounded_field((0, 2, 5, 20, 50), low=0, high=100)  # of JPEG and WebP: points of their curves

    def validation_errors(self) -> list[str]:
        if not self.qualities:
            return ["qualities: expected one number or more, 0 to 100, got none"]
        return []

    def check_fit(self, fit: FitSpec) -> list[str]:
        errors = []
        if not isinstance(fit.model.bottleneck, QuantisedBottleneckSpec):
            errors.append(f"it codes words: expected model.bottleneck vq, got {fit.model.bottleneck.kind}")
        if fit.input.shape[0] not in (1, 3):
            errors.append("it compares with JPEG and WebP: input.shape must have 1 or 3 channels")
        if fit.input.given != "clean" or fit.input.target_channels:
            errors.append("it gives the images back that it is given: input.given must be clean and input.target_channels 0")
        return errors


@dataclass(frozen=True)
class DocumentsStudy:
    """Whole pages joined from denoised tiles: their distance to the clean ones, and what Tesseract reads on them."""

    input_kinds: ClassVar[tuple[str, ...]] = (IMAGE,)

    def check_fit(self, fit: FitSpec) -> list[str]:
        if (fit.input.target_channels, output_shape(fit.model, fit.input)[0]) != (1, 1):
            return ["it needs tiles of two channels, noisy and clean: input.target_channels must be 1"]
        return []

    def check_source(self, source: SourceSpec) -> list[str]:
        if source.is_tiled:
            return []
        return [f"it joins tiles to pages: expected a data.source of kind {ScansSource.kind}, got {source.kind}"]


@dataclass(frozen=True)
class ColourStudy:
    """Distance of the colours to the true ones, beside grey and beside the training samples' mean colour."""

    def check_fit(self, fit: FitSpec) -> list[str]:
        errors = []
        if not isinstance(fit.model.corrupt, GreyCorruptionSpec):
            errors.append(f"it gives colour to grey: expected model.corrupt grey, got {fit.model.corrupt.kind}")
        if fit.input.target_channels:
            errors.append("it compares with the sample itself: input.target_channels must be 0")
        return errors


@dataclass(frozen=True)
class EdgesStudy:
    """Accuracy of the edges that the model draws, beside a threshold on the Sobel gradient."""

    input_kinds: ClassVar[tuple[str, ...]] = (IMAGE,)

    def check_fit(self, fit: FitSpec) -> list[str]:
        errors = []
        if fit.input.target_channels != 1:
            errors.append("it needs images with their edges as last channel: input.target_channels must be 1")
        if fit.input.given != "clean":
            errors.append(f"it looks for edges in the images themselves: expected input.given clean, got {fit.input.given}")
        return errors


@dataclass(frozen=True)
class PixelsStudy:
    """Agreement of the map of anomaly with the masks of a source that has masks, beside the recipe's baselines."""

    input_kinds: ClassVar[tuple[str, ...]] = (IMAGE,)
    blur: float = bounded_field(2.0, low=0.0, high=64.0)  # of every map, the model's and the baselines': sd in pixels; 0: none
    false_positive_rate: float = bounded_field(0.3, low=0.001, high=1.0)  # up to which the per-region overlap is integrated

    def check_fit(self, fit: FitSpec) -> list[str]:
        if input_shape(fit.model, fit.input) == output_shape(fit.model, fit.input):
            return []
        return ["it maps the error of each pixel: expected a model whose output has the shape of its input"]

    def check_source(self, source: SourceSpec) -> list[str]:
        if source.has_masks:
            return []
        return [f"it needs masks: expected data.source of kind {MaskedImagesSource.kind}, got {source.kind}"]


@dataclass(frozen=True)
class SentencesStudy:
    """Codes of sentences beside TF-IDF and an untrained network: similarity, topics, summaries."""

    input_kinds: ClassVar[tuple[str, ...]] = (TEXT,)
    pairs: str  # a CSV file with the columns sentence1, sentence2 and score, found as sources are
    pairs_sha256: str  # of that file
    documents: str  # one with the columns document, summary and category, which the recipe's source reads too
    documents_sha256: str  # of that file
    neighbours: int = bounded_field(10, low=1, high=1000)  # nearest sentences of other documents
    share: float = bounded_field(0.44, low=0.01, high=1.0)  # of a document's words in its summary
    relevance: float = bounded_field(0.8, low=0.0, high=1.0)  # against redundancy, in the choice of a summary's sentences

    def validation_errors(self) -> list[str]:
        errors = []
        for key in ("pairs_sha256", "documents_sha256"):
            if not re.fullmatch("[0-9a-f]{64}", getattr(self, key)):
                errors.append(f"{key}: expected a SHA-256, 64 digits of 0 to 9 and a to f, in quotes")
        return errors

    def check_fit(self, fit: FitSpec) -> list[str]:
        return _check_text_codes(fit)

    def check_source(self, source: SourceSpec) -> list[str]:
        file_names = [text_name(file.path) for file in getattr(source, "files", ())]
        if text_name(self.documents) in file_names:
            return []
        return [
            f"documents: expected a file of data.source, since some of its documents must be test samples, got {self.documents}"
            f"{suggest_match(text_name(self.documents), file_names)}"
        ]

    def source_files(self) -> dict[str, SourceFile]:
        return {
            "pairs": SourceFile(self.pairs, self.pairs_sha256),
            "documents": SourceFile(self.documents, self.documents_sha256),
        }


@dataclass(frozen=True)
class WordsStudy:
    """Words with the nearest token embeddings, beside the untrained ones."""

    input_kinds: ClassVar[tuple[str, ...]] = (TEXT,)
    words: tuple[str, ...]  # asked for; each a frequent word of the training texts
    neighbours: int = bounded_field(5, low=1, high=50)  # nearest words that are listed

    def validation_errors(self) -> list[str]:
        if not self.words:
            return ["words: expected one word or more, got none"]
        return []

    def check_fit(self, fit: FitSpec) -> list[str]:
        return _check_text_codes(fit)


@dataclass(frozen=True)
class PowerStudy:
    """Share of injected standard faults that the model catches, beside the recipe's baselines; always on for purpose detect."""

    samples: int = bounded_field(120, low=20, high=100_000)  # normal test samples that get each fault, at most; evenly spaced


def _check_text_codes(fit: FitSpec) -> list[str]:
    """Return a message where the model's codes do not allow a study of texts."""
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
    "pixels": PixelsStudy,
    "sentences": SentencesStudy,
    "words": WordsStudy,
    POWER_STUDY: PowerStudy,
}


def read_studies(reader: SpecReader, raw_studies: Mapping[str, Any], path: str, fit: FitSpec | None) -> dict[str, Any]:
    """Read the studies of a recipe, in its order; mistakes are noted in `reader`.

    Args:
        reader: collects the mistakes.
        raw_studies: name -> settings.
        path: their path in the recipe.
        fit: the recipe's spec; None where it has mistakes itself, and no study is compared with it.
    """
    studies, specs = {}, {**current_parts().study_specs, **STUDIES}
    for name, settings in raw_studies.items():
        if name in specs:
            studies[name] = _read_study(reader, specs[name], settings, f"{path}.{name}", fit)
        else:
            suggestion = suggest_match(name, specs)
            reader.mistake(path, f"expected a study out of {join_names(specs)}, got {format_value(name)}{suggestion}")
    return studies


def _read_study(reader: SpecReader, cls: Any, settings: Any, path: str, fit: FitSpec | None) -> Any:
    if hasattr(cls, "read"):
        return cls.read(reader, settings, path, fit)
    study = reader.read(cls, settings, path)
    if study is None or fit is None:
        return study
    input_kinds = getattr(cls, "input_kinds", INPUT_KINDS)
    if fit.input.kind not in input_kinds:
        reader.mistake(path, f"expected input.kind {join_names(input_kinds)}, got {fit.input.kind}")
    elif hasattr(study, "check_fit"):
        for reason in study.check_fit(fit):
            reader.mistake(path, reason)
    return study
