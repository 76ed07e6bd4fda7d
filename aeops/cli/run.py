"""`ae run RECIPE`: the whole pipeline, from source to champion."""

import argparse
import sys
import time
from typing import TYPE_CHECKING, Any, cast

from aeops.project import Project, find_project

if TYPE_CHECKING:
    from aeops.provenance.run_summary import RunSummary


def add_command(commands: Any) -> None:
    """Add `ae run` to the commands of the parser."""
    command = commands.add_parser("run", help="ingest, validate, version, train, evaluate, gate, register and promote a recipe")
    command.add_argument("recipe", help="name of a file in recipes/, such as digits")
    command.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Runs the training flow; returns 0 where its model is champion or waits for a person, else the gate's exit code."""
    started = time.monotonic()
    from aeops.errors import GateError
    from aeops.machine.environment import prepare_environment, require_disk_space
    from aeops.machine.lock import run_lock
    from aeops.provenance.last_run import unchanged_summary
    from aeops.recipe.reader import load_recipe
    from aeops.registry.aliases import CHAMPION
    from aeops.registry.version_state import WAITING

    project = find_project()
    load_recipe(project, arguments.recipe, with_keys=True)
    require_disk_space(project)
    prepare_environment(project)
    with run_lock(project, f"ae run {arguments.recipe}"):
        summary = unchanged_summary(project, arguments.recipe)
        if summary is None:
            summary = run_flow(project, arguments.recipe)
    show_summary(summary, time.monotonic() - started)
    done = summary["verdict"] == "accepted" and summary["state"] in (CHAMPION, WAITING)
    return 0 if done else GateError.exit_code


def run_flow(project: Project, recipe: str) -> "RunSummary":
    """The training flow in this process, with the servers it needs around it; returns its summary."""
    from aeops.machine.servers import mlflow_migrations, prefect_credentials, prefect_server
    from aeops.stack.maintenance import crash_dead_runs
    from aeops.stack.prefect_api import PrefectApi

    print("starting ...", file=sys.stderr, flush=True)
    with prefect_server(project) as wait_for_server, mlflow_migrations(project):
        from prefect.logging.handlers import APILogWorker

        from flows.training import training

        wait_for_server()
        for told in crash_dead_runs(PrefectApi(*prefect_credentials())):
            print(told, file=sys.stderr)
        try:
            return cast("RunSummary", training(recipe))  # without a deployment it is no other result
        finally:
            APILogWorker.drain_all()  # before the server ends


def show_summary(summary: "RunSummary", seconds: float) -> None:
    """The run as one short table, and what to type next."""
    from rich.console import Console

    from aeops.report.summary import comparison_lines, false_alarm_line, next_commands

    console = Console(highlight=False, soft_wrap=True)
    if not summary["changed"]:
        console.print(
            "[bold]nothing changed[/]: source, recipe, data, code and results are as the last run left them; "
            "trained nothing, registered nothing"
        )
    console.print(metrics_table(summary))
    data = summary["data"]
    console.print(f"data       {data['dataset']} {data['content_sha256'][:12]} (DVC {data['dvc_md5'][:12]})")
    console.print(f"threshold  {false_alarm_line(summary['metrics'])}")
    console.print(with_reasons("compared", comparison_lines(summary["comparison"])))
    console.print(with_reasons("verdict", [summary["verdict"], *summary["reasons"]]))
    console.print(f"version    {summary['recipe']} {summary['version']} ({', '.join(sorted(summary['aliases']))})")
    console.print(with_reasons("state", [summary["state"]]))
    if summary["changed"]:
        console.print("steps      " + ", ".join(f"{name} {took:.1f} s" for name, took in summary["seconds"]))
    console.print(f"took       {seconds:.1f} s")
    console.print(f"report     {summary['report']}")
    console.print(f"next       {next_commands(summary['recipe'], summary['version'], summary['state'])}")


def with_reasons(word: str, told: list[str]) -> str:
    """What was found, in bold, and a line below for each reason."""
    from rich.markup import escape

    found, *reasons = map(escape, told)
    return f"{word:<10} [bold]{found}[/]" + "".join(f"\n           - {reason}" for reason in reasons)


def metrics_table(summary: "RunSummary") -> Any:
    from rich.table import Table

    from aeops.report.summary import metric_rows

    rows = metric_rows(summary["metrics"])
    found = dict.fromkeys(name for row in rows for name in row)
    columns = sorted(found, key=lambda name: name == "note")  # the note last, the rest as they come
    table = Table(title=f"{summary['recipe']}: the model beside its baselines", title_justify="left")
    for name in columns:
        table.add_column(name, justify="left" if name in ("metric", "note") else "right")
    for row in rows:
        table.add_row(*(row.get(name, "") for name in columns))
    return table
