"""`ae show RECIPE`: print the registered versions, newest first, with the metrics of their evaluation."""

import argparse
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aeops.cli.outputs import add_json_option, print_json
from aeops.registry.aliases import CHAMPION

if TYPE_CHECKING:
    from rich.text import Text

    from aeops.registry.store import Store
    from aeops.registry.versions import VersionInfo

MAX_VERSIONS = 20  # each one costs a request to MLflow


@dataclass(frozen=True)
class MetricColumn:
    """A column of the table.

    Attributes:
        title: its head; what it is compared with stands in parentheses, as in the cells.
        metric: the model's metric, as a dotted path into metrics.json.
        baselines: the metrics beside it.
        number_format: a format specification for all of them.
    """

    title: str
    metric: str
    baselines: tuple[str, ...]
    number_format: str

    def cell(self, metrics: dict[str, float]) -> str:
        """Return `metric (baseline, ...)`, with a dash for a missing value."""
        values = []
        for path in (self.metric, *self.baselines):
            if path in metrics:
                values.append(format(metrics[path], self.number_format))
            else:
                values.append("-")
        return f"{values[0]} ({', '.join(values[1:])})"


METRIC_COLUMNS = (
    MetricColumn("MSE (PCA)", "reconstruction.model.mse", ("reconstruction.pca.mse",), ".5f"),
    MetricColumn("AUROC (lead)", "detection.model.auroc", ("detection.lead",), ".3f"),
    MetricColumn("false alarms (requested)", "false_alarms.measured", ("false_alarms.requested",), ".2%"),
)


def add_command(commands: Any) -> None:
    """Add `ae show` to the commands of the parser."""
    command = commands.add_parser("show", help="show a recipe's versions, aliases and metrics")
    command.add_argument("recipe", help="name of a file in recipes/, such as digits")
    add_json_option(command)
    command.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Print the versions, the champion's rate of false alarms, and where to find more."""
    from aeops.errors import UsageError
    from aeops.project import find_project
    from aeops.recipe.reader import load_recipe
    from aeops.registry.store import open_store

    project = find_project()
    recipe = load_recipe(project, arguments.recipe)
    store = open_store(project)
    versions = store.versions(arguments.recipe)
    if not versions:
        raise UsageError(
            f"no version of {arguments.recipe} is registered in {store.uri}: make one with `ae run {arguments.recipe}`"
        )
    if arguments.json:
        print_json(versions_document(arguments.recipe, store, versions))
    else:
        print_versions(arguments.recipe, store, versions, has_labels=bool(recipe.data.labels))
    return 0


def versions_document(recipe: str, store: "Store", versions: list["VersionInfo"]) -> dict[str, Any]:
    """Return the output of --json: the champion, and every version with its verdict as a sentence, metrics and tags."""
    from aeops.report.model_card import card_sentence

    champion, rows = None, []
    for version in versions:
        if CHAMPION in version.aliases:
            champion = version.version
        row = {
            "version": version.version,
            "aliases": list(version.aliases),
            "made_at": version.created_at.isoformat(),
            "sentence": card_sentence(version.description),
            "metrics": store.metrics(version.run_id),
            "tags": version.tags,
            "run_url": store.run_url(version.run_id),
        }
        rows.append(row)
    return {"recipe": recipe, "champion": champion, "versions": rows}


