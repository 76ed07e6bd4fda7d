"""The try-it box's other end: what a sample is told, by this process and by a real scoring service."""

import io
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import httpx
import numpy as np
import pytest
from checkout import Checkout, wait_for
from PIL import Image
from stack_processes import record_service

from aeops.bundle.detector import Detector
from aeops.errors import DataError, InfrastructureError, UsageError
from aeops.kinds.pictures import data_address
from aeops.kinds.results import PageBlock
from aeops.kinds.samples import FittedSample
from aeops.page import pictures
from aeops.page.app import template_environment
from aeops.page.stack_status import ServiceStatus, check_service
from aeops.page.try_it import LARGEST_UPLOAD, Upload, try_sample
from aeops.predictions import prediction_store
from aeops.project import Project
from aeops.recipe.reader import load_recipe
from aeops.registry import ledger
from aeops.registry.champion_anchor import build_head

from .conftest import HOSTILE, Served, copied


@pytest.fixture(scope="module")
def client(served: Served) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=served.address, timeout=60) as made:
        yield made


def png(values: np.ndarray) -> bytes:
    written = io.BytesIO()
    Image.fromarray(values).save(written, "PNG")
    return written.getvalue()


def post(client: httpx.Client, content: bytes, kind: str = "image/png", **headers: str) -> httpx.Response:
    return client.post("/try/digits", content=content, headers={"content-type": kind, **headers})


def test_a_digit_is_told_its_score_its_pictures_and_its_prediction(
    client: httpx.Client, project: Project, digits: np.ndarray, linear_bundle: Path
) -> None:
    answer = post(client, png(digits[1300, 0]), **{"x-file-name": "a%20seven.png"})
    assert answer.status_code == 200, answer.text
    expected = Detector(linear_bundle).score(digits[1300])
    for words in (
        "a seven.png",
        f"{expected['score'][0]:.4f}",
        f"{expected['p_value'][0]:.4f}",
        "Reconstruction",
        "Error at each",
    ):
        assert words in answer.text
    assert answer.text.count("data:image/png;base64,") == 3
    assert "200 calibration scores" in answer.text
    assert "nothing was changed" in answer.text
    identity = answer.text.split("ae why ")[1].split("<")[0].strip()
    found = prediction_store.find_prediction(project, identity)
    assert (found.recipe, found.version, found.channel, found.sample) == ("digits", "1", "hand", "a seven.png")
    assert found.score == pytest.approx(float(expected["score"][0]))


def test_noise_is_flagged(client: httpx.Client) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (28, 28), dtype=np.uint8)
    answer = post(client, png(noise))
    assert "! flagged" in answer.text
    assert "0.5 % of normal samples score at least as high" in answer.text


def test_a_name_that_would_like_to_be_a_script_stays_a_name(client: httpx.Client, digits: np.ndarray) -> None:
    answer = post(client, png(digits[0, 0]), **{"x-file-name": "%3Cscript%3Edocument.title%3D%27taken%20over%27%3C%2Fscript%3E"})
    assert HOSTILE not in answer.text
    assert "&lt;script&gt;" in answer.text


@pytest.mark.parametrize(
    ("content", "kind", "status", "told"),
    [
        (b"", "text/plain", 422, "nothing was given"),
        (b"1 2 3", "text/plain", 422, "got 3 numbers"),
        (b"not an image", "image/png", 422, "cannot be read as an image"),
        (b"x" * (LARGEST_UPLOAD + 1), "image/png", 413, "8 MiB"),
    ],
)
def test_what_cannot_be_scored_is_told_in_one_line_of_plain_text(
    client: httpx.Client, content: bytes, kind: str, status: int, told: str
) -> None:
    answer = post(client, content, kind)
    assert answer.status_code == status
    assert told in answer.text
    assert answer.text.count("\n") == 1
    assert answer.headers["content-type"].startswith("text/plain")


def test_a_row_that_is_no_number_and_a_recipe_that_there_is_not_are_refused(client: httpx.Client) -> None:
    assert client.post("/try/digits?row=one", content=b"1", headers={"content-type": "text/plain"}).status_code == 422
    assert client.post("/try/nothing", content=b"1", headers={"content-type": "text/plain"}).status_code == 404


@pytest.mark.parametrize("headers", [{"origin": "http://elsewhere.example"}, {"sec-fetch-site": "cross-site"}])
def test_another_page_cannot_make_a_browser_score(client: httpx.Client, headers: dict[str, str]) -> None:
    assert post(client, b"0 " * 784, "text/plain", **headers).status_code == 403


def test_a_recipe_without_a_champion_says_what_to_type(client: httpx.Client) -> None:
    answer = client.post("/try/mnist", content=b"0 " * 784, headers={"content-type": "text/plain"})
    assert (answer.status_code, "ae run mnist" in answer.text) == (422, True)


def given(content: bytes = b"0 " * 784) -> Upload:
    return Upload(content, "text/plain", "a row")


def test_a_champion_that_was_not_downloaded_says_what_to_type(project: Project, tmp_path: Path) -> None:
    changed = copied(project, tmp_path)
    shutil.rmtree(changed.home / "serving")
    with pytest.raises(UsageError, match="ae serve digits"):
        try_sample(changed, load_recipe(changed, "digits"), None, None, given())


