"""The only door to DVC: its command line, in a subprocess. Call it while holding the run lock."""

import configparser
import json
import os
from collections.abc import Callable

from aeops.errors import InfrastructureError
from aeops.process import run_module
from aeops.project import Project

STAGES = ("prepare", "train", "evaluate", "gate")


def dvc(project: Project, *arguments: str, meanwhile: Callable[[], None] | None = None) -> str:
    """Runs one DVC command and returns what it printed.

    Raises:
        AeError: what a stage in it reported, else InfrastructureError with DVC's last lines.
    """
    free_stale_lock(project)
    keep_state_in_home(project)
    log = project.logs / f"dvc-{arguments[0]}.log"
    return run_module(["dvc", *arguments], root=project.root, home=project.home, log=log, meanwhile=meanwhile)


def free_stale_lock(project: Project) -> None:
    """Removes what a killed DVC left: whoever holds the run lock is the only one who may be running DVC here."""
    (project.root / ".dvc" / "tmp" / "rwlock").unlink(missing_ok=True)


def keep_state_in_home(project: Project) -> None:
    """Points DVC's local remote and its site cache into the state folder, wherever AE_HOME has put that."""
    os.environ["DVC_SITE_CACHE_DIR"] = str(project.home / "dvc-site")
    local = project.root / ".dvc" / "config.local"
    section, url = "'remote \"local\"'", str(project.home / "dvc-remote")
    config = configparser.ConfigParser()
    config.read(local)
    if project.home == project.root / ".ae" and not config.has_section(section):
        return  # the committed configuration says the same
    if config.get(section, "url", fallback=None) == url:
        return
    if not config.has_section(section):
        config.add_section(section)
    config.set(section, "url", url)
    aside = local.with_suffix(".aside")
    with aside.open("w", encoding="utf-8") as file:
        config.write(file)
    aside.replace(local)


def add_data(project: Project) -> str:
    """Versions data/ and stores it in the remote; returns DVC's hash of the folder."""
    dvc(project, "add", "data")
    dvc(project, "push", "data.dvc")
    return data_hash(project)


def data_hash(project: Project) -> str:
    """The hash of data/ that data.dvc records."""
    import yaml

    return str(yaml.safe_load((project.root / "data.dvc").read_text(encoding="utf-8"))["outs"][0]["md5"])


def reproduce(project: Project, stage: str, recipe: str, meanwhile: Callable[[], None] | None = None) -> bool:
    """Brings one stage of a recipe up to date; returns whether its command ran (False: unchanged or restored)."""
    output = dvc(project, "repro", "--single-item", f"{stage}@{recipe}", meanwhile=meanwhile)
    return "Running stage" in output


def push_outputs(project: Project, recipe: str) -> None:
    """Stores the outputs of a recipe's stages in the remote."""
    dvc(project, "push", *(f"{stage}@{recipe}" for stage in STAGES))


def is_up_to_date(project: Project, recipe: str) -> bool:
    """Whether data/ and every stage of the recipe are as data.dvc and dvc.lock record them."""
    output = dvc(project, "status", "--json", "data.dvc", *(f"{stage}@{recipe}" for stage in STAGES))
    text = output[output.find("{") :]
    try:
        return bool(json.loads(text) == {})
    except json.JSONDecodeError as error:
        raise InfrastructureError(f"dvc status answered what is no JSON: {output[-300:]}") from error
