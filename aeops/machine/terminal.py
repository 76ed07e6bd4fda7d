"""Text for terminals and pages: names of files and what people write may hold control characters, which are shown escaped."""

import os
import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TextIO, cast

# Control characters, marks of the direction of text, separators of lines, and bytes of a name that are no UTF-8.
_CONTROLS = "\\x00-\\x08\\x0b-\\x1f\\x7f-\\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff"
_UNSAFE = re.compile(f"[{_CONTROLS}]")
_UNSAFE_IN_LINE = re.compile(f"[\\t\\n{_CONTROLS}]")


VOLUME_VARIABLE = "AE_VOLUME"  # `quiet` or `verbose`, as the options -q and -v of `ae` set it for itself and its children


def is_quiet() -> bool:
    """Return whether nothing but results and errors is to be printed."""
    return os.environ.get(VOLUME_VARIABLE) == "quiet"


def print_progress(text: str) -> None:
    """Print to stderr what is done now, unless nothing but results and errors is to be printed."""
    if not is_quiet():
        print(f"{text} ...", file=sys.stderr, flush=True)


def is_verbose() -> bool:
    """Return whether log lines and tracebacks are to be printed, too."""
    return os.environ.get(VOLUME_VARIABLE) == "verbose"


def escape_controls(text: str) -> str:
    r"""Return the text with each character that a terminal would obey as its escape; line ends and tabs stay.

    >>> escape_controls("\x1b[31mred.png\n")
    '\\x1b[31mred.png\n'
    """
    return _UNSAFE.sub(_escape, text)


def escape_line(text: str) -> str:
    r"""Return a name or another text of one line as it is shown; line ends and tabs in it are escaped, too.

    >>> escape_line("two\nlines.png")
    'two\\nlines.png'
    """
    return _UNSAFE_IN_LINE.sub(_escape, text)


def _escape(match: re.Match[str]) -> str:
    """Return an escape that JSON has, too: JSON that was printed stays what it is."""
    code = ord(match[0])
    if match[0] in "\n\t\r":
        return {"\n": "\\n", "\t": "\\t", "\r": "\\r"}[match[0]]
    if code < 0x20:  # JSON has escaped these by itself
        return f"\\x{code:02x}"
    return f"\\u{code:04x}"


class EscapingStream:
    """A text stream over another one, whose control characters are escaped.

    Attributes:
        raw_stream: where the text goes; whoever draws on a terminal, as a progress bar does, writes there.
    """

    def __init__(self, raw_stream: TextIO) -> None:
        self.raw_stream = raw_stream

    def write(self, text: str) -> int:
        self.raw_stream.write(escape_controls(text))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.raw_stream, name)  # all that is not writing text


def raw_stream(stream: TextIO) -> TextIO:
    """Return the stream below, for who escapes what it writes by itself."""
    below: TextIO = getattr(stream, "raw_stream", stream)
    return below


@contextmanager
def escaped_output() -> Iterator[None]:
    """Escape control characters in all that this process prints until the block ends."""
    streams = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = (cast("TextIO", EscapingStream(stream)) for stream in streams)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = streams


def escape_value(value: Any) -> Any:
    """Return a value of a page with its control characters escaped, which a browser does not show; for Jinja's `finalize`."""
    if type(value) is str:  # not of Markup, whose texts were escaped when it was made
        return escape_controls(value)
    return value
