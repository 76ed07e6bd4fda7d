"""`ae run RECIPE`: the whole pipeline, from source to champion."""

import argparse
import sys
import time
from typing import Any

from aeops.project import Project, find_project


def add(verbs: Any) -> None:
    verb = verbs.add_parser("run", help="ingest, validate, version, train, evaluate, gate, register and promote a recipe")
    verb.add_argument("recipe", help="name of a file in recipes/, such as digits")
    verb.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Runs the training flow; returns 0, or the gate's exit code where the model was refused."""
    started = time.monotonic()
    from aeops.environment import prepare_environment, require_room
    from aeops.errors import GateError
    from aeops.lock import run_lock
    from aeops.recipe import load_recipe
    from aeops.standing import standing_result

    project = find_project()
    load_recipe(project, arguments.recipe)
    require_room(project)
    prepare_environment(project)
    with run_lock(project, f"ae run {arguments.recipe}"):
        summary = standing_result(project, arguments.recipe)
        if summary is None:
            summary = run_flow(project, arguments.recipe)
    show_summary(summary, time.monotonic() - started)
    return 0 if summary["verdict"] == "accepted" else GateError.exit_code


def run_flow(project: Project, recipe: str) -> dict[str, Any]:
    """The training flow in this process, with the servers it needs around it; returns its summary."""
    from aeops.servers import mlflow_migrations, prefect_server

    print("starting ...", file=sys.stderr, flush=True)
    with prefect_server(project) as wait_for_server, mlflow_migrations(project):
        from prefect.logging.handlers import APILogWorker

        from flows.training import training

        wait_for_server()
        try:
            return dict(training(recipe))
        finally:
            APILogWorker.drain_all()  # before the server ends


def show_summary(summary: dict[str, Any], seconds: float) -> None:
    """The run as one short table, and what to type next."""
    from rich.console import Console

    from aeops.summary import false_alarm_line

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
    console.print(
        f"verdict    [bold]{summary['verdict']}[/]" + "".join(f"\n           - {reason}" for reason in summary["reasons"])
    )
    console.print(f"version    {summary['recipe']} {summary['version']} ({', '.join(sorted(summary['aliases']))})")
    if summary["changed"]:
        console.print("steps      " + ", ".join(f"{name} {took:.1f} s" for name, took in summary["seconds"]))
    console.print(f"took       {seconds:.1f} s")
    console.print(f"report     {summary['report']}")
    recipe = summary["recipe"]
    console.print(f"next       make ui | .venv/bin/ae serve {recipe} | .venv/bin/ae show {recipe}")


def metrics_table(summary: dict[str, Any]) -> Any:
    from rich.table import Table

    from aeops.summary import metric_rows

    rows = metric_rows(summary["metrics"])
    found = dict.fromkeys(name for row in rows for name in row)
    columns = sorted(found, key=lambda name: name == "note")  # the note last, the rest as they come
    table = Table(title=f"{summary['recipe']}: the model beside its baselines", title_justify="left")
    for name in columns:
        table.add_column(name, justify="left" if name in ("metric", "note") else "right")
    for row in rows:
        table.add_row(*(row.get(name, "") for name in columns))
    return table
