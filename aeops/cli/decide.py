"""Shared by `ae approve` and `ae reject`: record a person's decision and resume the flow run that waits for it."""

import argparse
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aeops.project import Project
    from aeops.registry.approval import ApprovalChoice
    from aeops.registry.ledger import LedgerEntry


def add_arguments(command: Any) -> None:
    """Add the arguments that both commands take."""
    command.add_argument("recipe", help="name of a file in recipes/, such as digits")
    command.add_argument("version", help="a version that waits for approval, by its number or alias")
    command.add_argument("--why", required=True, metavar="TEXT", help="the reason, recorded in the ledger")
    command.add_argument("--by", metavar="NAME", help="who decides (default: AE_BY, else the login name)")


def decide_and_print(arguments: argparse.Namespace, decision: "ApprovalChoice") -> int:
    """Record the decision, print its effect, and resume every flow run that is suspended until then.

    Args:
        arguments: the parsed command line, with recipe, version, why and by.
        decision: `approve` or `reject`.

    Returns:
        The exit code, 0.

    Raises:
        AeError: no such recipe or version, or a version that does not wait for approval.
    """
    from aeops.cli.actors import actor_name
    from aeops.machine.environment import prepare_environment
    from aeops.monitoring.run_notices import tell_decision
    from aeops.project import find_project
    from aeops.recipe.reader import load_recipe
    from aeops.registry import ledger
    from aeops.registry.approval import decide_request, flow_run_ids
    from aeops.registry.store import open_store

    project, recipe = find_project(), arguments.recipe
    load_recipe(project, recipe)
    prepare_environment(project)
    store = open_store(project)
    decided_by = actor_name(arguments.by)
    if decision == "approve":  # before the champion moves, so that a person can still stop
        entries, version = ledger.read_entries(project, recipe), store.version(recipe, arguments.version).version
        if warning := same_account_warning(entries, version, decided_by):
            print(f"note       {warning}", flush=True)
    line = decide_request(project, store, recipe, arguments.version, decision, decided_by, arguments.why)
    print(f"{line.event:10} {recipe} {line.version}, by {line.who}: line {line.number} of the ledger")
    print(f"champion   {recipe} {ledger.champion_at(ledger.read_entries(project, recipe)) or 'none'}")
    tell_decision(project, line)
    for flow_run in flow_run_ids(store.version(recipe, line.version)):
        message = resume_run(project, flow_run, {"decision": decision, "by": line.who, "why": line.why})
        print(f"flow run   {flow_run} {message}")
    print(f"next       ae show {recipe} | ae history {recipe}")
    return 0


def same_account_warning(entries: list["LedgerEntry"], version: str, decided_by: str) -> str:
    """Return a warning where this account started the run of the version under another name; empty where it did not."""
    from aeops.registry.ledger import current_account

    for entry in reversed(entries):
        if entry.event == "request" and entry.version == version:
            if entry.account == current_account() and entry.who != decided_by:
                return f"the account {entry.account} also started the run, as {entry.who}: names are not authenticated"
            break
    return ""


def resume_run(project: "Project", flow_run: str, run_input: dict[str, str]) -> str:
    """Resume a suspended flow run with the form's answers; return a message that describes its state.

    The decision is recorded before this, so a flow run that is resumed later on Prefect's page finds it and ends.
    """
    from uuid import UUID

    from aeops.machine.prefect_access import external_prefect, use_prefect
    from aeops.machine.servers import find_running_prefect, is_healthy, is_stack_of_another

    if external_prefect() is None and is_stack_of_another(project):
        return "stays suspended: only the user who typed `ae up` can resume it, on the page of Prefect's server"
    access = external_prefect() or find_running_prefect(project)
    if access is None or not is_healthy(f"{access.api_url}/health"):
        return "stays suspended because no Prefect server answers: start one with `ae up`, then resume the run on its page"
    use_prefect(access)  # before Prefect is imported
    from httpx import HTTPError
    from prefect.exceptions import FlowPauseTimeout, NotPausedError, ObjectNotFound
    from prefect.flow_runs import resume_flow_run

    try:
        resume_flow_run(UUID(flow_run), run_input=run_input)
    except NotPausedError:
        return "has ended or is already running"
    except FlowPauseTimeout:
        return "reached its time limit and has ended"
    except ObjectNotFound:
        return f"is not known to the Prefect server at {access.api_url}"
    except HTTPError as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        return f"stays suspended ({reason}): resume it on its page at {access.api_url.removesuffix('/api')}"
    except RuntimeError as error:  # Prefect raises it for every other refusal of its server
        return f"stays suspended ({error}): end it on its page"
    return "continues with this decision"
