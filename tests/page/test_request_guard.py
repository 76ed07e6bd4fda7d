"""Who may look, by which name, with which password."""

import base64
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from aeops.errors import UsageError
from aeops.machine.passwords import server_password
from aeops.page.app import build_page_app
from aeops.project import Project


@pytest.fixture
def empty(tmp_path: Path) -> Project:
    (tmp_path / "recipes").mkdir()
    return Project(root=tmp_path, home=tmp_path / ".ae")


def asked(
    project: Project, host: str = "127.0.0.1:8080", password: str | None = None, given: str | None = None, path: str = "/"
) -> int:
    headers = {"host": host} | ({} if given is None else {"authorization": f"Basic {base64.b64encode(given.encode()).decode()}"})
    return TestClient(build_page_app(project, password)).get(path, headers=headers).status_code


@pytest.mark.parametrize("host", ["127.0.0.1:8080", "localhost", "[::1]:8080", "LOCALHOST:1"])
def test_this_machines_own_names_are_answered(empty: Project, host: str) -> None:
    assert asked(empty, host) == 200


@pytest.mark.parametrize(
    "host", ["rebound.example:8080", "127.0.0.1.rebound.example", "localhost@rebound.example", "", "[::1", "192.168.0.7"]
)
def test_another_name_on_loopback_is_refused(empty: Project, host: str) -> None:
    assert asked(empty, host) == 403


def test_the_right_password_opens_and_any_other_does_not(empty: Project) -> None:
    assert asked(empty, "elsewhere:8080", "pass:word", "ae:pass:word") == 200
    for wrong in (None, "ae:pass", "ae:", "root:pass:word", ":pass:word", "ae:pass:word "):
        assert asked(empty, "elsewhere:8080", "pass:word", wrong) == 401
    assert asked(empty, password="p", path="/healthz") == 200


def test_a_header_that_is_no_base64_is_refused(empty: Project) -> None:
    client = TestClient(build_page_app(empty, "p"))
    for header in (b"Basic ***", b"Bearer YWU6cA==", b"Basic", b"", b"Basic \xff", b"Basic \xc3\xa9", b"\xff"):
        answer = client.get("/", headers={"authorization": header})  # type: ignore[dict-item]  # httpx takes bytes
        assert (answer.status_code, answer.headers["www-authenticate"]) == (401, 'Basic realm="ae"')


def test_another_host_needs_a_password_file(tmp_path: Path) -> None:
    file = tmp_path / "password"
    with pytest.raises(UsageError, match="--password-file"):
        server_password("0.0.0.0", None)
    file.write_text("secret\n")
    file.chmod(0o600)
    assert server_password("0.0.0.0", file) == "secret"
    assert server_password("127.0.0.1", None) is None
    file.chmod(0o644)
    with pytest.raises(UsageError, match="chmod 600"):
        server_password("0.0.0.0", file)


@pytest.mark.parametrize("path", ["/data-docs/%00.html", "/r/%00", "/r/digits/%00", "/%00", "/?a=%00"])
def test_a_nul_character_is_a_bad_request(empty: Project, path: str) -> None:
    assert asked(empty, path=path) == 400


@pytest.mark.parametrize(
    "path", ["/data-docs/" + "a" * 300 + ".html", "/data-docs/" + "a/" * 3000 + "b.html", "/r/" + "a" * 5000]
)
def test_a_name_that_no_file_can_have_is_not_found(empty: Project, path: str) -> None:
    assert asked(empty, path=path) == 404


@pytest.mark.parametrize("origin", ["http://evil.example", "http://127.0.0.1:9", "null"])
def test_no_page_of_another_origin_is_answered(empty: Project, origin: str) -> None:
    client = TestClient(build_page_app(empty, None), base_url="http://127.0.0.1:8080")
    for method, path in (("GET", "/"), ("POST", "/try/digits"), ("OPTIONS", "/try/digits")):
        assert client.request(method, path, headers={"origin": origin}).status_code == 403


def test_a_compressed_sample_is_refused(empty: Project) -> None:
    client = TestClient(build_page_app(empty, None), base_url="http://127.0.0.1:8080")
    assert client.post("/try/digits", content=b"x", headers={"content-encoding": "gzip"}).status_code == 415
