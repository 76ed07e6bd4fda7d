"""Write docs/commands.md from the parser of `ae`: python docs/generate_commands.py"""

import os
from pathlib import Path

from aeops.cli.command_parser import command_parsers
from aeops.cli.main import COMMAND_GROUPS, build_parser

PAGE = Path(__file__).parent / "commands.md"
COLUMNS = 100
INTRODUCTION = """# Commands

Generated from the help of each command by `python docs/generate_commands.py`. Exit codes: 0 done, 1 a fault of `ae`, 2 usage,
3 data, 4 refused by the gate, 5 infrastructure, 130 stopped by Ctrl-C. `ae completion bash` prints what makes a shell complete
commands and recipes.
"""


def build_page() -> str:
    """Return the page: each command's help, in the groups of `ae --help`."""
    width_before = os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = str(COLUMNS)  # argparse wraps by it
    try:
        helps = {name: parser.format_help() for name, parser in command_parsers(build_parser())}
    finally:
        os.environ.pop("COLUMNS")
        if width_before is not None:
            os.environ["COLUMNS"] = width_before
    parts = [INTRODUCTION]
    for title, modules in COMMAND_GROUPS.items():
        parts.append(f"## {title[0].upper()}{title[1:]}\n")
        verbs = [module.__name__.rpartition(".")[2] for module in modules]
        for name, text in helps.items():
            if name.split()[0] in verbs:
                parts.append(f"### ae {name}\n\n```text\n{text.rstrip()}\n```\n")
    return "\n".join(parts)


if __name__ == "__main__":
    PAGE.write_text(build_page(), encoding="utf-8")
