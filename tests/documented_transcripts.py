"""The transcripts in docs/own-data-examples.md: what a person types, and what the page says is printed."""

import re
import shlex
from dataclasses import dataclass

from checkout import ROOT

PAGE = ROOT / "docs" / "own-data-examples.md"
SECTION = re.compile(r"^## (?P<title>.+?)\n.*?^```console\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
FIGURE = re.compile(r"\b[0-9a-f]{12}\b|\d[\d.,:]*")  # checksums, numbers, times
LEFT_OUT = "..."


@dataclass(frozen=True)
class Step:
    """A command of a transcript.

    Attributes:
        arguments: of `ae`, as a shell splits them.
        lines: of its output, without those that the page leaves out.
    """

    arguments: tuple[str, ...]
    lines: tuple[str, ...]


def read_transcripts() -> dict[str, list[Step]]:
    """Return the commands of each section by the recipe's name, which `ae run` names last."""
    found = {}
    for section in SECTION.finditer(PAGE.read_text(encoding="utf-8")):
        steps = []
        for block in section["text"].split("$ ")[1:]:
            command, *lines = block.splitlines()
            program, *arguments = shlex.split(command)
            assert program == "ae"
            steps.append(Step(tuple(arguments), tuple(line for line in lines if line.strip() not in ("", LEFT_OUT))))
        found[steps[-1].arguments[-1]] = steps
    return found


def without_figures(line: str) -> str:
    """Return a line with `#` for each number and one space between words, as figures and widths differ from machine to machine.

    >>> without_figures("train      8.1 s · 4 epochs")
    'train # s · # epochs'
    """
    return " ".join(FIGURE.sub("#", line).split())


def missing_lines(step: Step, output: str) -> list[str]:
    """Return the lines of the page that the output does not have, in their order, whatever the figures."""
    printed = iter(map(without_figures, output.splitlines()))
    missing = []
    for line in step.lines:
        if without_figures(line) not in printed:  # goes on behind the last one found
            missing.append(line)
            printed = iter(map(without_figures, output.splitlines()))
    return missing
