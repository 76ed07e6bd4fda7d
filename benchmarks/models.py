"""`make bench-models`: what every recipe is worth. Each is run in a fresh clone of HEAD, one after another.

    python benchmarks/models.py [--pages-only] [--seeds COUNT] [RECIPE ...]

Writes benchmarks/records/models/<recipe>.json, the record of seeds recipes/seeds/<recipe>.json, the page docs/recipes/<recipe>.md
with its pictures, and the tables over all recipes in README.md and docs/recipes/README.md. The targets of a recipe are in
benchmarks/targets.yaml. A run that fails is reported, the others go on, and the exit code is 1; a model that the gate refuses is
a result. `--pages-only` trains nothing: it writes pages and tables from the records, and copies the pictures of a report that is
still there.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import yaml
from benchmark_tools import clean_environment, clone_head

from aeops.errors import GateError, UsageError
from aeops.files import atomic_folder, write_json
from aeops.machine.entry_point import run_main
from aeops.machine.git import git_text
from aeops.machine.platform_info import platform_facts
from aeops.machine.stored_json import read_json
from aeops.project import Project, find_project
from aeops.provenance.last_run import last_run_file
from aeops.provenance.lineage import git_diff
from aeops.report import recipe_page as pages
from aeops.report.targets import RecipeTargets, read_targets, unknown_metrics

SEED_COUNT = 5  # trainings of which a figure of a recipe is the mean
COMPLETED = (0, GateError.exit_code)  # exit codes of a run that came to its end
INDEX = """# Every recipe, measured

One page a recipe, written by `make bench-models` from its record in [benchmarks/records](../../benchmarks/records). What each
has to show is set down in [benchmarks/targets.yaml](../../benchmarks/targets.yaml).

{begin}
{end}
"""


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recipes", nargs="*", metavar="RECIPE", help="names of recipes [all of targets.yaml]")
    parser.add_argument("--pages-only", action="store_true", help="train nothing; write pages and tables again")
    seeds_help = "trainings of each recipe, whose mean and interval decide its targets; 1: the run's own alone [%(default)s]"
    parser.add_argument("--seeds", type=int, default=SEED_COUNT, metavar="COUNT", help=seeds_help)
    args = parser.parse_args(arguments)
    if args.seeds < 1:
        parser.error(f"--seeds: expected 1 or more, got {args.seeds}")
    run_main(lambda: bench(find_project(), args.recipes, args.pages_only, args.seeds))


def bench(project: Project, chosen: list[str], pages_only: bool, seed_count: int) -> None:
    """Measure the chosen recipes and write their pages and the tables; exit with 1 if a run failed."""
    recipes = measured_recipes(project)
    unknown = [name for name in chosen if name not in recipes]
    if unknown:
        raise UsageError(f"no recipe {', '.join(unknown)} in benchmarks/targets.yaml; expected some of {', '.join(recipes)}")
    targets = read_targets(project.root / "benchmarks" / "targets.yaml", recipes)
    names = chosen or recipes
    if not pages_only and git_diff(project):
        print("the checkout differs from HEAD: HEAD is measured", file=sys.stderr)
    process = refresh if pages_only else partial(measure, seed_count=seed_count)
    done = [name for name in names if process(project, name)]
    check_target_metrics(project, recipes, targets)
    stale = write_pages(project, done, targets)
    write_tables(project, recipes, targets)
    failed = [] if pages_only and not chosen else [name for name in names if name not in done]
    if failed or stale:
        messages = [f"{name}: not measured; type make bench-models RECIPES={name}" for name in failed]
        sys.exit("\n".join([*messages, *stale]))


def measured_recipes(project: Project) -> list[str]:
    """Return the recipes that have targets, in the order of that file."""
    targets = yaml.safe_load((project.root / "benchmarks" / "targets.yaml").read_text(encoding="utf-8"))
    return [name for name in targets if project.recipe_file(name).is_file()]


# ---------------------------------------------------------------- measuring


def measure(project: Project, name: str, seed_count: int) -> bool:
    """Run a recipe in a fresh clone and write its records and pictures; return if the run came to its end.

    Args:
        project: the checkout.
        name: of the recipe.
        seed_count: trainings for the record of seeds; 1 for no such record.
    """
    with tempfile.TemporaryDirectory(prefix="ae-models-") as folder:
        clone = Path(folder) / "clone"
        clone_head(project, clone)
        print(f"{name}: ae run in {clone}", file=sys.stderr, flush=True)
        started_at = time.monotonic()
        command = [sys.executable, "-m", "aeops.cli.main", "run", name]
        code = subprocess.run(command, cwd=clone, env=clone_environment(project), check=False).returncode
        seconds = time.monotonic() - started_at
        if code not in COMPLETED:
            print(f"{name}: ae run ended with exit code {code} after {seconds:.0f} s", file=sys.stderr, flush=True)
            return False
        clone_project = Project(root=clone, home=clone / ".ae")
        summary = read_json(last_run_file(clone_project, name))["summary"]
        facts = {
            "command": f"make bench-models RECIPES={name}",
            "commit": git_text(clone_project.root, "rev-parse", "HEAD"),
            "machine": platform_facts(),
            "settings_sha256": pages.settings_sha256(clone_project.recipe_file(name)),
            "seconds": {"run": round(seconds, 1), "train": round(dict(summary["seconds"])["train"], 1)},
        }
        if seed_count > 1 and not measure_seeds(project, clone_project, name, seed_count):
            return False
        keep_report(clone_project.artifacts(name), kept_report(project, name))
    write_record(project, name, facts, kept_report(project, name))
    return True


def measure_seeds(project: Project, clone_project: Project, name: str, seed_count: int) -> bool:
    """Train a recipe with several seeds in the clone where it has run, and copy the record; return if that came to its end."""
    command = [sys.executable, "-m", "aeops.cli.main", "seeds", name, "-n", str(seed_count)]
    code = subprocess.run(command, cwd=clone_project.root, env=clone_environment(project), check=False).returncode
    if code:
        print(f"{name}: ae seeds ended with exit code {code}", file=sys.stderr, flush=True)
        return False
    project.seed_record(name).parent.mkdir(exist_ok=True)
    shutil.copy(clone_project.seed_record(name), project.seed_record(name))
    return True


def clone_environment(project: Project) -> dict[str, str]:
    """Return the environment of a clone: state of its own, and the sources that this checkout finds."""
    named = os.environ.get("AE_SOURCES")
    candidates = [project.root.parent / "shared" / "data", project.home / "sources"]  # the last: downloads of earlier runs
    if named:
        candidates.insert(0, Path(named).expanduser())
    for folder in candidates:
        if folder.is_dir():
            return clean_environment(AE_SOURCES=str(folder.resolve()))
    return clean_environment()


def kept_report(project: Project, name: str) -> Path:
    """Return the folder that keeps the report of a clone's run: its page can show other pictures without another training."""
    return project.home / "models" / name


