"""The pages without a browser: what they show, what they refuse, and that they are whole when nothing around them answers."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from html.parser import HTMLParser
from pathlib import Path

import httpx
import pytest
from checkout import wait_for

from aeops.page.app import build_page_app
from aeops.page.background_query import QueryResult
from aeops.page.view import StackState, build_recipe_view, is_taking_over
from aeops.project import Project
from aeops.recipe.reader import recipe_names
from aeops.registry import ledger, promotion
from aeops.registry.store import open_store

from .conftest import HOSTILE, MEASURED, ROOT, Served, copied, write


class Elements(HTMLParser):
    """Every element with its attributes, and all the text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


@pytest.fixture(scope="module")
def client(served: Served) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=served.address, timeout=30) as made:
        for path in ("/", "/r/digits"):  # each page reads data of its own, and says while some of it is still loading
            wait_for(lambda path=path: "data-loading" not in made.get(path).text, 60)
        yield made


def page(client: httpx.Client, path: str) -> Elements:
    answer = client.get(path)
    assert answer.status_code == 200, answer.text
    return Elements(answer.text)


@pytest.mark.slow
def test_the_overview_has_a_card_for_the_recipe_with_a_version_and_a_line_for_each_of_the_others(client: httpx.Client) -> None:
    shown = page(client, "/")
    cards = [attributes for tag, attributes in shown.found if tag == "article"]
    assert len(cards) == 1
    auroc = f"{MEASURED['detection']['model']['auroc']:.3f}"
    for words in ("version 1 since", "by promotion of ada", auroc, "kNN-5 distance", "Alarm: score drift", "1 alarm"):
        assert words in shown.text
    for name in recipe_names(Project(root=ROOT, home=ROOT)):
        assert (f"ae run {name}" in shown.text) == (name != "digits")


def test_the_recipes_page_shows_each_part(client: httpx.Client) -> None:
    text = page(client, "/r/digits").text
    for words in (
        *("version 1 since", "better than none", "the report of the last run", "Data Docs"),
        *("champion accepted", "refused", "not tried"),
        *(f"{MEASURED['reconstruction'][which]['mse']:.5f}" for which in ("model", "pca")),
        *("812", "1 of 3 signals, 2 are needed", "too few days", "the last months"),
        *("5,000 samples came in, 4,997 were accepted, 3 quarantined", "1 of 2 expectations met", "Not met: blank"),
        *("3 samples in .ae/quarantine/digits/0123456789ab", "2 blank", "1 sample mean", "blank, sample mean"),
        *("ae quarantine digits --release aaaaaaaaaaaa --why TEXT", "--drop aaaaaaaaaaaa", "--relabel aaaaaaaaaaaa=LABEL"),
        *("summary of the last batch", "valid 2 entries", "ae ledger verify digits", "none → 1", "the gate"),
    ):
        assert words in text, words


def test_a_recipe_without_a_version_has_a_page_that_says_what_to_type(client: httpx.Client) -> None:
    text = page(client, "/r/news-text").text
    for words in (
        "ae run news-text",
        "No data was validated yet",
        "No sample was ever quarantined",
        "The ledger begins with the first version",
    ):
        assert words in text


@pytest.mark.parametrize("path", ["/", "/r/digits"])
def test_nothing_that_people_wrote_becomes_part_of_the_page(client: httpx.Client, path: str) -> None:
    answer = client.get(path).text
    assert HOSTILE not in answer
    scripts = [attributes for tag, attributes in Elements(answer).found if tag == "script"]
    assert [script["src"] for script in scripts] == ["/page.js"]
    assert ("worse &lt;script&gt;" in answer) == (path == "/r/digits")


@pytest.mark.parametrize("path", ["/", "/r/digits", "/page.css", "/page.js", "/nowhere"])
def test_every_answer_carries_the_headers_and_needs_no_exception_from_them(client: httpx.Client, path: str) -> None:
    answer = client.get(path)
    policy = answer.headers["content-security-policy"]
    assert "default-src 'self'" in policy
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"
    for tag, attributes in Elements(answer.text if "html" in answer.headers["content-type"] else "").found:
        assert not {"style", "onclick", "onload"} & attributes.keys(), (tag, attributes)
        for address in (attributes.get("src"), attributes.get("href") if tag == "link" else None):
            assert address is None or address.startswith(("/", "data:image/png")), address


@pytest.mark.parametrize("which", ["report", "monitoring", "scoring"])
def test_documents_of_others_are_served_in_a_sandbox(client: httpx.Client, which: str) -> None:
    answer = client.get(f"/r/digits/{which}")
    assert answer.status_code == 200
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("sandbox ")
    assert "default-src 'none'" in policy
    assert "allow-same-origin" not in policy