def test_a_bundle_that_the_ledger_does_not_name_scores_nothing(project: Project, tmp_path: Path) -> None:
    changed = copied(project, tmp_path)
    place = changed.home / "serving" / "digits" / "1"
    shutil.rmtree(place)
    shutil.copytree(project.root / "other", place)
    with pytest.raises(DataError, match="not the one that the ledger names"):
        try_sample(changed, load_recipe(changed, "digits"), None, None, given())


def test_a_head_that_the_ledger_does_not_hold_lets_nothing_score(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changed = copied(project, tmp_path)
    head = build_head(changed, "digits", ledger.read_entries(changed, "digits")).to_dict()
    (tmp_path / "head").write_text(json.dumps(head | {"number": 99}), encoding="utf-8")
    monkeypatch.setenv("AE_LEDGER_HEAD", str(tmp_path / "head"))
    with pytest.raises(DataError, match="does not hold the entry number 99"):
        try_sample(changed, load_recipe(changed, "digits"), None, None, given())


def test_a_champion_of_an_old_ledger_that_names_no_bundle_is_scored_by(project: Project, tmp_path: Path) -> None:
    changed = copied(project, tmp_path)
    ledger.ledger_file(changed, "digits").unlink()
    ledger.append_entry(changed, ledger.Decision("promotion", "digits", "1", "ada", "better", to_version="1"))
    assert try_sample(changed, load_recipe(changed, "digits"), None, None, given()).scored_sample.version == "1"


def test_a_service_that_is_gone_is_told(project: Project) -> None:
    gone = ServiceStatus("score-digits", "http://127.0.0.1:9", "up", None)
    with pytest.raises(InfrastructureError, match="does not answer"):
        try_sample(project, load_recipe(project, "digits"), gone, None, given())


@pytest.mark.slow
def test_a_running_service_scores_and_its_refusal_is_told(
    project: Project, tmp_path: Path, digits: np.ndarray, linear_bundle: Path
) -> None:
    changed = copied(project, tmp_path)
    command = [sys.executable, "-m", "aeops.cli.main", "serve", "digits", "--port", "0"]
    log = tmp_path / "serve.log"
    with log.open("wb") as file:
        child = subprocess.Popen(command, cwd=changed.root, env=Checkout(changed.root).environment(), stdout=file, stderr=file)
    try:
        wait_for(lambda: child.poll() is not None or "http://127.0.0.1:" in log.read_text())
        assert "http://127.0.0.1:" in log.read_text(), log.read_text()
        port = log.read_text().split("http://127.0.0.1:")[1].split(";")[0].split("/")[0].split()[0]
        address = f"http://127.0.0.1:{port}"
        record = record_service(changed, "score-digits", pid=child.pid, address=address, health=f"{address}/healthz")
        found = wait_for(lambda: asked if (asked := check_service(record, None)).state == "up" else None)
        assert found.version == "1"
        flat = " ".join(map(str, digits[1300].ravel())).encode()
        tried = try_sample(changed, load_recipe(changed, "digits"), found, None, given(flat))
        assert tried.scored_sample.score == pytest.approx(
            float(Detector(linear_bundle).score(digits[1300])["score"][0]), abs=1e-5
        )
        assert len(tried.panels) == 3
        assert tried.histogram is not None
        assert prediction_store.find_prediction(changed, tried.scored_sample.prediction_id).channel == "service"
        assert tried.reason.startswith("rows ")
        assert len(prediction_store.read_predictions(changed, "digits", channels=["service"])) == 1  # asked and recorded once
        assert address in tried.scored_sample.scorer
    finally:
        child.terminate()
        child.wait(20)
    assert check_service(record, None).state == "down"


# ---------------------------------------------------------------- pictures


def test_the_histogram_marks_a_score_that_is_off_its_scale() -> None:
    drawn = str(pictures.histogram(np.linspace(0, 1, 200), 0.99, 1e6))
    assert "this sample 1e+06 (off the scale)" in drawn
    assert "nan" not in drawn
    assert "off the scale" not in str(pictures.histogram(np.ones(10), 1.0, 1.0))


def test_a_picture_survives_as_it_is() -> None:
    values = np.arange(12, dtype=np.uint8).reshape(3, 2, 2)
    import base64

    read = Image.open(io.BytesIO(base64.b64decode(data_address(values).partition(",")[2])))
    assert np.array_equal(np.asarray(read).transpose(2, 0, 1), values)


def test_a_part_of_a_score_has_the_name_that_reports_have_and_an_empty_text_is_said_to_be_nothing() -> None:
    threshold = SimpleNamespace(value=1.0, method=SimpleNamespace(describe_rate=lambda: "flags 1 % of normal samples"))
    facts = {
        "is_anomaly": False,
        "flags": [],
        "score": 0.1,
        "p_value": 0.5,
        "version": "1",
        "scorer": "this page",
        "prediction_id": "",
    }
    result = SimpleNamespace(
        name="pasted text",
        scored_sample=SimpleNamespace(threshold=threshold, **facts),
        panels=[PageBlock("text", " ", "What the model makes of it")],
        parts=[{"score": "local-hull (orientations)", "value": 1.2}, {"score": "normalised-residual", "value": 0.4}],
        fitted_sample=FittedSample(np.zeros((1, 2)), [], []),
        **dict.fromkeys(("histogram", "missing_error", "reason", "champion"), ""),
    )
    text = template_environment().get_template("try_result.html.j2").render(result=result, parts_unit="")
    assert "local-hull of edges" in text
    assert "<td>residual</td>" in text
    assert '<blockquote><span class="quiet">nothing</span></blockquote>' in text
