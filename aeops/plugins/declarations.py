"""What a project adds: the objects by which a module of it declares its own parts, sources and studies."""

from dataclasses import dataclass
from typing import Any, ClassVar

from ae_models.own_parts import OwnPart

Part = OwnPart  # a part of an autoencoder, its score or its threshold, under the name by which projects declare it


@dataclass(frozen=True)
class Source:
    """A source of samples.

    Attributes:
        spec: its settings: a frozen dataclass below `aeops.recipe.source_spec.SourceSpec`.
        work: `module:object` of an object with `files` and `read`, as `aeops.data.sources.catalogue.Source` has them.
    """

    group: ClassVar[str] = "sources"
    spec: Any
    work: str


@dataclass(frozen=True)
class Study:
    """A study of a bundle.

    Attributes:
        name: its key in `evaluate.studies`, and in metrics.json.
        spec: its settings: a frozen dataclass.
        work: `module:function` of `(spec, EvaluationContext, figures) -> StudyResult`.
    """

    group: ClassVar[str] = "studies"
    name: str
    spec: Any
    work: str


@dataclass(frozen=True)
class OwnParts:
    """What a project adds.

    Attributes:
        parts, sources, studies: as they are declared; sources and studies by their kind and name.
        declared_by: what names each of them: an entry of `plugins`, by the object it declares.
    """

    parts: tuple[Part, ...] = ()
    sources: tuple[Source, ...] = ()
    studies: tuple[Study, ...] = ()
    declared_by: tuple[tuple[Part | Source | Study, str], ...] = ()

    @property
    def source_specs(self) -> dict[str, Any]:
        return {source.spec.kind: source.spec for source in self.sources}

    @property
    def study_specs(self) -> dict[str, Any]:
        return {study.name: study.spec for study in self.studies}

    @property
    def plugins(self) -> list[str]:
        """What `plugins` in ae.yaml has to name to find all of them."""
        return sorted({name for _, name in self.declared_by})

    def declaring_module(self, declared: Part | Source | Study) -> str:
        return dict(self.declared_by)[declared].partition(":")[0]