@pytest.mark.parametrize(
    "path",
    [
        *("/r/digits/verdict", "/r/mnist/report", "/r/no-such", "/r/..%2F..%2Fetc/report", "/data-docs/nowhere/index.html"),
        *("/data-docs/../ledger/digits.jsonl", "/data-docs/%2e%2e/ledger/digits.jsonl", "/data-docs//etc/passwd"),
        *(
            "/data-docs/..%2fledger%2fdigits.jsonl",
            "/data-docs/digits",
            "/data-docs/link/index.html",
            "/data-docs/.hidden/x.html",
        ),
        *("/docs", "/openapi.json", "/redoc", "/templates/page.css"),
    ],
)
def test_nothing_but_the_known_pages_is_served(client: httpx.Client, project: Project, path: str) -> None:
    link = project.data_docs / "link"
    if not link.is_symlink():
        write(project.home / "elsewhere" / "index.html", "secret")
        write(project.data_docs / ".hidden" / "x.html", "secret")
        link.symlink_to(project.home / "elsewhere")
    address = client.base_url.copy_with(raw_path=path.encode())
    assert client.send(httpx.Request("GET", address)).status_code == 404


def test_data_docs_are_served(client: httpx.Client) -> None:
    assert "Data Docs" in client.get("/data-docs/digits/index.html").text


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"])
@pytest.mark.parametrize("path", ["/", "/r/digits"])
def test_the_page_only_reads(client: httpx.Client, method: str, path: str) -> None:
    assert client.request(method, path).status_code == 405


@pytest.mark.slow
def test_the_overview_answers_while_mlflow_is_out_of_reach_and_says_so(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")
    changed = copied(project, tmp_path)
    with Served(changed) as running, httpx.Client(base_url=running.address, timeout=30) as asking:
        first = Elements(asking.get("/").text)
        assert "version 1 since" in first.text
        wait_for(lambda: "MLflow at http://127.0.0.1:9 does not answer" in Elements(asking.get("/").text).text)
        text = page(asking, "/r/digits").text
        assert "The registry does not answer" in text
        assert "Not verified" in text
        wait_for(lambda: "Prefect does not answer" in Elements(asking.get("/").text).text)


@pytest.mark.slow
def test_files_that_cannot_be_read_are_told_and_the_rest_stays(project: Project, tmp_path: Path) -> None:
    changed = copied(project, tmp_path)
    write(changed.home / "monitoring" / "digits" / "verdict.json", "{ torn")
    write(changed.validation("digits") / "validation.json", "[]")
    write(changed.quarantine("digits") / "0123456789ab" / "rows.parquet", "no parquet")
    write(changed.home / "last-run" / "digits.json", "{}")
    write(changed.recipe_file("mnist"), "recipe: other\n")
    ledger = changed.home / "ledger" / "digits.jsonl"
    write(ledger, ledger.read_text(encoding="utf-8").replace("better than none", "better than all"))
    with Served(changed) as running, httpx.Client(base_url=running.address, timeout=30) as asking:
        text = page(asking, "/r/digits").text
        for words in ("The last verdict cannot be read", "The last validation cannot be read", "not valid", "was edited"):
            assert words in text
        assert "It cannot be read" in text
        assert "The recipe cannot be read" in page(asking, "/").text


@pytest.mark.slow
def test_a_version_that_waits_for_approval_is_at_the_top_with_the_command(project: Project, tmp_path: Path) -> None:
    changed = copied(project, tmp_path)
    decision = ledger.Decision("request", "digits", "2", who="grace", why="better", evidence={"sha256": "5" * 64})
    ledger.append_entry(changed, decision)
    with Served(changed) as running, httpx.Client(base_url=running.address, timeout=30) as asking:
        text = page(asking, "/").text
        assert "Version 2 waits for approval, requested by grace." in text
        assert "ae approve digits 2 --by NAME --why TEXT" in text


@pytest.mark.slow
def test_a_recipe_whose_champion_was_retired_is_not_said_to_have_one(project: Project, tmp_path: Path) -> None:
    copy = copied(project, tmp_path)
    promotion.retire(open_store(copy), "digits", who="ada", why="the line has closed")
    write(copy.home / "monitoring" / "digits" / "page.html", "<!DOCTYPE html><title>months</title><body><h1>Alarm</h1></body>")
    with Served(copy) as running, httpx.Client(base_url=running.address, timeout=30) as asking:
        wait_for(lambda: "data-loading" not in asking.get("/").text, 60)
        text = page(asking, "/").text
        recipe_text, months_text = page(asking, "/r/digits").text, page(asking, "/r/digits/monitoring").text
    assert "The champion's run has no metrics." not in text
    assert "No version is champion, so there are no key figures." in text
    for shown in (text, recipe_text, months_text):
        assert "closed: ada retired version 1 on " in shown, "the check before the retirement found an alarm"
        assert "the line has closed" in shown


def test_the_service_may_try_a_new_champion_for_a_while(project: Project) -> None:
    nothing = QueryResult()
    view = build_recipe_view(project, "digits", StackState(nothing, nothing, nothing, nothing))
    assert view.ledger.value is not None
    assert view.ledger.value.last_move is not None
    promoted = view.ledger.value.last_move.timestamp
    assert is_taking_over(view, promoted + timedelta(seconds=90))
    assert not is_taking_over(view, promoted + timedelta(seconds=130)), "longer than in the shadow: the page says so"


@pytest.mark.slow
def test_the_page_loads_no_torch_and_no_mlflow_also_when_it_scores(project: Project) -> None:
    script = (
        "import sys\nfrom fastapi.testclient import TestClient\nfrom aeops.page.app import build_page_app\n"
        "from aeops.project import find_project\nclient = TestClient(build_page_app(find_project()), base_url='http://127.0.0.1')\n"
        "assert client.get('/').status_code == 200\nassert client.get('/r/digits').status_code == 200\n"
        "answer = client.post('/try/digits', content='0 ' * 784, headers={'content-type': 'text/plain'})\n"
        "assert answer.status_code == 200, answer.text\n"
        "print([name for name in ('torch', 'mlflow', 'pytorch_lightning', 'matplotlib', 'prefect') if name in sys.modules])"
    )
    environment = {name: value for name, value in os.environ.items() if name not in ("AE_HOME", "MLFLOW_TRACKING_URI")}
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, cwd=project.root, env=environment, capture_output=True, text=True, check=False)
    assert done.stdout == "[]\n", done.stdout + done.stderr


