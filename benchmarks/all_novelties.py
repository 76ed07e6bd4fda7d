"""How well is each digit flagged as the novelty? `python benchmarks/all_novelties.py` writes benchmarks/records/novelties.json.

Each of the ten digits in turn is the novelty of recipes/digits.yaml, which otherwise stays as it is, and each is trained with
several seeds, calibrated and evaluated on the test samples by the stages of a run. The baselines are those of the evaluation,
with the preprocessing and the calibration of the model. Needs the accepted data: `ae run digits` first.

Ten digits with five seeds take an hour and more. Whatever has been measured is kept in .ae/novelties and is not measured again:
a run may be stopped at any time, or asked for some digits alone, beside which the record keeps those that are measured already.
The README quotes the record (`--docs-only`: writes it there).
"""

import argparse
import statistics
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from benchmark_tools import RECORDS, ROOT, measurement_facts, replace_section, save_record

from aeops.drawing.words import format_share
from aeops.errors import UsageError
from aeops.files import atomic_write, make_folder
from aeops.gate.flattening import flatten_numbers
from aeops.gate.seed_summary import summarize_values
from aeops.machine.child_process import run_module
from aeops.machine.environment import prepare_environment
from aeops.machine.lock import run_lock
from aeops.machine.stored_json import read_json
from aeops.project import Project, find_project
from aeops.recipe.reader import load_recipe, read_unchanged
from aeops.report.model_card import markdown_table
from aeops.seeds.seed_runs import SeedRun, choose_seeds, load_result, measure_run, plan_seed_runs

RECORD, DOCS = RECORDS / "novelties.json", ROOT / "README.md"
BEGIN, END = "<!-- novelties: written by `python benchmarks/all_novelties.py` -->", "<!-- novelties: end -->"
MODEL_CAUGHT, MODEL_ALARMS = "novelty_flagged", "false_alarms.measured"  # metrics of the model at its own threshold
PREFIX, SUFFIX = "detection.", ".auroc"  # of the paths of each detector's AUROC

DigitMetrics = dict[str, list[float]]  # path of a metric -> its value with each seed


# ---------------------------------------------------------------- measuring


def measure_digits(project: Project, recipe_name: str, digits: Sequence[int], seeds: list[int]) -> dict[int, DigitMetrics]:
    """Return the metrics of each digit as the novelty, measured as far as that is not done, and of others that are measured.

    Raises:
        UsageError: the recipe's data has not been accepted yet, or a digit is none of its labels.
    """
    recipe = load_recipe(project, recipe_name)
    unknown_digits = [digit for digit in digits if digit not in recipe.data.labels]
    if unknown_digits:
        labels = ", ".join(map(str, recipe.data.labels))
        raise UsageError(f"--digits: expected some of {labels}, the labels of {recipe_name}, got {unknown_digits[0]}")
    dataset = project.dataset(recipe.data.dataset)
    if not (dataset / "receipt.json").is_file():
        raise UsageError(f"{recipe_name} has no accepted data in {dataset}: type `ae run {recipe_name}` first")
    content_sha256 = str(read_json(dataset / "receipt.json", "content_sha256")["content_sha256"])
    raw_recipe, folder, metrics = read_unchanged(project, recipe), project.home / "novelties" / recipe_name, {}
    for digit in recipe.data.labels:
        with_novelty = {**raw_recipe, "data": {**raw_recipe["data"], "novelty": [digit]}}
        runs = plan_seed_runs(project, with_novelty, content_sha256, folder, seeds)
        if digit not in digits and not all((run.results / "metrics.json").is_file() for run in runs):
            continue
        metrics[digit] = measure_digit(project, dataset, folder / f"digit-{digit}", runs)
        print(f"digit {digit}: {describe_digit(metrics[digit])}", flush=True)
    return metrics


def measure_digit(project: Project, dataset: Path, folder: Path, runs: list[SeedRun]) -> DigitMetrics:
    """Return the metrics of one digit with each seed; its samples are prepared where a seed is left to measure."""
    results = []
    for run in runs:
        result = load_result(run)
        if result is None:
            prepared = prepare_samples(project, dataset, folder, run)
            result = measure_run(project, run, prepared)
        results.append(flatten_numbers(result.metrics))
    return {path: [result[path] for result in results] for path in measured_paths(results)}


def prepare_samples(project: Project, dataset: Path, folder: Path, run: SeedRun) -> Path:
    """Run the stage prepare with the novelty of `run`; return its folder."""
    recipe_file, prepared = folder / "recipes" / f"{run.recipe_name}.yaml", folder / "prepared"
    make_folder(recipe_file.parent)
    atomic_write(recipe_file, yaml.safe_dump(dict(run.raw_recipe), sort_keys=False))
    arguments = ["--recipe", str(recipe_file), "--dataset", str(dataset), "--out", str(prepared)]
    log = project.logs / "novelties-prepare.log"
    run_module(["aeops.stages.prepare", *arguments], root=project.root, home=project.home, log=log)
    return prepared


