"""The command line as a whole: its groups, near matches, version, and what a shell gets that completes."""

import os
import re
import shlex
import signal
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
from checkout import ROOT

from aeops.cli.command_parser import command_parsers
from aeops.cli.examples import EXAMPLES
from aeops.cli.main import COMMAND_GROUPS, build_parser, main
from aeops.machine.terminal import is_quiet, is_verbose

# Commands that do something and print no facts, or whose output is JSON or a program already.
WITHOUT_JSON = {
    *("alarm ack", "approve", "reject", "rollback", "retire", "sign"),  # their facts are the ledger's: ae history --json
    *("init", "new", "serve", "ui", "up", "down", "prefect", "completion"),
    *("embed", "compress", "decompress"),  # they write files
    *("ledger head", "recipe schema"),  # JSON
}


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int | str | None, str, str]:
    """Return exit code, output and errors of a command line that argparse ends."""
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    streams = capsys.readouterr()
    return ended.value.code, streams.out, streams.err


@pytest.mark.parametrize("columns", ["80", "200"])
def test_the_main_page_lists_the_commands_by_group_and_is_no_wider_than_the_terminal(
    columns: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    code, page, _ = printed(capsys, "--help")
    assert code == 0
    titles = re.findall(r"^([a-z ]+):$", page, re.MULTILINE)
    assert titles == [*COMMAND_GROUPS, "options"]
    assert max(map(len, page.splitlines())) <= int(columns)
    for title, modules in COMMAND_GROUPS.items():
        section = page.partition(f"\n{title}:\n")[2].partition("\n\n")[0]
        assert re.findall(r"^    ([a-z]+) ", section, re.MULTILINE) == [name.__name__.rsplit(".", 1)[1] for name in modules]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("rnu",), "no command 'rnu': did you mean run?; `ae --help` lists all"),
        (("ledger", "verfy"), "no command 'verfy': did you mean verify?; `ae ledger --help` lists all"),
        (("bogus",), "no command 'bogus'; `ae --help` lists all"),
        (("train",), "no command 'train': did you mean run?; `ae --help` lists all"),
        (("recipe", "zzz"), "no command 'zzz'; `ae recipe --help` lists all"),
        (("completion", "csh"), "shell: expected bash, zsh or fish, got 'csh'"),
    ],
)
def test_a_command_that_does_not_exist_is_refused_with_the_near_match(
    arguments: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, errors = printed(capsys, *arguments)
    assert (code, message in errors) == (2, True), errors


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            (),
            "COMMAND ...\nae: error: expected a command, such as `ae init`, `ae new` or `ae run`; `ae --help` lists all",
        ),
        (
            ("alarm",),
            "ae alarm: error: expected a command, such as `ae alarm list` or `ae alarm ack`; `ae alarm --help` lists all",
        ),
        (("run", "digits", "--sets", "a=1"), "ae run: error: no option '--sets': did you mean --set?; `ae run --help` lists"),
        (("ledger", "--zzz=1"), "ae ledger: error: no option '--zzz'; `ae ledger --help` lists what it takes"),
        (("run", "digits", "mnist"), "ae run: error: one argument too many: 'mnist'; `ae run --help` lists what it takes"),
        (
            ("score", "digits", "--", "a.npy", "b.npy"),
            "ae score: error: one argument too many: 'b.npy'; `ae score --help` lists what it takes",
        ),
        (("run", "digits", "--seed", "x"), "ae run: error: --seed: expected a whole number, got 'x'"),
        (("recalibrate", "digits", "--rate", "x"), "ae recalibrate: error: --rate: expected a number, got 'x'"),
        (("new", "x", "--from", "y", "--channels", "2"), "ae new: error: --channels: expected 1, 3 or 4, got 2"),
        (("--zzz", "run", "digits"), "ae: error: no option '--zzz'; `ae --help` lists what it takes"),
    ],
)
def test_what_a_command_does_not_take_is_named_by_that_command_with_what_to_type(
    arguments: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, errors = printed(capsys, *arguments)
    assert (code, message in errors) == (2, True), errors


def test_the_version_is_that_of_the_package(capsys: pytest.CaptureFixture[str]) -> None:
    assert printed(capsys, "--version") == (0, f"ae {version('ae-pipeline')}\n", "")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_gets_its_code(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", shell]) == 0
    code = capsys.readouterr().out
    assert "_ARGCOMPLETE" in code
    assert ("function __fish" in code) == (shell == "fish")


@pytest.mark.parametrize(
    ("typed", "expected"),
    [("ae re", {"recalibrate", "recipe", "recipes", "rebuild", "reject", "retire"}), ("ae run mnist-a", {"mnist-adversarial"})],
)
def test_a_shell_that_asks_gets_commands_and_recipes(typed: str, expected: set[str], tmp_path: Path) -> None:
    answer = tmp_path / "answer"
    asked = {"COMP_LINE": typed, "COMP_POINT": str(len(typed)), "COMP_TYPE": "9", "_ARGCOMPLETE": "1", "_ARGCOMPLETE_IFS": "\n"}
    command = [sys.executable, "-m", "aeops.cli.main"]
    environment = os.environ | asked | {"_ARGCOMPLETE_STDOUT_FILENAME": str(answer), "_ARGCOMPLETE_SUPPRESS_SPACE": "1"}
    subprocess.run(command, cwd=ROOT, env=environment, check=True, timeout=60)
    assert set(answer.read_text().split()) == expected


def test_a_reader_that_ends_early_is_no_error() -> None:
    """As in `ae recipe schema | head -1`: the schema is larger than what a pipe holds."""
    command = [sys.executable, "-m", "aeops.cli.main", "recipe", "schema"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stderr is not None
        assert child.stdout.readline() == "{\n"
        child.stdout.close()
        assert (child.wait(timeout=60), child.stderr.read()) == (128 + signal.SIGPIPE, "")


def test_every_command_that_prints_facts_prints_them_as_json_too() -> None:
    commands = dict(command_parsers(build_parser()))
    without = {name for name, parser in commands.items() if "--json" not in parser.format_help()}
    assert without == WITHOUT_JSON
    assert {"show", "ledger", "ledger verify", "recipe check", "doctor", "run"} <= commands.keys()


def test_every_subcommand_says_what_it_does(capsys: pytest.CaptureFixture[str]) -> None:
    code, page, _ = printed(capsys, "ledger", "verify", "--help")
    assert code == 0
    assert "List every line that was edited, removed or swapped" in page
    assert [name for name, parser in command_parsers(build_parser()) if not parser.description] == []


def test_every_command_has_an_example_that_its_help_shows_and_its_parser_takes(capsys: pytest.CaptureFixture[str]) -> None:
    parser = build_parser()
    commands = dict(command_parsers(parser))
    assert commands.keys() == EXAMPLES.keys()
    for name, examples in EXAMPLES.items():
        for example in examples:
            program, *arguments = shlex.split(example.partition(" > ")[0])
            parsed = parser.parse_args(arguments)
            assert (program, parsed.command) == ("ae", name.split()[0])
            assert " ".join(arguments).startswith(name)
            assert f"\n  {example}\n" in commands[name].format_help()
        assert any(" ".join(shlex.split(example)).startswith(f"ae {name}") for example in examples)


@pytest.mark.parametrize("columns", ["80", "200"])
def test_the_help_of_every_command_fits_the_terminal(columns: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    for name, parser in command_parsers(build_parser()):
        assert max(map(len, parser.format_help().splitlines())) <= int(columns), name


@pytest.mark.parametrize(("option", "state"), [("-q", (True, False)), ("--verbose", (False, True)), ("", (False, False))])
def test_how_much_is_said_holds_for_the_command_alone(
    option: str, state: tuple[bool, bool], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seen = []
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr("aeops.recipe.reference.explain", lambda key: seen.append((is_quiet(), is_verbose())) or [])
    assert main(["recipe", "explain", *filter(None, [option])]) == 0
    assert seen == [state]
    assert not is_quiet()
    assert not is_verbose()


def test_an_error_says_where_it_comes_from_only_when_asked(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    assert main(["recipe", "explain", "nothing"]) == 2
    assert "Traceback" not in capsys.readouterr().err
    assert main(["recipe", "explain", "nothing", "-v"]) == 2
    assert "Traceback" in capsys.readouterr().err


def test_no_color_is_obeyed(monkeypatch: pytest.MonkeyPatch) -> None:
    from rich.text import Text

    from aeops.cli import outputs

    coloured = {}
    for name, variables in {"plain": {"NO_COLOR": "1"}, "coloured": {}}.items():
        monkeypatch.delenv("NO_COLOR", raising=False)
        for variable, value in {"FORCE_COLOR": "1", "TERM": "xterm-256color", **variables}.items():
            monkeypatch.setenv(variable, value)
        console = outputs.open_console()
        with console.capture() as capture:
            console.print(Text("fault", style="red"))
        coloured[name] = "\x1b[31m" in capture.get()
    assert coloured == {"plain": False, "coloured": True}


def test_the_pages_that_messages_and_recipes_name_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    """A project of one's own has no folder docs/."""
    named = set()
    for file in (ROOT / "aeops").rglob("*.py"):
        named.update(re.findall(r"(?:\bdocs/|`ae docs )([a-z-]+)", file.read_text(encoding="utf-8")))
    named -= {"recipes", "generate"}  # the pages of the shipped recipes, and scripts
    assert {"gates", "power", "scores", "notifications", "recipe-reference"} <= named
    for name in named:
        assert main(["docs", name]) == 0, name
        assert capsys.readouterr().out == (ROOT / "docs" / f"{name}.md").read_text(encoding="utf-8")
    assert main(["docs"]) == 0
    assert "gates                How the gate decides" in capsys.readouterr().out
    assert main(["docs", "docs/gats.md"]) == 2
    assert "no page 'docs/gats.md': did you mean gates?; `ae docs` lists all" in capsys.readouterr().err


def test_why_of_a_recipe_says_where_versions_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["why", "digits"]) == 2
    refused = capsys.readouterr().err
    assert "expected a prediction such as 7f3a9c2e-12 or a version such as digits@7, got 'digits'" in refused
    assert "ae show RECIPE lists versions" in refused
