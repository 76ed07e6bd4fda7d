"""The parser of `ae`: verbs in groups, near matches of a verb that does not exist, options anywhere among files."""

import argparse
import difflib
import re
import shutil
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from types import ModuleType
from typing import Any, NoReturn

from ae_models.spec.messages import join_choices, suggest_match

NUMBER_WORDS = {"int": "a whole number", "float": "a number"}  # types of arguments, as argparse names them
# Names that other tools have for a command -> the command here.
OTHER_NAMES = {
    "train": "run",
    "evaluate": "run",
    "validate": "run",
    "predict": "score",
    "promote": "approve",
    "start": "up",
    "schedule": "up",
    "deploy": "up",
    "stop": "down",
    "list": "recipes",
}
LEAST_RATIO = 0.75  # of the likeness of two names with other first letters, 0 to 1
FEW_COMMANDS = 3  # in the message to who typed none
NAME_COLUMN, HELP_COLUMN = 4, 18  # of the listing
LEAST_WIDTH = 60


class HelpFormatter(argparse.HelpFormatter):
    """Keeps the lines of a text that has several, such as examples; other texts are wrapped."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        if "\n" not in text:
            return super()._fill_text(text, width, indent)
        return "".join(f"{indent}{line}" for line in text.splitlines(keepends=True))


class CommandParser(argparse.ArgumentParser):
    """A parser that takes options before, between and after files.

    argparse by itself gives a group of files all that it gets at its first place, so that FILE in `ae embed X -o F FILE`
    would be one too many. With `--`, after which everything is a file, options stand before it.
    """

    _is_intermixing = False

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **{"formatter_class": HelpFormatter} | options)

    def parse_known_args(self, args=None, namespace=None):  # type: ignore[no-untyped-def]
        """See `argparse.ArgumentParser.parse_known_args`."""
        if self._is_intermixing:
            return super().parse_known_args(args, namespace)
        if self._subcommands() or "--" in (args or ()):
            namespace, unknown = super().parse_known_args(args, namespace)
        else:
            self._is_intermixing = True  # parse_known_intermixed_args comes back here
            try:
                namespace, unknown = self.parse_known_intermixed_args(args, namespace)
            finally:
                self._is_intermixing = False
        if unknown:  # argparse would leave it to the main parser, whose usage does not have this command's options
            self.error(f"{self._describe_unknown(unknown[0])}; `{self.prog} --help` lists what it takes")
        return namespace, unknown

    def _subcommands(self) -> list[str]:
        groups = [action.choices or () for action in self._actions if action.nargs == argparse.PARSER]
        return [name for group in groups for name in group]

    def _describe_unknown(self, argument: str) -> str:
        name = argument.partition("=")[0]
        if not name.startswith("-"):
            return f"one argument too many: {argument!r}"
        options = [option[2:] for action in self._actions for option in action.option_strings if option.startswith("--")]
        hint = suggest_match(name.lstrip("-"), options)  # without the dashes, which would make all of them alike
        return f"no option {name!r}{hint.replace('mean ', 'mean --')}"

    def error(self, message: str) -> NoReturn:
        """Exit with code 2 and the message; of a verb that does not exist, with the one that may be meant."""
        if found := re.fullmatch(r"argument [A-Z]+: invalid choice: '(.*)' \(choose from (.*)\)", message):
            choices = re.findall(r"'(.*?)'", found[2])
            message = f"no command {found[1]!r}{suggest_command(found[1], choices)}; `{self.prog} --help` lists all"
        elif found := re.fullmatch(r"argument ([^:]+): invalid (int|float) value: (.*)", message, re.DOTALL):
            message = f"{found[1]}: expected {NUMBER_WORDS[found[2]]}, got {found[3]}"
        elif found := re.fullmatch(r"argument ([^:]+): invalid choice: (.*) \(choose from (.*)\)", message, re.DOTALL):
            choices = found[3].replace("'", "").split(", ")
            message = f"{found[1]}: expected {join_choices(choices)}, got {found[2]}"
        elif self._subcommands() and message.startswith("the following arguments are required: "):
            few = [f"`{self.prog} {name}`" for name in self._subcommands()[:FEW_COMMANDS]]
            message = f"expected a command, such as {join_choices(few)}; `{self.prog} --help` lists all"
        super().error(message)


def suggest_command(name: str, commands: Sequence[str]) -> str:
    """Return `: did you mean X?` for the command that goes by another name elsewhere, or is spelt like this; else nothing.

    >>> suggest_command("train", ["run", "score"]), suggest_command("scor", ["run", "score"]), suggest_command("x", ["run"])
    (': did you mean run?', ': did you mean score?', '')
    """
    if OTHER_NAMES.get(name) in commands:
        return f": did you mean {OTHER_NAMES[name]}?"
    return suggest_match(name, [command for command in commands if _is_near(name, command)])


def _is_near(name: str, command: str) -> bool:
    """Return True if two names begin alike or differ in little: `bogus` is not meant to be `logs`."""
    return name[:1] == command[:1] or difflib.SequenceMatcher(None, name, command).ratio() >= LEAST_RATIO


class _Listing:
    """Stands in the place of argparse's subparsers: notes the help of each verb, which the main page lists in groups."""

    def __init__(self, commands: Any) -> None:
        self.commands, self.helps = commands, dict[str, str]()

    def add_parser(self, name: str, *, help: str, **options: Any) -> argparse.ArgumentParser:
        self.helps[name] = help
        parser: argparse.ArgumentParser = self.commands.add_parser(name, description=f"{help[:1].upper()}{help[1:]}.", **options)
        return parser


