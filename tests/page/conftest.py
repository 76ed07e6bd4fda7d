"""A project in which every part of the page has something to show: one champion, the linear model of tests/serving, a ledger,
a quarantine, a validation, monitoring and reports, written through the functions that write them where there are such."""

import importlib.util
import json
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import pytest
import uvicorn

from aeops.data.quarantine import write_quarantine
from aeops.data.statistics import sample_sha256
from aeops.page.app import build_page_app
from aeops.page.serve import listener_address, open_page_listener, page_config
from aeops.project import Project
from aeops.registry import promotion
from aeops.registry.ledger import Decision
from aeops.registry.store import open_store
from aeops.report.headline import verdict_sentence

ROOT = Path(__file__).parents[2]
MEASURED = json.loads((ROOT / "benchmarks" / "records" / "models" / "digits.json").read_text(encoding="utf-8"))["metrics"]
HOSTILE = "<script>document.title='taken over'</script>"


def neighbour(path: str) -> ModuleType:
    """A conftest of another folder of tests, which has what is needed here, too."""
    spec = importlib.util.spec_from_file_location(path.replace("/", "_"), ROOT / "tests" / path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


serving = neighbour("serving/conftest.py")
digits, linear_bundle = serving.digits, serving.linear_bundle


@pytest.fixture(scope="session")
def project(linear_bundle: Path, digits: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The recipes of this repository; digits has a champion and all that comes with one."""
    root = tmp_path_factory.mktemp("lines") / "digit-line"
    shutil.copytree(ROOT / "recipes", root / "recipes")
    shutil.copy(ROOT / "dvc.yaml", root)
    with pytest.MonkeyPatch.context() as patch:
        for name in ("MLFLOW_TRACKING_URI", "AE_HOME", "PREFECT_API_URL"):
            patch.delenv(name, raising=False)
        made = Project(root=root, home=root / ".ae")
        decide(made, linear_bundle, root)
    fill(made, digits)
    return made


def decide(project: Project, bundle: Path, scratch: Path) -> None:
    """Two versions; the first is champion, the second was refused with a reason that would like to be a script."""
    store = open_store(project)
    (scratch / "metrics.json").write_text(json.dumps(MEASURED), encoding="utf-8")
    facts = {"verdict": "accepted", "git.commit": "0123456789", "git.dirty": "true", "data.content_sha256": "c" * 64}
    other = shutil.copytree(bundle, scratch / "other")
    described = json.loads((other / "bundle.json").read_text(encoding="utf-8"))
    (other / "bundle.json").write_text(json.dumps(described | {"note": "another"}), encoding="utf-8")
    from ae_models.checksums import write_checksums

    write_checksums(other)
    for which, verdict in ((bundle, "accepted"), (other, "refused")):
        run = store.start_run("digits", {}, {}, {"dataset": "digits", "content_sha256": "c" * 64})
        store.log_metrics(run, MEASURED)
        store.log_files(run, [scratch / "metrics.json"])
        card = f"# digits: {verdict}\n\n{verdict_sentence(MEASURED, None, [HOSTILE] if verdict == 'refused' else [])}\n\nDigits."
        store.register(run, "digits", which, facts | {"verdict": verdict, "started_by": "ada"}, card)
    promotion.promote(store, "digits", "1", expected=None, who="ada", why="better than none", evidence={"sha256": "1" * 64})
    promotion.record_decision(store, Decision("refusal", "digits", "2", "the gate", f"worse {HOSTILE}", {"sha256": "2" * 64}))
    store.download_bundle("digits", "1")


def fill(project: Project, digits: np.ndarray) -> None:
    set_aside(project, digits)
    write(project.validation("digits") / "validation.json", json.dumps(validated()))
    write(project.data_docs / "digits" / "index.html", "<!DOCTYPE html><title>Data validation</title><h1>Data Docs</h1>")
    write(project.reports("digits") / "report.html", f"<!DOCTYPE html><title>report</title><h1>Model report</h1>{HOSTILE}")
    write(project.home / "monitoring" / "digits" / "verdict.json", json.dumps(watched()))
    write(project.home / "monitoring" / "digits" / "page.html", "<!DOCTYPE html><title>months</title><h1>The last months</h1>")
    write(project.home / "scoring" / "digits" / "latest.html", "<!DOCTYPE html><title>batch</title><h1>The last batch</h1>")


def set_aside(project: Project, digits: np.ndarray) -> None:
    """Three samples of which two are blank, through the function that sets samples aside."""
    incoming = project.incoming("digits")
    (incoming / "shards").mkdir(parents=True)
    samples = np.concatenate([np.zeros((2, 1, 28, 28), np.uint8), digits[:1]])
    np.save(incoming / "shards" / "00000.npy", samples)
    description = {"kind": "image", "shape": [1, 28, 28], "low": 0, "high": 255, "dtype": "uint8"}
    write(incoming / "dataset.json", json.dumps(description | {"shards": [{"file": "shards/00000.npy"}]}))
    index = pd.DataFrame(
        {
            "id": ["a" * 12, "b" * 12, "c" * 12],
            "shard": 0,
            "row": [0, 1, 2],
            "label": [3, 4, 5],
            "source": ["one", "two", HOSTILE],
            "sha256": sample_sha256(samples),
        }
    )
    reasons = {"a" * 12: ["blank"], "b" * 12: ["blank", "sample_mean"], "c" * 12: ["label_known"]}
    write_quarantine(project.quarantine("digits") / "0123456789ab", incoming, index, reasons)


def validated() -> dict[str, Any]:
    expectation = {"name": "rows", "applicable": True, "success": True}
    return {
        "passed": True,
        "expectations": [expectation, expectation | {"name": "blank", "success": False}],
        "rows": {"given": 5000, "accepted": 4997, "quarantined": 3},
        "budget": 50,
    }


def watched() -> dict[str, Any]:
    calm = {"name": "alarm_rate", "verdict": "quiet", "e_value": 0.4, "level": 0.01, "says": "5 of 400 flagged, 1 % asked"}
    loud = {"name": "score_drift", "verdict": "alarm", "e_value": 812.0, "level": 0.01, "says": "scores have risen since Tuesday"}
    unknown = {"name": "staleness", "verdict": "unknown", "e_value": None, "level": None, "says": "too few days"}
    return {
        "format": 1,
        "recipe": "digits",
        "version": "1",
        "signals": [calm, loud, unknown],
        "decision": {"retrain": False, "why": ["1 of 3 signals, 2 are needed"]},
    }


def write(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")


class Served:
    """The page over a project, served in a thread."""

    def __init__(self, project: Project, password: str | None = None) -> None:
        self.listener = open_page_listener("127.0.0.1", 0)
        self.address = listener_address(self.listener)
        self.server = uvicorn.Server(page_config(build_page_app(project, password)))
        self.thread = threading.Thread(target=lambda: self.server.run(sockets=[self.listener]))

    def __enter__(self) -> "Served":
        self.thread.start()
        deadline = time.monotonic() + 20
        while not self.server.started and time.monotonic() < deadline:
            time.sleep(0.02)
        return self

    def __exit__(self, *_: object) -> None:
        self.server.should_exit = True
        self.thread.join(20)
        self.listener.close()


@pytest.fixture(scope="session")
def served(project: Project) -> Iterator[Served]:
    with pytest.MonkeyPatch.context() as patch:
        for name in ("MLFLOW_TRACKING_URI", "AE_HOME", "PREFECT_API_URL"):
            patch.delenv(name, raising=False)
        with Served(project) as running:
            yield running


def copied(project: Project, place: Path) -> Project:
    """The same project elsewhere, for a test that changes it; MLflow's files stay where they are."""
    shutil.copytree(project.root, place / "copy", dirs_exist_ok=True)
    return Project(root=place / "copy", home=place / "copy" / ".ae")
