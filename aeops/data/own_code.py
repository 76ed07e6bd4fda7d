"""The code of a project's own parts: its files, and one SHA-256 for each stage of a recipe, by which a change trains again.

An own part has the code of the module that declares it, of the one that does its work, and of all that these import from the
project or from their own packages. A stage has that of the parts that the recipe names and the stage uses: encoder and decoder
for train, score and threshold for calibrate, studies and the parts of rivals for evaluate. Of an own source the ingest has it.
"""

import importlib.util
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from ae_models.mappings import map_values
from aeops.data.dataset import lines_sha256
from aeops.files import file_sha256
from aeops.machine.source_files import PACKAGES, file_references, parent_packages
from aeops.plugins import OwnParts, Part, Source, Study, own_parts
from aeops.recipe.reader import Recipe

OWN_STAGES = ("train", "calibrate", "evaluate")  # those that an own part can change
STAGES_OF_KEY = {"encode": "train", "decode": "train", "score": "calibrate", "threshold": "calibrate"}
HASH_DIGITS = 12  # of the hash, in a stage's command


def stage_suffixes(root: Path, recipe: Recipe) -> dict[str, str]:
    """Return what stands behind a stage's name in its command: `:<hash>` of its own code, or nothing where it has none."""
    suffixes = dict.fromkeys(OWN_STAGES, "")
    for stage, parts in _parts_by_stage(own_parts(root), recipe).items():
        if parts:
            suffixes[stage] = f":{own_code_sha256(root, parts)[:HASH_DIGITS]}"
    return suffixes


def own_source_sha256(root: Path, recipe: Recipe) -> str:
    """Return the SHA-256 of the code of the recipe's own source; empty for a source of this package."""
    own = [source for source in own_parts(root).sources if source.spec.kind == recipe.data.source.kind]
    return own_code_sha256(root, own) if own else ""


def own_code_sha256(root: Path, declared: Iterable[Part | Source | Study]) -> str:
    """Return the SHA-256 of the code of some own parts."""
    files = own_code_files(root, declared)
    return lines_sha256(map_values(file_sha256, files))


def all_own_files(root: Path) -> dict[str, Path]:
    """Return the files of every own part of a project, by their path below the folder that holds module or package."""
    return own_code_files(root, [declared for declared, _ in own_parts(root).declared_by])


def own_code_files(root: Path, declared: Iterable[Part | Source | Study]) -> dict[str, Path]:
    """Return the files of own parts: path as it is imported, such as `my_parts.py` or `my_package/scores.py` -> file."""
    parts, pending = own_parts(root), set[str]()
    for one in declared:
        pending |= {parts.declaring_module(one), one.work.partition(":")[0], one.spec.__module__}
    tops = {name.partition(".")[0] for name in pending}
    files: dict[str, Path] = {}
    seen: set[str] = set()
    while pending:
        name = pending.pop()
        top = name.partition(".")[0]
        if name in seen or top in PACKAGES or not (top in tops or _is_in_project(root, top)):
            continue
        seen.add(name)
        file = _module_file(root, name)
        if file is not None:
            path = name.replace(".", "/")
            files[f"{path}/__init__.py" if file.name == "__init__.py" else f"{path}.py"] = file
            pending |= {*parent_packages(name), *file_references(file, name).imports}
    return files


def _parts_by_stage(own: OwnParts, recipe: Recipe) -> dict[str, list[Any]]:
    declared: tuple[Part | Study, ...] = (*own.parts, *own.studies)
    by_spec: dict[Any, Part | Study] = {one.spec: one for one in declared}
    stages: dict[str, list[Any]] = {stage: [] for stage in OWN_STAGES}
    for prefix, fit in recipe.fits().items():
        for spec in (fit.model.encode, fit.model.decode, *_scores(fit.score), fit.threshold):
            part = by_spec.get(type(spec))
            if isinstance(part, Part):
                stages["evaluate" if prefix else STAGES_OF_KEY[part.key]].append(part)
    for study in recipe.evaluate.studies.values():
        if type(study) in by_spec:
            stages["evaluate"].append(by_spec[type(study)])
    return stages


def _scores(score: Any) -> Iterator[Any]:
    yield score
    yield from getattr(score, "scores", ())


def _is_in_project(root: Path, top: str) -> bool:
    return (root / f"{top}.py").is_file() or (root / top / "__init__.py").is_file()


def _module_file(root: Path, name: str) -> Path | None:
    """Return the source file of a module of the project, else of an installed one; None for a name in a module."""
    top, *rest = name.split(".")
    if (root / f"{top}.py").is_file() and not rest:
        return root / f"{top}.py"
    folder = root / top
    if not folder.is_dir():
        spec = importlib.util.find_spec(top)
        if spec is None or spec.origin is None:
            return None
        if not spec.submodule_search_locations:
            return None if rest else Path(spec.origin)
        folder = Path(spec.origin).parent
    path = folder.joinpath(*rest)
    for file in (path / "__init__.py", path.with_name(f"{path.name}.py")):
        if file.is_file():
            return file
    return None
