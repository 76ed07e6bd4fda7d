"""What `ae approve` and `ae reject` share: a person's decision is carried out, and the flow run that waits for it resumed."""

import argparse
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aeops.project import Project
    from aeops.registry.approval import ApprovalChoice


def add_arguments(command: Any) -> None:
    command.add_argument("recipe", help="name of a file in recipes/, such as digits")
    command.add_argument("version", help="a version that waits for approval, by its number or alias")
    command.add_argument("--why", required=True, metavar="TEXT", help="kept in the ledger")
    command.add_argument("--by", metavar="NAME", help="who decides (default: AE_BY, else the login name)")


def decide_and_tell(arguments: argparse.Namespace, decision: "ApprovalChoice") -> int:
    """Decides, prints what that moved, and resumes each flow run that is suspended until somebody does."""
    from aeops.machine.environment import prepare_environment
    from aeops.project import find_project
    from aeops.recipe.reader import load_recipe
    from aeops.registry import ledger
    from aeops.registry.approval import decide_request, flow_run_ids
    from aeops.registry.store import open_store

    project, recipe = find_project(), arguments.recipe
    load_recipe(project, recipe)
    prepare_environment(project)
    store = open_store(project)
    by = ledger.current_actor() if arguments.by is None else arguments.by
    line = decide_request(project, store, recipe, arguments.version, decision, by, arguments.why)
    print(f"{line.event:10} {recipe} {line.version}, by {line.who}: line {line.number} of the ledger")
    print(f"champion   {recipe} {ledger.champion_at(ledger.read_entries(project, recipe)) or 'none'}")
    for flow_run in flow_run_ids(store.version(recipe, line.version)):
        told = resume(project, flow_run, {"decision": decision, "by": line.who, "why": line.why})
        print(f"flow run   {flow_run} {told}")
    print(f"next       ae show {recipe} | ae history {recipe}")
    return 0


def resume(project: "Project", flow_run: str, answer: dict[str, str]) -> str:
    """Resumes a suspended flow run with the form's answers; returns what became of it.

    The decision holds already, whatever becomes of the flow run: resumed later, on Prefect's page, it finds it made and ends.
    """
    from uuid import UUID

    from aeops.machine.servers import find_running_prefect, is_healthy

    address = os.environ.get("PREFECT_API_URL") or find_running_prefect(project)
    if address is None or not is_healthy(f"{address}/health"):
        return "stays suspended, as no Prefect server answers; once one does, resume it on its page: it finds the decision made"
    os.environ["PREFECT_API_URL"] = address  # read when Prefect is imported
    from prefect.exceptions import FlowPauseTimeout, NotPausedError, ObjectNotFound
    from prefect.flow_runs import resume_flow_run

    try:
        resume_flow_run(UUID(flow_run), run_input=answer)
    except NotPausedError:
        return "has ended or goes on already"
    except FlowPauseTimeout:
        return "had waited too long and has ended"
    except ObjectNotFound:
        return f"is not known to the Prefect server at {address}"
    except RuntimeError as error:  # Prefect's for all that its server has against it
        return f"stays suspended ({error}): end it on its page"
    return "goes on, and finds the decision made"
