"""`ae run RECIPE`: run the whole pipeline, from source to champion."""

import argparse
import sys
import time
from importlib import import_module
from typing import TYPE_CHECKING, Any, cast

from aeops.cli.outputs import add_json_option, add_place, print_json
from aeops.cli.plan import add_settings, read_settings, show_plan
from aeops.cli.recipe_change import changed_recipe
from aeops.cli.stopped_runs import notice_of_stop
from aeops.project import Project, find_project

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from aeops.machine.run_watch import RunWatch
    from aeops.provenance.run_summary import QuarantineCounts, RunSummary


def add_command(commands: Any) -> None:
    """Add `ae run` to the commands of the parser."""
    command = commands.add_parser("run", help="ingest, validate, version, train, evaluate, gate, register and promote a recipe")
    command.add_argument("recipe", help="name of a file in recipes/, such as digits")
    add_settings(command)
    add_place(command, "trainings")
    command.add_argument("--dry-run", action="store_true", help="only say what would run, as `ae plan` does")
    add_json_option(command)
    command.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run the training flow and print its summary.

    Settings of the command line are written to the recipe's file, and taken back where the run fails or the gate refuses its
    result: the file says what the last accepted version was trained by.

    Returns:
        0 if the model is champion or waits for approval, else the exit code of the gate.
    """
    start_time, settings = time.monotonic(), read_settings(arguments)
    if arguments.dry_run:
        show_plan(find_project(), arguments.recipe, settings, as_json=arguments.json)
        return 0
    from aeops.machine.run_watch import RunWatch

    with RunWatch(notice_of_stop("run", arguments.recipe)) as watch:
        from aeops.alerts.receivers import report_problems
        from aeops.data.dvc import require_path_without_braces
        from aeops.data.listed_recipes import list_recipe
        from aeops.data.pipeline_files import write_pipeline_files
        from aeops.data.suite import require_known_severities
        from aeops.errors import GateError
        from aeops.evaluation.before_training import require_named_files, require_whole_seed_record
        from aeops.machine.access import require_writable_checkout
        from aeops.machine.environment import prepare_environment, require_disk_space
        from aeops.machine.environment_lock import write_environment_lock
        from aeops.machine.lock import RunUse, run_lock
        from aeops.places.open_place import set_place
        from aeops.provenance.last_run import unchanged_summary
        from aeops.recipe.reader import load_recipe
        from aeops.registry.aliases import CHAMPION
        from aeops.registry.version_state import WAITING
        from aeops.stack.deployments_file import list_deployments

        project = find_project()
        set_place(project, arguments.on)
        recipe = load_recipe(project, arguments.recipe, with_keys=True)
        require_path_without_braces(project)
        require_known_severities(recipe)
        require_named_files(recipe, project)
        require_whole_seed_record(recipe, project)
        report_problems(project)
        require_disk_space(project)
        require_writable_checkout(project)
        prepare_environment(project)
        use = RunUse(recipe.name, str(settings.get("data.dataset", recipe.data.dataset)))
        with run_lock(project, f"ae run {recipe.name}", use), changed_recipe(project, recipe, settings) as change:
            write_environment_lock(project)
            list_recipe(project, load_recipe(project, recipe.name))
            write_pipeline_files(project)
            list_deployments(project, recipe.name)
            summary = unchanged_summary(project, arguments.recipe)
            if summary is None:
                summary = run_flow(project, arguments.recipe, watch)
            if summary["verdict"] == "accepted" and summary["state"] in (CHAMPION, WAITING):
                change.keep()
        if arguments.json:
            print_json(summary)
        else:
            show_summary(summary, time.monotonic() - start_time)
    return 0 if change.is_kept else GateError.exit_code


def run_flow(project: Project, recipe: str, watch: "RunWatch", flow: str = "training") -> "RunSummary":
    """Run a flow in this process, with the servers that it needs; return its summary.

    Args:
        watch: ends the run where its Prefect server is gone.
        flow: training or recalibration: a module of `flows` with a flow of its name.
    """
    from aeops.errors import as_ae_error
    from aeops.machine.run_watch import CONTINUE_HINT, closing_step
    from aeops.machine.servers import mlflow_migrations, prefect_server
    from aeops.machine.terminal import print_progress
    from aeops.registry.store import import_mlflow
    from aeops.stack.logs import connection_loss
    from aeops.stack.maintenance import cancel_own_runs, crash_dead_runs, own_process_tag
    from aeops.stack.prefect_api import PrefectApi

    print_progress("starting")
    with prefect_server(project) as server, mlflow_migrations(project):
        from prefect import tags
        from prefect.logging.handlers import APILogWorker

        run_recipe = getattr(import_module(f"flows.{flow}"), flow)
        import_mlflow()  # while the server starts
        server.wait_until_ready()
        api = PrefectApi(server.access.api_url, server.access.credentials)
        for message in crash_dead_runs(api):
            print(message, file=sys.stderr)
        cancelling = closing_step(lambda: cancel_own_runs(api, "stopped"))
        with watch.checking(server.find_problem), cancelling, tags(own_process_tag()):
            try:
                return cast("RunSummary", run_recipe(recipe))  # a flow without a deployment returns its own result
            except Exception as error:
                reason = connection_loss(error)
                if reason and as_ae_error(error) is None:  # not unwound: Prefect would try to send its logs for minutes
                    message = (
                        f"the connection to the Prefect server at {server.access.api_url} was lost ({reason}); {CONTINUE_HINT}"
                    )
                    watch.end_with_error(message)
                raise
            finally:
                if server.is_listening:
                    APILogWorker.drain_all()  # send the last log lines before the server ends


def show_summary(summary: "RunSummary", seconds: float) -> None:
    """Print the run as one short table, and the commands to type next."""
    from aeops.cli.outputs import NARROW, durations_text, open_console, styled_text
    from aeops.report.headline import verdict_sentence
    from aeops.report.summary import (
        comparison_lines,
        false_alarm_line,
        metric_rows,
        next_commands,
        state_margin_once,
        warning_lines,
    )

    console = open_console(soft_wrap=True)
    if not summary["changed"]:
        console.print(
            styled_text(
                ("nothing changed", "bold"),
                ": source, recipe, data, code and results equal those of the last run; trained nothing, registered nothing",
            )
        )
    sentence = verdict_sentence(summary["metrics"], summary.get("comparison"), summary["reasons"])
    console.print(styled_text((f"{summary['recipe']} {summary['version']}", "bold"), f"  {sentence}"))
    console.print(metrics_table(summary, console))
    if console.width < NARROW:
        for row in metric_rows(summary["metrics"]):
            if "note" in row:
                console.print(f"note       {row['metric']}: {row['note']}")
    data = summary["data"]
    console.print(f"data       {data['dataset']} {data['content_sha256'][:12]} (DVC {data['dvc_md5'][:12]})")
    if "quarantine" in summary:
        console.print(f"set aside  {quarantine_line(summary['recipe'], summary['quarantine'])}")
    if data_warnings := summary.get("data_warnings", []):
        console.print(
            reasons_text("warning", ["the data is not as expected, which is only reported", *data_warnings]), style="yellow"
        )
    console.print(f"threshold  {false_alarm_line(summary['metrics'])}")
    console.print(reasons_text("compared", comparison_lines(summary["comparison"], summary["reasons"])))
    console.print(reasons_text("verdict", [summary["verdict"], *state_margin_once(summary["reasons"])]))
    if lines := warning_lines(summary.get("warnings", [])):
        console.print(reasons_text("warning", lines), style="yellow")
    console.print(f"version    {summary['recipe']} {summary['version']} ({', '.join(sorted(summary['aliases']))})")
    console.print(reasons_text("state", [summary["state"]]))
    if summary["changed"]:
        console.print(f"steps      {durations_text(summary['seconds'])}")
    console.print(f"took       {seconds:.1f} s")
    console.print(f"report     {summary['report']}")
    console.print(f"next       {next_commands(summary['recipe'], summary['version'], summary['state'])}")


def quarantine_line(recipe: str, quarantine: "QuarantineCounts") -> str:
    """Return how many samples validation has set aside, why, and the command that lists them."""
    from aeops.provenance.run_summary import describe_quarantine

    return f"{describe_quarantine(quarantine)}: ae quarantine {recipe}"


def reasons_text(title: str, lines: list[str]) -> "Text":
    """Return a title with the first line in bold, and a line below for each reason."""
    from aeops.cli.outputs import styled_text

    result, *reasons = lines
    return styled_text(f"{title:<10} ", (result, "bold"), *(f"\n           - {reason}" for reason in reasons))


def metrics_table(summary: "RunSummary", console: "Console") -> "Table":
    """Return the metrics of the model beside those of its baselines; notes stand in the last column where that is wide enough."""
    from aeops.cli.outputs import NARROW, open_table
    from aeops.report.summary import metric_rows

    rows = metric_rows(summary["metrics"])
    columns: list[str] = []
    for row in rows:
        columns.extend(name for name in row if name not in columns)
    if "note" in columns:
        columns.remove("note")
        if console.width >= NARROW:
            columns.append("note")
    table = open_table(console, f"{summary['recipe']}: the model beside its baselines")
    for name in columns:
        if name in ("metric", "note"):
            table.add_column(name)
        else:
            table.add_column(name, justify="right")
    for row in rows:
        table.add_row(*(row.get(name, "") for name in columns))
    return table
