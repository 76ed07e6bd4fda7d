"""How often does the gate call a model better when nothing has changed? `python benchmarks/gate_simulation.py`

Each trial draws its samples anew, trains a champion and a challenger that differ in the seed alone, and lets
aeops.stages.compare judge them by the rules that recipes/digits.yaml has against the champion. The network is a small dense
one that trains in a second. Three more questions are asked on the way:

- what the same gate would say with hardly a margin, where a difference need only be real and not large;
- its power: in half of the trials a second challenger is trained for twice as many epochs, and so is truly better;
- how far the recipe's own trainings lie apart: several of them at full length, every pair judged.

Writes benchmarks/records/gate.json and the section of docs/gates.md that quotes it (`--docs-only`: the section alone).
"""

import argparse
import itertools
import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from benchmark_tools import RECORDS, ROOT, mnist_digits, replace_section, save_and_print, update_docs

from ae_models.intervals import clopper_pearson
from aeops.bundle.detector import usable_cores
from aeops.data.array_files import write_parquet
from aeops.drawing.words import format_share
from aeops.files import write_json
from aeops.gate.comparison import BETTER, CANNOT_TELL, LEVEL, NOT_WORSE, WORSE
from aeops.gate.margins import resolve_margins
from aeops.gate.seed_record import no_seed_spread
from aeops.recipe.reader import Recipe, read_recipe
from aeops.report.model_card import markdown_table
from aeops.stages.compare import Champion, compare

RECORD, DOCS = RECORDS / "gate.json", ROOT / "docs" / "gates.md"
BEGIN, END = "<!-- simulation: written by `python benchmarks/gate_simulation.py` -->", "<!-- simulation: end -->"
VERDICTS = (BETTER, NOT_WORSE, WORSE, CANNOT_TELL)
UNCHANGED, NO_MARGIN, IMPROVED, FULL = "unchanged", "unchanged_without_margin", "improved", "recipe_at_full_length"
LABELS = {
    UNCHANGED: "another seed, else the same",
    NO_MARGIN: "the same, judged with hardly a margin",
    IMPROVED: "trained for twice as long",
    FULL: "the recipe itself, another seed",
}
TINY_MARGIN = 1e-6
FULL_SEEDS = 8  # trainings at full length, every pair of which is judged
CHEAP_NORMALS = {"train": 1500, "validation": 100, "calibration": 300, "test": 900}  # samples; and all novelty to test
FULL_NORMALS = {"train": 2520, "validation": 180, "calibration": 900, "test": 900}  # as the recipe's split leaves them
SINGLE_THREAD = {"threads": 1, "accelerator": "cpu"}  # several trainings at once
CHEAP_TRAIN = {"epochs": 6, "learning_rate": 0.003, "augment": {"kind": "none"}}
CHEAP_MODEL = {"encode": {"kind": "dense", "widths": [128]}, "decode": {"kind": "dense", "widths": [128]}}


# ---------------------------------------------------------------- a training and its comparison


def digits_recipe(folder: Path, *, cheap: bool, margin: float | None = None) -> Recipe:
    """Return the recipe digits with only its rules against the champion.

    Args:
        folder: its file is written there.
        cheap: with a dense network that trains in a second.
        margin: of every rule; None: the recipe's own, or the default one.
    """
    document = yaml.safe_load((ROOT / "recipes" / "digits.yaml").read_text(encoding="utf-8"))
    document["train"] |= SINGLE_THREAD
    if cheap:
        document["train"] |= CHEAP_TRAIN
        document["model"] |= CHEAP_MODEL
    rules = {name: rule for name, rule in document["gate"].items() if "champion" in rule}
    if margin is not None:
        rules = {name: rule | {"margin": margin} for name, rule in rules.items()}
    document["gate"] = rules
    file = folder / "digits.yaml"
    file.write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")
    return read_recipe(file)


def prepare(folder: Path, recipe: Recipe, counts: dict[str, int], seed: int) -> None:
    """Draw samples and write them as the stage prepare does."""
    images, labels = mnist_digits()
    is_novel = np.isin(labels, recipe.data.novelty)
    normals = np.random.default_rng(seed).permutation(np.flatnonzero(~is_novel))
    parts = dict(zip(counts, np.split(normals, np.cumsum(list(counts.values()))), strict=False))
    parts["test"] = np.concatenate([parts["test"], np.flatnonzero(is_novel)])
    folder.mkdir()
    for name, rows in parts.items():
        np.save(folder / f"{name}.npy", images[rows])
    rows = parts["test"]
    ids = [f"digits-{row}" for row in rows]
    columns = {"id": ids, "label": pd.array(labels[rows], "Int64"), "group": ids, "novelty": is_novel[rows]}
    write_parquet(folder / "test.parquet", pd.DataFrame(columns))
    write_json(folder / "prepared.json", {"rows": counts, "low": recipe.fit.input.low, "high": recipe.fit.input.high})


