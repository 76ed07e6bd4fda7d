"""The runs of recipes as MLflow recorded them, each with the version that it made."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlflow.entities import Run

    from aeops.registry.versions import VersionInfo


STOPPED_TAG = "stopped"  # of a run that ended by Ctrl-C or a signal, in order; MLflow calls it killed


@dataclass(frozen=True)
class RunInfo:
    """One run.

    Attributes:
        name: as MLflow shows it.
        status: finished, failed, running, stopped (by Ctrl-C or a signal) or killed.
        seconds: what it took; None where it has not ended.
        version: that it registered, or whose evidence it holds; empty where it registered none.
        verdict: on that version; empty without one.
    """

    recipe: str
    run_id: str
    name: str
    status: str
    started_at: datetime
    seconds: float | None
    version: str
    verdict: str


def to_run_info(recipe: str, run: "Run", version: "VersionInfo | None") -> RunInfo:
    """Convert MLflow's run."""
    seconds = None
    if run.info.end_time:
        seconds = (run.info.end_time - run.info.start_time) / 1000
    status = str(run.info.status).lower()
    if status == "killed" and STOPPED_TAG in run.data.tags:
        status = "stopped"
    return RunInfo(
        recipe=recipe,
        run_id=str(run.info.run_id),
        name=run.info.run_name or "",
        status=status,
        started_at=datetime.fromtimestamp(run.info.start_time / 1000, tz=UTC),
        seconds=seconds,
        version=version.version if version else "",
        verdict=version.tags.get("verdict", "") if version else "",
    )
