"""Scoring on a schedule: what is new in a recipe's inbox, by the champion. See docs/scoring.md.

By hand: `ae score digits --inbox` does the same work without Prefect. The samples are read and scored in a process of its own
(aeops/scoring); training may go on meanwhile, so this flow does not hold the workspace.
"""

import tempfile
from datetime import datetime
from pathlib import Path
from typing import Any

from prefect import flow
from prefect.artifacts import create_link_artifact
from prefect.client.schemas.objects import State

from aeops.machine.child_process import run_module
from aeops.project import find_project
from aeops.recipe.reader import load_recipe
from flows.runs import ended, name_process
from flows.steps import read_json, step


@flow(name="scoring", flow_run_name="score {recipe}")
def scoring(recipe: str, now: datetime | None = None) -> dict[str, Any] | State[dict[str, Any]]:
    """Scores the files that are new in the recipe's inbox; each content once, however often it comes.

    Args:
        now: the time of the predictions, with its zone; None: the clock's.

    Returns:
        What was done, as `aeops.scoring.inbox_run.score_inbox` says it. No champion, or nothing new, is a result and no failure.

    Raises:
        AeError: by kind; what is recorded by then stays, and the next run goes on from there.
    """
    name_process()
    load_recipe(find_project(), recipe, with_keys=True)  # every mistake of it is told before anything starts
    told = score(recipe, now)
    return ended(told, told["says"])


@step(retries=1)
def score(recipe: str, now: datetime | None) -> dict[str, Any]:
    """The inbox -> .ae/predictions/<recipe> and a page."""
    project = find_project()
    with tempfile.TemporaryDirectory(prefix="ae-") as scratch:
        out = Path(scratch) / "scoring.json"
        asked = ["aeops.scoring", recipe, "--out", str(out), *(["--now", now.isoformat()] if now else [])]
        run_module(asked, root=project.root, home=project.home, log=project.logs / f"scoring-{recipe}.log")
        told = read_json(out)
    if told["page"]:
        create_link_artifact(Path(told["page"]).as_uri(), "Batch scoring", key=f"{recipe}-scoring", description=told["says"])
    return told
