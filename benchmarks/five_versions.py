"""Five versions of digits through every decision, then each rebuilt: `python benchmarks/five_versions.py`

In a fresh clone of HEAD, with `ae` alone and as a person would: versions of different seeds, data and recipe are promoted,
refused, found not to be told from the champion, approved, and rolled back from; after each step `ae history --as-of` is asked
about every moment so far. Then the worktree moves on and is dirtied, data/, artifacts/ and DVC's cache are deleted, and every
version is rebuilt. Writes benchmarks/records/five_versions.json, and stops at the first result that differs from the expected.

`--steps 1` ends the story after the first version and rebuilds that one.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from benchmark_tools import RECORDS, clean_environment, clone_head, measurement_facts, mnist_digits, save_record

from aeops.errors import DataError, GateError
from aeops.machine.entry_point import run_main
from aeops.project import Project, find_project

REFUSED = GateError.exit_code
FEWER_DIGITS = 4600  # of 5,000: another dataset
DELETED = ("data", "artifacts", ".dvc/cache", ".dvc/tmp")  # what DVC can bring back


@dataclass
class Clone:
    """A clone of HEAD, the champion after each moment so far, and the seconds of each step."""

    root: Path
    champions: list[tuple[str, str | None]] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)

    def ae(self, *arguments: str, expect: int = 0, **settings: str) -> str:
        """Run `ae` and return its output.

        Raises:
            DataError: it ends with another exit code than expected.
        """
        environment = clean_environment(COLUMNS="200", **settings)
        command = [sys.executable, "-m", "aeops.cli.main", *arguments]
        done = subprocess.run(command, cwd=self.root, env=environment, capture_output=True, text=True, check=False)
        if done.returncode != expect:
            output = f"{done.stdout}\n{done.stderr}"
            raise DataError(f"`ae {' '.join(arguments)}`: expected exit code {expect}, got {done.returncode}:\n{output}")
        return done.stdout

    def run(self, expect: int = 0, **changes: Any) -> str:
        """Run digits after changing keys of its recipe, as `edit_recipe` does."""
        edit_recipe(self.root / "recipes" / "digits.yaml", changes)
        return self.ae("run", "digits", expect=expect, AE_BY="ada")

    def git(self, *arguments: str) -> None:
        who = ("-c", "user.name=ada", "-c", "user.email=ada@example.org")
        subprocess.run(["git", *who, *arguments], cwd=self.root, check=True, capture_output=True)

    def require(self, step: str, champion: str | None, output: str, *words: str) -> None:
        """Check the output of a step, and the champion now and at every moment before.

        Raises:
            DataError: a word is missing in the output, or `ae history` names another champion.
        """
        missing = [word for word in words if word not in output]
        self.champions.append((datetime.now(UTC).isoformat(timespec="microseconds"), champion))
        reported = []
        for moment, _ in self.champions:
            history = json.loads(self.ae("history", "digits", "--as-of", moment, "--json"))
            reported.append((moment, history["champion"]))
        if missing or reported != self.champions:
            raise DataError(
                f"{step}: expected {missing} in the output, and champions {self.champions}, got {reported}:\n{output}"
            )
        self.ae("ledger", "verify", "digits")


def edit_recipe(file: Path, changes: dict[str, Any]) -> None:
    """Change keys of a recipe, each named by its dotted path with `__` for the dot."""
    recipe = yaml.safe_load(file.read_text(encoding="utf-8"))
    for path, value in changes.items():
        *sections, key = path.split("__")
        parent = recipe
        for section in sections:
            parent = parent.setdefault(section, {})
        parent[key] = value
    file.write_text(yaml.safe_dump(recipe, sort_keys=False), encoding="utf-8")


# ---------------------------------------------------------------- the story


def first(clone: Clone) -> None:
    clone.require("first", "1", clone.run(), "had no champion: there was nothing to compare with", "state      champion")


def worse(clone: Clone) -> None:
    """A recipe of five epochs, not committed."""
    clone.require("worse", "1", clone.run(expect=REFUSED, train__epochs=5), "worse than champion 1", "refused")


def cannot_tell(clone: Clone) -> None:
    """So few test samples that no label has enough of them, committed."""
    changes: dict[str, Any] = {"train__epochs": 60, "train__seed": 2, "data__split__test": 0.06}
    output = clone.run(expect=REFUSED, **changes)
    clone.git("commit", "-qam", "few test samples")
    clone.require("cannot tell", "1", output, "the samples do not show whether it is worse than champion 1")


def approved(clone: Clone) -> None:
    """Another seed; the person who ran it may not approve it, another one may."""
    approval = {"needed": True, "other_than_starter": True}
    output = clone.run(train__seed=3, data__split__test=0.2, approval=approval)
    clone.require("waits", "1", output, "waits for approval", "ae approve digits 4")
    decision = ("approve", "digits", "4", "--why", "another seed, looked at by hand")
    clone.ae(*decision, "--by", "ada", expect=2)
    clone.require("approved", "4", clone.ae(*decision, "--by", "grace"), "champion   digits 4")


def other_data(clone: Clone) -> None:
    """Fewer digits, from files that git does not know, with another augmentation."""
    images, labels = mnist_digits()
    chosen = np.random.default_rng(5).permutation(len(images))[:FEWER_DIGITS]
    (clone.root / "given").mkdir()
    np.save(clone.root / "given" / "images.npy", images[chosen])
    np.save(clone.root / "given" / "labels.npy", labels[chosen].astype(np.int64))
    source = {"kind": "npy", "path": "given/images.npy", "labels": "given/labels.npy"}
    output = clone.run(data__source=source, train__seed=4, train__augment__rotation=10, approval={"needed": False})
    clone.require("other data", "5", output, "than champion 4", "state      champion")


def rolled_back(clone: Clone) -> None:
    output = clone.ae("rollback", "digits", "--by", "grace", "--why", "it was trained on less")
    clone.require("rolled back", "4", output)


STEPS: dict[str, Callable[[Clone], None]] = {
    "first, promoted": first,
    "worse, refused": worse,
    "cannot tell, refused": cannot_tell,
    "another seed, approved by a person": approved,
    "other data, promoted": other_data,
    "rolled back": rolled_back,
}


def play(clone: Clone, steps: int) -> None:
    """Make versions 1 to 5 and every decision about them, or only the first steps."""
    for name, step in list(STEPS.items())[:steps]:
        started_at = time.monotonic()
        step(clone)
        clone.seconds[name] = round(time.monotonic() - started_at, 1)
        print(f"{name}: {clone.seconds[name]:.0f} s", file=sys.stderr, flush=True)


# ---------------------------------------------------------------- rebuilding every version


def move_on(clone: Clone) -> None:
    """Make a new commit with changes on top, and delete everything that DVC can restore from its remote."""
    code = clone.root / "ae_models" / "training.py"
    code.write_text("raise RuntimeError('the code of today')\n", encoding="utf-8")
    clone.git("commit", "-qam", "another method")
    code.write_text("raise RuntimeError('the code of tomorrow')\n", encoding="utf-8")
    (clone.root / "ae_models" / "new.py").write_text("raise RuntimeError('not committed')\n", encoding="utf-8")
    for name in DELETED:
        shutil.rmtree(clone.root / name)


def rebuild(clone: Clone, versions: Sequence[str]) -> dict[str, str]:
    """Rebuild versions; return the verdict on each.

    Raises:
        DataError: a rebuilt version is not identical.
    """
    verdicts = {}
    for version in versions:
        started_at = time.monotonic()
        output = clone.ae("rebuild", f"digits@{version}")
        [line] = [line for line in output.splitlines() if line.startswith("verdict")]
        verdicts[version] = line.split()[1]
        clone.seconds[f"rebuild of {version}"] = round(time.monotonic() - started_at, 1)
        print(f"digits@{version}: {verdicts[version]}", file=sys.stderr, flush=True)
    if set(verdicts.values()) != {"identical"}:
        raise DataError(f"expected every rebuilt version to be identical, got {verdicts}")
    return verdicts


def summarize(clone: Clone, rebuilt: dict[str, str]) -> dict[str, Any]:
    """Return what the record says of a story that was played."""
    lines = json.loads(clone.ae("history", "digits", "--json"))["lines"]
    return {
        "champions": [champion for _, champion in clone.champions],
        "events": [line["event"] for line in lines],
        "rebuilt": rebuilt,
        "seconds": clone.seconds,
    }


def bench(project: Project, steps: int, out: Path) -> None:
    record = measurement_facts(project, "python benchmarks/five_versions.py")
    with tempfile.TemporaryDirectory(prefix="ae-five-") as folder:
        clone = Clone(Path(folder) / "clone")
        clone_head(project, clone.root)
        play(clone, steps)
        move_on(clone)
        versions = [str(number) for number in range(1, min(steps, 5) + 1)]  # the sixth step makes none
        record |= summarize(clone, rebuild(clone, versions))
    save_record(out, record)
    print(json.dumps(record, indent=2))


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, choices=range(1, len(STEPS) + 1), default=len(STEPS), help="of the story [all]")
    parser.add_argument("--out", type=Path, default=RECORDS / "five_versions.json", help="JSON to write [%(default)s]")
    args = parser.parse_args(arguments)
    run_main(lambda: bench(find_project(), args.steps, args.out))


if __name__ == "__main__":
    main()
