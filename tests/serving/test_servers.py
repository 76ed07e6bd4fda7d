"""The champion behind both servers: `mlflow models serve` and `ae serve`, as real processes on loopback."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from forked import start_ae

from aeops.bundle.answers import to_answers
from aeops.bundle.detector import Detector
from aeops.cli.serve import open_service_listener
from aeops.machine.network import find_free_port
from aeops.machine.servers import wait_until_healthy
from aeops.project import Project
from aeops.registry.store import open_store

REPOSITORY = Path(__file__).parents[2]


@dataclass(frozen=True)
class Server:
    address: str
    process: subprocess.Popen[str]
    example: str = ""  # the command that the server's greeting offers

    def post(self, path: str, body: Any) -> tuple[int, dict[str, Any]]:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        request = urllib.request.Request(self.address + path, data, {"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)

    def get(self, path: str) -> dict[str, Any]:
        with urllib.request.urlopen(self.address + path, timeout=30) as answer:
            return dict(json.load(answer))

    def maps(self) -> str:
        """The files that the processes of the server's group have in memory."""
        members = [folder for folder in Path("/proc").glob("[0-9]*") if group_of(int(folder.name)) == self.process.pid]
        assert members
        return "".join((folder / "maps").read_text(encoding="utf-8") for folder in members)


def group_of(pid: int) -> int | None:
    try:
        return os.getpgid(pid)
    except ProcessLookupError:
        return None


@contextmanager
def started(command: list[str], folder: Path, **environment: str) -> Iterator[subprocess.Popen[str]]:
    """A process in a group of its own, ended with all its children."""
    binaries = f"{Path(sys.executable).parent}:{os.environ['PATH']}"  # MLflow's server looks for uvicorn there
    settings = os.environ | {"PYTHONPATH": str(REPOSITORY), "PATH": binaries} | environment
    process = subprocess.Popen(command, cwd=folder, env=settings, stdout=subprocess.PIPE, text=True, start_new_session=True)
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):  # it ended by itself
            os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(timeout=15)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@pytest.fixture(scope="module")
def mlflow_server(project: Project) -> Iterator[Server]:
    port = find_free_port()
    served = ["models", "serve", "-m", "models:/digits@champion", "--env-manager", "local", "-p", str(port)]
    elsewhere = project.root / "elsewhere"
    elsewhere.mkdir()
    address = f"http://127.0.0.1:{port}"
    # Without this project on the path: the logged model brings what it needs.
    with started(
        [sys.executable, "-m", "mlflow", *served], elsewhere, MLFLOW_TRACKING_URI=open_store(project).uri, PYTHONPATH=""
    ) as process:
        wait_until_healthy(process, f"{address}/ping")
        yield Server(address, process)


@pytest.fixture(scope="module")
def ae_server(project: Project) -> Iterator[Server]:
    with started([sys.executable, "-m", "aeops.cli.main", "serve", "digits", "--port", "0"], project.root) as process:
        assert process.stdout is not None
        greeting = process.stdout.readline()
        assert "answers at" in greeting, f"{greeting!r}, exit code {process.poll()}"
        address = greeting.split("answers at ")[1].split(";")[0]
        example = process.stdout.readline().removeprefix("try: ")
        wait_until_healthy(process, f"{address}/healthz")
        yield Server(address, process, example)


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 7])
@pytest.mark.parametrize("params", [None, {"reconstruction": True, "code": True}])
def test_both_servers_answer_the_detectors_numbers(
    mlflow_server: Server, ae_server: Server, linear_bundle: Path, digits: np.ndarray, count: int, params: dict[str, bool] | None
) -> None:
    samples = digits[2000 : 2000 + count]
    expected = to_answers(Detector(linear_bundle).score(samples, **(params or {})))
    body = {"inputs": samples.tolist()} | ({"params": params} if params else {})
    assert mlflow_server.post("/invocations", body) == (200, {"predictions": expected})
    assert ae_server.post("/invocations", body) == (200, {"predictions": expected})
    status, answer = ae_server.post("/score", body)
    assert (status, answer["predictions"], len(answer["ids"])) == (200, expected, count)


def test_ae_serve_takes_a_bare_image(ae_server: Server, linear_bundle: Path, digits: np.ndarray) -> None:
    expected = to_answers(Detector(linear_bundle).score(digits[0]))
    assert ae_server.post("/score", {"inputs": digits[0, 0].tolist()})[1]["predictions"] == expected


def test_no_torch_in_either_serving_process_and_no_mlflow_in_ours(
    mlflow_server: Server, ae_server: Server, digits: np.ndarray
) -> None:
    for server in (mlflow_server, ae_server):
        assert server.post("/invocations", {"inputs": digits[:1].tolist()})[0] == 200
        assert "onnxruntime" in server.maps()
        assert "libtorch" not in server.maps()
    assert "pandas" not in ae_server.maps()  # what MLflow would have brought


