"""`make bench-models`: what every recipe is worth. Each is run in a fresh clone of HEAD, one after another.

    python benchmarks/models.py [--pages-only] [RECIPE ...]

Writes benchmarks/records/models/<recipe>.json, the page docs/recipes/<recipe>.md with its pictures, and the tables over all
recipes in README.md and docs/recipes/README.md. What a recipe has to show stands in benchmarks/targets.yaml. A run that
fails is told, the others go on, and the exit code is 1; a model that the gate refuses is a result. `--pages-only` trains
nothing: it writes pages and tables again from the records, and takes pictures again from a report that is still there.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import yaml

from aeops.errors import GateError, UsageError
from aeops.files import atomic_folder, file_sha256, read_json, write_json
from aeops.machine.entry_point import run_main
from aeops.machine.platform_info import platform_facts
from aeops.project import Project, find_project
from aeops.provenance.last_run import record_file as last_run_file
from aeops.provenance.lineage import git, git_diff
from aeops.report import recipe_page as pages
from aeops.report.targets import Shows, read_targets, unknown_metrics

FOREIGN = ("AE_HOME", "MLFLOW_TRACKING_URI", "PREFECT_API_URL", "PREFECT_HOME", "VIRTUAL_ENV")  # settings a clone must not share
RESULTS = (0, GateError.exit_code)  # exit codes of a run that came to its end
INDEX = """# Every recipe, measured

One page a recipe, written by `make bench-models` from its record in [benchmarks/records](../../benchmarks/records). What each
has to show is set down in [benchmarks/targets.yaml](../../benchmarks/targets.yaml).

{begin}
{end}
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recipes", nargs="*", metavar="RECIPE", help="names of recipes [all of params.yaml]")
    parser.add_argument("--pages-only", action="store_true", help="train nothing; write pages and tables again")
    given = parser.parse_args()
    run_main(lambda: bench(find_project(), given.recipes, given.pages_only))


def bench(project: Project, chosen: list[str], pages_only: bool) -> None:
    """Measures the chosen recipes and writes all that is shown of them; exits with 1 where a run failed."""
    recipes = list(yaml.safe_load((project.root / "params.yaml").read_text(encoding="utf-8"))["recipes"])
    foreign = [name for name in chosen if name not in recipes]
    if foreign:
        raise UsageError(f"no recipe {', '.join(foreign)} in params.yaml; {', '.join(recipes)} allowed")
    targets = read_targets(project.root / "benchmarks" / "targets.yaml", recipes)
    names = chosen or recipes
    if not pages_only and git_diff(project):
        print("the checkout differs from HEAD: it is HEAD that is measured", file=sys.stderr)
    done = [name for name in names if (refreshed if pages_only else measured)(project, name)]
    demand_metrics(project, recipes, targets)
    stale = write_pages(project, done, targets)
    write_tables(project, recipes, targets)
    failed = [] if pages_only and not chosen else [name for name in names if name not in done]
    if failed or stale:
        sys.exit("\n".join([*(f"{name}: not measured; type make bench-models RECIPES={name}" for name in failed), *stale]))


# ---------------------------------------------------------------- measuring


def measured(project: Project, name: str) -> bool:
    """Runs a recipe in a fresh clone and writes its record and pictures; whether the run came to its end."""
    with tempfile.TemporaryDirectory(prefix="ae-models-") as folder:
        clone = Path(folder) / "clone"
        subprocess.run(["git", "clone", "--quiet", str(project.root), str(clone)], check=True)
        print(f"{name}: ae run in {clone}", file=sys.stderr, flush=True)
        started = time.monotonic()
        code = subprocess.run(
            [sys.executable, "-m", "aeops.cli.main", "run", name], cwd=clone, env=clone_environment(project), check=False
        ).returncode
        seconds = time.monotonic() - started
        if code not in RESULTS:
            print(f"{name}: ae run ended with exit code {code} after {seconds:.0f} s", file=sys.stderr, flush=True)
            return False
        there = Project(root=clone, home=clone / ".ae")
        summary = read_json(last_run_file(there, name))["summary"]
        facts = {
            "command": f"make bench-models RECIPES={name}",
            "commit": git(there, "rev-parse", "HEAD"),
            "machine": platform_facts(),
            "recipe_sha256": file_sha256(there.recipe_file(name)),
            "seconds": {"run": round(seconds, 1), "train": round(dict(summary["seconds"])["train"], 1)},
        }
        keep(there.artifacts(name), kept(project, name))
    write_record(project, name, facts, kept(project, name))
    return True


