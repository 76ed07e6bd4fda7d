"""The steps that read what was scored and decided: predictions, recipes, versions and the ledger, for benchmarks/growth.py."""

import contextlib
import io
import json
import os
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from benchmark_tools import ROOT, mnist_digits
from growth_step import NAME, Step, Work
from served_champion import linear_bundle

from aeops.project import Project, find_project
from aeops.recipe.reader import load_recipe, read_recipe

DAYS, CALL_DAYS = 100, 10  # over which predictions are spread, and small calls
PROMOTED = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=DAYS + 1)


def small_project(root: Path, recipes: int = 1) -> Project:
    """Make a project with copies of the recipe `digits`, without data."""
    (root / "recipes").mkdir(parents=True, exist_ok=True)
    recipe = yaml.safe_load((ROOT / "recipes" / f"{NAME}.yaml").read_text(encoding="utf-8"))
    for name in recipe_names(recipes):
        changed = recipe | {"recipe": name, "data": recipe["data"] | {"dataset": name}}
        (root / "recipes" / f"{name}.yaml").write_text(yaml.safe_dump(changed, sort_keys=False), encoding="utf-8")
    shutil.copy(ROOT / "dvc.yaml", root)
    os.chdir(root)
    return Project(root=root, home=root / ".ae")


def recipe_names(count: int) -> list[str]:
    return [NAME] + [f"line-{number}" for number in range(2, count + 1)]


def write_ledger(project: Project, recipe: str, count: int) -> None:
    """Write so many intact lines: a promotion of version 1, then refusals of later ones, over the days since then."""
    from aeops.registry import ledger

    file, previous = ledger.ledger_file(project, recipe), ledger.FIRST_HASH
    file.parent.mkdir(parents=True, exist_ok=True)
    lines = []
    for number in range(1, count + 1):
        moment = PROMOTED + timedelta(seconds=(number - 1) * DAYS * 86_400 / count)
        is_promotion = number == 1
        content = {
            "time": moment.isoformat(timespec="microseconds"),
            "number": number,
            "account": "growth@benchmark",
            "event": "promotion" if is_promotion else "refusal",
            "recipe": recipe,
            "version": str(number),
            "from": None if is_promotion else "1",
            "to": "1",
            "who": "a benchmark",
            "why": "to be measured",
            "evidence": {"sha256": f"{number:064x}"},
            "previous": previous,
        }
        previous = ledger.entry_hash(content)
        lines.append(ledger.canonical_json(content | {"hash": previous}) + b"\n")
    file.write_bytes(b"".join(lines))


def watched_project(root: Path) -> Project:
    """Make a project whose champion, promoted before the predictions, has its reference at hand."""
    from aeops.bundle.detector import Detector
    from aeops.evaluation.reference import write_reference
    from aeops.files import make_folder
    from aeops.monitoring import paths

    project = small_project(root)
    write_ledger(project, NAME, 1)
    detector = Detector(linear_bundle(root / "bundle"))
    make_folder(paths.monitoring_folder(project, NAME))
    calibration = mnist_digits()[0][:400]
    write_reference(
        paths.reference_file(project, NAME, "1"), read_recipe(ROOT / "recipes/digits.yaml").fit, calibration, detector
    )
    return project


def record_calls(project: Project, calls: int, rows: int, days: int) -> None:
    """Record calls of so many predictions each, spread over so many days."""
    from aeops.bundle.detector import Detector
    from aeops.predictions import prediction_store
    from aeops.predictions.arrow_rows import build_rows
    from aeops.predictions.rows import scorer_of

    detector = Detector(project.root / "bundle")
    digits = mnist_digits()[0][:1000]
    outputs, scorer = detector.score(digits, code=True), scorer_of(NAME, "1", detector)
    for number in range(calls):
        picked = (np.arange(rows) + number * rows) % len(digits)
        moment = PROMOTED + timedelta(days=1 + number * (days - 1) / calls)
        call = f"{number:012x}"
        batch = build_rows(
            scorer,
            call=call,
            channel="service",
            time=moment,
            names=[f"{row}.png" for row in range(rows)],
            samples=digits[picked],
            outputs={name: values[picked] for name, values in outputs.items()},
        )
        prediction_store.write_call(prediction_store.call_file(project, NAME, moment, call), [batch])


def look(project: Project) -> Work:
    """Return a look of monitoring: all signals of the champion."""
    from aeops.monitoring.champion_period import ChampionPeriod
    from aeops.monitoring.check_steps import evaluate_signals

    recipe, period = load_recipe(project, NAME), ChampionPeriod("1", PROMOTED.isoformat(), PROMOTED)

    def run() -> None:
        evaluate_signals(project, recipe, period, datetime.now(UTC))

    return run


