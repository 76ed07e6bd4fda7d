"""The secret of the stack's Prefect server: who makes it, who may read it, who is given it."""

import os
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from uuid import uuid4

import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings
from stack_processes import record_service

from aeops.cli.decide import resume_run
from aeops.cli.health_checks import check_prefect
from aeops.cli.main import build_parser
from aeops.cli.prefect import find_access
from aeops.cli.up import requested_settings
from aeops.errors import InfrastructureError, UsageError
from aeops.machine import servers
from aeops.machine.prefect_access import (
    PrefectAccess,
    login_file,
    login_hint,
    make_login,
    prefect_access,
    recorded_access,
    stack_credentials,
    use_prefect,
)
from aeops.machine.servers import find_running_prefect, prefect_server, recorded_prefect
from aeops.machine.stack_settings import Settings, settings_file, write_settings
from aeops.project import Project
from aeops.stack.prefect_api import stack_prefect_api
from aeops.stack.service_definitions import define_services

SETTINGS = Settings()


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    for name in ("PREFECT_API_URL", "PREFECT_API_AUTH_STRING", "MLFLOW_TRACKING_URI", "AE_HOME"):
        monkeypatch.delenv(name, raising=False)
    return Project(root=tmp_path, home=tmp_path / ".ae")


def test_the_secret_is_made_once_random_and_for_its_owner_alone(project: Project, tmp_path: Path) -> None:
    make_login(project)
    first = stack_credentials(project, SETTINGS)
    assert first is not None
    assert first.startswith("ae:")
    assert len(first) > 30
    assert login_file(project).stat().st_mode & 0o777 == 0o600
    make_login(project)
    assert stack_credentials(project, SETTINGS) == first
    other = Project(root=tmp_path, home=tmp_path / "other")
    make_login(other)
    assert stack_credentials(other, SETTINGS) != first


def test_server_worker_and_clients_get_the_secret_and_no_command_line_does(project: Project) -> None:
    make_login(project)
    secret = str(stack_credentials(project, SETTINGS))
    made = {one.name: one for one in define_services(project, SETTINGS, ["small"], skip_used_ports=False)}
    assert made["prefect"].environment["PREFECT_SERVER_API_AUTH_STRING"] == secret
    assert made["prefect"].environment["PREFECT_SERVER_CORS_ALLOWED_ORIGINS"] == "http://127.0.0.1:4200"
    assert made["prefect"].environment["PREFECT_SERVER_UI_API_URL"] == "/api"
    assert "--any-name" not in made["prefect"].command
    assert made["worker"].environment["PREFECT_API_AUTH_STRING"] == secret
    assert stack_prefect_api(project, SETTINGS).headers["Authorization"].startswith("Basic ")
    assert not [one for one in made.values() if secret.removeprefix("ae:") in " ".join(one.command)]
    for name in ("mlflow", "score-small", "page"):  # which cannot start work
        assert secret not in made[name].environment.values()


def test_a_stack_without_a_secret_starts_no_server(project: Project) -> None:
    assert stack_credentials(project, SETTINGS) is None  # as one that an earlier version has started
    with pytest.raises(InfrastructureError, match="prefect-login is missing: type `ae up`"):
        list(define_services(project, SETTINGS, [], skip_used_ports=False))


@pytest.mark.parametrize(
    ("content", "mode", "told"),
    [
        ("ae:secret\n", 0o640, "chmod 600"),
        ("", 0o600, "is damaged"),
        ("secret", 0o600, "is damaged"),
        ("ae:é", 0o600, "cannot be read"),
    ],
)
def test_a_secret_that_is_open_or_damaged_is_told(project: Project, content: str, mode: int, told: str) -> None:
    login_file(project).parent.mkdir(parents=True)
    login_file(project).write_text(content, encoding="utf-8")
    login_file(project).chmod(mode)
    with pytest.raises(InfrastructureError, match=told):
        stack_credentials(project, SETTINGS)


def test_another_server_is_never_sent_the_secret(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    make_login(project)
    write_settings(project, SETTINGS)
    assert recorded_access(project, SETTINGS.prefect_api).credentials == stack_credentials(project, SETTINGS)
    assert recorded_access(project, "http://127.0.0.1:9/api").credentials is None
    monkeypatch.setenv("PREFECT_API_URL", "http://prefect.example/api")
    assert prefect_access(project, SETTINGS) == PrefectAccess("http://prefect.example/api", None)
    monkeypatch.setenv("PREFECT_API_AUTH_STRING", "ada:theirs")
    assert prefect_access(project, SETTINGS).credentials == find_access(project).credentials == "ada:theirs"


def test_up_says_how_to_log_in(project: Project) -> None:
    assert f"`cat {login_file(project)}`" in login_hint(project, SETTINGS)
    assert "`ae prefect ...`" in login_hint(project, SETTINGS)
    assert "ae:PASSWORD" in login_hint(project, Settings(password_file="/secret"))


def test_every_argument_after_ae_prefect_is_prefects() -> None:
    for typed in (["deployment", "ls"], ["--help"], ["deployment", "run", "a/b", "--param", "x=1"], ["-p", "x", "--", "y"], []):
        parsed = build_parser().parse_args(["prefect", *typed])
        assert parsed.arguments == [word for word in typed if word != "--"] or parsed.arguments == typed


class Healthy(BaseHTTPRequestHandler):
    """Whatever answers 200, as Prefect does where its health is asked."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Print nothing."""


def test_a_running_server_is_found_with_its_secret_and_doctor_names_a_damaged_one(project: Project) -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Healthy)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    settings = Settings(prefect_port=server.server_port)
    write_settings(project, settings)
    make_login(project)
    record_service(project, "prefect", api_url=settings.prefect_api)
    assert find_running_prefect(project) == find_access(project) == prefect_access(project, settings)
    assert check_prefect(project).level == "good"
    login_file(project).chmod(0o644)
    assert (check_prefect(project).level, "chmod 600" in check_prefect(project).message) == ("fault", True)
    server.shutdown()
    server.server_close()


