"""`ae rebuild` of a real version: identical whatever became of the worktree, different where the record lies, and every missing
piece named before anything runs."""

import hashlib
import json
import shutil
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
import yaml
from checkout import Checkout, copy_checkout, restore_from_backup


@pytest.fixture
def copy(ran: Checkout, tmp_path: Path) -> Checkout:
    """The checkout of the first run, its registry with files of its own."""
    return copy_checkout(ran, tmp_path / "copy")


def git(root: Path, *arguments: str) -> str:
    who = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    return subprocess.run(["git", *who, *arguments], cwd=root, check=True, capture_output=True, text=True).stdout


RENAMED = {  # modules that a rebuild, or DVC, calls by their names
    "aeops.provenance.rebuild_entry": "aeops.provenance.way_in",
    "aeops.machine": "aeops.processes",
    "aeops.stages.train": "aeops.stages.learn",
    "aeops.stages.prepare": "aeops.stages.ready",
}


def rename_modules(root: Path) -> None:
    """Rename modules as a later version might, wherever they are named."""
    for old, new in RENAMED.items():
        place = root.joinpath(*old.split("."))
        suffix = "" if place.is_dir() else ".py"
        git(root, "mv", f"{place}{suffix}", f"{root.joinpath(*new.split('.'))}{suffix}")
        for file in (root / "dvc.yaml", *(root / "aeops").rglob("*.py"), *(root / "flows").rglob("*.py")):
            text = file.read_text()
            renamed = text.replace(old, new).replace("import rebuild_entry", "import way_in").replace("rebuild_entry.", "way_in.")
            if renamed != text:
                file.write_text(renamed)


def move_on(copy: Checkout) -> None:
    """A new commit with modules renamed, changes on top, and everything gone that DVC can bring back."""
    rename_modules(copy.root)
    training = copy.root / "ae_models" / "training.py"
    training.write_text("raise RuntimeError('the code of today')\n")
    copy.edit_recipe({"train.seed": 11})
    git(copy.root, "commit", "-qam", "another method")
    training.write_text("raise RuntimeError('the code of tomorrow')\n")
    (copy.root / "ae_models" / "new.py").write_text("raise RuntimeError('not committed')\n")
    for name in ("data", "artifacts", ".dvc/cache", ".dvc/tmp"):
        shutil.rmtree(copy.root / name, ignore_errors=name == ".dvc/tmp")  # which a restored copy lacks
    for name in ("dvc.lock", "data.dvc"):
        (copy.root / name).unlink()


def worktree(copy: Checkout) -> dict[str, bytes]:
    """Every byte outside the state folder: files, index, branches, DVC's settings."""
    files = (file for file in copy.root.rglob("*") if file.is_file() and copy.home not in file.parents)
    return {str(file): file.read_bytes() for file in files if "__pycache__" not in file.parts}


def registry(home: Path) -> list[str]:
    """Every row of MLflow's database but the tags that a rebuild writes."""
    with closing(sqlite3.connect(home / "mlflow" / "mlflow.db")) as database:
        return [line for line in database.iterdump() if "'rebuild." not in line]


def tampered(copy: Checkout, name: str, before: str, after: str, tag: str = "") -> None:
    """Changes a recorded file, and its hash with it where one is named: a record that lies without contradicting itself."""
    folder = Path(recorded(copy)["run"].removeprefix("file://")) / "rebuild"
    text = (folder / name).read_text()
    assert before in text
    (folder / name).write_text(text.replace(before, after))
    if tag:
        file = folder / "lineage.json"
        lineage = json.loads(file.read_text()) | {tag: hashlib.sha256((folder / name).read_bytes()).hexdigest()}
        file.write_text(json.dumps(lineage))
        recorded(copy, {"lineage.sha256": hashlib.sha256(file.read_bytes()).hexdigest()})


def recorded(copy: Checkout, changes: dict[str, str] | None = None) -> dict[str, Any]:
    """Return where the files of the version's run and of its model are, and its tags before they are changed."""
    store = copy.store()
    version = store.version("small", "1")
    store.set_tags("small", "1", changes or {})
    run = store.client.get_run(version.run_id).info.artifact_uri
    return {"run": run, "model": store.client.get_model_version_download_uri("small", "1"), "tags": version.tags}


@pytest.mark.slow
def test_a_version_is_identical_after_modules_and_worktree_moved_on_and_leaves_no_mark(copy: Checkout, tmp_path: Path) -> None:
    copy = restore_from_backup(copy, tmp_path / "another place")  # the registry's paths are repaired by the first command
    assert "small: whole" in copy.ae_in_forks("ledger", "verify").stdout
    move_on(copy)
    before, kept, worktrees = worktree(copy), registry(copy.home), git(copy.root, "worktree", "list")
    done = copy.ae_in_forks("rebuild", "small@champion")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "verdict    identical" in done.stdout
    for stage in ("prepare small@1", "train small@1", "evaluate small@1", "gate small@1"):
        assert stage in done.stderr
    assert worktree(copy) == before
    assert registry(copy.home) == kept
    assert git(copy.root, "worktree", "list") == worktrees
    [(_, _, tags)] = copy.versions()
    assert tags["rebuild.verdict"] == "identical"
    assert tags["rebuild.time"].endswith("+00:00")
    folder = Path(unquote(recorded(copy)["run"].removeprefix("file://")))
    lineage = json.loads((folder / "rebuild" / "lineage.json").read_text())
    assert tags["rebuild.machine"].split(": ", 1)[1].startswith(lineage["platform.cpu"])
    assert [place.name for place in (copy.home / "rebuild").iterdir()] == ["locks"]


