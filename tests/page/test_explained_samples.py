"""The try-it box says why: parts, place and nearest normal sample, whoever scores."""

import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import uvicorn
from explained_bundles import image_bundle, images, series_bundle, text_bundle

from aeops.bundle.detector import Detector
from aeops.bundle.explanations import PARTS_UNIT, short_part_name
from aeops.kinds.interface import load_kind
from aeops.page.app import template_environment
from aeops.page.stack_status import ServiceStatus
from aeops.page.try_it import TryResult, Upload, try_sample
from aeops.predictions import prediction_store
from aeops.project import Project
from aeops.recipe.reader import load_recipe
from aeops.registry import ledger
from aeops.serving.app import detector_app

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project whose ledger names version 1, which lies where the page looks for it."""
    root = tmp_path_factory.mktemp("explained")
    (root / "recipes").mkdir()
    for name in ("recipes/digits.yaml", "dvc.yaml"):
        shutil.copy(ROOT / name, root / name)
    project = Project(root=root, home=root / ".ae")
    shutil.copytree(image_bundle(root / "made"), project.home / "serving" / "digits" / "1")
    ledger.append_entry(project, ledger.Decision("promotion", "digits", "1", "ada", "better", to_version="1"))
    return project


@pytest.fixture(scope="module")
def detector(project: Project) -> Detector:
    return Detector(project.home / "serving" / "digits" / "1")


def tried(project: Project, service: ServiceStatus | None, sample: np.ndarray) -> TryResult:
    upload = Upload(" ".join(map(str, sample.ravel())).encode(), "text/plain", "a row")
    return try_sample(project, load_recipe(project, "digits"), service, None, upload)


@contextmanager
def running(detector: Detector) -> Iterator[ServiceStatus]:
    """A scoring service of the detector in a thread."""
    server = uvicorn.Server(uvicorn.Config(detector_app(detector, "digits", "1"), port=0, log_level="warning"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            thread.join(0.02)
            assert thread.is_alive(), "the service ended before it was up"
        port = server.servers[0].sockets[0].getsockname()[1]
        yield ServiceStatus("score-digits", f"http://127.0.0.1:{port}", "up", None)
    finally:
        server.should_exit = True
        thread.join(20)


def test_page_and_service_say_the_same_and_the_page_draws_it(project: Project, detector: Detector) -> None:
    sample = images(130)[125]
    before = len(list(project.home.glob("predictions/digits/*/*.parquet")))
    by_page = tried(project, None, sample)
    with running(detector) as service:
        by_service = tried(project, service, sample)
    for result in (by_page, by_service):
        assert [block.title for block in result.panels] == [
            "Given",
            "Reconstruction",
            "Error at each pixel",
            "Nearest normal sample",
        ]
        assert result.reason.startswith(f"{short_part_name(result.parts[0]['score'])} {result.parts[0]['value']:+.1f}, ")
        assert "nearest normal sample: row" in result.reason
        assert len(result.parts) == 4
    assert by_page.reason == by_service.reason
    assert by_page.panels == by_service.panels
    assert prediction_store.find_prediction(project, by_page.scored_sample.prediction_id).sample == "a row"
    assert len(list(project.home.glob("predictions/digits/*/*.parquet"))) == before + 1


def test_the_fragment_marks_the_highest_part_and_says_why(project: Project) -> None:
    result = tried(project, None, images(130)[126])
    shown = template_environment().get_template("try_result.html.j2").render(result=result, parts_unit=PARTS_UNIT)
    table = shown.partition('<table class="parts">')[2].partition("</table>")[0]
    assert table.count("<tr") == 1 + 4
    first_row = table.split("<tr")[2]
    assert short_part_name(result.parts[0]["score"]) in first_row
    assert "highest" in first_row
    assert f"{result.parts[0]['value']:+.2f}" in first_row
    assert result.reason in shown
    assert shown.count("data:image/png;base64,") == 4


def test_a_value_outside_the_range_is_said_and_a_missing_one_drawn(project: Project) -> None:
    sample = images(1)[0].astype(object)
    sample[0, 0, 0], sample[0, 0, 1] = 400, "nan"
    result = tried(project, None, sample)
    assert "1 value outside the range; 1 value missing" in result.reason
    assert len(result.panels) == 4


def test_the_nearest_of_a_series_and_of_a_text_has_a_panel(tmp_path: Path) -> None:
    for name, make, sample in (("series", series_bundle, np.zeros((2, 16))), ("text", text_bundle, "the cat")):
        detector = Detector(make(tmp_path / name))
        example = np.asarray(detector.example())[:1]
        panels, _ = load_kind(name).page_panels(example, None, detector.spec, {"nearest": {"row": 3, "sample": sample}})
        without, _ = load_kind(name).page_panels(example, None, detector.spec)
        assert panels[-1].title == "Nearest normal sample"
        assert panels[:-1] == without
