"""Write what the commands of docs/own-data-examples.md printed into the page: python docs/write_own_data_examples.py FOLDER

FOLDER is that of `pytest -m long tests/long/test_transcripts.py --basetemp FOLDER`: a folder in it has NAME.txt for each recipe
of the page. Lines that are left out become `...`; the test compares the others.
"""

import argparse
import re
from pathlib import Path

PAGE = Path(__file__).parent / "own-data-examples.md"
BLOCK = re.compile(r"^```console\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
LEFT_OUT = "..."
# Titles of the lines that are shown, of each command; steps of a run are shown with their seconds, and not as they begin.
SHOWN = {
    "init": ("next",),
    "new": (
        *("kind", "formats", "sizes", "sample", "arrays", "time", "channel", "lengths", "labels", "ids"),
        *("taken", "note", "next"),
    ),
    "run": ("threshold", "verdict", "version", "state", "took", "report", "next"),
}
STEPS = ("ingest", "validate", "prepare", "train", "calibrate", "evaluate", "gate", "promote")
STEP = re.compile(rf"({'|'.join(STEPS)}) [\d.]+ s ")
COLUMNS = 3  # of a table, that are shown


def shorten(command: str, lines: list[str]) -> list[str]:
    """Return the lines of a command's output that the page shows, with `...` for those between them.

    Args:
        command: of `ae`, such as `run`.
        lines: of its output.
    """
    shown: list[str] = []
    columns = 0
    for line in lines:
        title = line.split("  ")[0]
        columns += title == "column"
        is_first_column = command == "new" and title == "column" and columns <= COLUMNS
        if line.endswith(f" {LEFT_OUT}"):
            continue  # a step of a run begins
        if title in SHOWN[command] or STEP.match(line) or is_first_column:
            shown.append(line)
        elif not shown or shown[-1] != LEFT_OUT:
            shown.append(LEFT_OUT)
    return shown


def build_block(transcript: str) -> str:
    """Return the block of a transcript, which has `$ ` before each command."""
    lines = []
    for part in transcript.split("$ ae ")[1:]:
        command, *output = part.splitlines()
        lines += [f"$ ae {command}", *shorten(command.split(" ")[0], output)]
    return "```console\n" + "\n".join(lines) + "\n```"


def build_page(page: str, transcripts: dict[str, str]) -> str:
    """Return the page with the outputs of the transcripts by their recipes' names; others stay as they are."""

    def replace(block: re.Match[str]) -> str:
        name = re.findall(r"^\$ ae run (\S+)$", block["text"], re.MULTILINE)[-1]
        return build_block(transcripts[name]) if name in transcripts else block[0]

    return BLOCK.sub(replace, page)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="of the transcripts")
    arguments = parser.parse_args()
    transcripts = {file.stem: file.read_text(encoding="utf-8") for file in sorted(arguments.folder.glob("*/*.txt"))}
    PAGE.write_text(build_page(PAGE.read_text(encoding="utf-8"), transcripts), encoding="utf-8")


if __name__ == "__main__":
    main()
