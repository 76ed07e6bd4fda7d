"""Read the small files that hold the project's state; one that is empty, cut or altered is named with the command to type.

    read_json(path, "fingerprint", "summary")      # DataError where the file is damaged or lacks a key
    read_json_if_whole(path, "services", "jobs")   # None where it is missing or damaged: of what is written anew anyway
    find_damaged_files(project)                    # for `ae doctor`

Writes are atomic, so damage comes from a disk, an editor or a copy that was cut short. Standard library only.
"""

import json
import shlex
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ae_models.names import names_not_in
from aeops.errors import DataError
from aeops.project import Project

RECIPE_PATTERN = "*"  # the part of a path that is a recipe's or a dataset's name


@dataclass(frozen=True)
class StateFile:
    """Files of state that are repaired in one way.

    Attributes:
        pattern: their path below the state folder, or below the checkout where `in_checkout`; `*` is any name.
        repair: what to type; `{path}` is the file, `{name}` what `*` stands for.
        is_vital: whether a command fails until it is repaired; others are written anew by themselves.
        in_checkout: where they lie.
        has_lines: whether each line is JSON of its own.
        may_be_empty: whether an empty file is a valid one.
    """

    pattern: str
    repair: str
    is_vital: bool = True
    in_checkout: bool = False
    has_lines: bool = False
    may_be_empty: bool = False


RUN_AGAIN = "ae run {name}"
ACCEPT_AGAIN = "ae run RECIPE, with a recipe whose data.dataset is {name}"
REMOVE = "rm {path}"
STATE_FILES = (
    StateFile("dvc-writes.json", REMOVE, is_vital=False),
    StateFile("dvc-writes/*.json", REMOVE, is_vital=False),
    StateFile("last-run/*.json", RUN_AGAIN, is_vital=False),
    StateFile("standing/*.json", RUN_AGAIN, is_vital=False),
    StateFile("incoming/*/dataset.json", ACCEPT_AGAIN),
    StateFile("forgetting/*.json", "ae forget RECIPE --ids FILE --why TEXT, with a recipe whose data.dataset is {name}"),
    StateFile("source-records/*.json", REMOVE, is_vital=False),
    StateFile("validation/*/validation.json", ACCEPT_AGAIN),
    StateFile("reports/*/comparison.json", RUN_AGAIN),
    StateFile("reports/*/evidence.json", RUN_AGAIN),
    StateFile("locks/run.lock", REMOVE, is_vital=False, may_be_empty=True),
    StateFile("locks/run-*.lock", REMOVE, is_vital=False, may_be_empty=True),
    StateFile("stack/settings.json", "ae down, then ae up"),
    StateFile("stack/state.json", REMOVE, is_vital=False),
    StateFile("stack/deployed.json", REMOVE, is_vital=False),
    StateFile("stack/ports.json", REMOVE, is_vital=False),
    StateFile("stack/outages.json", REMOVE, is_vital=False),
    StateFile("stack/crashes.json", REMOVE, is_vital=False),
    StateFile("notifications/sent.json", REMOVE, is_vital=False),
    StateFile("notifications/waiting/*.json", REMOVE, is_vital=False),
    StateFile("services/*.json", REMOVE, is_vital=False),
    StateFile("monitoring/*/verdict.json", "ae monitor {name}", is_vital=False),
    StateFile("monitoring/*/counts.json", REMOVE),
    StateFile("scoring/*/seen.json", REMOVE, is_vital=False),
    StateFile("scoring/*/run.json", REMOVE, is_vital=False),
    StateFile("scoring/*/latest.json", REMOVE, is_vital=False),
    StateFile("scoring/*/refused.jsonl", REMOVE, is_vital=False, has_lines=True, may_be_empty=True),
    StateFile("recipes/seeds/*.json", "ae seeds {name}", in_checkout=True),
    StateFile("recipes/quarantine/*.jsonl", "git checkout {path}", in_checkout=True, has_lines=True),
    StateFile("recipes/suites/*.jsonl", "git checkout {path}", in_checkout=True, has_lines=True),
    StateFile("data/*/receipt.json", ACCEPT_AGAIN, in_checkout=True),
    StateFile("data/*/dataset.json", ACCEPT_AGAIN, in_checkout=True),
    StateFile("artifacts/*/prepared/prepared.json", RUN_AGAIN, in_checkout=True),
    StateFile("artifacts/*/report/metrics.json", RUN_AGAIN, in_checkout=True),
    StateFile("artifacts/*/report/studies.json", RUN_AGAIN, in_checkout=True),
    StateFile("artifacts/*/verdict.json", RUN_AGAIN, in_checkout=True),
)