def measured_paths(results: list[dict[str, float]]) -> list[str]:
    """Return the paths of the metrics about detection that every seed has."""
    paths = [path for path in results[0] if path.startswith(PREFIX) or path in (MODEL_CAUGHT, MODEL_ALARMS)]
    return [path for path in paths if all(path in result for result in results)]


def describe_digit(metrics: DigitMetrics) -> str:
    return ", ".join(f"{name} {statistics.mean(metrics[path]):.3f}" for name, path in detector_paths(metrics).items())


# ---------------------------------------------------------------- the record and its table


def detector_paths(metrics: Mapping[str, Any]) -> dict[str, str]:
    """Return the path of each detector's AUROC by the detector's name, the model's first."""
    paths = {}
    for path in metrics:
        name = path.removeprefix(PREFIX).removesuffix(SUFFIX)
        if path == f"{PREFIX}{name}{SUFFIX}":
            paths[name] = path
    return paths


def build_record(metrics: Mapping[int, DigitMetrics], seeds: list[int]) -> dict[str, Any]:
    """Return the content of the record: each digit's metrics over seeds, and the mean over digits with each seed."""
    common_paths = set.intersection(*(set(digit_metrics) for digit_metrics in metrics.values()))
    mean_over_digits = {}
    for path in next(iter(metrics.values())):
        if path in common_paths:
            columns = zip(*(digit_metrics[path] for digit_metrics in metrics.values()), strict=True)
            mean_over_digits[path] = summarize_values([statistics.mean(column) for column in columns])
    digits = {}
    for digit, digit_metrics in metrics.items():
        digits[str(digit)] = {path: summarize_values(values) for path, values in digit_metrics.items()}
    return {"seeds": seeds, "digits": digits, "mean": mean_over_digits}


def summarize(record: Mapping[str, Any] | None) -> str:
    """Return the section of the README."""
    if record is None:
        return "Not measured yet: `python benchmarks/all_novelties.py` measures it."
    detectors = detector_paths(record["mean"])
    head = ["novelty", *(f"AUROC {name.replace('_', ' ')}" for name in detectors), "caught", "false alarms"]
    rows = [table_row(digit, summaries, detectors) for digit, summaries in record["digits"].items()]
    rows.append(table_row(f"mean of {len(rows)}", record["mean"], detectors))
    note = f"Mean and standard deviation over {len(record['seeds'])} seeds; shares are those of the model at its threshold."
    return f"{markdown_table(head, rows)}\n\n{note}"


def table_row(title: str, summaries: Mapping[str, Any], detectors: Mapping[str, str]) -> list[str]:
    cells = [title]
    for path in detectors.values():
        summary = summaries[path]
        cells.append(f"{summary['mean']:.3f} ± {summary['sd']:.3f}" if summary["sd"] else f"{summary['mean']:.3f}")
    for path in (MODEL_CAUGHT, MODEL_ALARMS):
        cells.append(f"{format_share(summaries[path]['mean'])} ± {format_share(summaries[path]['sd'])}")
    return cells


def update_page(text: str, record: Mapping[str, Any] | None) -> str:
    """Return the README with the section that quotes the record."""
    return replace_section(text, BEGIN, END, summarize(record), DOCS.name)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="How well each digit is flagged as the novelty.")
    parser.add_argument("--recipe", default="digits", help="whose data.novelty each label takes in turn [%(default)s]")
    parser.add_argument("--digits", type=int, nargs="+", default=list(range(10)), metavar="DIGIT", help="novelties [all ten]")
    parser.add_argument("--seeds", type=int, default=5, help="trainings of each, 2 or more [%(default)s]")
    parser.add_argument("--out", type=Path, default=RECORD, help="JSON to write; the README quotes the default [%(default)s]")
    parser.add_argument("--docs-only", action="store_true", help="only write the README, from the record")
    args = parser.parse_args(arguments)
    if not args.docs_only:
        project = find_project()
        seeds = choose_seeds(load_recipe(project, args.recipe), args.seeds, first_seed=0)
        prepare_environment(project)
        with run_lock(project, "benchmarks/all_novelties.py"):
            metrics = measure_digits(project, args.recipe, args.digits, seeds)
        facts = measurement_facts(project, f"python benchmarks/all_novelties.py {' '.join(arguments or sys.argv[1:])}".strip())
        save_record(args.out, facts | build_record(metrics, seeds))
    if args.out == RECORD:
        record = read_json(RECORD) if RECORD.is_file() else None
        DOCS.write_text(update_page(DOCS.read_text(encoding="utf-8"), record), encoding="utf-8")


if __name__ == "__main__":
    main()
