"""Scheduled scoring: the champion scores new files in a recipe's inbox. See docs/scoring.md.

By hand: `ae score digits --inbox` does the same work without Prefect. The samples are read and scored in a separate process
(aeops/scoring); training may go on meanwhile, so this flow does not hold the workspace.
"""

from datetime import datetime
from pathlib import Path
from typing import Any

from prefect.artifacts import create_link_artifact
from prefect.client.schemas.objects import State

from aeops.alerts.receivers import document_link
from aeops.machine.child_process import run_module
from aeops.machine.scratch import ScratchFolder
from aeops.machine.step_report import say_result
from aeops.machine.stored_json import read_json
from aeops.project import find_project
from aeops.recipe.reader import load_recipe
from flows.flow_run import flow_result, name_process, pipeline_flow
from flows.pipeline_step import pipeline_step


@pipeline_flow("scoring", "score")
def scoring(recipe: str, now: datetime | None = None) -> State[dict[str, Any]]:
    """Score the files that are new in the recipe's inbox; the same content is scored once.

    Args:
        now: the time of the predictions, with its zone; None for the clock's.

    Returns:
        The result of `aeops.scoring.inbox_run.score_inbox`. A missing champion, or an inbox with nothing new, is a result and
        not a failure.

    Raises:
        AeError: by kind; what is recorded by then stays, and the next run continues from there.
    """
    name_process()
    load_recipe(find_project(), recipe, with_keys=True)  # reports every mistake in it before anything starts
    result = score_inbox_files(recipe, now)
    return flow_result(result, result["says"])


@pipeline_step("score", "scores the new files of the inbox", retries=1)
def score_inbox_files(recipe: str, now: datetime | None) -> dict[str, Any]:
    """Score the inbox -> .ae/predictions/<recipe> and a page."""
    project = find_project()
    with ScratchFolder() as folder:
        output = Path(folder) / "scoring.json"
        arguments = ["aeops.scoring", recipe, "--out", str(output)]
        if now:
            arguments += ["--now", now.isoformat()]
        run_module(arguments, root=project.root, home=project.home, log=project.logs / f"scoring-{recipe}.log")
        result = dict(read_json(output, "says", "page"))
    say_result(result["says"])
    if page := result["page"]:
        link = document_link(find_project(), f"r/{recipe}/scoring", Path(page))
        create_link_artifact(link, "Batch scoring", key=f"{recipe}-scoring", description=result["says"])
    return result
