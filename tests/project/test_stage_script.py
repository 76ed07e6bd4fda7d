"""The commands of dvc.yaml find their Python, in whatever shell they are typed and wherever ae-pipeline is installed."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from checkout import ROOT

from aeops.data.pipeline_files import pipeline_text, record_python, write_pipeline_files
from aeops.project import Project
from aeops.project_files.templates import PIPELINE_FILES

SHOW = "import os, sys\nprint(sys.argv[1:], os.environ.get('SSL_CERT_FILE'))\n"
EMPTY = {"PATH": "/usr/bin:/bin"}  # a shell in which nothing was activated


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """A project whose stage `show` prints its arguments, in place of the installed packages."""
    project = Project(tmp_path / "project", tmp_path / "project" / ".ae")
    (project.root / "aeops" / "stages").mkdir(parents=True)
    for package in ("aeops", "aeops/stages"):
        (project.root / package / "__init__.py").touch()
    (project.root / "aeops" / "stages" / "show.py").write_text(SHOW)
    write_pipeline_files(project)
    return project


def type_stage(project: Project, **environment: str) -> "subprocess.CompletedProcess[str]":
    command = ["sh", ".dvc/stage", "show:0a1b", "--out", "two words"]
    return subprocess.run(command, cwd=project.root, env=EMPTY | environment, capture_output=True, text=True, check=False)


def test_the_committed_files_are_those_that_this_version_writes() -> None:
    for path in PIPELINE_FILES:
        assert (ROOT / path).read_text(encoding="utf-8") == pipeline_text(path, ROOT)


def test_it_runs_by_the_python_of_the_ae_that_started_dvc_and_keeps_its_environment(project: Project) -> None:
    done = type_stage(project, AE_PYTHON=sys.executable, SSL_CERT_FILE="/certs.pem")
    assert (done.stdout, done.returncode) == ("['--out', 'two words'] /certs.pem\n", 0)


def test_in_a_fresh_shell_it_runs_by_the_python_of_the_last_ae_here(project: Project) -> None:
    record_python(project)
    assert type_stage(project).stdout == "['--out', 'two words'] None\n"


@pytest.mark.parametrize("place", ["activated", "in the folder", "ae on the PATH"])
def test_it_finds_the_python_of_an_environment(project: Project, tmp_path: Path, place: str) -> None:
    folder = project.root / ".venv" if place == "in the folder" else tmp_path / "environment"
    (folder / "bin").mkdir(parents=True)
    (folder / "bin" / "python").write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    (folder / "bin" / "ae").write_text(f"#!{folder}/bin/python\n")
    for program in ("python", "ae"):
        (folder / "bin" / program).chmod(0o755)
    settings = {}
    if place == "activated":
        settings["VIRTUAL_ENV"] = str(folder)
    elif place == "ae on the PATH":
        settings["PATH"] = f"{folder / 'bin'}:/usr/bin:/bin"
    assert type_stage(project, **settings).stdout == "['--out', 'two words'] None\n"


def test_without_any_it_says_what_to_set(project: Project, tmp_path: Path) -> None:
    for program in ("sh", "cat", "head", "tr"):
        (tmp_path / "bin").mkdir(exist_ok=True)
        (tmp_path / "bin" / program).symlink_to(str(shutil.which(program)))
    (project.root / ".dvc" / "tmp").mkdir(parents=True)
    (project.root / ".dvc" / "tmp" / "ae-python").write_text("/gone/bin/python")
    done = type_stage(project, PATH=str(tmp_path / "bin"))
    assert done.returncode == 127
    assert done.stderr == "no Python with ae-pipeline was found: activate its environment, or set AE_PYTHON to its python\n"


@pytest.mark.slow
def test_dvc_in_a_fresh_shell_runs_a_stage(project: Project) -> None:
    record_python(project)
    (project.root / ".dvc" / "config").write_text("[core]\n    no_scm = true\n    analytics = false\n")
    stages = {"show": {"foreach": ["a"], "do": {"cmd": "sh .dvc/stage show --out ${item}"}}}
    (project.root / "dvc.yaml").write_text(yaml.safe_dump({"stages": stages}))
    environment = EMPTY | {"DVC_SITE_CACHE_DIR": str(project.home), "DVC_NO_ANALYTICS": "1", "HOME": str(project.home)}
    command = [sys.executable, "-m", "dvc", "repro"]
    done = subprocess.run(command, cwd=project.root, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "['--out', 'a'] None" in done.stdout


def test_files_of_an_older_version_are_replaced_and_a_persons_own_stay(project: Project) -> None:
    (project.root / ".dvc" / "stage").write_text("#!/bin/sh\n# Written by ae-pipeline: an older one\n")
    (project.root / "dvc.yaml").write_text("stages: {}\n")
    assert write_pipeline_files(project) == [".dvc/stage"]
    assert (project.root / "dvc.yaml").read_text() == "stages: {}\n"
    assert write_pipeline_files(project) == []


def test_the_script_is_plain_sh(tmp_path: Path) -> None:
    subprocess.run(["sh", "-n", str(ROOT / ".dvc" / "stage")], check=True)
    if shutil.which("shellcheck") is None:
        pytest.skip("shellcheck is not installed")
    subprocess.run(["shellcheck", "--shell=sh", str(ROOT / ".dvc" / "stage")], check=True, env=dict(os.environ))