def keep_report(artifacts: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with atomic_folder(target) as folder:
        shutil.copytree(artifacts / "report", folder / "report")
        shutil.copy(artifacts / "verdict.json", folder)


def write_record(project: Project, name: str, facts: dict[str, Any], artifacts: Path) -> None:
    """Write the record of a finished run, and copy the pictures of its report."""
    pictures, left_out = pages.copy_pictures(artifacts / "report", project.root / "docs" / "recipes" / name)
    for reason in left_out:
        print(f"{name}: {reason}", file=sys.stderr)
    file = pages.recipe_record_file(project, name)
    file.parent.mkdir(parents=True, exist_ok=True)
    write_json(file, pages.recipe_record(facts, artifacts, pictures))


def refresh(project: Project, name: str) -> bool:
    """Copy pictures and results again from a report with the metrics of the record; return if there is a record."""
    file = pages.recipe_record_file(project, name)
    if not file.is_file():
        return False
    record = read_json(file)
    for artifacts in (kept_report(project, name), project.artifacts(name)):
        metrics = artifacts / "report" / "metrics.json"
        if metrics.is_file() and pages.round_numbers(read_json(metrics)) == record["metrics"]:
            facts = {key: record[key] for key in ("command", "commit", "machine", "settings_sha256", "seconds")}
            write_record(project, name, facts, artifacts)
            break
    return True


# ---------------------------------------------------------------- pages and tables


def check_target_metrics(project: Project, recipes: list[str], targets: dict[str, RecipeTargets]) -> None:
    """Check that every metric of a target is in its recipe's record.

    Raises:
        UsageError: with each one that is not.
    """
    mistakes = []
    for name, record in pages.read_records(project, recipes).items():
        mistakes += unknown_metrics(targets[name], record["metrics"], name)
    if mistakes:
        raise UsageError("\n".join([*mistakes, "correct them, then type: python benchmarks/models.py --pages-only"]))


def write_pages(project: Project, names: list[str], targets: dict[str, RecipeTargets]) -> list[str]:
    """Write the pages of recipes; return a message for each that has changed since it was measured, which gets no page."""
    stale = []
    for name, record in pages.read_records(project, names).items():
        if pages.is_stale(project, name, record):
            stale.append(f"{name}: recipes/{name}.yaml has changed since; commit it and type make bench-models RECIPES={name}")
            continue
        text = project.recipe_file(name).read_text(encoding="utf-8")
        write_text(project.root / "docs" / "recipes" / f"{name}.md", pages.recipe_page(name, text, record, targets[name]))
    return stale


def write_tables(project: Project, recipes: list[str], targets: dict[str, RecipeTargets]) -> None:
    """Write the tables over all recipes, in the README and in the index of the pages."""
    records = pages.read_records(project, recipes)
    readme, index = project.root / "README.md", project.root / "docs" / "recipes" / "README.md"
    text = readme.read_text(encoding="utf-8")
    write_text(readme, pages.with_table(text, pages.readme_table(recipes, records, targets), readme.name))
    blank = INDEX.format(begin=pages.TABLE_BEGIN, end=pages.TABLE_END)
    write_text(
        index,
        pages.with_table(blank, pages.index_table(recipes, records, pages.recipe_descriptions(project, recipes)), index.name),
    )


def write_text(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    aside = file.with_name(f".{file.name}.aside")
    aside.write_text(text, encoding="utf-8")
    aside.replace(file)


if __name__ == "__main__":
    main()
