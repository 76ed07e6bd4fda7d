"""The docs say what the code does: generated pages are of today, every command in them parses, every file they name exists."""

import argparse
import json
import re
import shlex
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest
from checkout import ROOT
from docs_scripts import load_script

from aeops.cli.command_parser import command_parsers
from aeops.cli.main import build_parser

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
FENCE = re.compile(r"^```(?P<language>\w*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
MENTION = re.compile(r"`ae ([a-z][^`\n]*)`")


@pytest.fixture(scope="module")
def parser() -> argparse.ArgumentParser:
    return build_parser()


@pytest.fixture(scope="module")
def helps(parser: argparse.ArgumentParser) -> dict[str, str]:
    """Return what each command's help says."""
    return {name: command.format_help() for name, command in command_parsers(parser)}


@pytest.mark.parametrize("name", ["generate_commands", "generate_http"])
def test_a_generated_page_is_of_the_code(name: str) -> None:
    generator = load_script(name)
    assert Path(generator.PAGE).read_text(encoding="utf-8") == generator.build_page(), f"type: python docs/{name}.py"


def typed_commands(page: Path) -> Iterator[str]:
    """Yield each command line of `ae` in the blocks of a page."""
    for block in FENCE.finditer(page.read_text(encoding="utf-8")):
        if block["language"] in ("", "sh", "bash", "console"):
            for line in block["text"].replace("\\\n", " ").splitlines():
                for part in re.split(r"\s&&\s", line):
                    if found := re.match(r"(?:\$ )?(?:\S*/)?(ae [a-z].*)", part):
                        yield found[1]


def arguments_of(command: str) -> list[str]:
    """Return what a shell gives to `ae`: no comment, pipe, redirection or background."""
    arguments = shlex.split(command, comments=True)[1:]
    for index, argument in enumerate(arguments):
        if argument in ("|", ">", "<", "&", ";", "2>&1"):
            return arguments[:index]
    return arguments


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_line_in_a_page_is_taken(
    page: Path, parser: argparse.ArgumentParser, capsys: pytest.CaptureFixture[str]
) -> None:
    refused = []
    for command in typed_commands(page):
        try:
            parser.parse_args(arguments_of(command))
        except SystemExit as ended:
            if ended.code:
                refused.append((command, capsys.readouterr().err.splitlines()[-1]))
    assert not refused


@pytest.mark.parametrize("page", [page for page in PAGES if page.name != "log.md"], ids=lambda page: page.name)
def test_every_command_and_option_that_a_page_mentions_exists(page: Path, helps: dict[str, str]) -> None:
    groups = {name.split()[0] for name in helps}
    for mention in MENTION.finditer(FENCE.sub("", page.read_text(encoding="utf-8"))):
        verb, *others = mention[1].split()
        assert verb in groups, mention[0]
        text = "".join(text for name, text in helps.items() if name.split()[0] == verb)
        for option in others:
            if option.startswith("-"):
                assert re.search(rf"(?<![\w-]){re.escape(option.partition('=')[0])}(?![\w-])", text), mention[0]


def test_a_page_of_yesterday_is_noticed(
    tmp_path: Path, parser: argparse.ArgumentParser, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "page.md"
    page.write_text("```\nae run digits --no-such-option   # once there was\nae show digits | head\n```\n")
    first, second = typed_commands(page)
    assert arguments_of(second) == ["show", "digits"]
    with pytest.raises(SystemExit):
        parser.parse_args(arguments_of(first))
    assert "--no-such-option" in capsys.readouterr().err


def test_every_cell_of_the_tour_was_run_and_none_failed() -> None:
    cells = json.loads((ROOT / "docs" / "tour.ipynb").read_text(encoding="utf-8"))["cells"]
    code_cells = [cell for cell in cells if cell["cell_type"] == "code"]
    assert len(code_cells) > 8
    for cell in code_cells:
        assert cell["outputs"], cell["source"]
        assert {output["output_type"] for output in cell["outputs"]} <= {"stream", "display_data", "execute_result"}


def test_the_docs_install_the_version_of_today() -> None:
    named = re.findall(r"ae_pipeline-([0-9.]+)-py3", "".join(page.read_text(encoding="utf-8") for page in PAGES))
    assert len(named) > 4
    assert set(named) == {metadata.version("ae-pipeline")}


def test_the_tours_outputs_are_stored_without_the_styles_of_a_terminal() -> None:
    import nbformat

    tour = load_script("run_tour")
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("!ae runs"), nbformat.v4.new_markdown_cell("then")])
    printed = "\x1b[1mversion\x1b[0m  \x1b[3;31mwhy\x1b[0m [1m stays"
    notebook.cells[0].outputs = [nbformat.v4.new_output("stream", text=printed), nbformat.v4.new_output("display_data")]
    assert tour.strip_styles(notebook).cells[0].outputs[0]["text"] == "version  why [1m stays"