def test_the_service_says_what_it_serves(ae_server: Server, linear_bundle: Path) -> None:
    output = ae_server.get("/model")
    assert output.pop("serving")["watched"]
    assert output == {
        "name": "digits",
        "version": "1",
        "bundle_sha256": Detector(linear_bundle).sha256,
        "input": {"kind": "image", "shape": [1, 28, 28], "low": 0, "high": 255},
        "threshold": Detector(linear_bundle).bundle["threshold"],
        "rules": None,
        "code": {"shape": [16]},
    }


BAD = [
    (b"{", 400, "got no valid JSON"),
    (b'{"inputs": [[NaN]]}', 400, "got no valid JSON"),
    ([1, 2], 400, "got a body without the key inputs"),
    ({"instances": []}, 400, "got a body without the key inputs"),
    ({"inputs": [[0]], "parms": {}}, 400, "no key 'parms'; inputs, params allowed: did you mean params?"),
    ({"inputs": [[0]], "params": {"codes": True}}, 400, "no param 'codes'; reconstruction, code allowed: did you mean code?"),
    ({"inputs": [[0]], "params": {"code": "yes"}}, 400, "expected true or false for the param code, got 'yes'"),
    ({"inputs": [[0]], "params": 3}, 400, "got params that are no object"),
    ({"inputs": [[0, 1]]}, 422, "expected one sample of shape (1, 28, 28) or a batch"),
    ({"inputs": []}, 422, "got samples of shape (0,)"),
    ({"inputs": [[1], [1, 2]]}, 422, "unequal shapes"),
    ({"inputs": [["a"]]}, 422, "expected whole or real numbers"),
    ({"inputs": None}, 422, "expected whole or real numbers"),
    ({"inputs": np.full((28, 28), 256).tolist()}, 422, "sample 0 holds values outside the range, expected values from 0 to 255"),
]


@pytest.mark.parametrize(("body", "status", "output"), BAD)
def test_a_bad_request_gets_one_clear_line(ae_server: Server, body: Any, status: int, output: str) -> None:
    code, answer = ae_server.post("/score", body)
    assert code == status
    assert list(answer) == ["error"]
    assert output in answer["error"]
    assert "\n" not in answer["error"]
    assert "Traceback" not in answer["error"]


def test_too_large_a_body_is_refused(ae_server: Server) -> None:
    status, answer = ae_server.post("/score", b" " * (64 * 2**20 + 1))
    assert (status, "at most 67108864 bytes" in answer["error"]) == (413, True)


@pytest.mark.parametrize("sample", [np.full((1, 1, 28, 28), 256.0), np.zeros((1, 1, 28, 27))])
def test_mlflows_server_refuses_what_no_sample_can_be(mlflow_server: Server, sample: np.ndarray) -> None:
    status, answer = mlflow_server.post("/invocations", {"inputs": sample.tolist()})
    assert status == 400
    assert ("expected values from 0 to 255" in answer["message"]) or ("(-1, 1, 28, 28)" in answer["message"])


def serve_in_a_fork(project: Project, log: Path, *arguments: str) -> tuple[int, str]:
    """Run `ae serve` until it ends; return its exit code and what it printed."""
    code = start_ae("serve", *arguments, cwd=project.root, env=os.environ, log=log).wait()
    return code, log.read_text(encoding="utf-8")


def test_a_taken_port_is_told_with_its_holder(ae_server: Server, project: Project, tmp_path: Path) -> None:
    port = ae_server.address.rsplit(":", 1)[1]
    code, output = serve_in_a_fork(project, tmp_path / "log", "digits", "--port", port)
    assert code == 5
    assert f"port {port} is taken by process {ae_server.process.pid}" in output
    assert f"--port {int(port) + 1}" in output


def test_answers_do_not_wait_for_acknowledgements() -> None:
    with open_service_listener("127.0.0.1", 0) as listener, socket.create_connection(listener.getsockname()):
        accepted, _ = listener.accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


@pytest.mark.usefixtures("modules_in_forks")
def test_a_recipe_without_a_champion_says_what_to_type(project: Project, tmp_path: Path) -> None:
    text = (project.recipes / "digits.yaml").read_text(encoding="utf-8")
    (project.recipes / "unborn.yaml").write_text(text.replace("recipe: digits", "recipe: unborn"), encoding="utf-8")
    code, output = serve_in_a_fork(project, tmp_path / "log", "unborn", "--port", "0")
    assert code == 2, output
    assert "make one with `ae run unborn`" in output


@pytest.mark.skipif(shutil.which("curl") is None, reason="the greeting's command needs curl")
def test_the_greetings_command_works_as_it_stands(ae_server: Server) -> None:
    done = subprocess.run(ae_server.example, shell=True, capture_output=True, text=True, timeout=30, check=True)
    assert list(json.loads(done.stdout)["predictions"][0]) == ["score", "p_value", "is_anomaly", "flags"]


@pytest.mark.slow
def test_the_service_stops_on_sigterm(ae_server: Server) -> None:
    """The last test here, as it ends the service of the others."""
    ae_server.process.send_signal(signal.SIGTERM)
    assert ae_server.process.wait(timeout=10) in (0, -signal.SIGTERM)