def test_ae_prefect_without_a_server_says_what_to_type(project: Project) -> None:
    assert find_running_prefect(project) is None
    with pytest.raises(InfrastructureError, match="type `ae up`"):
        find_access(project)


def test_a_password_that_prefect_cannot_compare_is_refused(project: Project) -> None:
    file = project.root / "password"
    file.write_text("geheim-é\n", encoding="utf-8")
    file.chmod(0o600)
    with pytest.raises(UsageError, match="ASCII"):
        requested_settings(project, build_parser().parse_args(["up", "--password-file", str(file)]))


def test_the_environment_of_a_client_names_server_and_secret() -> None:
    access = PrefectAccess("http://127.0.0.1:4200/api", "ae:secret")
    variables = access.environment()
    assert (variables["PREFECT_API_URL"], variables["PREFECT_API_AUTH_STRING"]) == (access.api_url, "ae:secret")
    assert "PREFECT_API_AUTH_STRING" not in PrefectAccess("http://127.0.0.1:4200/api", None).environment()
    assert os.environ.get("PREFECT_API_AUTH_STRING") is None


class Refusing(Healthy):
    """Answers 401 to everything but its health, as Prefect does without its secret."""

    def do_GET(self) -> None:
        self.send_response(200 if self.path.endswith("/health") else 401)
        self.end_headers()

    def do_POST(self) -> None:
        self.do_GET()


@pytest.fixture
def healthy_server() -> Iterator[ThreadingHTTPServer]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Healthy) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def test_a_server_whose_secret_only_another_user_knows_is_found_and_not_used(
    project: Project, healthy_server: ThreadingHTTPServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings(prefect_port=healthy_server.server_port)
    write_settings(project, settings)
    make_login(project)
    record_service(project, "prefect", api_url=settings.prefect_api)
    monkeypatch.setattr(servers, "prefect_server_command", lambda port: [sys.executable, "-c", "input()"])
    with prefect_server(project) as server:
        assert (server.is_of_stack, server.access) == (True, prefect_access(project, settings))
    monkeypatch.delenv("PREFECT_API_URL")
    monkeypatch.delenv("PREFECT_API_AUTH_STRING")
    monkeypatch.setattr(servers, "may_read", lambda file: file != settings_file(project))  # as of another user's file
    assert find_running_prefect(project) == recorded_prefect(project) == PrefectAccess(settings.prefect_api, None)
    with prefect_server(project) as server:
        assert not server.is_of_stack
        assert server.access.api_url != settings.prefect_api
        assert server.process is not None
    assert "only the user who typed `ae up` can resume it" in resume_run(project, str(uuid4()), {})


def test_a_server_that_refuses_to_resume_a_run_is_said_in_one_line(
    project: Project, healthy_server: ThreadingHTTPServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    healthy_server.RequestHandlerClass = Refusing
    api_url = f"http://127.0.0.1:{healthy_server.server_port}/api"
    monkeypatch.setenv("PREFECT_API_URL", api_url)
    with temporary_settings({PREFECT_API_URL: api_url}):  # Prefect has read its settings before
        message = resume_run(project, str(uuid4()), {})
    assert message.startswith("stays suspended (")
    assert "401" in message
    assert "\n" not in message


def test_a_temporary_server_leaves_the_environment_as_it_was(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(servers, "prefect_server_command", lambda port: [sys.executable, "-c", "input()"])
    monkeypatch.setenv("PREFECT_API_AUTH_STRING", "ada:theirs")
    before = dict(os.environ)
    with prefect_server(project) as server:
        assert os.environ["PREFECT_API_AUTH_STRING"] == server.access.credentials
        del os.environ["PREFECT_API_URL"]  # whatever the block does, the server ends
    assert dict(os.environ) == before
    assert server.process is not None
    assert server.process.poll() is not None


def test_the_secret_of_another_server_is_not_sent_to_one_that_asks_for_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_API_URL", "")
    monkeypatch.setenv("PREFECT_API_AUTH_STRING", "ada:theirs")
    use_prefect(PrefectAccess("http://127.0.0.1:4200/api", None))
    assert "PREFECT_API_AUTH_STRING" not in os.environ
