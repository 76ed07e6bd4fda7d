"""A checkout of the project with its benchmarks and whatever `make env` needs, as those benchmarks clone it."""

import shutil
import subprocess
from pathlib import Path

from checkout import COPIED, ROOT, Checkout

FILES = ("benchmarks", "params.yaml", "pyproject.toml", "Makefile", "README.md", "LICENSE")


def make_benchmark_checkout(root: Path) -> Checkout:
    """Make a repository with the code, recipes and benchmarks of the working tree in one commit."""
    for name in (*COPIED, *FILES):
        source, target = ROOT / name, root / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__", "records"))
        else:
            shutil.copy(source, target)
    who = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    for command in (["init", "-q"], ["add", "-A"], [*who, "commit", "-qm", "start"]):
        subprocess.run(["git", *command], cwd=root, check=True)
    return Checkout(root)
