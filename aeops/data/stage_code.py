"""SHA-256 of the code that each stage runs, for DVC and for the check that nothing has changed.

    python -m aeops.data.stage_code             # print the hashes
    python -m aeops.data.stage_code --write     # write them to params.yaml, as every `ae run` does before it asks DVC

The code of a stage is everything that its module `aeops.stages.<stage>` imports from this project, directly or indirectly: see
`aeops.machine.source_files`. Nothing has to be listed by hand: only `EXEMPT_MODULES` names modules that cannot change a result,
and `STAGE_EXEMPT_MODULES` those that cannot change the result of one stage. dvc.yaml depends on the hashes (`params:
[code.train]`) instead of on files, so a project that runs the installed packages notices a new release of them in the same way.
"""

import argparse
import hashlib
import re
from collections.abc import Collection
from functools import cache
from pathlib import Path

from aeops.errors import UsageError
from aeops.files import atomic_write, data_sha256, file_sha256
from aeops.machine.entry_point import run_main
from aeops.machine.lock import PROJECT_FILES_LOCK, file_lock
from aeops.machine.source_files import is_within, module_file, reexported_names, source_files
from aeops.project import Project, find_project

STAGES = ("prepare", "train", "calibrate", "evaluate", "gate")  # in the order of dvc.yaml
EXEMPT_MODULES = {
    "aeops.machine": "starts processes, holds locks, describes the machine",
    "aeops.errors": "messages and exit codes",
    "ae_models.errors": "messages",
    "aeops.project": "paths of files, not their content",
    "aeops.bundle.signing": "no stage signs; the recipe reader only checks the form of public keys",
    "aeops.recipe.monitoring": "settings that no stage reads",
    "aeops.plugins": "finds a project's own parts, whose code has a hash of its own",
}
# What a training reads of a recipe is ae_models.spec.WeightsSpec alone. The rest is only checked before it, as it may take hours.
STAGE_EXEMPT_MODULES = {
    "train": {
        "aeops.recipe": "checks the whole recipe; the values of input, model and train reach the weights as they are",
        "ae_models.spec.fit": "holds the sections together",
        "ae_models.spec.sample_rules": "rules of a served model, which the stage calibrate reads",
        "ae_models.spec.scores": "settings of a score, which the stage calibrate reads",
        "ae_models.spec.ensemble_scores": "as ae_models.spec.scores",
        "ae_models.spec.patch_scores": "as ae_models.spec.scores",
        "ae_models.spec.bank_scores": "as ae_models.spec.scores",
        "ae_models.spec.combined_score": "as ae_models.spec.scores",
        "ae_models.spec.faults": "names of the faults that a study injects",
        "ae_models.spec.thresholds": "settings of a threshold, which the stage calibrate reads",
        "ae_models.threshold_samples": "counts the samples of a threshold; the stage calibrate chooses it",
        "ae_models.thresholds": "as ae_models.threshold_samples, like the next four",
        "ae_models.threshold_interface": "what a kind of threshold is",
        "ae_models.threshold_laws": "the laws that they rest on",
        "ae_models.conformal_thresholds": "the kinds with a promise",
        "ae_models.unpromised_thresholds": "the kinds without one",
    },
}
HASHES_TEXT = re.compile(r"^(?:#[^\n]*\n)?code:[^\n]*\n(?:[ \t]+[^\n]*\n)*", re.MULTILINE)  # with the comment above it
HASHES_COMMENT = "# SHA-256 of the code of each stage. Written by `ae run`; by hand: python -m aeops.data.stage_code --write"


# ---------------------------------------------------------------- the code of a stage


@cache
def stage_sha256(root: Path, stage: str) -> str:
    """Return the SHA-256 of a stage's code.

    Args:
        root: the project's folder. The packages are taken from there if it holds them, as `python -m` does, else from where they
            are installed.
        stage: a module of aeops.stages, such as `train`.

    Raises:
        UsageError: there is no such stage.
    """
    exempt, code_hash = exempt_modules(stage), hashlib.sha256()
    for name, file in sorted(stage_files(root, stage).items()):
        code_hash.update(f"{_code_sha256(file, name, exempt)}  {name}\n".encode())
    return code_hash.hexdigest()


def _code_sha256(file: Path, name: str, exempt: Collection[str]) -> str:
    """Return the SHA-256 of a file; of a package that only exports names of its modules, that of the names that count."""
    names = reexported_names(file, name)
    if names is None:
        return file_sha256(file)
    return data_sha256("\n".join(sorted(exported for exported in names if not is_within(exported, exempt))))


def exempt_modules(stage: str) -> dict[str, str]:
    """Return the modules that are no part of a stage's code, with the reason."""
    return EXEMPT_MODULES | STAGE_EXEMPT_MODULES.get(stage, {})


def stage_files(root: Path, stage: str) -> dict[str, Path]:
    """Return the files of a stage's code, as `aeops.machine.source_files` names them.

    Raises:
        UsageError: there is no such stage.
    """
    module = f"aeops.stages.{stage}"
    if module_file(root, module) is None:
        raise UsageError(f"expected a stage of aeops.stages, got {stage!r}")
    return source_files(root, [module], exempt=exempt_modules(stage))


# ---------------------------------------------------------------- params.yaml


def code_hashes(root: Path) -> dict[str, str]:
    """Return the SHA-256 of the code of each DVC stage."""
    return {stage: stage_sha256(root, stage) for stage in STAGES}


def write_code_hashes(project: Project) -> bool:
    """Write the hashes to the project's params.yaml, whose other lines stay as they are; return whether the file has changed."""
    file, hashes = project.root / "params.yaml", code_hashes(project.root)
    with file_lock(project, PROJECT_FILES_LOCK):
        old_text = ""
        if file.is_file():
            old_text = file.read_text(encoding="utf-8")
        new_text = with_code_hashes(old_text, hashes)
        if new_text == old_text:
            return False
        atomic_write(file, new_text)
    return True


def with_code_hashes(text: str, hashes: dict[str, str]) -> str:
    """Return the text of params.yaml with these hashes as its last section."""
    lines = [HASHES_TEXT.sub("", text).rstrip("\n"), HASHES_COMMENT, "code:"]
    for stage, sha256 in hashes.items():
        lines.append(f"  {stage}: {sha256}")
    return "\n".join(filter(None, lines)) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m aeops.data.stage_code", description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help="write the hashes to params.yaml")
    project = find_project()
    if parser.parse_args().write:
        write_code_hashes(project)
    for stage, sha256 in code_hashes(project.root).items():
        print(f"{stage:<10} {sha256}")


if __name__ == "__main__":
    run_main(main)
