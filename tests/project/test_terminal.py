"""What people and files are named is shown as it is: no markup of a table, no command to a terminal, in no output."""

import io
import json
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout

import pytest
from any_name import ANY_NAME
from rich.table import Table

from aeops.cli.main import main
from aeops.cli.outputs import open_console, report_refused, styled_text
from aeops.errors import UsageError, print_error
from aeops.machine.terminal import EscapingStream, escape_controls, escape_line, escaped_output
from aeops.page.app import template_environment
from aeops.report.html_template import html_environment

NO_UTF8 = b"caf\xe9.png".decode("utf-8", errors="surrogateescape")


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("[cam1] 001.png", "[cam1] 001.png"),
        ("[/red] [link=x] :smile:", "[/red] [link=x] :smile:"),
        ("\x1b[2J\x1b]0;title\x07", "\\x1b[2J\\x1b]0;title\\x07"),
        ("a\u202egnp.exe\x9b31m", "a\\u202egnp.exe\\u009b31m"),
        ("a\rb\x7f", "a\\rb\\u007f"),
        (NO_UTF8, "caf\\udce9.png"),
        ("täst 日本", "täst 日本"),
    ],
)
def test_a_name_is_shown_as_it_is_in_tables_and_lines_errors_and_pages(
    name: str, shown: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    table = Table(name)
    table.add_row(name)
    table.add_row(styled_text((name, "bold")))
    with escaped_output():
        console = open_console()
        console.print(table)
        console.print(name)
        print(name)
        print_error(UsageError(name))
    printed = capsys.readouterr()
    assert printed.out.count(shown) == 5
    assert printed.err == f"ae: usage error: {shown}\n"
    assert printed.out.isascii() or "\x1b" not in printed.out
    for environment in (template_environment(), html_environment()):
        assert environment.from_string("{{ name }}").render(name=name) == shown


def test_a_names_line_end_does_not_begin_another_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert report_refused({"a\nrefused    b": "no image"}) == 3
    assert capsys.readouterr().err == "refused    a\\nrefused    b: no image\n"


def test_colours_of_a_terminal_stay_and_those_of_a_name_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "80")
    text = io.StringIO()
    with redirect_stdout(text), escaped_output():
        open_console().print(styled_text(("yes", "bold"), " \x1b[31mname"))
    assert text.getvalue() == "\x1b[1myes\x1b[0m \\x1b[31mname\n"


def test_printed_json_stays_json() -> None:
    value = {"name": ANY_NAME + NO_UTF8 + "\x7f\x9b\u2028"}
    for is_ascii in (True, False):
        printed = escape_controls(json.dumps(value, ensure_ascii=is_ascii))
        assert json.loads(printed) == value


def test_a_command_prints_through_it_and_leaves_the_streams_as_they_were() -> None:
    streams, errors = (sys.stdout, sys.stderr), io.StringIO()
    with redirect_stderr(errors):
        assert main(["show", "\x1b[31mred"]) == 2
    assert "\\x1b[31mred" in errors.getvalue()
    assert "\x1b" not in errors.getvalue()
    assert (sys.stdout, sys.stderr) == streams


def test_a_process_of_a_run_prints_through_it_too() -> None:
    script = """if True:
        from aeops.errors import DataError
        from aeops.machine.entry_point import run_main
        def fail():
            print("\\x1b[2J")
            raise DataError("\\x1b[31mred.png")
        run_main(fail)"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (3, "\\x1b[2J\n", "data error: \\x1b[31mred.png\n")


def test_the_stream_is_one_that_libraries_know() -> None:
    below = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    stream = EscapingStream(below)
    assert stream.write("\x1b\n") == 2
    stream.flush()
    assert below.buffer.getvalue() == b"\\x1b\n"  # type: ignore[attr-defined]
    assert (stream.encoding, stream.isatty(), stream.writable()) == ("utf-8", False, True)
    assert escape_line("a\tb") == "a\\tb"
