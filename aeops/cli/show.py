"""`ae show RECIPE`: the registered versions, newest first, with what was measured when they were made."""

import argparse
from typing import TYPE_CHECKING, Any

from aeops.registry.aliases import CHAMPION

if TYPE_CHECKING:
    from aeops.registry.store import Store
    from aeops.registry.versions import VersionInfo

# Column: the metric of the model, and those of the baselines beside it, as dotted paths into metrics.json.
MEASURED = {
    "MSE (PCA)": ("reconstruction.model.mse", "reconstruction.pca.mse"),
    "AUROC (PCA, kNN)": ("detection.model.auroc", "detection.pca_residual.auroc", "detection.knn.auroc"),
    "false alarms (asked)": ("false_alarms.measured", "false_alarms.requested"),
}
SHOWN = 20  # versions; each costs a question to MLflow
FORMS = {"MSE (PCA)": ".5f", "AUROC (PCA, kNN)": ".3f", "false alarms (asked)": ".2%"}


def add_command(commands: Any) -> None:
    """Add `ae show` to the commands of the parser."""
    command = commands.add_parser("show", help="show a recipe's versions, aliases and metrics")
    command.add_argument("recipe", help="name of a file in recipes/, such as digits")
    command.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Prints the versions, the champion's promise, and where to look further."""
    from aeops.errors import UsageError
    from aeops.project import find_project
    from aeops.recipe.reader import load_recipe
    from aeops.registry.store import open_store

    project = find_project()
    load_recipe(project, arguments.recipe)
    store = open_store(project)
    versions = store.versions(arguments.recipe)
    if not versions:
        raise UsageError(
            f"no version of {arguments.recipe} is registered in {store.uri}: make one with `ae run {arguments.recipe}`"
        )
    print_versions(arguments.recipe, store, versions)
    return 0


def print_versions(recipe: str, store: "Store", versions: list["VersionInfo"]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"{recipe}: registered versions", title_justify="left")
    for name in ("version", "verdict", *MEASURED, "data", "commit", "made (UTC)"):
        table.add_column(name)
    champion = next((version for version in versions if CHAMPION in version.aliases), None)
    shown = versions[:SHOWN] + [version for version in versions[SHOWN:] if version.aliases]
    measured = {version.version: store.metrics(version.run_id) for version in shown}
    for version in shown:
        table.add_row(*row(version, measured[version.version]))
    console = Console(highlight=False)
    console.print(table)
    if len(versions) > len(shown):
        console.print(f"and {len(versions) - len(shown)} older ones: {store.versions_url(recipe)}", soft_wrap=True)
    for line in closing_lines(recipe, store, versions[0], champion, measured):
        console.print(line, soft_wrap=True)


def row(version: "VersionInfo", metrics: dict[str, float]) -> list[str]:
    tags = version.tags
    commit = tags.get("git.commit", "")[:8] + ("+" if tags.get("git.dirty") == "true" else "")
    return [
        " ".join([version.version, *(f"[bold]{alias}[/]" for alias in version.aliases)]),
        ", ".join(tags[name] for name in ("verdict", "approval") if name in tags),
        *(measured_cell(metrics, paths, FORMS[name]) for name, paths in MEASURED.items()),
        tags.get("data.content_sha256", "")[:8],
        commit,
        f"{version.created_at:%Y-%m-%d %H:%M}",
    ]


def measured_cell(metrics: dict[str, float], paths: tuple[str, ...], form: str) -> str:
    """`own (baseline, ...)`, with a dash for what was not measured."""
    own, *beside = (f"{metrics[path]:{form}}" if path in metrics else "-" for path in paths)
    return f"{own} ({', '.join(beside)})"


def closing_lines(
    recipe: str, store: "Store", newest: "VersionInfo", champion: "VersionInfo | None", measured: dict[str, dict[str, float]]
) -> list[str]:
    if champion is None:
        return [f"champion   none: no version passed its gate; see {store.run_url(newest.run_id)}"]
    metrics = measured[champion.version]
    lines = [f"champion   {recipe} {champion.version}, bundle {champion.tags['bundle_sha256'][:12]}"]
    if {"false_alarms.threshold", "false_alarms.requested", "false_alarms.measured"} <= metrics.keys():
        lines.append(
            f"promise    scores above {metrics['false_alarms.threshold']:.4f} are flagged: "
            f"{metrics['false_alarms.requested']:.2%} of normal samples; measured {metrics['false_alarms.measured']:.2%}"
        )
    lines.append(f"run        {store.run_url(champion.run_id)}" + ("" if store.is_remote else "  (shown while `ae up` runs)"))
    return [*lines, f"next       ae score {recipe} FILE | ae serve {recipe}"]
