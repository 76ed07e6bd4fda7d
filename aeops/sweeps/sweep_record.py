"""What stays of a sweep: sweep.json and sweep.svg in .ae/sweeps/RECIPE/tables/ID, and its runs in MLflow."""

from dataclasses import dataclass
from pathlib import Path

from ae_models.checksums import json_sha256
from ae_models.spec import spec_to_dict
from aeops.data.stage_runs import KEY_DIGITS
from aeops.files import atomic_path, make_folder, write_json
from aeops.registry.store import Store
from aeops.registry.sweep_runs import SweepEntry, TrialEntry, log_sweep
from aeops.sweeps.outcome import FAILED, SweepOutcome, to_document
from aeops.sweeps.picture import draw_sweep
from aeops.sweeps.plan import SweepPlan
from aeops.sweeps.trial_runs import SweepFolder

TABLE_FILE, PICTURE_FILE = "sweep.json", "sweep.svg"


@dataclass(frozen=True)
class SweepRecord:
    """Where a sweep is recorded.

    Attributes:
        table: sweep.json.
        picture: sweep.svg.
        run_id: of MLflow.
    """

    table: Path
    picture: Path
    run_id: str


def record_sweep(store: Store, folder: SweepFolder, outcome: SweepOutcome) -> SweepRecord:
    """Write table and picture of a sweep, complete or not, and its runs in MLflow; those of the same sweep are replaced.

    Raises:
        InfrastructureError: MLflow cannot be reached.
    """
    sweep_id = name_sweep(folder, outcome.plan)
    place = folder.path / "tables" / sweep_id[:KEY_DIGITS]
    make_folder(place)
    document = to_document(outcome)
    write_json(place / TABLE_FILE, document)
    with atomic_path(place / PICTURE_FILE) as tmp_path:
        draw_sweep(tmp_path, outcome)
    trials = []
    for trial in outcome.trials:
        if trial.values or trial.state == FAILED:
            values = list(zip(trial.epochs, trial.values, strict=False))  # a failed rung has epochs and no value
            trials.append(TrialEntry(trial.trial.number, trial.trial.settings, values, trial.state == FAILED))
    params = {name: document[name] for name in ("over", "metric", "rungs", "threads", "combinations", "drawn_with_seed")}
    files = (place / TABLE_FILE, place / PICTURE_FILE)
    plan = outcome.plan
    entry = SweepEntry(plan.recipe.name, sweep_id, plan.metric, params, trials, outcome.is_complete, files)
    return SweepRecord(*files, log_sweep(store, entry))


def name_sweep(folder: SweepFolder, plan: SweepPlan) -> str:
    """Return the SHA-256 of what decides a sweep's table, but for the code."""
    return json_sha256(
        {
            "content_sha256": folder.content_sha256,
            "metric": plan.metric,
            "rungs": [[rung.share, rung.keep] for rung in plan.rungs],
            "keys": [axis.key for axis in plan.axes],
            "trials": [spec_to_dict(trial.recipe.fit) for trial in plan.trials],
        }
    )
