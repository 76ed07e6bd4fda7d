"""A plain sentence splitter for English news, lower-cased or not. Standard library only.

A sentence ends at . ? or !, with the quotes and brackets that close after it, before white space or the end; a paragraph (an
empty line) ends one too, so a headline is a sentence. A full stop ends none after an abbreviation, after single letters
(u.s., j. smith), and after "no." before a number; within a number (2.5) it has no white space after it. Capitals are
ignored, so that lower-cased texts are split as others are. Two known errors remain: a quoted question before its speaker
("why?" he said.) is split, and a sentence that ends in an abbreviation goes on into the next.
"""

import re
from collections.abc import Iterator

SENTENCE_END = re.compile(r"""[.?!]+["'”’)\]]*(?=\s)""")
PARAGRAPH_BREAK = re.compile(r"\n\s*\n")
LAST_WORD = re.compile(r"[^\s\"'“‘(\[]*$")
SINGLE_LETTERS = re.compile(r"(?:[a-z]\.)+", re.IGNORECASE)
ABBREVIATION_WORDS = {
    *("mr.", "mrs.", "ms.", "dr.", "prof.", "sr.", "jr.", "st.", "mt.", "rev.", "hon.", "sen.", "rep.", "gov."),
    *("gen.", "col.", "maj.", "capt.", "lt.", "sgt.", "inc.", "ltd.", "plc.", "co.", "corp.", "bros.", "dept."),
    *("vs.", "etc.", "approx.", "fig.", "vol.", "al.", "cf."),
    *("jan.", "feb.", "mar.", "apr.", "jun.", "jul.", "aug.", "sept.", "sep.", "oct.", "nov.", "dec."),
}


def split_sentences(text: str) -> Iterator[str]:
    """Yield the sentences of a text in order, each on one line, without zero characters."""
    for paragraph_text in PARAGRAPH_BREAK.split(text.replace("\r\n", "\n")):
        start = 0
        for end in SENTENCE_END.finditer(paragraph_text):
            if _continues_after(paragraph_text, end.start(), end.end()):
                continue
            if sentence := join_lines(paragraph_text[start : end.end()]):
                yield sentence
            start = end.end()
        if sentence := join_lines(paragraph_text[start:]):
            yield sentence


def _continues_after(paragraph_text: str, stop_start: int, stop_end: int) -> bool:
    """Return whether the sentence goes on after the stop in [stop_start, stop_end), quotes and brackets included."""
    if paragraph_text[stop_start:stop_end] != ".":
        return False
    word = "."
    if match := LAST_WORD.search(paragraph_text, max(0, stop_start - 40), stop_start):
        word = f"{match.group()}.".lower()
    if word in ABBREVIATION_WORDS or SINGLE_LETTERS.fullmatch(word):
        return True
    return word == "no." and paragraph_text[stop_end:].lstrip()[:1].isdigit()


def join_lines(text: str) -> str:
    """Return the text on one line, without zero characters, which mark the end where a text is bytes."""
    return " ".join(text.replace("\0", "").split())
