"""The real stack and a real Chromium that shows a page of another origin: the page can start, change, read and score nothing.

As a control, the same requests from Prefect's own page, of a person who has logged in, are answered.
"""

import json
import shutil
import socket
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from checkout import make_checkout
from local_receivers import receiver

from aeops.machine.prefect_access import login_file

from .test_whole_stack import Stack, write_prefect_yaml

CHROMIUM = Path("/usr/bin/chromium")
pytestmark = [
    pytest.mark.long,
    pytest.mark.timeout(600),
    pytest.mark.skipif(not CHROMIUM.is_file(), reason=f"no {CHROMIUM} here: apt-get install chromium"),
]
REBOUND = "rebound.example"  # a name that its owner points at 127.0.0.1
ARGUMENTS = ("--no-sandbox", "--disable-gpu", "--no-first-run", f"--host-resolver-rules=MAP {REBOUND} 127.0.0.1")
SHELL = {"prefect.deployments.steps.run_shell_script": {"script": "touch /tmp/never-made-by-a-page"}}

ODD_HEADERS = (b"authorization: Basic \xff", b"authorization: Basic w6k6w6k=", b"content-encoding: gzip", b"origin: \xff")
SCRIPT = (Path(__file__).parent / "foreign_page.js").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with pytest.MonkeyPatch.context() as patch:
        for name in ("AE_HOME", "MLFLOW_TRACKING_URI", "PREFECT_API_URL", "PREFECT_API_AUTH_STRING"):
            patch.delenv(name, raising=False)
        checkout = make_checkout(tmp_path_factory.mktemp("stack") / "checkout")
        write_prefect_yaml(checkout)
        shutil.copy(Path(__file__).parent / "waiting.py", checkout.root / "flows")
        with receiver(204) as seen:
            made = Stack(checkout, seen)
            try:
                made.make_champion("digits")
                made.up()
                yield made
            finally:
                checkout.ae("down", timeout=120)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=str(CHROMIUM), args=list(ARGUMENTS))
        yield running
        running.close()