def test_whoever_only_looks_makes_no_database(tmp_path: Path) -> None:
    (tmp_path / "recipes").mkdir()
    write(tmp_path / "dvc.yaml", "stages: {}\n")
    empty = Project(root=tmp_path, home=tmp_path / ".ae")
    with Served(empty) as running, httpx.Client(base_url=running.address, timeout=30) as asking:
        wait_for(lambda: "registry read" in asking.get("/").text)
        assert "There is no recipe here yet" in asking.get("/").text
    assert not (tmp_path / ".ae" / "mlflow").exists()


def test_every_asset_that_a_page_names_is_there(client: httpx.Client) -> None:
    named = set(re.findall(r'(?:href|src)="(/[a-z.]+\.(?:css|js|svg))"', client.get("/").text))
    assert named == {"/page.css", "/page.js", "/icon.svg"}
    assert all(client.get(path).status_code == 200 for path in named)
    assert "--model:#0072b2" in client.get("/page.css").text


@pytest.mark.slow
def test_an_application_that_was_never_started_answers_from_the_files(project: Project) -> None:
    from fastapi.testclient import TestClient

    shown = TestClient(build_page_app(project), base_url="http://localhost").get("/r/digits")
    assert shown.status_code == 200
    assert "The registry is loading." in shown.text
    assert json.loads(TestClient(build_page_app(project), base_url="http://localhost").get("/healthz").text) == {"status": "ok"}


def test_the_verdict_of_the_champion_stands_on_both_pages_with_its_author(client: httpx.Client) -> None:
    caught = MEASURED["novelty_flagged"]
    sentence = f"digits 1. Accepted. It catches {caught:.1%} of the known novelty and lets {1 - caught:.1%} through".replace(
        "%", " %"
    )
    for path in ("/", "/r/digits"):
        text = page(client, path).text
        assert sentence in text
        assert re.search(r"The champion, made on [-\d]+ [:\d]+ UTC by ada", text)


def test_two_versions_can_be_chosen_and_what_was_compared_is_shown(client: httpx.Client, project: Project) -> None:
    shown = page(client, "/compare").text
    assert "ae compare" not in shown
    wanted = page(client, "/compare?recipe=digits&first=1&second=2")
    assert "They have not been compared yet." in wanted.text
    assert "ae compare digits@1 digits@2" in wanted.text
    unknown = page(client, "/compare?recipe=digits&first=1&second=77").text
    assert "digits has no version 77" in unknown
    assert "ae compare" not in unknown
    file = project.home / "compare" / "digits" / "1-2.html"
    write(file, "<!DOCTYPE html><title>two</title><h1>1 and 2</h1>")
    try:
        found = page(client, "/compare?recipe=digits&first=1&second=2")
        (frame,) = [attributes["src"] for tag, attributes in found.found if tag == "iframe"]
        answer = client.get(frame)
        assert (answer.status_code, "1 and 2" in answer.text) == (200, True)
        assert "sandbox" in answer.headers["content-security-policy"]
    finally:
        file.unlink()


@pytest.mark.parametrize(
    "path",
    [
        "/compare?recipe=nothing",
        "/compare?recipe=digits&first=../1&second=2",
        "/r/digits/compare/1/%2e%2e",
        "/r/digits/compare/8/9",
    ],
)
def test_a_comparison_that_cannot_be_is_not_found(client: httpx.Client, path: str) -> None:
    assert client.get(path).status_code == 404
