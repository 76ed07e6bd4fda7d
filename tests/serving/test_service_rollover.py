"""How a new champion takes over: fetched, rehearsed, loaded, warmed, in the shadow, then all at once; and what is refused."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from small_bundles import SIDE, small_bundle, text_bundle

from ae_models.checksums import bundle_sha256
from aeops.bundle.detector import Detector
from aeops.cli.serve import run_smoke_test
from aeops.errors import AeError, DataError, InfrastructureError
from aeops.project import Project
from aeops.recipe.sections import ServingSpec
from aeops.registry import alias_watch, ledger
from aeops.registry.alias_watch import AliasChange, AliasWatch
from aeops.registry.database import database_file
from aeops.serving import rollover
from aeops.serving.app import service_app
from aeops.serving.rollover import FetchedBundle, VersionSource
from aeops.serving.served_version import ServedVersion, find_incompatibility
from aeops.serving.service import ScoringService
from aeops.serving.shadow import ShadowCounts

DARK, BRIGHT = np.zeros((1, SIDE, SIDE), np.uint8), np.full((1, SIDE, SIDE), 250, np.uint8)


class Moves:
    """A registry that says what it is told to say: which versions there are, and where the alias goes next."""

    def __init__(self, bundles: dict[str, Path]) -> None:
        self.bundles, self.error, self.next, self.errors = bundles, None, [], list[AeError]()
        self.unknown: set[str] = set()

    def set_version(self, version: str) -> None:
        self.at = version

    def poll(self) -> AliasChange | None:
        return self.next.pop(0) if self.next else None

    def fetch(self, which: str) -> FetchedBundle:
        if self.errors:
            raise self.errors.pop(0)
        return FetchedBundle(which, self.bundles[which], bundle_sha256(self.bundles[which]))

    def load(self, bundle: FetchedBundle) -> ServedVersion:
        return ServedVersion("small", bundle.version, Detector(bundle.folder, bundle.sha256))

    def find_problem(self, version: str, bundle_sha256: str) -> str | None:
        """The ledger knows every version but those in `unknown`."""
        return f"small {version} ({bundle_sha256[:12]}) is not the ledger's" if version in self.unknown else None

    def sources(self) -> VersionSource:
        return VersionSource(self.fetch, lambda bundle: None, self.load, alias_watcher=self, champion=self)


class Room:
    """A service over such a registry, with `step` in place of its clock."""

    def __init__(self, moves: Moves, rules: ServingSpec) -> None:
        self.moves = moves
        self.service = ScoringService("small", source=moves.sources(), rules=rules)
        self.client = TestClient(service_app(self.service))
        self.service.rollover.load_first("1")

    def step(self, *moves: str | None) -> None:
        self.moves.next += [AliasChange(version) for version in moves]
        for _ in range(max(1, len(moves))):
            self.service.rollover.step()

    def ask(self, image: np.ndarray = DARK, count: int = 1) -> Any:
        for _ in range(count):
            answer = self.client.post("/score", json={"inputs": [image.tolist()]})
        return answer

    def version(self) -> str | None:
        return self.client.get("/model").json()["version"]  # type: ignore[no-any-return]

    def serving(self) -> Any:
        return self.client.get("/model").json()["serving"]

    def shadow_sees(self, requests: int) -> None:
        """Waits until the shadow has judged so many requests, or is broken."""
        for _ in range(1000):
            shadow = self.service.rollover.shadow_trial
            if shadow is None or shadow.problem or shadow.counts.requests >= requests:
                return
            threading.Event().wait(0.01)
        raise AssertionError(f"the shadow has seen {shadow.counts}")


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("bundles")
    made = {
        "1": small_bundle(folder / "1"),
        "2": small_bundle(folder / "2", shift=0.01),
        "nan": small_bundle(folder / "nan", fault="nan"),
        "raises": small_bundle(folder / "raises", fault="raises"),
        "flood": small_bundle(folder / "flood", shift=0.2),
        "larger": small_bundle(folder / "larger", side=5),
        "texts": text_bundle(folder / "texts"),
        "altered": small_bundle(folder / "altered"),
    }
    (made["altered"] / "model.onnx").write_bytes(b"something else")
    return made


@pytest.fixture
def room(bundles: dict[str, Path]) -> Room:
    return Room(Moves(bundles), ServingSpec(shadow_requests=3, shadow_seconds=3600))


# ---------------------------------------------------------------- taking over


def test_a_new_champion_takes_over_after_its_requests_in_the_shadow(room: Room) -> None:
    room.step("2")
    assert (room.version(), room.serving()["shadow"]["version"]) == ("1", "2")
    for seen in (1, 2):
        room.ask()
        room.shadow_sees(seen)
        room.step()
        assert room.version() == "1"
    room.ask()
    room.shadow_sees(3)
    room.step()
    assert (room.version(), room.serving()["shadow"]) == ("2", None)
    assert "after 3 requests in the shadow of 1" in room.serving()["last"]["why"]
    assert room.ask().json()["predictions"][0]["score"] == pytest.approx(0.26)
    told = room.client.get("/metrics").text
    assert 'version="2"' in told
    assert 'version="1"' not in told
    assert "ae_shadow_samples_total 3.0" in told


def test_without_requests_it_takes_over_when_its_time_is_up(bundles: dict[str, Path]) -> None:
    room = Room(Moves(bundles), ServingSpec(shadow_requests=3, shadow_seconds=0))
    room.step("2")
    assert room.version() == "2"


def test_the_shadow_changes_no_answer_and_makes_no_prediction(room: Room) -> None:
    before = room.ask().content
    room.step("2")
    assert room.ask().content == before
    room.shadow_sees(1)
    assert room.ask().content == before


def test_a_request_is_answered_by_the_version_it_began_with(room: Room, bundles: dict[str, Path]) -> None:
    """It waits while another version takes over."""
    gate, work, answers = threading.Event(), room.service.batcher._process_batch, []
    room.service.batcher._process_batch = lambda requests: (gate.wait(20), work(requests))[1]  # type: ignore[func-returns-value]
    asking = threading.Thread(target=lambda: answers.append(room.ask().json()))
    asking.start()
    while not room.service.batcher._small_batch_running:
        threading.Event().wait(0.01)
    room.service.rollover.current_version = ServedVersion("small", "2", Detector(bundles["2"]))
    gate.set()
    asking.join()
    assert answers[0]["predictions"][0]["score"] == pytest.approx(0.25)
    assert room.ask().json()["predictions"][0]["score"] == pytest.approx(0.26)


def test_a_rollback_during_the_trial_drops_the_trial(room: Room) -> None:
    room.step("2", "1")
    assert (room.version(), room.serving()["shadow"], room.serving()["last"]["event"]) == ("1", None, "dropped")


def test_a_third_champion_takes_the_place_of_the_one_on_trial(room: Room, bundles: dict[str, Path]) -> None:
    room.moves.bundles = bundles | {"3": bundles["1"]}
    room.step("2", "3")
    assert room.serving()["shadow"]["version"] == "3"


def test_a_retired_champion_answers_nothing_until_there_is_one_again(room: Room) -> None:
    assert room.client.get("/readyz").json() == {"status": "ready", "version": "1"}
    room.step(None)
    for answer in (room.ask(), room.client.get("/readyz")):
        assert answer.status_code == 503
        assert "`ae run small`, or restore one with `ae rollback small --why TEXT`" in answer.json()["error"]
    assert room.client.get("/healthz").status_code == 200
    assert (room.version(), room.serving()["last"]["event"]) == (None, "retired")
    assert "ae_ready 0.0" in room.client.get("/metrics").text
    room.step("2")  # there is nothing in whose shadow it could stand
    assert (room.version(), room.ask().status_code) == ("2", 200)


def test_before_the_first_is_warm_nobody_is_told_that_it_is_ready(bundles: dict[str, Path]) -> None:
    client = TestClient(service_app(ScoringService("small", source=Moves(bundles).sources())))
    assert (client.get("/readyz").status_code, client.get("/healthz").status_code) == (503, 200)
    assert "is being loaded" in client.post("/score", json={"inputs": [DARK.tolist()]}).json()["error"]


# ---------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("version", "why"),
    [
        ("larger", "its shape differs from the served version: expected (1, 4, 4), got (1, 5, 5)"),
        ("texts", "its kind differs from the served version"),
        ("altered", "model.onnx was altered"),
        ("nan", "answers with a score that is not finite"),
        ("raises", "it raises InvalidArgument"),
        ("flood", "it flags 100% of 20 samples of which the served one flags 0%"),
    ],
)
def test_a_broken_champion_is_refused_and_the_old_one_stays(bundles: dict[str, Path], version: str, why: str) -> None:
    room = Room(Moves(bundles), ServingSpec(shadow_requests=1000, shadow_seconds=3600))
    room.step(version)
    mild = np.full((1, SIDE, SIDE), 100, np.uint8)
    for seen in range(1, 21):  # up to when enough was flagged to call it a flood
        assert room.ask(mild if version == "flood" else BRIGHT).status_code == 200
        room.shadow_sees(seen)
    room.step()
    last = room.serving()["last"]
    assert (room.version(), room.serving()["shadow"], last["event"], last["version"]) == ("1", None, "refused", version)
    assert why in last["why"]
    assert 'ae_succession_total{event="refused"} 1.0' in room.client.get("/metrics").text
    room.step()
    assert room.serving()["last"] == last  # and it is not tried again until the alias moves


def test_what_is_not_the_ledgers_champion_is_not_served_though_the_registry_gave_it(room: Room, bundles: dict[str, Path]) -> None:
    room.moves.unknown = {"2"}
    room.step("2")
    assert room.version() == "1"
    assert "is not the ledger's" in room.serving()["last"]["why"]
    first = Moves(bundles)
    first.unknown = {"1"}
    with pytest.raises(DataError, match="is not the ledger's"):
        Room(first, ServingSpec())


def test_what_the_trust_check_refuses_is_refused(room: Room) -> None:
    room.moves.errors = [DataError("small 2 is refused: it is not signed")]
    room.step("2")
    assert (room.version(), room.serving()["last"]["why"]) == ("1", "small 2 is refused: it is not signed")


def test_a_registry_that_is_away_is_asked_again(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rollover, "RETRY_SECONDS", (0.0,))
    room.moves.errors = [InfrastructureError("MLflow does not answer")] * 2
    room.step("2")
    assert (room.version(), room.serving()["last"]["event"]) == ("1", "waits")
    room.step()
    assert room.serving()["last"]["event"] == "waits"
    room.step()
    assert room.serving()["shadow"]["version"] == "2"


def test_too_slow_a_champion_is_refused_and_a_slow_first_answer_is_not() -> None:
    assert ShadowCounts(samples=10, seconds=6, seconds_of_old=0.1).find_problem() is not None
    assert ShadowCounts(samples=10, seconds=0.4, seconds_of_old=0.001).find_problem() is None
    assert ShadowCounts(samples=10, seconds=6, seconds_of_old=5).find_problem() is None


def test_versions_of_texts_may_read_more_tokens(bundles: dict[str, Path]) -> None:
    long, short = Detector(bundles["texts"]), Detector(bundles["texts"])
    long.shape = long.output_shape = (99,)
    assert find_incompatibility(long, short) is None


def test_a_model_is_rehearsed_in_a_process_of_its_own(bundles: dict[str, Path], tmp_path: Path) -> None:
    project = Project(root=Path(__file__).parents[2], home=tmp_path)
    run_smoke_test(project, "small", bundles["2"])
    with pytest.raises(DataError, match=r"model\.onnx was altered"):
        run_smoke_test(project, "small", bundles["altered"])


# ---------------------------------------------------------------- where the alias goes


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return Project(root=tmp_path, home=tmp_path / ".ae")


def move(project: Project, version: str, before: str | None, after: str | None, event: str = "promotion") -> None:
    decision = ledger.Decision(event, "small", version, "ada", "better", from_version=before, to_version=after)
    ledger.append_entry(project, decision)


def test_the_ledgers_moves_are_seen_at_once_and_its_notes_are_not(project: Project) -> None:
    move(project, "1", None, "1")
    seen = AliasWatch(project, "small", "champion")
    seen.set_version("1")
    assert seen.poll() is None
    move(project, "2", None, None, event="refusal")
    assert seen.poll() is None
    move(project, "2", "1", "2")
    assert (seen.poll(), seen.poll()) == (AliasChange("2"), None)
    move(project, "1", "2", "1", event="rollback")
    assert seen.poll() == AliasChange("1")
    move(project, "1", "1", None, event="retirement")
    assert seen.poll() == AliasChange(None)


def test_nothing_moves_by_a_ledger_that_does_not_hold(project: Project) -> None:
    move(project, "1", None, "1")
    seen = AliasWatch(project, "small", "champion")
    seen.set_version("1")
    file = ledger.ledger_file(project, "small")
    file.write_text(file.read_text().replace('"to":"1"', '"to":"9"'))
    assert seen.poll() is None
    assert "is not intact" in str(seen.error)
    assert (seen.poll(), "is not intact" in str(seen.error)) == (None, True)  # it stays told


class Registry(BaseHTTPRequestHandler):
    """The one address of MLflow's that is asked."""

    aliases: dict[str, str] = {}  # noqa: RUF012  # of the class, so that tests can change them
    asked: list[str] = []  # noqa: RUF012

    def do_GET(self) -> None:
        Registry.asked.append(f"{self.headers.get('Authorization')} {self.path}")
        version = self.aliases.get(self.path.rpartition("alias=")[2])
        body = json.dumps({"model_version": {"version": version}} if version else {"error_code": "RESOURCE_DOES_NOT_EXIST"})
        self.send_response(200 if version else 404)
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, format: str, *args: object) -> None: ...


