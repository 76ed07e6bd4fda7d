"""`ae score RECIPE FILE`: scores samples with a registered version, records each prediction, and prints a table."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    from aeops.project import Project
    from aeops.serving.detector import Detector
    from aeops.serving.read_samples import Samples

ROWS = 40  # of the table; all flagged samples come first, so the rest can be left out


def add(verbs: Any) -> None:
    verb = verbs.add_parser("score", help="score a .npy file, an image, a folder of images or a .txt file")
    verb.add_argument("recipe", help="name of a file in recipes/, such as digits")
    verb.add_argument("file", type=Path, help=".npy (one sample or a batch), .png, .jpg, a folder of images, .txt")
    verb.add_argument("--version", default="champion", help="a version or an alias (default: champion)")
    verb.add_argument("--json", action="store_true", help="print every sample as JSON, nothing else")
    verb.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Prints score, p-value and flag of each sample."""
    from aeops.project import find_project
    from aeops.recipe import load_recipe
    from aeops.registry.store import open_store
    from aeops.serving.detector import Detector
    from aeops.serving.read_texts import samples_of
    from aeops.serving.trusted import trusted_bundle

    project = find_project()
    recipe = load_recipe(project, arguments.recipe, with_keys=True)
    store = open_store(project)
    version = store.version(arguments.recipe, arguments.version).version
    detector = Detector(trusted_bundle(project, store, recipe, version))
    samples = samples_of(arguments.file, detector)
    scored = detector.score(samples.values)
    ids = recorded(project, arguments.recipe, version, detector, samples, scored)
    if arguments.json:
        print(as_json(arguments.recipe, version, detector, samples, scored, ids))
    else:
        print_table(f"{arguments.recipe} {version}", detector, samples, scored, ids)
    return 0


def recorded(
    project: "Project", recipe: str, version: str, detector: "Detector", samples: "Samples", scored: dict[str, "np.ndarray"]
) -> list[str]:
    """Records the predictions; returns their ids."""
    from aeops import predictions

    batch = samples.values if detector.kind == "text" else samples.values.reshape(len(samples.names), *detector.shape)
    return predictions.record(
        project,
        recipe=recipe,
        version=version,
        bundle_sha256=detector.sha256,
        threshold=detector.bundle["threshold"]["value"],
        names=samples.names,
        samples=batch,
        scored=scored,
    )


def as_json(
    recipe: str, version: str, detector: "Detector", samples: "Samples", scored: dict[str, "np.ndarray"], ids: list[str]
) -> str:
    import json

    from aeops.serving.answers import answers

    told = zip(ids, samples.names, answers(scored), strict=True)
    rows = [{"id": known, "sample": name} | answer for known, name, answer in told]
    found = {"recipe": recipe, "version": version, "bundle_sha256": detector.sha256}
    return json.dumps(found | {"threshold": detector.bundle["threshold"]["value"], "samples": rows}, indent=2)


def print_table(title: str, detector: "Detector", samples: "Samples", scored: dict[str, "np.ndarray"], ids: list[str]) -> None:
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


def closing_line(detector: "Detector", samples: "Samples", flagged: int) -> str:
    threshold = detector.bundle["threshold"]
    count = len(samples.names)
    line = (
        f"{count} sample{'s' * (count != 1)}, {flagged} flagged; the threshold {threshold['value']:.4f} "
        f"flags {threshold['false_alarm_rate']:.2%} of normal samples"
    )
    return line + (f"; {samples.passed_over} files of the folder are no images" if samples.passed_over else "")
