"""The page of examples of own data: few commands, outputs that are compared with real ones, pictures that are not too large."""

import pytest
from checkout import ROOT
from docs_scripts import load_script
from documented_transcripts import PAGE, Step, missing_lines, read_transcripts

LARGEST_PICTURE = 150_000  # bytes

COLUMNS = ("column     a", "column     b", "column     c")
OUTPUT = """\
project    /home/me/mine
next       type something
kind       table: 100 rows of 9 columns
column     a
column     b
column     c
column     d
ids        column part
next       ae run plant
ingest ...
ingest 2.2 s · 100 samples
took       61.3 s
"""


def test_each_example_is_three_commands_from_an_empty_folder() -> None:
    transcripts = read_transcripts()
    assert len(transcripts) == 7
    for name, steps in transcripts.items():
        assert [step.arguments[0] for step in steps] == ["init", "new", "run"]
        assert steps[1].arguments[1] == name
        assert "--set" not in steps[2].arguments
        assert all(step.lines for step in steps), name


def test_the_page_says_what_was_printed_whatever_the_figures() -> None:
    lines = ("kind table: 7 rows of 9 columns", "ids column part", "took 1.5 s")
    assert missing_lines(Step(("new",), lines), OUTPUT) == []
    assert missing_lines(Step(("new",), ("kind series: 7 rows", "ids column part")), OUTPUT) == ["kind series: 7 rows"]
    assert missing_lines(Step(("new",), ("ids column part", "kind table: 7 rows of 9 columns")), OUTPUT) != []


@pytest.mark.parametrize(
    ("command", "shown"),
    [
        ("init", ["...", "next       type something", "..."]),
        (
            "new",
            [
                "...",
                "next       type something",
                "kind       table: 100 rows of 9 columns",
                *COLUMNS,
                "...",
                "ids        column part",
            ],
        ),
        (
            "run",
            [
                "...",
                "next       type something",
                "...",
                "next       ae run plant",
                "ingest 2.2 s · 100 samples",
                "took       61.3 s",
            ],
        ),
    ],
)
def test_an_output_is_shortened_by_first_words(command: str, shown: list[str]) -> None:
    script = load_script("write_own_data_examples")
    assert script.shorten(command, OUTPUT.splitlines())[: len(shown)] == shown
    page = script.build_page("```console\n$ ae run plant\n```\n", {"plant": f"$ ae run plant\n{OUTPUT}"})
    assert page.startswith("```console\n$ ae run plant\n...\nnext ")
    assert page.endswith("took       61.3 s\n```\n")


def test_pictures_of_the_page_are_small() -> None:
    names = [part.partition(")")[0] for part in PAGE.read_text(encoding="utf-8").split("](") if ".png)" in part]
    assert len(names) == 3
    for name in names:
        assert (ROOT / "docs" / name).stat().st_size < LARGEST_PICTURE
