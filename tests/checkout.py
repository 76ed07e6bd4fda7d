"""A checkout of the project in a scratch folder, with a small recipe of real digits, and how to run `ae` in it."""

import io
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from digits_recipe import single_model_recipe
from fork_server import run_in_fork
from shipped_digits import shipped_digits

from aeops.cli.main import main
from aeops.project import Project
from aeops.registry.database import database_uri, prepare_database
from aeops.registry.locations import relocate_database
from aeops.registry.store import Store

ROOT = Path(__file__).parents[1]
COPIED = (
    "ae_models",
    "aeops",
    "flows",
    "recipes",
    "dvc.yaml",
    "prefect.yaml",
    "requirements.lock",
    ".gitignore",
    ".dvcignore",
    ".dvc/config",
    ".dvc/stage",
)
SAMPLES = 1200
EPOCHS = 3
RUN_STEPS = (
    *("starting", "repair", "ingest", "validate", "version", "log", "prepare", "train", "calibrate", "evaluate", "gate"),
    *("compare", "register", "decide", "promote"),
)  # in the order in which a first `ae run` prints them
EPOCHS_OF_A_KILL = 8  # seconds: long enough to be killed in the middle
WIDTHS = [8, 16]  # of the convolutions: half of what digits.yaml has
FOREIGN = (
    *("AE_HOME", "AE_SOURCES", "MLFLOW_TRACKING_URI"),
    *("PREFECT_API_URL", "PREFECT_API_AUTH_STRING", "PREFECT_HOME", "PREFECT_API_DATABASE_CONNECTION_URL"),
)


