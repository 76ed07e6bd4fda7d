"""`ae completion SHELL`: what a shell needs to complete verbs, options, recipes and files."""

import argparse
from pathlib import Path
from typing import Any

SHELLS = ("bash", "zsh", "fish")


def add_command(commands: Any) -> None:
    """Add `ae completion` to the commands of the parser."""
    text = 'print what makes a shell complete commands: eval "$(ae completion bash)" in ~/.bashrc'
    command = commands.add_parser("completion", help=text)
    command.add_argument("shell", choices=SHELLS, help="fish: ae completion fish > ~/.config/fish/completions/ae.fish")
    command.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Print the shell's code, by argcomplete: it asks `ae` itself at each TAB."""
    from argcomplete.shell_integration import shellcode

    print(shellcode(["ae"], shell=arguments.shell))
    return 0


def complete(parser: argparse.ArgumentParser) -> None:
    """Answer a shell that asks for completions, and exit; called only where one asks."""
    import argcomplete

    for command in _all_parsers(parser):
        for action in command._actions:
            if action.dest == "recipe":
                action.completer = complete_recipes  # type: ignore[attr-defined]  # as argcomplete asks for it
    argcomplete.autocomplete(parser)


def complete_recipes(prefix: str, **_: Any) -> list[str]:
    """Return the recipes of the project around the current folder that begin with `prefix`; none outside of a project."""
    for folder in (Path.cwd(), *Path.cwd().parents):
        if (folder / "dvc.yaml").is_file():
            return sorted(file.stem for file in (folder / "recipes").glob("*.yaml") if file.stem.startswith(prefix))
    return []


def _all_parsers(parser: argparse.ArgumentParser) -> list[argparse.ArgumentParser]:
    found = [parser]
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for child in action.choices.values():
                found += _all_parsers(child)
    return found