@pytest.fixture
def remote(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with HTTPServer(("127.0.0.1", 0), Registry) as server:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{server.server_address[1]}/")
        monkeypatch.setattr(alias_watch, "POLL_SECONDS", 0)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield
        server.shutdown()
        thread.join()


def test_an_alias_that_moves_in_a_remote_registry_is_seen_over_http(
    project: Project, remote: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "ada")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "hush")
    Registry.aliases = {"challenger": "1"}
    seen = AliasWatch(project, "small", "challenger")
    seen.set_version("1")
    assert seen.poll() is None
    assert "Basic YWRhOmh1c2g= /api/2.0/mlflow/registered-models/alias?name=small&alias=challenger" in Registry.asked[-1]
    Registry.aliases = {"challenger": "2"}
    assert (seen.poll(), seen.poll()) == (AliasChange("2"), None)
    Registry.aliases = {}
    assert seen.poll() == AliasChange(None)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
    assert (seen.poll(), "does not answer" in str(seen.error)) == (None, True)


def test_a_champion_that_the_registry_alone_has_moved_is_told_and_not_followed(project: Project, remote: None) -> None:
    Registry.aliases = {"champion": "1"}
    move(project, "1", None, "1")
    seen = AliasWatch(project, "small", "champion")
    seen.set_version("1")
    move(project, "2", "1", "2")  # written down first, moved then
    assert (seen.poll(), seen.poll(), seen.error) == (AliasChange("2"), None, None)
    Registry.aliases = {"champion": "2"}
    assert (seen.poll(), seen.error) == (None, None)
    for aliases, told in (({"champion": "9"}, "points to 9"), ({}, "points to no version")):
        Registry.aliases = aliases
        assert (seen.poll(), seen.poll()) == (None, None)
        assert told in str(seen.error)
        assert "but by the ledger the champion is 2, which stays" in str(seen.error)
    Registry.aliases = {"champion": "2"}
    assert (seen.poll(), seen.error) == (None, None)


