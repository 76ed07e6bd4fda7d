"""`ae score RECIPE FILE`: scores samples with a registered version, records each prediction, and prints a table.

`ae score RECIPE --inbox` does the work of the flow `scoring` in this process, without Prefect.
"""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aeops.registry.aliases import CHAMPION

if TYPE_CHECKING:
    import numpy as np

    from aeops.bundle.detector import Detector
    from aeops.kinds.samples import FileSamples
    from aeops.project import Project
    from aeops.scoring.run_summary import InboxSummary

ROWS = 40  # of the table; all flagged samples come first, so the rest can be left out


def add_command(commands: Any) -> None:
    """Add `ae score` to the commands of the parser."""
    command = commands.add_parser("score", help="score a .npy file, an image, a folder of images, a .txt file, or the recipe's inbox")
    command.add_argument("recipe", help="name of a file in recipes/, such as digits")
    command.add_argument("file", type=Path, nargs="?", help=".npy (one sample or a batch), .png, .jpg, a folder of images, .txt")
    command.add_argument("--inbox", action="store_true", help="score what is new in the recipe's inbox instead, by the champion")
    command.add_argument("--version", default=CHAMPION, help="a version or an alias (default: champion)")
    command.add_argument("--json", action="store_true", help="print every sample as JSON, nothing else")
    command.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Prints score, p-value and flag of each sample; of an inbox, what was done with its files."""
    from aeops.errors import UsageError

    if arguments.inbox == (arguments.file is not None):
        raise UsageError("either a FILE or --inbox is allowed: `ae score RECIPE FILE`, or `ae score RECIPE --inbox`")
    if arguments.inbox:
        return run_inbox(arguments)
    return run_file(arguments)


def run_inbox(arguments: argparse.Namespace) -> int:
    """Scores what is new in the inbox; returns 0 also where there is no champion, which is a result."""
    from aeops.errors import UsageError
    from aeops.machine.environment import prepare_environment
    from aeops.project import find_project
    from aeops.recipe.reader import load_recipe
    from aeops.scoring.inbox_run import score_inbox

    if arguments.version != CHAMPION:
        raise UsageError(f"--version {arguments.version} given with --inbox, which the champion alone scores: leave it out")
    project = find_project()
    recipe = load_recipe(project, arguments.recipe, with_keys=True)
    prepare_environment(project)
    summary = score_inbox(project, recipe)
    if arguments.json:
        import json

        print(json.dumps(summary, indent=2))
    else:
        print_inbox(summary)
    return 0


def print_inbox(summary: "InboxSummary") -> None:
    """What was done with each file, and where to look."""
    from rich.console import Console

    console = Console(highlight=False, soft_wrap=True)
    files = summary["files"]
    lines = [
        *((one["name"], f"{one['samples']:,} samples, {one['flagged']:,} flagged ({one['call']})") for one in files["taken"]),
        *((one["name"], f"refused: {one['reason']}") for one in files["refused"]),
        *files["copies"].items(),
        *files["left"].items(),
    ]
    for name, what in lines[:ROWS]:
        console.print(f"{name}: {what}", markup=False)
    if len(lines) > ROWS:
        console.print(f"and {len(lines) - ROWS} more files")
    console.print(f"{summary['says']}", markup=False)
    console.print(f"inbox      {summary['inbox']}", markup=False)
    if summary["page"]:
        console.print(f"page       {summary['page']}", markup=False)


def run_file(arguments: argparse.Namespace) -> int:
    from aeops.bundle.detector import Detector
    from aeops.project import find_project
    from aeops.recipe.reader import load_recipe
    from aeops.registry.store import open_store
    from aeops.registry.trust import trusted_bundle

    project = find_project()
    recipe = load_recipe(project, arguments.recipe, with_keys=True)
    store = open_store(project)
    version = store.version(arguments.recipe, arguments.version).version
    detector = Detector(trusted_bundle(project, store, recipe, version))
    samples = detector.read_file(arguments.file)
    scored = detector.score(samples.values, code=True)
    ids = recorded(project, arguments.recipe, version, detector, samples, scored)
    if arguments.json:
        print(as_json(arguments.recipe, version, detector, samples, scored, ids))
    else:
        print_table(f"{arguments.recipe} {version}", detector, samples, scored, ids)
    return 0


def recorded(
    project: "Project", recipe: str, version: str, detector: "Detector", samples: "FileSamples", scored: dict[str, "np.ndarray"]
) -> list[str]:
    """Records the predictions; returns their ids."""
    from aeops.predictions import prediction_store
    from aeops.predictions.rows import scorer_of
    from aeops.recipe.monitoring import HAND

    batch = detector.data_kind.stored_form(samples.values, detector.spec, is_json=False)
    scorer = scorer_of(recipe, version, detector)
    return prediction_store.record(project, scorer, channel=HAND, names=samples.names, samples=batch, scored=scored)


def as_json(
    recipe: str, version: str, detector: "Detector", samples: "FileSamples", scored: dict[str, "np.ndarray"], ids: list[str]
) -> str:
    import json

    from aeops.bundle.answers import answers

    shown = {name: values for name, values in scored.items() if name != "code"}
    told = zip(ids, samples.names, answers(shown), strict=True)
    rows = [{"id": known, "sample": name} | answer for known, name, answer in told]
    found = {"recipe": recipe, "version": version, "bundle_sha256": detector.sha256}
    return json.dumps(found | {"threshold": detector.bundle["threshold"]["value"], "samples": rows}, indent=2)


def print_table(
    title: str, detector: "Detector", samples: "FileSamples", scored: dict[str, "np.ndarray"], ids: list[str]
) -> None:
    """The samples in their order; of many, those with the highest scores."""
    import numpy as np
    from rich.console import Console
    from rich.table import Table

    count = len(samples.names)
    shown = np.arange(count) if count <= ROWS else np.argsort(-scored["score"], kind="stable")[:ROWS]
    table = Table(title=title if count <= ROWS else f"{title}: the {ROWS} highest scores of {count}", title_justify="left")
    table.add_column("sample")
    for name in ("score", "p-value", "anomaly?"):
        table.add_column(name, justify="right")
    table.add_column("prediction", no_wrap=True)
    for place in shown:
        flag = "[bold red]yes[/]" if scored["is_anomaly"][place] else "no"
        table.add_row(samples.names[place], f"{scored['score'][place]:.4f}", f"{scored['p_value'][place]:.4f}", flag, ids[place])
    console = Console(highlight=False)
    console.print(table)
    console.print(closing_line(detector, samples, int(scored["is_anomaly"].sum())))
    console.print(f"what stands behind a prediction: ae why {ids[shown[0]]}")


def closing_line(detector: "Detector", samples: "FileSamples", flagged: int) -> str:
    threshold = detector.bundle["threshold"]
    count = len(samples.names)
    line = (
        f"{count} sample{'s' * (count != 1)}, {flagged} flagged; the threshold {threshold['value']:.4f} "
        f"flags {threshold['false_alarm_rate']:.2%} of normal samples"
    )
    return line + (f"; {samples.skipped} files of the folder are no images" if samples.skipped else "")