def train(folder: Path, prepared: Path, recipe: Recipe, seed: int, times_as_long: int = 1) -> Path:
    """Train the recipe with that seed; return its bundle."""
    from ae_models.fit import fit  # imports torch, which only trainings need

    train_spec = replace(recipe.fit.train, seed=seed, epochs=recipe.fit.train.epochs * times_as_long)
    fit(
        replace(recipe.fit, train=train_spec),
        *(np.load(prepared / f"{name}.npy") for name in ("train", "validation", "calibration")),
        checkpoints=folder / "checkpoints",
        bundle=folder / "bundle",
        history=folder / "history",
        content_sha256="0" * 64,
        recipe=recipe.name,
        progress_bar=False,
    )
    return folder / "bundle"


def trial(number: int) -> dict[str, dict[str, Any]]:
    """Return the comparisons of one pair of fresh seeds, 2 i and 2 i + 1, on samples of its own.

    In odd trials the second seed is the champion's, so that nothing depends on a seed being even.
    """
    seeds = (2 * number, 2 * number + 1)[:: 1 if number % 2 == 0 else -1]
    with tempfile.TemporaryDirectory(prefix="ae-gate-") as scratch:
        folder = Path(scratch)
        prepared, out = folder / "prepared", folder / "comparison.json"
        recipe = digits_recipe(folder, cheap=True)
        prepare(prepared, recipe, CHEAP_NORMALS, seed=number)
        champion = Champion("1", train(folder / "champion", prepared, recipe, seeds[0]))
        challenger = train(folder / "challenger", prepared, recipe, seeds[1])
        comparisons = {
            UNCHANGED: compare(recipe, prepared, challenger, champion, candidate_count=1, output_file=out),
            NO_MARGIN: compare(digits_recipe(folder, cheap=True, margin=TINY_MARGIN), prepared, challenger, champion, 1, out),
        }
        if number // 2 % 2 == 0:
            better = train(folder / "better", prepared, recipe, seeds[1], times_as_long=2)
            comparisons[IMPROVED] = compare(recipe, prepared, better, champion, candidate_count=1, output_file=out)
        return comparisons


def full_training(folder: Path, epochs: int | None, seed: int) -> Path:
    """Train the recipe itself on the samples prepared in `folder`, for its own number of epochs or so many; return its bundle."""
    own = folder / str(seed)
    own.mkdir()
    recipe = digits_recipe(own, cheap=False)
    if epochs is not None:
        recipe = replace(recipe, fit=replace(recipe.fit, train=replace(recipe.fit.train, epochs=epochs)))
    return train(own, folder / "prepared", recipe, seed)


# ---------------------------------------------------------------- all of them


def simulate(trials: int, pool: ProcessPoolExecutor) -> dict[str, list[dict[str, Any]]]:
    """Return the comparisons of all trials, by question."""
    comparisons: dict[str, list[dict[str, Any]]] = {name: [] for name in (UNCHANGED, NO_MARGIN, IMPROVED)}
    started_at = time.monotonic()
    for number, answers in enumerate(pool.map(trial, range(trials)), start=1):
        for name, comparison in answers.items():
            comparisons[name].append(comparison)
        verdicts = ", ".join(f"{name} {comparison['verdict']}" for name, comparison in answers.items())
        print(f"trial {number} of {trials}: {verdicts}; {time.monotonic() - started_at:.0f} s", flush=True)
    return comparisons


def full_length(seeds: int, epochs: int | None, pool: ProcessPoolExecutor) -> list[dict[str, Any]]:
    """Return the comparison of every pair of several trainings of the recipe itself, on the same samples."""
    with tempfile.TemporaryDirectory(prefix="ae-gate-") as scratch:
        folder = Path(scratch)
        recipe = digits_recipe(folder, cheap=False)
        prepare(folder / "prepared", recipe, FULL_NORMALS, seed=0)
        bundles = list(pool.map(partial(full_training, folder, epochs), range(seeds)))
        return [
            compare(
                recipe,
                folder / "prepared",
                challenger,
                Champion("1", champion),
                candidate_count=1,
                output_file=folder / "comparison.json",
            )
            for champion, challenger in itertools.combinations(bundles, 2)
        ]


def build_record(comparisons: dict[str, list[dict[str, Any]]], recipe: Recipe, full_seeds: int) -> dict[str, Any]:
    """Return the content of benchmarks/records/gate.json."""
    return {
        "level": LEVEL,
        "rules": judged_rules(recipe),
        "trained": {"normals": CHEAP_NORMALS, **CHEAP_MODEL, **CHEAP_TRAIN},
        "full_seeds": full_seeds,
        **{name: count_verdicts(answers) for name, answers in comparisons.items()},
    }


def judged_rules(recipe: Recipe) -> dict[str, dict[str, str | float]]:
    """Return the rules against the champion with the margins by which they are judged: the default ones, without a record."""
    margins = resolve_margins(recipe.gate, no_seed_spread(recipe.name))
    return {name: recipe.gate[name].to_dict() | {"margin": margin.value} for name, margin in margins.items()}


