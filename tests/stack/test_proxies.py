"""A proxy in the environment: the project's own servers on this machine are never asked through it."""

import ast
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.request import proxy_bypass

import httpx
import pytest
import requests

from aeops.machine.library_settings import configure_libraries
from aeops.machine.network import is_own_address, open_url, proxy_exclusions
from aeops.machine.prefect_access import PrefectAccess, use_prefect
from aeops.machine.servers import is_healthy
from aeops.stack.prefect_api import PrefectApi

ROOT = Path(__file__).parents[2]
PROXY_VARIABLES = ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY", "no_proxy", "NO_PROXY")
# The modules that may open an address themselves: the one door, and the one that fetches a recipe's files from the network.
# The client, which is one file of its own, uses no proxy; notifications use them for hosts elsewhere.
DOORS = ("aeops/machine/network.py", "aeops/data/sources/fetch.py", "aeops/client/scoring_client.py", "aeops/alerts/sending.py")


class Own(BaseHTTPRequestHandler):
    """A server of the project."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"true")

    def log_message(self, format: str, *args: object) -> None:
        """Print nothing."""


@pytest.fixture
def own() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Own)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture
def proxy(monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """A proxy that accepts connections and answers none, named in every variable that there is."""
    for name in PROXY_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.01)
        for name in PROXY_VARIABLES[:4]:
            monkeypatch.setenv(name, f"http://127.0.0.1:{listener.getsockname()[1]}")
        yield listener
        with pytest.raises(TimeoutError):
            listener.accept()  # nobody has asked it


def test_our_own_requests_go_past_a_proxy(own: str, proxy: socket.socket) -> None:
    assert is_healthy(own)
    assert PrefectApi(f"{own}/api").request("GET", "health") is True
    with open_url(own.replace("127.0.0.1", "localhost"), 5) as answer:
        assert answer.status == 200


def test_the_health_check_of_a_container_goes_past_a_proxy(own: str, proxy: socket.socket) -> None:
    assert subprocess.run([sys.executable, ROOT / "deploy" / "bin" / "healthy", own], check=False, timeout=60).returncode == 0


def test_the_requests_of_libraries_go_past_a_proxy(own: str, proxy: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.setenv(name, "")  # restored afterwards
    configure_libraries()
    assert requests.get(own, timeout=5).status_code == 200
    assert httpx.get(own, timeout=5).status_code == 200
    assert proxy_bypass("127.0.0.1:80")  # which websockets asks


def test_a_socks_proxy_does_not_keep_prefects_client_from_starting(monkeypatch: pytest.MonkeyPatch, own: str) -> None:
    for name in (*PROXY_VARIABLES, "PREFECT_API_URL", "PREFECT_API_AUTH_STRING"):
        monkeypatch.setenv(name, "")  # restored afterwards
        monkeypatch.delenv(name)
    monkeypatch.setenv("ALL_PROXY", "socks5://127.0.0.1:9")
    with pytest.raises(ImportError, match="socksio"):
        httpx.Client()
    use_prefect(PrefectAccess(f"{own}/api", None))
    assert httpx.get(own, timeout=5).status_code == 200
    monkeypatch.setenv("ALL_PROXY", "socks5://127.0.0.1:9")
    assert "ALL_PROXY" not in PrefectAccess("http://prefect.example/api", None).environment()  # which may need it


def test_what_the_user_excludes_stays_excluded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.setenv("NO_PROXY", "example.org, localhost")
    names = proxy_exclusions("192.0.2.7")["no_proxy"].split(",")
    assert names == ["example.org", "localhost", "127.0.0.1", "::1", "192.0.2.7"]
    monkeypatch.setenv("NO_PROXY", "*")
    assert proxy_exclusions()["NO_PROXY"] == "*"


def test_an_address_of_this_machine_is_known() -> None:
    for host in ("127.0.0.1", "127.0.0.1:80", "localhost:80", "[::1]:80", "127.8.8.8"):
        assert is_own_address(host)
    for host in ("example.org", "192.0.2.7", "mlflow:5000", "", "localhost.example"):
        assert not is_own_address(host)


@pytest.mark.slow
@pytest.mark.parametrize("folder", ["aeops", "flows", "ae_models"])
def test_no_other_module_opens_an_address_itself(folder: str) -> None:
    """Whoever calls urlopen, httpx or requests goes through whatever proxy the environment names."""
    for file in sorted((ROOT / folder).rglob("*.py")):
        if str(file.relative_to(ROOT)) in DOORS:
            continue
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute | ast.Name):
                assert (node.attr if isinstance(node, ast.Attribute) else node.id) not in ("urlopen", "build_opener"), file
            if isinstance(node, ast.ImportFrom) and all(alias.name.endswith("Error") for alias in node.names):
                continue  # to catch what Prefect's client raises
            if isinstance(node, ast.Import | ast.ImportFrom):
                modules = [node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
                assert not {name.split(".")[0] for name in modules} & {"httpx", "requests", "aiohttp"}, file
