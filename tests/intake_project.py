"""A project in a scratch folder in which `ae new` is typed."""

import io
import shutil
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from aeops.cli.main import main
from aeops.data.sources.catalogue import read_source
from aeops.data.sources.samples import SourceSamples
from aeops.project import Project, find_project
from aeops.recipe.reader import Recipe, load_recipe

CHECKOUT = Path(__file__).parents[1]


@dataclass(frozen=True)
class NewProject:
    """A project without recipes, which is the current folder."""

    root: Path

    @property
    def project(self) -> Project:
        return find_project(self.root)

    def new(self, name: str, origin: Path | str, *options: str) -> tuple[int, str, str]:
        """Type `ae new NAME --from ORIGIN OPTION...`; return the exit code and what was printed to each stream."""
        printed, errors = io.StringIO(), io.StringIO()
        with redirect_stdout(printed), redirect_stderr(errors):
            code = main(["new", name, "--from", str(origin), *options])
        return code, printed.getvalue(), errors.getvalue()

    def recipe(self, name: str) -> Recipe:
        return load_recipe(self.project, name)

    def samples(self, name: str) -> SourceSamples:
        return read_source(self.recipe(name), self.project)

    def keys(self, name: str) -> dict[str, Any]:
        keys: dict[str, Any] = yaml.safe_load(self.project.recipe_file(name).read_text(encoding="utf-8"))
        return keys


def make_project(root: Path, monkeypatch: pytest.MonkeyPatch) -> NewProject:
    """Return a new project, with this process in its folder."""
    (root / "recipes").mkdir(parents=True)
    shutil.copy(CHECKOUT / "dvc.yaml", root)
    monkeypatch.delenv("AE_HOME", raising=False)
    monkeypatch.chdir(root)
    return NewProject(root)
