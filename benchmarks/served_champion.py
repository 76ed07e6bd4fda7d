"""Code that the benchmarks of scoring share: bundles, a project with a champion, and servers that end with their block."""

import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path

import psutil
from benchmark_tools import ROOT, clean_environment, shuffled_digits

from aeops.machine.servers import stop_server, wait_until_healthy
from aeops.project import Project
from aeops.recipe.reader import read_recipe
from aeops.registry import promotion
from aeops.registry.store import open_store

EPOCHS = 2  # speed depends on the network, not on how long it has learnt
TRAINED_HELP = "keep the trained bundle in this folder: it is used if it is there, and trained if not"


def trained_bundle(folder: Path | None, scratch: Path) -> tuple[Path, str]:
    """Return a bundle of the recipe `digits` and a description of it.

    Args:
        folder: keeps the bundle between measurements. None: the bundle in artifacts/digits if there is one, else one is
            trained for a moment.
        scratch: a folder for the one that nobody keeps.
    """
    ready = ROOT / "artifacts" / "digits" / "bundle"
    if folder is None and (ready / "SHA256SUMS").is_file():
        return ready, "the recipe `digits`, as artifacts/digits holds it"
    place = folder or scratch / "trained"
    if not (place / "bundle").is_dir():
        place.mkdir(parents=True, exist_ok=True)
        subprocess.run([sys.executable, __file__, str(place)], check=True, env=server_environment())
    return place / "bundle", f"the network of the recipe `digits`, trained for {EPOCHS} epochs"


def train_bundle(folder: Path, epochs: int = EPOCHS) -> None:
    """Train the recipe's network on 3,000 digits into the folder's `bundle`."""
    from ae_models.fit import fit  # imports torch, which no process that measures needs

    spec = read_recipe(ROOT / "recipes" / "digits.yaml").fit
    spec = replace(spec, train=replace(spec.train, epochs=epochs, accelerator="cpu"))
    digits = shuffled_digits()
    outputs = {name: folder / name for name in ("checkpoints", "bundle", "history")}
    fit(spec, digits[:3000], digits[3000:3200], digits[3200:4000], content_sha256="d" * 64, recipe="digits", **outputs)


def linear_bundle(folder: Path) -> Path:
    """Write the linear model that the tests serve: PCA with 16 components."""
    path = ROOT / "tests" / "serving" / "conftest.py"
    spec = importlib.util.spec_from_file_location("linear_model", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    if str(ROOT / "tests") not in sys.path:
        sys.path.insert(0, str(ROOT / "tests"))
    spec.loader.exec_module(module)
    digits = shuffled_digits()
    return Path(module.write_linear_bundle(folder, digits[:1000], digits[1000:1200]))


def register_champion(project: Project, recipe: str, bundle: Path) -> None:
    """Register a bundle and promote it, as version 1 and without a gate."""
    store = open_store(project)
    run = store.start_run(recipe, {}, {}, {"dataset": recipe, "content_sha256": "c" * 64})
    version = store.register(run, recipe, bundle, {}, "")
    evidence = {"sha256": "e" * 64}
    promotion.promote(store, recipe, version, expected=None, who="a benchmark", why="to be measured", evidence=evidence)


def scratch_project(root: Path, bundle: Path) -> Project:
    """Make a project whose champion of `digits` is the bundle."""
    (root / "recipes").mkdir(parents=True)
    shutil.copy(ROOT / "recipes" / "digits.yaml", root / "recipes")
    shutil.copy(ROOT / "dvc.yaml", root)
    project = Project(root=root, home=root / ".ae")
    register_champion(project, "digits", bundle)
    return project


def server_environment(**settings: str) -> dict[str, str]:
    paths = {"PYTHONPATH": str(ROOT), "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    return clean_environment(**(paths | settings))


@contextmanager
def started(command: list[str], folder: Path, health: str, log: Path, **settings: str) -> Iterator[subprocess.Popen[bytes]]:
    """Start a server and wait until it answers at `health`; it and its children end with the block."""
    environment = server_environment(**settings)
    with log.open("wb") as output:
        child = subprocess.Popen(command, cwd=folder, env=environment, stdout=output, stderr=output, start_new_session=True)
    try:
        wait_until_healthy(child, health)
        yield child
    finally:
        for process in descendants(child.pid):
            process.terminate()
        stop_server(child)


def descendants(pid: int) -> list[psutil.Process]:
    if not psutil.pid_exists(pid):
        return []
    return psutil.Process(pid).children(recursive=True)


def our_service(project: Project, port: int) -> AbstractContextManager[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "aeops.cli.main", "serve", "digits", "--port", str(port)]
    return started(command, project.root, f"http://127.0.0.1:{port}/readyz", project.home / "serve.log")


if __name__ == "__main__":
    train_bundle(Path(sys.argv[1]))