def test_an_alias_that_moves_in_the_local_registry_is_seen_and_nobody_waits_for_the_answer(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(alias_watch, "POLL_SECONDS", 0)
    seen = AliasWatch(project, "small", "challenger")
    seen.set_version("1")
    gate, asked = threading.Event(), []
    seen._fetch_in_process = lambda: (asked.append(1), gate.wait(20), "2")[2]  # type: ignore[method-assign,func-returns-value]
    assert seen.poll() is None
    assert asked == []  # the database is as it was
    (project.mlflow).mkdir(parents=True)
    database_file(project).write_text("changed")
    assert (seen.poll(), seen.poll()) == (None, None)
    gate.set()
    assert (answered(seen), seen.poll(), len(asked)) == (AliasChange("2"), None, 1)


def test_the_ledger_is_heard_while_the_registry_is_asked(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alias_watch, "POLL_SECONDS", 0)
    move(project, "1", None, "1")
    seen, gate = AliasWatch(project, "small", "champion"), threading.Event()
    seen.set_version("1")
    seen._fetch_in_process = lambda: (gate.wait(20), "2")[1]  # type: ignore[method-assign]
    (project.mlflow).mkdir(parents=True)
    database_file(project).write_text("changed")
    assert seen.poll() is None
    move(project, "3", None, "3")
    assert seen.poll() == AliasChange("3")
    gate.set()
    assert (answered(seen), seen.error) == (None, None)  # what was asked before the ledger moved says nothing any more


def answered(seen: AliasWatch) -> AliasChange | None:
    """What the watch says when its question is answered."""
    assert seen._query is not None
    seen._query.join()
    return seen.poll()
