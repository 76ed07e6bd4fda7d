"""Registered models and versions as plain records."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion


EVIDENCE = "run_id"  # tag of a version whose bundle came out of a later run again: that run


@dataclass(frozen=True)
class VersionInfo:
    """One registered version.

    Attributes:
        tags: what it was registered with: bundle_sha256, verdict, lineage.
        run_id: the last MLflow run that came to this bundle, which holds metrics and files; the first may have failed.
        description: the model card.
    """

    version: str
    aliases: tuple[str, ...]
    tags: dict[str, str]
    created: datetime
    run_id: str
    description: str


@dataclass(frozen=True)
class ModelInfo:
    """A recipe's registered model: its aliases, each with the version it is on, and its own tags."""

    aliases: dict[str, str]
    tags: dict[str, str]


def info(entry: "ModelVersion", aliases: Mapping[str, str]) -> VersionInfo:
    """MLflow's entry as ours; a search leaves its aliases empty, so they come from the model."""
    return VersionInfo(
        version=str(entry.version),
        aliases=tuple(sorted(alias for alias, version in aliases.items() if version == str(entry.version))),
        tags=dict(entry.tags),
        created=datetime.fromtimestamp(entry.creation_timestamp / 1000, tz=UTC),
        run_id=str(entry.tags.get(EVIDENCE, entry.run_id)),
        description=entry.description or "",
    )