def clone_environment(project: Project) -> dict[str, str]:
    """The environment of a clone: state of its own, and the sources that this checkout finds."""
    environment = {name: value for name, value in os.environ.items() if name not in FOREIGN}
    named = os.environ.get("AE_SOURCES")
    places = [
        *([Path(named).expanduser()] if named else []),
        project.root.parent / "shared" / "data",
        project.home / "sources",  # what earlier runs have fetched
    ]
    found = [place.resolve() for place in places if place.is_dir()]
    return environment | ({"AE_SOURCES": str(found[0])} if found else {})


def kept(project: Project, name: str) -> Path:
    """Where the report of a clone's run stays, so that its page can show other pictures without another training."""
    return project.home / "models" / name


def keep(artifacts: Path, place: Path) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    with atomic_folder(place) as folder:
        shutil.copytree(artifacts / "report", folder / "report")
        shutil.copy(artifacts / "verdict.json", folder)


def write_record(project: Project, name: str, facts: dict[str, Any], artifacts: Path) -> None:
    """The record of a finished run, and the pictures of its report."""
    pictures, left_out = pages.copy_pictures(artifacts / "report", project.root / "docs" / "recipes" / name)
    for why in left_out:
        print(f"{name}: {why}", file=sys.stderr)
    file = pages.record_file(project, name)
    file.parent.mkdir(parents=True, exist_ok=True)
    write_json(file, pages.recipe_record(facts, artifacts, pictures))


def refreshed(project: Project, name: str) -> bool:
    """Takes pictures and findings again from a report that holds what the record does; whether there is a record."""
    file = pages.record_file(project, name)
    if not file.is_file():
        return False
    record = read_json(file)
    for artifacts in (kept(project, name), project.artifacts(name)):
        metrics = artifacts / "report" / "metrics.json"
        if metrics.is_file() and pages.rounded(read_json(metrics)) == record["metrics"]:
            facts = {key: record[key] for key in ("command", "commit", "machine", "recipe_sha256", "seconds")}
            write_record(project, name, facts, artifacts)
            break
    return True


# ---------------------------------------------------------------- what is shown


def demand_metrics(project: Project, recipes: list[str], targets: dict[str, Shows]) -> None:
    """Raises UsageError with every target that names a metric which its recipe's record lacks."""
    records = pages.read_records(project, recipes).items()
    mistakes = [line for name, record in records for line in unknown_metrics(targets[name], record["metrics"], name)]
    if mistakes:
        raise UsageError("\n".join([*mistakes, "mend them, then: python benchmarks/models.py --pages-only"]))


def write_pages(project: Project, names: list[str], targets: dict[str, Shows]) -> list[str]:
    """The page of each of these recipes but those that have changed since they were measured; returns what to do about them."""
    stale = []
    for name, record in pages.read_records(project, names).items():
        if pages.is_stale(project, name, record):
            stale.append(f"{name}: recipes/{name}.yaml has changed since; commit it and type make bench-models RECIPES={name}")
            continue
        text = project.recipe_file(name).read_text(encoding="utf-8")
        write_text(project.root / "docs" / "recipes" / f"{name}.md", pages.recipe_page(name, text, record, targets[name]))
    return stale


def write_tables(project: Project, recipes: list[str], targets: dict[str, Shows]) -> None:
    """The tables over all recipes, in the README and in the index of the pages."""
    records = pages.read_records(project, recipes)
    readme, index = project.root / "README.md", project.root / "docs" / "recipes" / "README.md"
    told = readme.read_text(encoding="utf-8")
    write_text(readme, pages.with_table(told, pages.readme_table(recipes, records, targets), readme.name))
    blank = INDEX.format(begin=pages.BEGIN, end=pages.END)
    write_text(index, pages.with_table(blank, pages.index_table(recipes, records, pages.abouts(project, recipes)), index.name))


def write_text(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    aside = file.with_name(f".{file.name}.aside")
    aside.write_text(text, encoding="utf-8")
    aside.replace(file)


if __name__ == "__main__":
    main()
