"""What a version is made of: code, data, environment, machine. Facts by which it can be rebuilt, as flat text."""

import hashlib
import os
import platform
import shutil
import subprocess
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

from aeops.data.dataset import content_sha256, file_sha256
from aeops.data.dvc import data_hash
from aeops.project import Project
from aeops.recipe.reader import Recipe

RECORDED_FILES = ("dvc.lock", "dvc.yaml", "params.yaml", "data.dvc", "requirements.lock")  # beside the recipe's own
CODE = ("ae_models", "aeops", "flows")  # folders whose files a run executes, also those that git does not know yet
# A patch that `git apply` takes whatever the user's own git is set to.
PATCH = ("--binary", "--full-index", "--no-color", "--no-ext-diff", "--no-textconv", "--src-prefix=a/", "--dst-prefix=b/")


def lineage(project: Project, recipe: Recipe) -> dict[str, str]:
    """Everything a rebuild needs to find, as tags: names are lower case with dots, values are text."""
    facts = git_facts(project) | platform_facts()
    facts["recipe"] = recipe.name
    facts["recipe.sha256"] = file_sha256(project.recipe_file(recipe.name))
    facts["seed"] = str(recipe.fit.train.seed)
    facts["data.dataset"] = recipe.data.dataset
    facts["data.content_sha256"] = content_sha256(project.dataset(recipe.data.dataset))
    facts["data.dvc_md5"] = data_hash(project)
    for name in RECORDED_FILES:
        if (project.root / name).is_file():
            facts[f"file.{name}"] = file_sha256(project.root / name)
    sums = project.artifacts(recipe.name) / "bundle" / "SHA256SUMS"
    if sums.is_file():
        facts["bundle_sha256"] = file_sha256(sums)
    return facts


def git(project: Project, *arguments: str) -> str:
    """What a git command prints, stripped; empty where this is no repository or git is absent."""
    return git_bytes(project.root, *arguments).decode("utf-8", errors="replace").strip()


def git_bytes(folder: Path, *arguments: str, fine: tuple[int, ...] = (0,)) -> bytes:
    """What a git command prints, byte for byte; nothing where its exit code is none of `fine`, or git is absent."""
    if shutil.which("git") is None:
        return b""
    done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, check=False)
    return done.stdout if done.returncode in fine else b""


def git_facts(project: Project) -> dict[str, str]:
    """Commit and how the worktree differs from it; what DVC and a run rewrite themselves does not count."""
    commit = git(project, "rev-parse", "HEAD")
    if not commit:
        return {"git.commit": "none", "git.dirty": "true"}
    diff = git_diff(project)
    changed = {"git.diff_sha256": hashlib.sha256(diff).hexdigest()} if diff else {}
    return {"git.commit": commit, "git.dirty": str(bool(diff)).lower()} | changed


def git_diff(project: Project) -> bytes:
    """The changes against the recorded commit as a patch, code that git does not know yet among them.

    Without the pointers that a run rewrites: they are recorded whole.
    """
    tracked = git_bytes(project.root, "diff", *PATCH, "HEAD", "--", ".", ":(exclude)dvc.lock", ":(exclude)data.dvc")
    return tracked + b"".join(new_files(project))


def new_files(project: Project) -> Iterator[bytes]:
    """A patch for each file of code that git neither knows nor ignores."""
    top = git(project, "rev-parse", "--show-toplevel")
    listed = git_bytes(project.root, "ls-files", "--others", "--exclude-standard", "--full-name", "-z", "--", *CODE)
    for name in filter(None, listed.split(b"\0")):
        yield git_bytes(Path(top), "diff", "--no-index", *PATCH, "--", os.devnull, os.fsdecode(name), fine=(0, 1))


def platform_facts() -> dict[str, str]:
    """What may change a bit of the result: Python, torch, processor, threads, GPU and its driver."""
    return {
        "platform.python": platform.python_version(),
        "platform.torch": version("torch"),
        "platform.numpy": version("numpy"),
        "platform.onnxruntime": version("onnxruntime"),
        "platform.system": f"{platform.system()} {platform.machine()}",
        "platform.cpu": cpu_model(),
        "platform.threads": str(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()),
        "platform.gpu": gpu(),
    }


def cpu_model() -> str:
    """The processor's name and its widest vector instructions, which decide the last bits of a sum."""
    info = Path("/proc/cpuinfo")
    if not info.is_file():
        return platform.processor() or "unknown"
    lines = dict(line.split(":", 1) for line in info.read_text(encoding="utf-8").splitlines() if ":" in line)
    fields = {key.strip(): value.strip() for key, value in lines.items()}
    flags = fields.get("flags", "").split()
    widest = next((flag for flag in ("amx_bf16", "avx512f", "avx2", "avx") if flag in flags), "none")
    return f"{fields.get('model name', platform.machine())} ({widest})"


def gpu() -> str:
    """Name and driver of the first GPU, or `none`."""
    if shutil.which("nvidia-smi") is None:
        return "none"
    query = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
    done = subprocess.run(query, capture_output=True, text=True, check=False, timeout=30)
    return done.stdout.splitlines()[0].strip() if done.returncode == 0 and done.stdout else "none"