@dataclass(frozen=True)
class Checkout:
    """A checkout and how to run `ae` in it."""

    root: Path

    @property
    def home(self) -> Path:
        return self.root / ".ae"

    def environment(self, **settings: str) -> dict[str, str]:
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        kept = {name: value for name, value in os.environ.items() if name not in FOREIGN}
        return kept | {"PATH": path, "COLUMNS": "150"} | settings

    def ae(self, *arguments: str, timeout: float = 600, **settings: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "aeops.cli.main", *arguments]
        return subprocess.run(
            command, cwd=self.root, env=self.environment(**settings), capture_output=True, text=True, timeout=timeout, check=False
        )

    def ae_in_forks(self, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
        """Run `ae` in forks, which saves their imports: for whole runs of which a test asks how they end."""
        return run_in_fork("module", "aeops.cli.main", *arguments, cwd=self.root, env=self.environment(**settings))

    def ae_in_process(self, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
        """Run `ae` in this process, which saves its imports: for commands of which a test asks what they do and print."""
        printed, errors = io.StringIO(), io.StringIO()
        with self.entered(**settings), redirect_stdout(printed), redirect_stderr(errors):
            code = main(arguments)
        return subprocess.CompletedProcess(arguments, code, printed.getvalue(), errors.getvalue())

    @contextmanager
    def entered(self, **settings: str) -> Iterator[None]:
        """Give this process the folder and the environment of a command that is typed here, until the block ends."""
        folder, variables = Path.cwd(), dict(os.environ)
        environment = self.environment(**settings)
        try:
            os.environ.clear()
            os.environ.update(environment)
            os.chdir(self.root)
            yield
        finally:
            os.chdir(folder)
            os.environ.clear()
            os.environ.update(variables)

    def start(self, *arguments: str, **settings: str) -> subprocess.Popen[bytes]:
        log = (self.root / "started.log").open("wb")
        command = [sys.executable, "-m", "aeops.cli.main", *arguments]
        return subprocess.Popen(command, cwd=self.root, env=self.environment(**settings), stdout=log, stderr=log)

    def dvc(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "dvc", *arguments]
        environment = self.environment(DVC_NO_ANALYTICS="1", DVC_SITE_CACHE_DIR=str(self.home / "dvc-site"))
        return subprocess.run(command, cwd=self.root, env=environment, capture_output=True, text=True, timeout=400, check=False)

    def stage(self, name: str, *arguments: str) -> None:
        run_in_fork("module", f"aeops.stages.{name}", *arguments, cwd=self.root, env=self.environment()).check_returncode()

    def edit_recipe(self, change: dict[str, Any], name: str = "small") -> None:
        """Changes keys of a recipe, given by their dotted paths."""
        file = self.root / "recipes" / f"{name}.yaml"
        recipe = yaml.safe_load(file.read_text())
        for path, value in change.items():
            *sections, key = path.split(".")
            place = recipe
            for section in sections:
                place = place[section]
            place[key] = value
        file.write_text(yaml.safe_dump(recipe, sort_keys=False))

    def store(self) -> Store:
        """Open the registry in this process."""
        project = Project(self.root, self.home)
        store = Store(project, database_uri(project))
        store.connect()
        return store

    def versions(self, name: str = "small") -> list[tuple[str, tuple[str, ...], dict[str, str]]]:
        """Version, aliases and tags of each registered version, oldest first, straight from the store."""
        found = self.store().versions(name)
        return [(version.version, tuple(sorted(version.aliases)), version.tags) for version in reversed(found)]

    def python(self, script: str) -> str:
        """The last line that a script prints in a fresh process here."""
        command = [sys.executable, "-c", script]
        done = subprocess.run(command, cwd=self.root, env=self.environment(), capture_output=True, text=True, check=True)
        return done.stdout.splitlines()[-1]

    def pointers(self) -> dict[str, bytes]:
        """Every byte that a failed run must leave alone: data/ and data.dvc."""
        files = [file for file in (self.root / "data").rglob("*") if file.is_file()] + [self.root / "data.dvc"]
        return {str(file.relative_to(self.root)): file.read_bytes() for file in files if file.is_file()}


def copy_checkout(checkout: Checkout, root: Path) -> Checkout:
    """Copy a checkout with its state folder; the registry of the copy has files of its own."""
    copy = Checkout(Path(shutil.copytree(checkout.root, root, symlinks=True)))
    rehome(copy.home)
    return copy


def restore_from_backup(checkout: Checkout, folder: Path) -> Checkout:
    """Type what docs/state.md says to back a checkout up, remove it, and restore it in `folder`; return the restored one."""
    text = (ROOT / "docs" / "state.md").read_text(encoding="utf-8")
    back_up, restore = (block.split("```")[0].splitlines() for block in text.split("```sh\n")[1:])
    assert back_up.pop() == "ae up"
    folder.mkdir()
    work = {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"}
    for command in back_up:
        if command == "ae down":
            assert checkout.ae_in_forks("down").returncode == 0
        else:
            subprocess.run(command, shell=True, cwd=checkout.root, env=work, check=True)
    (checkout.root.parent / "backup.tar.gz").rename(folder / "backup.tar.gz")
    shutil.rmtree(checkout.root)
    typed = [line for line in restore if not line.startswith(("make", ".venv"))]
    subprocess.run("\n".join(typed), shell=True, cwd=folder, env=work, check=True)
    assert {line for line in restore if line not in typed} == {"make env", ".venv/bin/ae ledger verify", ".venv/bin/ae doctor"}
    return Checkout(folder / "restored")


def rehome(home: Path) -> None:
    """Repair the registry of a copied state folder, as the first command in it does, and forget the original's files."""
    from mlflow.tracking._tracking_service import utils  # seconds: only for the tests that need it

    relocate_database(Project(home.parent, home))
    utils._artifact_repos_cache.clear()  # where the files of each run were, as MLflow remembers it in this process


def make_checkout(root: Path) -> Checkout:
    """Copies the code, and adds the recipe `small`: 1,200 digits from a file, a net that trains in seconds."""
    for name in COPIED:
        source, target = ROOT / name, root / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target)  # with the compiled files: compiling all takes seconds
        else:
            shutil.copy(source, target)
    code = yaml.safe_load((ROOT / "params.yaml").read_text())["code"]
    (root / "params.yaml").write_text(yaml.safe_dump({"recipes": {"small": {"dataset": "small"}}, "code": code}))
    write_small_recipe(root)
    who = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    for command in (["init", "-q"], ["add", "-A"], [*who, "commit", "-qm", "start"]):
        subprocess.run(["git", *command], cwd=root, check=True)
    return Checkout(root)


def add_databases(checkout: Checkout, prefect_database: Path) -> None:
    """Give a checkout in which nothing has run the databases that its first run would make in ten seconds and more."""
    project = Project(checkout.root, checkout.home)
    project.prefect.mkdir(parents=True)
    shutil.copy(prefect_database, project.prefect / "prefect.db")
    prepare_database(project)


def write_small_recipe(root: Path) -> None:
    images, labels = shipped_digits()
    chosen = np.random.default_rng(0).permutation(len(images))[:SAMPLES]
    (root / "inbox").mkdir()
    np.save(root / "inbox" / "images.npy", images[chosen])
    np.save(root / "inbox" / "labels.npy", labels[chosen])
    recipe = single_model_recipe()
    recipe |= {"recipe": "small"}
    recipe["data"] |= {
        "dataset": "small",
        "source": {"kind": "npy", "path": "inbox/images.npy", "labels": "inbox/labels.npy"},
    }
    recipe["validate"]["rows"] = {"min": 500, "max": 5000}
    recipe["train"]["epochs"] = EPOCHS
    recipe["model"]["encode"]["widths"], recipe["model"]["decode"]["widths"] = WIDTHS, WIDTHS[::-1]
    recipe["evaluate"]["studies"] = {"power": {"samples": 20}}
    recipe["gate"]["beats_pca_reconstruction"]["at_least"] = -5.0  # so few epochs teach little: these gates are set to pass
    recipe["gate"]["ranks_the_novelty"]["at_least"] = 0.3
    reason = "so few epochs on so few samples teach little"
    for rule in ("beats_pca_and_knn", "catches_the_novelty", "not_worse_than_champion"):
        recipe["gate"][rule] = {"switched_off": reason}
    recipe["gate"]["keeps_the_champions_error"]["margin"] = 0.9  # and so few samples tell little about two models
    recipe["gate"]["keeps_the_champions_ranking"]["margin"] = 0.45
    del recipe["gate"]["forgets_no_digit"]
    (root / "recipes" / "small.yaml").write_text(yaml.safe_dump(recipe, sort_keys=False))


def wait_for(question: Any, seconds: float = 240) -> Any:
    """Asks until the answer is true; fails after `seconds`."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if answer := question():
            return answer
        time.sleep(0.1)
    raise AssertionError(f"still not so after {seconds} s")
