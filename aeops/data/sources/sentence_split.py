"""A plain sentence splitter for English news, lower-cased or not. Standard library only.

A sentence ends at . ? or !, with the quotes and brackets that close after it, before white space or the end; a paragraph (an
empty line) ends one too, so a headline is a sentence. A full stop ends none after an abbreviation, after single letters
(u.s., j. smith), and after "no." before a number; within a number (2.5) it has no white space after it. Capitals tell
nothing, so that lower-cased texts are split as others are. Two known faults are left: a quoted question before its speaker
("why?" he said.) is split, and a sentence that ends in an abbreviation goes on into the next.
"""

import re
from collections.abc import Iterator

END = re.compile(r"""[.?!]+["'”’)\]]*(?=\s)""")
PARAGRAPH = re.compile(r"\n\s*\n")
LAST_WORD = re.compile(r"[^\s\"'“‘(\[]*$")
LETTERS = re.compile(r"(?:[a-z]\.)+", re.IGNORECASE)
ABBREVIATIONS = {
    *("mr.", "mrs.", "ms.", "dr.", "prof.", "sr.", "jr.", "st.", "mt.", "rev.", "hon.", "sen.", "rep.", "gov."),
    *("gen.", "col.", "maj.", "capt.", "lt.", "sgt.", "inc.", "ltd.", "plc.", "co.", "corp.", "bros.", "dept."),
    *("vs.", "etc.", "approx.", "fig.", "vol.", "al.", "cf."),
    *("jan.", "feb.", "mar.", "apr.", "jun.", "jul.", "aug.", "sept.", "sep.", "oct.", "nov.", "dec."),
}


def split_sentences(text: str) -> Iterator[str]:
    """The sentences of a text in order, each on one line, without zero characters."""
    for paragraph in PARAGRAPH.split(text.replace("\r\n", "\n")):
        start = 0
        for end in END.finditer(paragraph):
            if not goes_on(paragraph, end.start(), end.end()):
                yield from said(paragraph[start : end.end()])
                start = end.end()
        yield from said(paragraph[start:])


def goes_on(paragraph: str, stop: int, after: int) -> bool:
    """Whether the sentence goes on after the stop at `stop`, whose quotes and brackets end at `after`."""
    if paragraph[stop:after] != ".":
        return False
    found = LAST_WORD.search(paragraph, max(0, stop - 40), stop)
    word = f"{found.group() if found else ''}.".lower()
    return word in ABBREVIATIONS or bool(LETTERS.fullmatch(word)) or (word == "no." and paragraph[after:].lstrip()[:1].isdigit())


def said(part: str) -> Iterator[str]:
    """The part as one sentence, if there is anything in it."""
    sentence = join_lines(part)
    if sentence:
        yield sentence


def join_lines(text: str) -> str:
    """The text on one line, without zero characters, which stand for the end where a text is bytes."""
    return " ".join(text.replace("\0", "").split())