def count_verdicts(comparisons: list[dict[str, Any]]) -> dict[str, Any]:
    """Count the verdicts, and describe the differences of each rule over the trials and slices."""
    verdicts = [comparison["verdict"] for comparison in comparisons]
    differences: dict[str, list[float]] = {}
    for comparison in comparisons:
        for rule in comparison["rules"]:
            differences.setdefault(rule["name"], []).append(rule["difference"])
    return {
        "trials": len(comparisons),
        "verdicts": {verdict: verdicts.count(verdict) for verdict in VERDICTS},
        "accepted": sum(comparison["accepted"] for comparison in comparisons),
        "better_interval": [round(end, 4) for end in clopper_pearson(verdicts.count(BETTER), len(verdicts))],
        "differences": {name: spread(values) for name, values in differences.items()},
    }


def spread(differences: list[float]) -> dict[str, float]:
    return {
        "mean": round(statistics.mean(differences), 4),
        "standard_deviation": round(statistics.stdev(differences), 4),
        "largest": round(max(map(abs, differences)), 4),
    }


# ---------------------------------------------------------------- docs/gates.md


def summarize(record: dict[str, Any] | None) -> str:
    """Return the section of docs/gates.md."""
    if record is None:
        return "Not measured yet: `python benchmarks/gate_simulation.py` measures it."
    unchanged = record[UNCHANGED]
    better, (low, high) = unchanged["verdicts"][BETTER], unchanged["better_interval"]
    return "\n\n".join(
        [
            f"Of {unchanged['trials']} models that were trained again with another seed, nothing else changed, {better} were "
            f"called better: **{format_share(better / unchanged['trials'])}** "
            f"(95 % interval {format_share(low)} to {format_share(high)}).",
            markdown_table(["challenger", "trials", *VERDICTS, "accepted"], [verdict_row(record, name) for name in LABELS]),
            "How far apart another seed alone puts two models (standard deviation of the difference, and the largest seen):",
            markdown_table(
                ["rule", "margin", LABELS[UNCHANGED], LABELS[FULL]], [spread_row(record, rule) for rule in record["rules"]]
            ),
        ]
    )


def verdict_row(record: dict[str, Any], name: str) -> list[str]:
    result = record[name]
    trials = f"{result['trials']} pairs of {record['full_seeds']}" if name == FULL else str(result["trials"])
    counts = [*(result["verdicts"][verdict] for verdict in VERDICTS), result["accepted"]]
    return [LABELS[name], trials, *(format_share(count / result["trials"]) for count in counts)]


def spread_row(record: dict[str, Any], name: str) -> list[str]:
    rule = record["rules"][name]
    as_text = format_share if rule["champion"] == "error" else "{:.3f}".format
    compared = f"{rule['champion']} by {rule['by']}" if "by" in rule else rule["champion"]
    cells = [f"`{name}` ({compared})", as_text(rule["margin"])]
    for question in (UNCHANGED, FULL):
        spread_of_rule = record[question]["differences"][name]
        cells.append(f"{as_text(spread_of_rule['standard_deviation'])}, {as_text(spread_of_rule['largest'])}")
    return cells


def update_page(text: str, record: dict[str, Any] | None) -> str:
    """Return docs/gates.md with the section that quotes the record."""
    return replace_section(text, BEGIN, END, summarize(record), DOCS.name)


def measure(trials: int, full_seeds: int, full_epochs: int | None, processes: int) -> dict[str, Any]:
    with ProcessPoolExecutor(processes, multiprocessing.get_context("spawn")) as pool:
        comparisons = simulate(trials, pool)
        comparisons[FULL] = full_length(full_seeds, full_epochs, pool)
    with tempfile.TemporaryDirectory() as folder:
        return build_record(comparisons, digits_recipe(Path(folder), cheap=True), full_seeds)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="How often the gate calls an unchanged model better, and a better one so.")
    parser.add_argument("--trials", type=int, default=200, help="pairs of trainings, 3 or more [200]")
    parser.add_argument("--full-seeds", type=int, default=FULL_SEEDS, help=f"full trainings, 3 or more [{FULL_SEEDS}]")
    parser.add_argument("--full-epochs", type=int, help="of each full training [those of the recipe]")
    parser.add_argument("--processes", type=int, default=usable_cores(), help="trainings at once [all cores]")
    parser.add_argument("--out", type=Path, default=RECORD, help="JSON to write; docs/gates.md quotes the default [%(default)s]")
    parser.add_argument("--docs-only", action="store_true", help="only write docs/gates.md, from the record")
    args = parser.parse_args(arguments)
    if not args.docs_only:
        save_and_print(args.out, measure(args.trials, args.full_seeds, args.full_epochs, args.processes))
    if args.out == RECORD:
        update_docs(DOCS, RECORD, update_page)


if __name__ == "__main__":
    main()