def cold_look_step(root: Path, size: int) -> Work:
    project = watched_project(root)
    record_calls(project, DAYS, max(1, size // DAYS), DAYS)
    return look(project)


def next_look_step(root: Path, size: int) -> Work:
    return look(small_project(root))


def cold_calls_step(root: Path, size: int) -> Work:
    project = watched_project(root)
    record_calls(project, size, 1, CALL_DAYS)
    return look(project)


def join_calls_step(root: Path, size: int) -> Work:
    from aeops.predictions.day_files import roll_days

    project = small_project(root)

    def run() -> None:
        roll_days(project, NAME)

    return run


def joined_look_step(root: Path, size: int) -> Work:
    from aeops.monitoring import paths
    from aeops.predictions.day_files import delete_joined_files

    project = small_project(root)
    delete_joined_files(project, NAME)
    paths.counts_file(project, NAME).unlink()
    return look(project)


# ---------------------------------------------------------------- recipes, versions and lines of the ledger


def show_page(project: Project) -> Work:
    """Return the overview and the page of one recipe, rendered, without what a background query asks of MLflow."""
    from aeops.page import view
    from aeops.page.app import template_environment
    from aeops.page.background_query import QueryResult
    from aeops.page.registry_client import find_recipe_names

    stack, templates = view.StackState(QueryResult(), QueryResult(), QueryResult(), QueryResult()), template_environment()

    def run() -> None:
        overview = view.overview_context(project, find_recipe_names(project), stack)
        templates.get_template("overview.html.j2").render(overview)
        templates.get_template("recipe.html.j2").render(view.recipe_context(project, NAME, stack))

    return run


def recipes_page_step(root: Path, size: int) -> Work:
    project = small_project(root / "shown", size)
    for name in recipe_names(size):
        write_ledger(project, name, 10)
    return show_page(project)


def recipes_unchanged_step(root: Path, size: int) -> Work:
    """DVC's answer about one of many recipes."""
    from aeops.data.dvc import dvc
    from aeops.data.listed_recipes import list_recipe
    from aeops.data.new_project import create_project
    from aeops.data.pipeline_files import write_pipeline_files
    from aeops.machine.environment import prepare_environment

    create_project(root / "listed")
    shutil.copytree(root / "shown" / "recipes", root / "listed" / "recipes", dirs_exist_ok=True)
    os.chdir(root / "listed")
    project = find_project(root / "listed")
    for name in recipe_names(size):
        list_recipe(project, load_recipe(project, name))
    write_pipeline_files(project)
    prepare_environment(project)

    def run() -> None:
        dvc(project, "status", "--json", f"train@{NAME}")

    return run


def register_step(root: Path, size: int) -> Work:
    """One version more, beside those that there are."""
    from aeops.registry.store import open_store

    project = small_project(root)
    store = open_store(project)
    bundles = version_bundles(root, size)
    for bundle in bundles:
        register_bundle(store, bundle)
        shutil.rmtree(bundle)
    [newest] = version_bundles(root, 1, first=size)

    def run() -> None:
        register_bundle(store, newest)

    return run


def version_bundles(root: Path, count: int, first: int = 0) -> Iterator[Path]:
    """Yield bundles of the same model, each with a content of its own."""
    from ae_models.checksums import write_checksums

    if not (root / "bundle").is_dir():
        linear_bundle(root / "bundle")
    for number in range(first, first + count):
        folder = root / f"bundle-{number}"
        shutil.copytree(root / "bundle", folder)
        document = json.loads((folder / "bundle.json").read_text(encoding="utf-8"))
        (folder / "bundle.json").write_text(json.dumps(document | {"number": number}), encoding="utf-8")
        write_checksums(folder)
        yield folder


def register_bundle(store: Any, bundle: Path) -> None:
    run = store.start_run(NAME, {}, {}, {"dataset": NAME, "content_sha256": "c" * 64})
    store.register(run, NAME, bundle, {"verdict": "accepted"}, "# digits")


def registry_page_step(root: Path, size: int) -> Work:
    """What the page asks of MLflow about a recipe."""
    from aeops.page.ask_registry import RegistryReader

    reader = RegistryReader(small_project(root))

    def run() -> None:
        reader.snapshot([NAME])

    return run


def history_step(root: Path, size: int) -> Work:
    from aeops.cli.main import main

    write_ledger(small_project(root), NAME, size)

    def run() -> None:
        with contextlib.redirect_stdout(io.StringIO()):
            main(["history", NAME])

    return run


def append_step(root: Path, size: int) -> Work:
    """One decision more."""
    from aeops.registry import ledger

    project = small_project(root)
    decision = ledger.Decision("refusal", NAME, "2", who="a benchmark", why="one more", evidence={"sha256": "e" * 64})

    def run() -> None:
        ledger.append_entry(project, decision)

    return run


def ledger_page_step(root: Path, size: int) -> Work:
    return show_page(small_project(root))


RECORD_STEPS = (
    Step("predictions", "look, nothing counted", 1, cold_look_step),
    Step("predictions", "look, nothing new", 0, next_look_step),
    Step("calls", "look, nothing counted", 1, cold_calls_step),
    Step("calls", "join days", 1, join_calls_step),
    Step("calls", "look at joined days", 1, joined_look_step),
    Step("recipes", "page", 1, recipes_page_step),
    Step("recipes", "nothing changed", 0, recipes_unchanged_step),
    Step("versions", "register", 0, register_step),
    Step("versions", "page's registry", 0, registry_page_step),
    Step("ledger lines", "ae history", 1, history_step),
    Step("ledger lines", "append", 1, append_step),
    Step("ledger lines", "page", 1, ledger_page_step),
)
