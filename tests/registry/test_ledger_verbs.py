"""`ae history`, `ae ledger verify`, `ae rollback` and `ae retire` as a person types them, in this process."""

import json
import re
import shutil
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from aeops.cli.main import main
from aeops.project import Project
from aeops.registry import ledger, promotion
from aeops.registry.ledger import Decision
from aeops.registry.store import Store

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def in_the_project(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    (project.recipes / "digits.yaml").write_text("no: recipe that can be read\n", encoding="utf-8")
    monkeypatch.chdir(project.root)
    monkeypatch.setenv("COLUMNS", "220")
    monkeypatch.setenv("LOGNAME", "night")
    for name in ("AE_HOME", "AE_BY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def zone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A machine nine and a half hours east of Greenwich."""
    monkeypatch.setenv("TZ", "XYZ-09:30")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.fixture
def gone(project: Project) -> None:
    """The recipe's file is gone: nothing can be served, and nothing asks for a signature."""
    (project.recipes / "digits.yaml").unlink()


def champion(store: Store) -> str | None:
    held = store.champion("digits")
    return held.version if held else None


# ---------------------------------------------------------------- history


def test_history_shows_every_decision_and_the_champion(decided: Store, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["history", "digits", "--full"]) == 0
    told = capsys.readouterr().out
    entries = told.split("\n     ")[1:]
    assert len([entry for entry in entries if entry.lstrip()[:1].isdigit()]) == 5
    for words in ("  refusal        version 2", f"by the gate ({ledger.current_account()}): worse", "evidence 222222222222"):
        assert words in told
    for words in ("rollback       version 1  champion 3 → 1", f"by grace ({ledger.current_account()}): it flags everything"):
        assert words in told
    assert "champion   digits 2, by promotion no. 5 of ada: better" in told
    assert "ae ledger verify digits" in told


def test_history_as_of_a_time_is_right_at_each_moment(decided: Store, capsys: pytest.CaptureFixture[str]) -> None:
    lines = ledger.read_entries(decided.project, "digits")
    for count, (line, expected) in enumerate(zip(lines, ("1", "1", "3", "1", "2"), strict=True), 1):
        assert main(["history", "digits", "--json", "--as-of", line.time]) == 0
        answer = json.loads(capsys.readouterr().out)
        assert (answer["recipe"], answer["champion"], answer["as_of"]) == ("digits", expected, line.time)
        assert answer["lines"] == [line.to_dict() for line in lines[:count]]
    before = lines[0].timestamp - timedelta(microseconds=1)
    assert main(["history", "digits", "--as-of", before.isoformat()]) == 0
    assert f"champion   none: the ledger begins at {lines[0].time}" in capsys.readouterr().out
    assert main(["history", "digits", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert (answer["as_of"], answer["champion"], len(answer["lines"])) == (None, "2", 5)


def test_a_time_without_a_zone_is_this_machines_and_history_says_so(
    decided: Store, zone: None, capsys: pytest.CaptureFixture[str]
) -> None:
    line = ledger.read_entries(decided.project, "digits")[2]
    here = (line.timestamp + timedelta(hours=9, minutes=30)).replace(tzinfo=None).isoformat(sep=" ")
    assert main(["history", "digits", "--as-of", here]) == 0
    told = capsys.readouterr().out
    assert f"as of      {line.timestamp:%Y-%m-%d %H:%M:%S} UTC: {here} in this machine's zone, as none is given" in told
    assert "champion   digits 3, by promotion no. 3" in told
    assert main(["history", "digits", "--as-of", here + "+09:30"]) == 0
    told = capsys.readouterr().out
    assert "champion   digits 3" in told
    assert "machine's zone" not in told


def test_a_date_is_its_first_moment_here(decided: Store, zone: None, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["history", "digits", "--as-of", "2026-03-02"]) == 0
    assert "as of      2026-03-01 14:30:00 UTC: 2026-03-02 in this machine's zone" in capsys.readouterr().out


@pytest.mark.parametrize("given", ["yesterday", "2026-13-01", "", "0001-01-01T00:00:00+14:00"])
def test_a_time_that_is_none_is_told_with_those_that_are(decided: Store, given: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["history", "digits", "--as-of", given]) == 2
    assert "--as-of: expected an ISO date or time, such as 2026-11-24, 2026-11-24T14:30" in capsys.readouterr().err


def test_history_commands_no_terminal(decided: Store, capsys: pytest.CaptureFixture[str]) -> None:
    promotion.retire(decided, "digits", who="eve [red]", why="\x1b[2J\u202egone\nforever")
    assert main(["history", "digits"]) == 0
    told = capsys.readouterr().out
    assert "eve [red]" in told
    assert not {"\x1b", "\u202e"} & set(told)


@pytest.mark.parametrize("width", ["80", "60"])
def test_a_ledger_in_full_is_a_few_short_lines_an_entry(
    decided: Store, width: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    promotion.retire(decided, "digits", who="ada", why="a reason of many words " * 10)
    monkeypatch.setenv("COLUMNS", width)
    assert main(["history", "digits", "--full"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines[:-2])) <= 80
    assert len(lines) <= 3 * 6 + 8


def test_a_ledger_is_one_line_an_entry_as_wide_as_the_terminal(
    decided: Store, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    promotion.retire(decided, "digits", who="ada", why="a reason of many words " * 10)
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["history", "digits"]) == 0
    _, *lines, champion, whole, _ = capsys.readouterr().out.splitlines()
    assert [line[:6].strip() for line in lines] == ["1", "2", "3", "4", "5", "6"]
    assert max(map(len, lines)) == 80
    assert lines[-1].endswith("…")
    assert re.fullmatch(r" +4  [-\d]+ [:\d]+  rollback +3 → 1 +grace: it flags everything.*", lines[3])
    assert champion.startswith("champion   none")
    assert whole == "whole      ae history digits --full"
    assert main(["ledger"]) == 0
    assert capsys.readouterr().out.splitlines()[1:7] == lines, "ae ledger lists those of all recipes"


@pytest.mark.parametrize("options", [[], ["--full"]], ids=["lines", "full"])
def test_what_people_wrote_is_whole_in_a_pipe(
    decided: Store, options: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    reason = " ".join(f"word{number}" for number in range(100))
    promotion.retire(decided, "digits", who="ada", why=reason)
    monkeypatch.delenv("COLUMNS")
    assert main(["history", "digits", *options]) == 0
    account = f" ({ledger.current_account()})" if options else ""
    assert re.search(f"ada{re.escape(account)}: {reason}\n", capsys.readouterr().out)


def test_a_program_gets_the_ledgers_and_their_verification_as_json(decided: Store, capsys: pytest.CaptureFixture[str]) -> None:
    entries = [entry.to_dict() for entry in ledger.read_entries(decided.project, "digits")]
    for arguments in (["ledger", "--json"], ["ledger", "list", "digits", "--json"]):
        assert main(arguments) == 0
        assert json.loads(capsys.readouterr().out) == [{"recipe": "digits", "as_of": None, "champion": "2", "lines": entries}]
    assert main(["ledger", "verify", "--json"]) == 0
    (verified,) = json.loads(capsys.readouterr().out)
    assert (verified["recipe"], verified["entries"], verified["champion"], verified["problems"]) == ("digits", 5, "2", [])


def test_history_of_what_has_none_says_how_it_begins(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["history", "digits"]) == 2
    assert "digits has no ledger yet: `ae run digits` writes its first entry" in capsys.readouterr().err
    assert main(["history", "digit"]) == 2
    assert "no recipe 'digit': expected digits" in capsys.readouterr().err
    assert main(["history", "../digits"]) == 2


def test_history_outlives_the_recipes_file(decided: Store, gone: None) -> None:
    assert main(["history", "digits"]) == 0


# ---------------------------------------------------------------- verify


def test_verify_says_of_each_recipe_whether_it_is_whole(decided: Store, capsys: pytest.CaptureFixture[str]) -> None:
    (decided.project.recipes / "mnist.yaml").touch()
    assert main(["ledger", "verify"]) == 0
    assert capsys.readouterr().out == "digits: whole, 5 lines, champion 2\n1 recipe without a ledger yet\n"
    assert main(["ledger", "verify", "digits"]) == 0
    assert capsys.readouterr().out == "digits: whole, 5 lines, champion 2\n"


def test_verify_names_every_fault_and_ends_as_bad_data_does(decided: Store, capsys: pytest.CaptureFixture[str]) -> None:
    file = ledger.ledger_file(decided.project, "digits")
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(b"".join([lines[0], lines[2], lines[1].replace(b"worse", b"as good"), lines[3]]))
    assert main(["ledger", "verify"]) == 3
    heading, *faults = capsys.readouterr().out.splitlines()
    assert heading == "digits: faulty"
    expected = ("line 3 of the file was edited", "number 2 stands below number 3", "number 5 is missing at the end")
    assert [words in fault for words, fault in zip(expected, faults, strict=True)] == [True] * 3
    assert main(["history", "digits"]) == 3
    assert "type `ae ledger verify digits`" in capsys.readouterr().err


# ---------------------------------------------------------------- rollback and retirement


def test_rollback_is_one_command_and_on_the_record(
    decided: Store, gone: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["rollback", "digits", "--why", "alarms all night"]) == 0
    assert "champion   digits 1 (before: 2), by night: line 6 of the ledger" in capsys.readouterr().out
    assert champion(decided) == "1"
    monkeypatch.setenv("AE_BY", "grace")
    assert main(["rollback", "digits", "--to", "3", "--why", "the lesser evil"]) == 0
    assert main(["rollback", "digits", "--to", "2", "--why", "fixed the camera", "--by", "ada"]) == 0
    made = ledger.read_entries(decided.project, "digits")[5:]
    assert [(line.event, line.to_version, line.who) for line in made] == [
        ("rollback", "1", "night"),
        ("rollback", "3", "grace"),
        ("rollback", "2", "ada"),
    ]
    assert promotion.find_problems(decided, "digits") == []


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (["--to", "2", "--why", "x"], 2, "version 2 of digits is champion already"),
        (["--to", "9", "--why", "x"], 4, "never was champion"),
        (["--why", " "], 2, "`why` is empty"),
        (["--why", "x", "--by", ""], 2, "`who` is empty"),
    ],
)
def test_a_rollback_that_cannot_be_leaves_everything(
    decided: Store, gone: None, words: list[str], code: int, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["rollback", "digits", *words]) == code
    assert told in capsys.readouterr().err
    assert champion(decided) == "2"
    assert len(ledger.read_entries(decided.project, "digits")) == 5


def test_a_rollback_to_what_could_not_be_served_is_refused(decided: Store, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rollback", "digits", "--why", "alarms all night"]) == 2
    assert "recipes/digits.yaml" in capsys.readouterr().err
    assert champion(decided) == "2"


def test_retire_leaves_no_champion_and_says_the_way_back(decided: Store, gone: None, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["retire", "digits", "--why", "the camera is gone", "--by", "ada"]) == 0
    assert "champion   none (before: 2), by ada: line 6 of the ledger" in capsys.readouterr().out
    assert champion(decided) is None
    assert main(["retire", "digits", "--why", "again"]) == 2
    assert main(["rollback", "digits", "--why", "it is back"]) == 0
    assert champion(decided) == "2"


@pytest.mark.slow
def test_show_says_why_there_is_no_champion(decided: Store, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copy(ROOT / "recipes" / "digits.yaml", decided.project.recipes)
    promotion.retire(decided, "digits", who="ada", why="the camera\x1b[2J is [gone]")
    assert main(["show", "digits"]) == 0
    told = capsys.readouterr().out
    assert "no version passed" not in told
    retirement = r"ada retired version 2 on \d{4}-\d\d-\d\d \(the camera\\x1b\[2J is \[gone\]\)"
    assert re.search(rf"champion   none: {retirement}; undo: ae rollback", told)
    decided.client.set_registered_model_alias("digits", "champion", "1")
    promotion.rollback(decided, "digits", "2", who="ada", why="it is back")
    decided.client.delete_registered_model_alias("digits", "champion")
    assert main(["show", "digits"]) == 0
    assert (
        "champion   none: the ledger says version 2, and the registry has none: ae ledger verify digits"
        in capsys.readouterr().out
    )


def test_show_after_a_retirement_that_only_removed_a_foreign_alias(registered: Store, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copy(ROOT / "recipes" / "digits.yaml", registered.project.recipes)
    promotion.record_decision(registered, Decision("refusal", "digits", "3", "the gate", "worse", {"sha256": "2" * 64}))
    registered.client.set_registered_model_alias("digits", "champion", "1")
    promotion.retire(registered, "digits", who="ada", why="nobody accepted it")
    assert main(["show", "digits"]) == 0
    told = capsys.readouterr().out
    assert "ada retired version 1 on" in told
    assert "make a champion: ae run digits" in told
    assert "ae rollback" not in told


def test_show_of_versions_that_were_refused_names_the_newest(registered: Store, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copy(ROOT / "recipes" / "digits.yaml", registered.project.recipes)
    registered.client.set_model_version_tag("digits", "3", "verdict", "refused")
    assert main(["show", "digits"]) == 0
    assert "champion   none: the newest version 3 is refused; why: `ae why digits@3`" in capsys.readouterr().out


def test_the_advice_after_a_move_is_what_the_documentation_says(
    decided: Store, gone: None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["rollback", "digits", "--why", "alarms"]) == 0
    told = capsys.readouterr().out
    assert "restart" not in told
    assert "services follow by themselves" in told
    assert "A rollback goes through the same steps." in (ROOT / "docs" / "serving.md").read_text(encoding="utf-8")
    assert main(["retire", "digits", "--why", "alarms"]) == 0
    assert "services answer 503 until there is a champion" in capsys.readouterr().out


def test_without_a_reason_nothing_moves(decided: Store, capsys: pytest.CaptureFixture[str]) -> None:
    for verb in ("rollback", "retire"):
        with pytest.raises(SystemExit, match="2"):
            main([verb, "digits"])
        assert "--why" in capsys.readouterr().err
    assert champion(decided) == "2"


def test_history_loads_no_mlflow(decided: Store) -> None:
    import subprocess
    import sys

    script = "import sys; from aeops.cli.main import main; main(['history', 'digits']); print('mlflow' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], cwd=Path.cwd(), capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "False"


def test_show_and_why_print_their_facts_as_json(decided: Store, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copy(ROOT / "recipes" / "digits.yaml", decided.project.recipes)
    assert main(["show", "digits", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["recipe"], shown["champion"]) == ("digits", "2")
    assert [version["version"] for version in shown["versions"]] == ["3", "2", "1"]
    assert {"aliases", "made_at", "sentence", "metrics", "tags", "run_url"} <= shown["versions"][0].keys()
    main(["why", "digits@2", "--json"])
    answer = json.loads(capsys.readouterr().out)
    assert [link["name"] for link in answer["links"]][:2] == ["version", "threshold"]
    assert answer["holds"] == (not any(link["problem"] for link in answer["links"]))
