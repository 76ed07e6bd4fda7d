"""`ae runs` and `ae logs` as a person types them, in this process."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from aeops.cli.logs import new_lines
from aeops.cli.main import main
from aeops.machine.run_log import append_run_line, run_log_file
from aeops.project import Project
from aeops.registry.store import Store


@pytest.fixture(autouse=True)
def in_the_project(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    (project.recipes / "digits.yaml").write_text("no: recipe that can be read\n", encoding="utf-8")
    monkeypatch.chdir(project.root)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.delenv("AE_HOME", raising=False)


@pytest.mark.slow
def test_runs_lists_each_run_with_the_version_that_it_made(
    store: Store, start: Callable[[], str], bundle: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    first = start()
    store.register(first, "digits", bundle(), {"verdict": "refused"}, "")
    store.finish_run(first, "FINISHED")
    second = start()
    store.finish_run(second, "FAILED")
    third = start()
    assert main(["runs", "digits", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["in_progress"] == []
    found = {run["run_id"]: (run["status"], run["version"], run["verdict"]) for run in answer["runs"]}
    assert found == {first: ("finished", "1", "refused"), second: ("failed", "", ""), third: ("running", "", "")}
    assert [run["seconds"] is None for run in answer["runs"] if run["run_id"] == third] == [True]
    assert main(["runs"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    assert any(line.split()[0] == "digits" and line.split()[-1] == "refused" for line in lines if line.strip())


def test_a_project_without_a_run_says_how_to_begin(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["runs"]) == 0
    assert capsys.readouterr().out == (
        "no run whose data was accepted: `ae run RECIPE` makes the first; what an earlier one printed: ae logs RECIPE\n"
    )
    assert main(["runs", "digit"]) == 2
    assert "did you mean digits" in capsys.readouterr().err
    assert main(["runs", "-n", "0"]) == 2


def test_logs_prints_the_last_lines_with_their_times(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    for text in ("ingest ...", "ingest 1.2 s · 5,000 samples", "validate failed: \x1b[2Jno such file"):
        append_run_line(project, "digits", text)
    assert main(["logs", "digits", "-n", "2"]) == 0
    first, second, last = capsys.readouterr().out.splitlines()
    assert first[21:] == "ingest 1.2 s · 5,000 samples"
    assert "\x1b" not in second
    assert last == f"the output of the steps' processes: {project.logs}"
    assert main(["logs", "digits", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert [line["text"] for line in answer["lines"]][:2] == ["ingest ...", "ingest 1.2 s · 5,000 samples"]
    assert answer["lines"][0]["time"].endswith("+00:00")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "digits has no log here: `ae run digits` writes it"),
        (["-n", "0"], "-n: expected 1 or more"),
        (["--json", "--follow"], ""),
    ],
)
def test_logs_that_cannot_be_say_what_to_type(
    project: Project, options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["logs", "digits", *options]) == 2
    assert message in capsys.readouterr().err


def test_followed_lines_come_once_also_after_the_log_was_emptied(project: Project) -> None:
    file = run_log_file(project, "digits")
    writes = iter(["one\n", "two\nthr", "ee\n", None, "four\n"])

    def write_next() -> bool:
        try:
            text = next(writes)
        except StopIteration:
            return False
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("w" if text is None else "a") as stream:
            stream.write(text or "")
        return True

    assert list(new_lines(file, 0, write_next)) == ["one", "two", "three", "four"]