def print_versions(recipe: str, store: "Store", versions: list["VersionInfo"], *, has_labels: bool) -> None:
    """Print the newest versions and every one that has an alias; `versions` are sorted from new to old.

    Without labels nobody knows which of the flagged samples are false alarms, and the column says `flagged`.
    """
    from aeops.cli.outputs import NARROW, open_console, open_table

    console = open_console()
    table, shown = open_table(console, f"{recipe}: registered versions"), []
    *metric_titles, alarms_title = (column.title for column in METRIC_COLUMNS)
    metric_titles.append(alarms_title if has_labels else "flagged (requested)")
    for position, name in enumerate(("version", "verdict", *metric_titles, "made (UTC)", "data", "commit")):
        if console.width >= NARROW or name not in ("data", "commit"):
            table.add_column(name)
            shown.append(position)
    champion, champion_metrics, older_count = None, {}, 0
    runs_deleted = []
    for position, version in enumerate(versions):
        if position >= MAX_VERSIONS and not version.aliases:
            older_count += 1
            continue
        metrics = store.metrics(version.run_id)
        if not metrics and not store.has_run(version.run_id):
            runs_deleted.append(version.version)
        if CHAMPION in version.aliases:
            champion, champion_metrics = version, metrics
        cells = version_cells(version, metrics)
        table.add_row(*(cells[position] for position in shown))
    console.print(table)
    if older_count:
        console.print(f"and {older_count} older ones: {store.versions_url(recipe)}", soft_wrap=True)
    if runs_deleted:
        text = ", ".join(runs_deleted)
        console.print(
            f"no metrics of {text}: their MLflow runs were deleted for good, and their evidence with them", soft_wrap=True
        )
    if champion is None:
        console.print(f"champion   none: {missing_champion_reason(store, recipe, versions[0])}", soft_wrap=True)
        return
    for line in champion_lines(recipe, store, champion, champion_metrics):
        console.print(line, soft_wrap=True)


def missing_champion_reason(store: "Store", recipe: str, newest_version: "VersionInfo") -> str:
    """Return why a recipe with versions has no champion, and what to type."""
    from aeops.machine.terminal import escape_line
    from aeops.registry import ledger
    from aeops.registry.version_state import WAITING, describe_state

    entries = ledger.read_content(store.project, recipe).entries
    last_move = ledger.last_move(entries)
    if last_move is not None and last_move.to_version is None:
        retirement = f"{last_move.who} retired version {last_move.version} on {last_move.timestamp:%Y-%m-%d} ({last_move.why})"
        undo = f"; undo: ae rollback {recipe} --why TEXT"
        if ledger.champion_before(entries) is None:
            undo = f"; make a champion: ae run {recipe}"
        return f"{escape_line(retirement)}{undo}"
    if last_move is not None:
        return f"the ledger says version {last_move.to_version}, and the registry has none: ae ledger verify {recipe}"
    state, version = describe_state(recipe, newest_version, entries), newest_version.version
    if state == WAITING:
        return f"version {version} waits for approval: ae approve {recipe} {version} --by NAME --why TEXT"
    return f"the newest version {version} is {escape_line(state)}; why: `ae why {recipe}@{version}`"


def version_cells(version: "VersionInfo", metrics: dict[str, float]) -> "list[str | Text]":
    """Return the cells of a version's row."""
    from aeops.cli.outputs import styled_text

    tags = version.tags
    aliases = [(f" {alias}", "bold") for alias in version.aliases]
    verdict_texts = [tags[name] for name in ("verdict", "approval") if name in tags]
    commit = tags.get("git.commit", "")[:8]
    if tags.get("git.dirty") == "true":
        commit += "+"
    return [
        styled_text(version.version, *aliases),
        ", ".join(verdict_texts),
        *(column.cell(metrics) for column in METRIC_COLUMNS),
        f"{version.created_at:%Y-%m-%d %H:%M}",
        tags.get("data.content_sha256", "")[:8],
        commit,
    ]


def champion_lines(recipe: str, store: "Store", champion: "VersionInfo", metrics: dict[str, float]) -> list[str]:
    """Return the champion's bundle, its verdict, its threshold with the rate of false alarms, its run, and the next commands."""
    from aeops.report.model_card import card_sentence

    lines = [f"champion   {recipe} {champion.version}, bundle {champion.tags.get('bundle_sha256', 'unknown')[:12]}"]
    if sentence := card_sentence(champion.description):
        lines.append(f"verdict    {sentence}")
    if {"false_alarms.threshold", "false_alarms.measured"} <= metrics.keys():
        promise = "no rate of normal samples is promised"
        if "false_alarms.requested" in metrics:
            promise = f"{metrics['false_alarms.requested']:.2%} of normal samples"
        lines.append(
            f"promise    scores above {metrics['false_alarms.threshold']:.4f} are flagged: {promise}; "
            f"measured {metrics['false_alarms.measured']:.2%}"
        )
    run_line = f"run        {store.run_url(champion.run_id)}"
    if not store.is_remote:
        run_line += "  (shown while `ae up` runs)"
    return [*lines, run_line, f"next       ae score {recipe} FILE | ae serve {recipe}"]
