"""ae.yaml: what a project says of itself, beside its recipes. `ae init` writes it, and people edit it.

A section is a frozen dataclass; to add one, give it a field of `ProjectSettings` with a default. The JSON Schema and the checks
follow from the dataclasses, and a project without the file has every default.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path

from ae_models.names import names_of
from ae_models.spec import SpecReader, join_names
from aeops.errors import UsageError
from aeops.plugins import SETTINGS_FILE
from aeops.recipe.notify_settings import NotifySettings
from aeops.recipe.run_place import HERE, parse_place
from aeops.recipe.yaml_reader import read_yaml

_WHOLE = "project"  # the path of the file's own mapping, in messages


@dataclass(frozen=True)
class RunSettings:
    """Where trainings, sweeps and the scoring of large files work."""

    # here: this machine; ray:local: a Ray cluster of this machine, for as long as it is needed; ray://HOST:PORT: an existing one.
    on: str = HERE

    def validation_errors(self) -> list[str]:
        try:
            parse_place(self.on, "on")
        except UsageError as error:
            return [str(error)]
        return []


@dataclass(frozen=True)
class ProjectSettings:
    """The settings of a project."""

    plugins: tuple[str, ...] = ()  # modules with own parts, sources and studies, such as my_parts of a file my_parts.py
    run: RunSettings = field(default_factory=RunSettings)  # where the stages of a run work
    notify: NotifySettings = field(default_factory=NotifySettings)  # who is notified of what

    def validation_errors(self) -> list[str]:
        errors = []
        for name in self.plugins:
            if not all(part.isidentifier() for part in name.replace(":", ".", 1).split(".")):
                errors.append(f"plugins: expected names of modules, such as my_parts, or module:object, got {name!r}")
        if len(set(self.plugins)) < len(self.plugins):
            errors.append("plugins: a module stands twice: remove one of them")
        return errors


def read_project_settings(root: Path) -> ProjectSettings:
    """Read ae.yaml of the project in a folder; without the file, the defaults.

    Raises:
        UsageError: with every mistake in it.
    """
    file = root / SETTINGS_FILE
    if not file.is_file():
        return ProjectSettings()
    document = read_yaml(file)
    if document is None:  # comments alone
        return ProjectSettings()
    if not isinstance(document, Mapping):
        names = join_names(names_of(fields(ProjectSettings)))
        raise UsageError(f"{SETTINGS_FILE}: expected a mapping with {names}, got {type(document).__name__}")
    reader = SpecReader(SETTINGS_FILE)
    settings = reader.read(ProjectSettings, _with_text_keys(document), _WHOLE)
    if reader.mistakes:
        raise UsageError("\n".join(mistake.replace(f" {_WHOLE}.", " ") for mistake in reader.mistakes))
    assert isinstance(settings, ProjectSettings)
    return settings


def _with_text_keys(document: Mapping[object, object]) -> dict[object, object]:
    """Return the mapping with the key `on` as a word, which YAML 1.1 reads as true."""
    pairs = {}
    for key, value in document.items():
        pairs["on" if key is True else key] = _with_text_keys(value) if isinstance(value, Mapping) else value
    return pairs