@pytest.mark.long
def test_a_version_older_than_trails_is_rebuilt_in_a_state_folder_elsewhere_and_kept_on_request(
    copy: Checkout, tmp_path: Path
) -> None:
    (Path(recorded(copy)["run"].removeprefix("file://")) / "rebuild" / "trail.csv").unlink()
    home = tmp_path / "elsewhere"
    copy.home.rename(home)
    done = copy.ae_in_forks("rebuild", "small@1", "--keep", AE_HOME=str(home))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "verdict    identical" in done.stdout
    assert not copy.home.exists()
    ours, theirs = (place / "artifacts" / "small" for place in (copy.root, home / "rebuild" / "small-1" / "code"))
    for name in ("bundle/SHA256SUMS", "training/trail.csv", "training/history.csv", "report/metrics.json", "verdict.json"):
        assert (theirs / name).read_bytes() == (ours / name).read_bytes(), name


@pytest.mark.long
def test_a_record_whose_seed_is_another_is_different_from_the_first_step(copy: Checkout) -> None:
    tampered(copy, "small.yaml", "seed: 0", "seed: 1", tag="recipe.sha256")
    done = copy.ae_in_forks("rebuild", "small@1")
    assert done.returncode == 4, done.stdout + done.stderr
    assert "verdict    different" in done.stdout
    assert "the first step at which the weights differ is 1 of" in done.stdout
    assert "weights.safetensors differ" in done.stdout
    assert copy.versions()[0][2]["rebuild.verdict"] == "different"
    assert (copy.home / "rebuild" / "small-1" / "code" / "artifacts" / "small" / "bundle").is_dir()  # left for a look


@pytest.mark.slow
def test_every_missing_piece_is_named_at_once_and_nothing_runs(copy: Checkout) -> None:
    tampered(
        copy, "requirements.lock", "numpy==", "numpy==1.0.0 ; python_version < '3'\nno-such-package==", "file.requirements.lock"
    )
    tampered(copy, "params.yaml", "small", "smaller")
    folder = Path(recorded(copy)["run"].removeprefix("file://"))
    (folder / "rebuild" / "dvc.yaml").unlink()
    (folder / "metrics.json").unlink()
    shutil.rmtree(copy.home / "serving", ignore_errors=True)
    model = Path(recorded(copy)["model"].removeprefix("file://")) / "artifacts" / "bundle" / "weights.safetensors"
    model.write_bytes(model.read_bytes()[:-1])
    folder_md5 = yaml.safe_load((copy.root / "data.dvc").read_text())["outs"][0]["md5"]
    objects = copy.home / "dvc-remote" / "files" / "md5"
    listed = {entry["relpath"]: entry["md5"] for entry in json.loads((objects / folder_md5[:2] / folder_md5[2:]).read_text())}
    shard = listed["shards/00000.npy"]
    (objects / shard[:2] / shard[2:]).unlink()
    commit = recorded(copy)["tags"]["git.commit"]
    forget_history(copy)
    done = copy.ae_in_process("rebuild", "small@1", UV_OFFLINE="1", UV_NO_INDEX="1")
    assert done.returncode == 3, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    for told in (
        "small@1 cannot be rebuilt, 7 pieces are missing",
        "metrics.json is not among the files of its run",
        "rebuild/dvc.yaml is not among the files of its run",
        "rebuild/params.yaml of its run is altered",
        "weights.safetensors was altered",
        f"the commit {commit} is gone",
        f"data/small/shards/00000.npy ({shard} is missing)",
        "no-such-package",
    ):
        assert told in done.stderr, (told, done.stderr)
    assert "train small@1" not in done.stderr
    assert not (copy.home / "rebuild" / "small-1").exists()
    assert "rebuild.verdict" not in copy.versions()[0][2]


def forget_history(copy: Checkout) -> None:
    """Leaves the repository with a new first commit and nothing of what was before."""
    branch = git(copy.root, "symbolic-ref", "--short", "HEAD").strip()
    git(copy.root, "checkout", "-q", "--orphan", "fresh")
    (copy.root / "README").write_text("fresh\n")
    git(copy.root, "add", "-A")
    git(copy.root, "commit", "-qm", "fresh")
    git(copy.root, "branch", "-D", branch)
    git(copy.root, "reflog", "expire", "--expire=now", "--all")
    git(copy.root, "gc", "-q", "--prune=now")


@pytest.mark.slow
def test_code_that_git_never_saw_is_told_by_the_lock(copy: Checkout) -> None:
    (copy.root / "ae_models" / "training.py").write_text("# another one\n")
    git(copy.root, "commit", "-qam", "another one")
    recorded(copy, {"git.commit": git(copy.root, "rev-parse", "HEAD").strip()})
    done = copy.ae_in_forks("rebuild", "small@1")
    assert done.returncode == 3, done.stdout + done.stderr
    assert "does not hold the code that the stages ran with, as their hashes in dvc.lock show: train" in done.stderr


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ("small", "expected RECIPE@VERSION, such as digits@7 or digits@champion, got 'small'"),
        ("small@9", "no version '9' of small"),
        ("smal@1", "did you mean small"),
    ],
)
def test_what_is_no_version_is_told(ran: Checkout, asked: str, told: str) -> None:
    done = ran.ae_in_process("rebuild", asked)
    assert done.returncode == 2
    assert told in done.stderr