def add_commands(parser: argparse.ArgumentParser, groups: Mapping[str, Sequence[ModuleType]]) -> None:
    """Add the commands of modules, and list them in the parser's description by group.

    Args:
        parser: the main one.
        groups: title -> modules with a function `add_command(commands)`, each of which adds one command.
    """
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True, help=argparse.SUPPRESS, prog=parser.prog)
    parser.usage = "%(prog)s [-h] [--version] COMMAND ..."  # whose help is suppressed: argparse would leave it out
    width = max(shutil.get_terminal_size().columns, LEAST_WIDTH)
    lines = [str(parser.description)]
    for title, modules in groups.items():
        listing = _Listing(commands)
        for module in modules:
            module.add_command(listing)
        for name in listing.helps:
            _describe_subcommands(commands.choices[name])
        lines += ["", f"{title}:"]
        for name, text in listing.helps.items():
            indent = " " * HELP_COLUMN
            first = f"{' ' * NAME_COLUMN}{name:<{HELP_COLUMN - NAME_COLUMN}}"
            lines += textwrap.wrap(text, width, initial_indent=first, subsequent_indent=indent)
    parser.description = "\n".join(lines)


def command_parsers(parser: argparse.ArgumentParser, path: str = "") -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """Yield each command that does something with its parser: `show`, `recipe check`, `recipe explain`, ..."""
    subcommands = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    if path and not any(action.required for action in subcommands):
        yield path, parser
    for action in subcommands:
        for name, subparser in action.choices.items():
            yield from command_parsers(subparser, f"{path} {name}".strip())


def _describe_subcommands(parser: argparse.ArgumentParser) -> None:
    """Give each subcommand the description that its command's listing shows, which argparse keeps to the listing."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for listed in action._choices_actions:
                subparser = action.choices[listed.dest]
                subparser.description = subparser.description or f"{str(listed.help)[:1].upper()}{str(listed.help)[1:]}."


def add_common_parts(parser: argparse.ArgumentParser, examples: Mapping[str, Sequence[str]]) -> None:
    """Give each command its examples, and the options that all have: how much is said while it works."""
    for name, command in command_parsers(parser):
        if name in examples:
            title = "example" if len(examples[name]) == 1 else "examples"
            command.epilog = "\n".join([f"{title}:", *(f"  {example}" for example in examples[name])])
        if not command.add_help:  # a command whose arguments are another program's
            continue
        volume = command.add_mutually_exclusive_group()
        quiet_help = "print results and errors alone: nothing of the steps on the way"
        volume.add_argument("-q", "--quiet", action="store_true", help=quiet_help)
        volume.add_argument("-v", "--verbose", action="store_true", help="print log lines too, and where an error comes from")
