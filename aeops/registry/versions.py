"""Registered models and versions as dataclasses."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion


EVIDENCE_RUN_TAG = "run_id"  # tag of a version whose bundle a later run made again: the id of that run


@dataclass(frozen=True)
class VersionInfo:
    """One registered version.

    Attributes:
        tags: bundle_sha256, verdict, lineage and others.
        created_at: in UTC.
        run_id: the last MLflow run that made this bundle; it holds metrics and files. The first one may have failed.
        description: the model card.
    """

    version: str
    aliases: tuple[str, ...]
    tags: dict[str, str]
    created_at: datetime
    run_id: str
    description: str


@dataclass(frozen=True)
class ModelInfo:
    """A recipe's registered model.

    Attributes:
        aliases: alias -> number of the version that it points to.
        tags: of the model, not of a version.
    """

    aliases: dict[str, str]
    tags: dict[str, str]


def to_version_info(entry: "ModelVersion", aliases: Mapping[str, str]) -> VersionInfo:
    """Convert MLflow's entry; a search leaves its aliases empty, so they come from the model."""
    number = str(entry.version)
    return VersionInfo(
        version=number,
        aliases=tuple(sorted(alias for alias, version in aliases.items() if version == number)),
        tags=dict(entry.tags),
        created_at=datetime.fromtimestamp(entry.creation_timestamp / 1000, tz=UTC),
        run_id=str(entry.tags.get(EVIDENCE_RUN_TAG, entry.run_id)),
        description=entry.description or "",
    )