@pytest.fixture(scope="module")
def foreign_port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of a server with an ordinary page, which has nothing to do with the project."""
    folder = tmp_path_factory.mktemp("foreign")
    (folder / "index.html").write_text('<!doctype html><title>foreign</title><iframe name="hidden"></iframe>')
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(SimpleHTTPRequestHandler, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_port
    server.shutdown()


def addresses(stack: Stack, host: str = "127.0.0.1") -> dict[str, str]:
    names = {"prefect": "--prefect-port", "mlflow": "--mlflow-port", "page": "--page-port", "score": "--score-port"}
    return {name: f"http://{host}:{stack.ports[option]}" for name, option in names.items()}


def login(stack: Stack) -> str:
    return login_file(stack.project).read_text().strip()


def state(stack: Stack) -> dict[str, Any]:
    """What a page might have changed: flows, deployments, experiments, scored samples."""
    own = addresses(stack)
    body = json.dumps({"max_results": 1000}).encode()
    search = urllib.request.Request(
        f"{own['mlflow']}/api/2.0/mlflow/experiments/search", body, {"content-type": "application/json"}
    )
    with urllib.request.urlopen(search, timeout=30) as answer:
        experiments = sorted(experiment["name"] for experiment in json.load(answer).get("experiments", []))
    with urllib.request.urlopen(f"{own['score']}/metrics", timeout=30) as answer:
        [samples] = [line for line in answer.read().decode().splitlines() if line.startswith("ae_samples_total")]
    flows = sorted(stack.api.flow_names().values())
    return {"flows": flows, "deployments": sorted(stack.deployments()), "experiments": experiments, "samples": samples}


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", REBOUND])
def test_a_page_of_another_origin_can_do_nothing(stack: Stack, browser: Any, foreign_port: int, host: str) -> None:
    before = state(stack)
    with browser.new_context() as context:
        page = context.new_page()
        page.goto(f"http://{host}:{foreign_port}/")
        for own in ("127.0.0.1", "localhost"):
            servers = addresses(stack, own)
            results = page.evaluate(f"{SCRIPT}; attack", servers)
            answered = {name: result for name, result in results.items() if result not in ("stopped", "opaque")}
            assert answered == {}  # opaque: the page cannot see the refusal
            told = page.evaluate(f"{SCRIPT}; startWork", {"api": f"{servers['prefect']}/api", "login": None, "shell": SHELL})
            assert told.startswith("stopped")
    assert state(stack) == before
    assert stack.checkout.ae("status").returncode == 0


def test_no_server_answers_to_a_name_that_others_point_at_this_machine(stack: Stack, browser: Any) -> None:
    with browser.new_context() as context:
        page = context.new_page()
        for name, address in addresses(stack, REBOUND).items():
            assert page.goto(address).status == 403, name
            assert page.evaluate("async () => (await fetch('/health')).status") == 403, name
        assert page.goto(addresses(stack, REBOUND)["prefect"] + "/api/flows/filter").status == 403


def test_a_person_logs_in_to_prefects_page_by_what_ae_up_says(stack: Stack, browser: Any) -> None:
    for host in ("127.0.0.1", "localhost"):
        own = addresses(stack, host)
        with browser.new_context() as context:
            page = context.new_page()
            page.set_default_timeout(60_000)
            page.goto(own["prefect"])
            field = page.locator("input").first
            field.wait_for()
            field.fill(login(stack))
            field.press("Enter")
            page.wait_for_url(lambda address: "login" not in address)
            page.goto(f"{own['prefect']}/deployments")
            page.get_by_text("monitor-digits").first.wait_for()  # on the first page of the list


def test_what_the_page_tried_is_answered_where_a_person_has_logged_in(stack: Stack, browser: Any) -> None:
    """The control: those requests are well formed, and Prefect would have obeyed."""
    own = addresses(stack)
    with browser.new_context() as context:
        page = context.new_page()
        page.goto(f"{own['prefect']}/ui-settings")
        asked = {"api": f"{own['prefect']}/api", "login": None, "shell": None}
        assert page.evaluate(f"{SCRIPT}; startWork", asked) == "stopped: /flows/: 401"
        made = page.evaluate(f"{SCRIPT}; startWork", asked | {"login": login(stack)})
    assert stack.api.request("GET", f"deployments/{made}")["name"] == "shell"
    stack.api.request("DELETE", f"deployments/{made}")


def test_mlflows_and_our_own_pages_work_in_the_browser(stack: Stack, browser: Any) -> None:
    for host in ("127.0.0.1", "localhost"):
        own = addresses(stack, host)
        with browser.new_context() as context:
            page = context.new_page()
            page.set_default_timeout(60_000)
            statuses: list[int] = []
            page.on("response", lambda response, statuses=statuses: statuses.append(response.status))
            page.goto(f"{own['mlflow']}/#/models")
            page.get_by_text("digits").first.wait_for()
            page.goto(f"{own['page']}/r/digits")
            page.locator("#try-text").fill(json.dumps([[0] * 8] * 8))
            page.locator("#try-form button").click()
            page.locator("#try-answer .verdict").wait_for()
            assert not {401, 403} & set(statuses)


@pytest.mark.parametrize("name", ["prefect", "mlflow", "page", "score"])
def test_no_server_fails_at_odd_headers_and_none_keeps_a_silent_client(stack: Stack, name: str) -> None:
    port = int(addresses(stack)[name].rsplit(":", 1)[1])
    paths = {"prefect": b"/api/flows/filter", "mlflow": b"/api/2.0/mlflow/experiments/search", "page": b"/", "score": b"/model"}
    for path in (paths[name], b"/%00", b"/?x=%00", b"/%ff", b"/" + b"a" * 5000):
        for header in (
            b"authorization: Basic \xff",
            b"authorization: Basic w6k6w6k=",
            b"content-encoding: gzip",
            b"origin: \xff",
        ):
            with socket.create_connection(("127.0.0.1", port), timeout=30) as client:
                client.sendall(b"GET %b HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n%b\r\n\r\n" % (path, header))
                status = int(client.recv(65536).split(b" ", 2)[1])
            assert status < 500, (path, header)
    with socket.create_connection(("127.0.0.1", port), timeout=60) as client:
        assert client.recv(1) == b""  # after ten seconds


def test_ae_prefect_and_ae_status_pass_the_login_on_and_say_it(stack: Stack) -> None:
    listed = stack.checkout.ae("prefect", "deployment", "ls")
    assert listed.returncode == 0, listed.stderr
    assert "retrain-digits" in listed.stdout
    status = stack.checkout.ae("status").stdout
    assert str(login_file(stack.project)) in status
    assert login(stack).removeprefix("ae:") not in status + stack.logs()
    with suppress(FileNotFoundError):
        Path("/tmp/never-made-by-a-page").unlink()
        pytest.fail("a page has made the worker run a command")
