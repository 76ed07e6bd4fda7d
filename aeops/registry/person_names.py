"""Compare the names of persons as a reader sees them: one person under two spellings is one person.

Names are not authenticated; this finds spellings that only look like another name. The account of a process is recorded beside
the name (`LedgerEntry.account`), and that no option changes. Standard library only.
"""

import re
import unicodedata

BRACKETED = re.compile(r"\([^()]*\)|\[[^\[\]]*\]|\{[^{}]*\}|<[^<>]*>")
# Letters that look like Latin ones (the part of Unicode's confusables.txt that names are written with), capitals by their looks.
_LOOKALIKES = {
    "АΑаαɑ": "a",
    "ВΒвβьЬƅ": "b",
    "СсϹϲ": "c",
    "ԁđĐ": "d",
    "ЕΕеεёЁҽ": "e",
    "ɡց": "g",
    "НΗнһҺհħĦ": "h",
    "ІΙіιїЇıɩӀӏℓłŁ1|!": "l",  # i, l, 1 and | look alike in many fonts: all of them count as l
    "ЈјϳЈ": "j",
    "КΚкκ": "k",
    "МΜм": "m",
    "ΝпПոη": "n",
    "ОΟоοσօՕøØ0": "o",
    "РΡрρ": "p",
    "ԛզ": "q",
    "гГ": "r",
    "ЅѕՏ5": "s",
    "ТΤтτ": "t",
    "ΥУуγүҮ": "y",
    "υսμ": "u",
    "νѵѴ": "v",
    "ԝωա": "w",
    "ХΧхχ": "x",
    "Ζζ": "z",
}
LATIN_BY_LOOKALIKE = {ord(letter): latin for letters, latin in _LOOKALIKES.items() for letter in letters}


def is_same_person(first: str, second: str) -> bool:
    """Return True where two names read as one person's.

    Case, accents, characters that nobody sees, letters of other alphabets that look alike, notes in brackets and everything that
    is neither letter nor digit make no difference. Nor do added words: `root as QA` is `root`.

    >>> is_same_person("root", "rооt (as QA)")
    True
    >>> is_same_person("ada", "grace")
    False
    """
    first_words, second_words = name_words(first), name_words(second)
    if "".join(first_words) == "".join(second_words):
        return True
    return set(first_words) <= set(second_words) or set(second_words) <= set(first_words)


def name_words(name: str) -> list[str]:
    """Return the words of a name as they look, in Latin small letters where there are such; at least one."""
    text = _fold(name)
    words = _split_words(BRACKETED.sub(" ", text)) or _split_words(text)
    return words or [name.strip()]


def _fold(name: str) -> str:
    """Return the name without what nobody sees: compatibility forms, format characters, accents, case, alphabets."""
    visible = ""
    for character in unicodedata.normalize("NFKD", unicodedata.normalize("NFKC", name)):
        if unicodedata.category(character) not in ("Cf", "Cc", "Mn", "Me"):
            visible += character
    latin = visible.translate(LATIN_BY_LOOKALIKE).casefold()
    return unicodedata.normalize("NFKC", latin).replace("i", "l")


def _split_words(text: str) -> list[str]:
    return "".join(character if character.isalnum() else " " for character in text).split()