@dataclass(frozen=True)
class DamagedFile:
    """A file of state that cannot be read.

    Attributes:
        path: the file.
        reason: why, in a few words.
        type_this: the command that repairs it.
        is_vital: see `StateFile`.
    """

    path: Path
    reason: str
    type_this: str
    is_vital: bool


# ---------------------------------------------------------------- reading


def read_json(path: Path, *keys: str, repair: str = "") -> Any:
    """Return what a JSON file holds.

    Args:
        path: the file.
        keys: that it must have, as an object; none where any JSON is allowed.
        repair: what a person should type where the file is damaged; empty: what `STATE_FILES` says.

    Raises:
        FileNotFoundError: there is no such file.
        DataError: it is damaged; the message names it and the command to type.
    """
    text = path.read_bytes()
    try:
        return _parse_json(text, keys)
    except ValueError as error:
        raise DataError(f"{path} is damaged ({error}): {repair or _repair_hint(path)}") from error


def read_json_if_whole(path: Path, *keys: str) -> Any | None:
    """Return what a JSON file holds; None where there is none or it is damaged, which is printed to stderr.

    For files that are written anew by themselves, and that nothing but time is lost with. See `read_json`.
    """
    try:
        return read_json(path, *keys)
    except FileNotFoundError:
        return None
    except DataError as error:
        print(f"{error}; going on without it", file=sys.stderr, flush=True)
        return None


def read_json_lines_if_whole(path: Path, *keys: str) -> list[Any]:
    """Return what each line of a file holds; damaged lines are left out, and their number is printed to stderr.

    See `read_json_if_whole`; a missing file has no lines.
    """
    try:
        lines = path.read_bytes().splitlines()
    except FileNotFoundError:
        return []
    values = []
    for line in lines:
        try:
            values.append(_parse_json(line, keys))
        except ValueError:
            continue  # counted below
    if len(values) < len(lines):
        message = f"{path} is damaged ({len(lines) - len(values)} of {len(lines)} lines): {_repair_hint(path)}"
        print(f"{message}; going on without them", file=sys.stderr, flush=True)
    return values


def _parse_json(content: bytes, keys: tuple[str, ...]) -> Any:
    """Return the parsed JSON; raise ValueError with a reason."""
    if not content.strip(b"\0 \t\r\n"):
        raise ValueError("it is empty")
    try:
        value = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"no JSON: {' '.join(str(error).split())}") from error
    if keys and not isinstance(value, dict):
        raise ValueError("it holds no JSON object")
    missing_keys = names_not_in(keys, value)
    if missing_keys:
        raise ValueError(f"it lacks {', '.join(missing_keys)}")
    return value


# ---------------------------------------------------------------- repairing


def _repair_hint(path: Path) -> str:
    """Return what a person should type."""
    for state_file in STATE_FILES:
        if path.match(state_file.pattern):
            return f"type `{_repair_command(state_file, path)}`"
    return "put back a copy of it, or make it again with the command that wrote it"


def _repair_command(state_file: StateFile, path: Path) -> str:
    name = ""
    pattern_parts = Path(state_file.pattern).parts
    for pattern_part, path_part in zip(pattern_parts, path.parts[-len(pattern_parts) :], strict=True):
        if pattern_part.startswith(RECIPE_PATTERN):
            name = path_part.removesuffix(pattern_part.removeprefix(RECIPE_PATTERN))
    return state_file.repair.format(path=shlex.quote(str(path)), name=name)


def find_damaged_files(project: Project) -> Iterator[DamagedFile]:
    """Yield each file of state that cannot be read."""
    for state_file in STATE_FILES:
        folder = project.root if state_file.in_checkout else project.home
        for path in sorted(folder.glob(state_file.pattern)):
            reason = _damage_reason(state_file, path)
            if reason:
                yield DamagedFile(path, reason, _repair_command(state_file, path), state_file.is_vital)


def _damage_reason(state_file: StateFile, path: Path) -> str:
    """Return why a file cannot be read; empty where it can, or where this user may not read it."""
    try:
        content = path.read_bytes()
    except PermissionError:
        return ""  # such as the owner's secrets: whoever may read them finds damage
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    if state_file.may_be_empty and not content:
        return ""
    parts = content.splitlines() if state_file.has_lines else [content]
    for part in parts:
        try:
            _parse_json(part, ())
        except ValueError as error:
            return str(error)
    return ""
