"""Where stages run, as far as no cluster is needed to know it: names, tokens, what is refused, what a killed cluster leaves."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from checkout import ROOT

from aeops.data.stage_runs import StageCommand
from aeops.errors import InfrastructureError, InternalError, TransientError, UsageError
from aeops.machine.network import find_free_port
from aeops.places.open_place import RUN_ON_VARIABLE, choose_place, open_place, require_place, set_place
from aeops.places.pool import MAX_STARTS, run_command
from aeops.places.ray_cluster import RayCluster
from aeops.places.ray_connection import explain_failure
from aeops.places.ray_sessions import LINK_FILE, make_session, remove_session, short_path
from aeops.places.ray_settings import TOKEN_VARIABLES, cluster_token, make_token, ray_environment
from aeops.project import Project
from aeops.recipe.run_place import HERE, LOCAL_CLUSTER, RunPlace, parse_place

CLUSTER = RunPlace("ray://10.0.0.5:6379", "10.0.0.5", 6379)
# Holds a file open and does not end by itself, as an agent of Ray that has outlived its cluster.
LEFT_OVER = "import sys, time; file = open(sys.argv[1], 'w'); print(flush=True); time.sleep(60)"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    for name in (*TOKEN_VARIABLES, RUN_ON_VARIABLE):
        monkeypatch.delenv(name, raising=False)
    return Project(tmp_path, tmp_path / ".ae")


def test_a_place_is_here_a_cluster_of_this_machine_or_another_one() -> None:
    assert [parse_place(text, "--on") for text in (HERE, LOCAL_CLUSTER)] == [RunPlace(HERE), RunPlace(LOCAL_CLUSTER)]
    assert parse_place("ray://10.0.0.5:6379", "--on") == CLUSTER
    assert parse_place("ray://[::1]:6379", "--on").host == "::1"
    assert parse_place(HERE, "--on").is_here
    assert not parse_place(LOCAL_CLUSTER, "--on").is_here


@pytest.mark.parametrize(
    "text", ["", "ray", "there", "ray:", "ray://head", "ray://head:0", "ray://head:99999", "ray://head:6379/x"]
)
def test_another_place_is_refused_with_those_that_there_are(text: str) -> None:
    with pytest.raises(UsageError, match=r"--on: expected here, ray:local or ray://HOST:PORT, got '"):
        parse_place(text, "--on")


def test_the_flag_overrides_the_projects_setting(project: Project) -> None:
    assert choose_place(project, None).is_here
    (project.root / "ae.yaml").write_text("run: {on: 'ray://10.0.0.5:6379'}\n")
    assert choose_place(project, None) == CLUSTER
    assert choose_place(project, HERE).is_here


def test_a_run_names_its_place_to_its_processes(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(RUN_ON_VARIABLE, "")
    set_place(project, HERE)
    (project.root / "ae.yaml").write_text(f"run: {{on: '{LOCAL_CLUSTER}'}}\n")
    assert os.environ[RUN_ON_VARIABLE] == HERE
    assert choose_place(project, None).is_here


@pytest.mark.parametrize(("place", "module"), [("here", "aeops.stages.train"), ("ray:local", "aeops.places.run_stage")])
def test_a_stage_of_dvc_trains_at_the_place_of_its_run(place: str, module: str, tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\necho "$@"\n')
    python.chmod(0o700)
    script = ROOT / "aeops" / "project_files" / "stage.sh"
    environment = os.environ | {"AE_PYTHON": str(python), RUN_ON_VARIABLE: place}
    for stage, expected in (("train:0123", module), ("gate", "aeops.stages.gate")):
        done = subprocess.run(["sh", script, stage, "--out", "x"], env=environment, capture_output=True, text=True, check=True)
        words = ["-m", expected, *(["train"] if expected.endswith("run_stage") else []), "--out", "x"]
        assert done.stdout.split() == words


# ---------------------------------------------------------------- what is refused before anything runs


def test_without_ray_the_command_that_installs_it_is_said(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UsageError, match=r"type pip install 'ae-pipeline\[ray\]'"):
        require_place(project, RunPlace(LOCAL_CLUSTER))


def test_a_cluster_needs_a_token_that_nobody_else_may_read(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match=r"expected the cluster's token in .*\.ae/ray/token, got none"):
        cluster_token(project, CLUSTER)
    file = project.home / "ray" / "token"
    make_token(file)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert cluster_token(project, CLUSTER) == file
    file.chmod(0o644)
    with pytest.raises(InfrastructureError, match="expected mode 0600, got 0644: type chmod 600"):
        cluster_token(project, CLUSTER)
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", "/run/secrets/ray")
    assert cluster_token(project, CLUSTER) is None


def test_a_cluster_that_does_not_answer_is_said_before_anything_starts(project: Project) -> None:
    make_token(project.home / "ray" / "token")
    port = find_free_port()
    place = parse_place(f"ray://127.0.0.1:{port}", "--on")
    with (
        pytest.raises(InfrastructureError, match=f"no cluster answers at 127.0.0.1:{port} .*or type --on here"),
        open_place(project, place),
    ):
        pass


@pytest.mark.parametrize(
    ("output", "kind", "message"),
    [
        (
            "Failed to connect to Ray cluster at 10.0.0.5:6379 [W] gcs_client.cc:210: Failed to get cluster ID from GCS server: "
            "Unauthenticated: RPC error: InvalidAuthToken: Authentication token is missing or incorrect",
            UsageError,
            "refuses this token: put the token that it was started with in .ae/ray/token",
        ),
        ("Version mismatch: The cluster was started with: Ray: 2.59.0", UsageError, "install the same ones"),
        ("No node info found matching attributes: '10.0.0.9' when", UsageError, "ray start --address=10.0.0.5:6379 --num-cpus=0"),
        ("Failed to connect to Ray cluster at 10.0.0.5:6379", TransientError, "does not answer"),
    ],
)
def test_why_a_cluster_cannot_be_joined_is_said_with_what_to_do(output: str, kind: type[Exception], message: str) -> None:
    failure = explain_failure(output, "10.0.0.5:6379")
    assert type(failure) is kind
    assert message in str(failure)


def test_a_driver_that_cannot_begin_says_why(tmp_path: Path) -> None:
    project = Project(ROOT, tmp_path / ".ae")
    (project.home / "ray").mkdir(parents=True)
    (project.home / "ray" / "sessions").write_text("a file in the place of the folder")
    cluster = RayCluster(project, RunPlace(LOCAL_CLUSTER), cores=1)
    with pytest.raises(InternalError, match=r"ray/sessions"), cluster:
        pass
    assert cluster.driver is None
    assert not Path(cluster.scratch_folder.name).exists()


# ---------------------------------------------------------------- state


def test_ray_is_told_nothing_of_the_home_folder_and_sends_nothing(project: Project) -> None:
    settings = ray_environment(project.home / "token", one_machine=True)
    assert (settings["RAY_USAGE_STATS_ENABLED"], settings["RAY_AUTH_MODE"]) == ("0", "token")
    assert settings["RAY_AUTH_TOKEN_PATH"] == str(project.home / "token")
    assert settings["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] == "0"  # by which Ray listens on the loopback device alone
    assert "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER" not in ray_environment(None, one_machine=False)


def test_a_new_session_ends_what_a_killed_one_has_left(project: Project) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    dead = project.home / "ray" / "sessions" / f"{ended.pid}-0.0"
    dead.mkdir(parents=True)
    link = short_path(dead)
    left = subprocess.Popen([sys.executable, "-c", LEFT_OVER, str(link / "agent.log")], stdout=subprocess.PIPE)
    assert left.stdout is not None
    left.stdout.readline()
    session = make_session(project)
    left.wait(timeout=20)  # it would sleep for longer
    assert not dead.exists()
    assert not link.parent.exists()
    assert stat.S_IMODE(session.stat().st_mode) == 0o700
    assert make_session(project) == session  # of a process at work, which another one would let be


def test_a_session_is_known_to_ray_by_a_path_short_enough_for_its_sockets(project: Project, tmp_path: Path) -> None:
    session = tmp_path / ("long" * 40) / f"{os.getpid()}-0.0"
    session.mkdir(parents=True)
    link = short_path(session)
    assert len(f"{link}/session_2026-11-30_10-22-16_291830_1234567/sockets/plasma_store") < 107
    assert link.resolve() == session
    assert (session / LINK_FILE).read_text() == str(link)
    remove_session(session)
    assert not session.exists()
    assert not link.parent.exists()


class Killed:
    """A command that is killed so many times."""

    def __init__(self, kills: int) -> None:
        self.kills, self.starts = kills, 0

    def start(self, command: StageCommand) -> "Killed":
        self.starts += 1
        return self

    def is_running(self) -> bool:
        return False

    def wait(self) -> str:
        if self.starts <= self.kills:
            raise TransientError("killed")
        return "done"

    def close(self) -> None:
        pass


def test_a_killed_command_is_started_again_a_few_times(project: Project) -> None:
    command = StageCommand(("x",), project.root, project.home, project.logs / "x.log")
    assert run_command(command, Killed(MAX_STARTS - 1).start) == "done"
    always = Killed(MAX_STARTS)
    with pytest.raises(TransientError):
        run_command(command, always.start)
    assert always.starts == MAX_STARTS
