"""The champion by the ledger, and its bundle's hash. MLflow, which others may write to, has to agree before anything is used.

A machine without the ledger gets it as a mounted folder, or the **head** of the ledger as a file that AE_LEDGER_HEAD names and
`ae ledger head` writes: the newest entry's number and hash, and the last entry that changed the champion. Where there are both,
the ledger has to hold that head: so a ledger and an MLflow that were both put back to an older state are found, too.

Light on import, without MLflow: a scoring service watches the champion by this module.
"""

import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from aeops.errors import AeError, DataError, InfrastructureError
from aeops.project import Project
from aeops.recipe.reader import Recipe
from aeops.registry import ledger
from aeops.registry.ledger import LedgerEntry
from aeops.registry.ledger_signatures import EntrySignature, find_entry_problem, find_signature, parse_signature

HEAD_VARIABLE = "AE_LEDGER_HEAD"


@dataclass(frozen=True)
class LedgerHead:
    """What is kept elsewhere of a ledger: it stands for every entry up to the newest one.

    Attributes:
        number, hash: of the newest entry.
        last_move: the last entry that changed the champion; None where there is none.
        signature: of `last_move`; None where it is not signed.
    """

    recipe: str
    number: int
    hash: str
    last_move: LedgerEntry | None
    signature: EntrySignature | None

    def to_dict(self) -> dict[str, Any]:
        """Return the head as a line of the file holds it."""
        last_move, signature = None, None
        if self.last_move is not None:
            last_move = self.last_move.to_dict()
        if self.signature is not None:
            signature = asdict(self.signature)
        return {
            "recipe": self.recipe,
            "number": self.number,
            "hash": self.hash,
            "last_move": last_move,
            "signature": signature,
        }


@dataclass(frozen=True)
class ChampionAnchor:
    """The champion by the ledger, or by its head.

    Attributes:
        last_move: the entry that says so; None where there never was a champion.
        signature: of that entry; None where it is not signed.
        source: where that stands, for messages.
    """

    recipe: str
    last_move: LedgerEntry | None
    signature: EntrySignature | None
    source: str

    @property
    def version(self) -> str | None:
        """The champion; None where it was retired, or there never was one."""
        if self.last_move is None:
            return None
        return self.last_move.to_version

    @property
    def bundle_sha256(self) -> str | None:
        """Of the champion's bundle; None where there is no champion, or an old ledger does not say."""
        if self.last_move is None:
            return None
        return self.last_move.evidence.get("bundle_sha256")


class LedgerChampion:
    """Tells a scoring service whether what it has loaded is the champion; see `aeops.serving.rollover.ChampionSource`."""

    def __init__(self, project: Project, recipe: Recipe) -> None:
        self.project, self.recipe = project, recipe

    def find_problem(self, version: str, bundle_sha256: str) -> str | None:
        """Return why this bundle is not to be served as the champion; None if it is the champion.

        Raises:
            InfrastructureError: it cannot be said now; a later attempt may succeed.
        """
        try:
            anchor = read_anchor(self.project, self.recipe.name)
            return find_anchor_problem(anchor, version, bundle_sha256) or find_unsigned_move(self.project, self.recipe, anchor)
        except InfrastructureError:
            raise
        except AeError as error:
            return str(error)


# ---------------------------------------------------------------- the anchor


def has_anchor(project: Project, recipe: str) -> bool:
    """Return True if there is a ledger here, or AE_LEDGER_HEAD names a file."""
    return configured_head_file() is not None or ledger.ledger_file(project, recipe).is_file()


def read_anchor(project: Project, recipe: str) -> ChampionAnchor:
    """Return the champion by the ledger, or by the head that AE_LEDGER_HEAD names where there is no ledger.

    Raises:
        DataError: there is neither, one of them is damaged, or the ledger does not hold that head.
    """
    entries, head = ledger.read_entries(project, recipe), configured_head(recipe)
    if head is not None and entries:
        require_head(entries, head)
    if not entries and head is None:
        raise DataError(
            f"nothing here says which version of {recipe} is the champion: expected the ledger "
            f"{ledger.ledger_file(project, recipe)}, or its head in a file that {HEAD_VARIABLE} names. Where the ledger belongs, "
            f"`ae run {recipe}` begins it; elsewhere mount its folder, or type there `ae ledger head {recipe} > FILE`"
        )
    source = f"the ledger {ledger.ledger_file(project, recipe)}"
    if entries:
        head = build_head(project, recipe, entries)
    else:
        source = f"the ledger's head in {configured_head_file()} ({HEAD_VARIABLE})"
    assert head is not None
    return ChampionAnchor(recipe, head.last_move, head.signature, source)


def find_anchor_problem(anchor: ChampionAnchor, version: str | None, bundle_sha256: str | None) -> str | None:
    """Return how a champion differs from the ledger's; None where it is the same.

    Args:
        version: that is said to be champion.
        bundle_sha256: of its bundle; None where only the version is compared.
    """
    recipe = anchor.recipe
    if version != anchor.version:
        return (
            f"{recipe} {version or 'without a champion'} is refused: by {anchor.source} the champion is "
            f"{anchor.version or 'none'}{_in_brackets(anchor.last_move)}, so the alias was changed outside `ae`. "
            f"`ae ledger verify {recipe}` says what to type"
        )
    if bundle_sha256 is not None and anchor.bundle_sha256 not in (None, bundle_sha256):
        return (
            f"{recipe} {version} is refused: its bundle is {bundle_sha256[:12]}, but by {anchor.source} it is "
            f"{str(anchor.bundle_sha256)[:12]}: it was changed outside `ae`. `ae run {recipe}` puts back the bundle that was "
            f"promoted, where a copy of it is left; `ae ledger verify {recipe}` says more"
        )
    return None


def find_unsigned_move(project: Project, recipe: Recipe, anchor: ChampionAnchor) -> str | None:
    """Return how the entry that made the champion fails the recipe's signature requirement; None where it fulfils it.

    Raises:
        UsageError: the recipe's public key cannot be read.
    """
    move = anchor.last_move
    if not recipe.signature.require_signature or move is None or move.to_version is None:
        return None
    return find_entry_problem(move, anchor.signature, project.root / str(recipe.signature.public_key))


def _in_brackets(move: LedgerEntry | None) -> str:
    if move is None:
        return ""
    return f" ({move.event} no. {move.number} by {move.who})"


# ---------------------------------------------------------------- the head


def build_head(project: Project, recipe: str, entries: list[LedgerEntry]) -> LedgerHead:
    """Return the head of a ledger that has entries."""
    newest, last_move, signature = entries[-1], ledger.last_move(entries), None
    if last_move is not None:
        signature = find_signature(project, last_move)
    return LedgerHead(recipe, newest.number, newest.hash, last_move, signature)


def configured_head_file() -> Path | None:
    """Return the file that AE_LEDGER_HEAD names; None where it names none."""
    name = os.environ.get(HEAD_VARIABLE)
    if not name:
        return None
    return Path(name).expanduser()


def configured_head(recipe: str) -> LedgerHead | None:
    """Return the recipe's head in the file that AE_LEDGER_HEAD names; None where it names none.

    Raises:
        DataError: the file cannot be read, or holds no head of this recipe.
    """
    file = configured_head_file()
    if file is None:
        return None
    heads = read_heads(file)
    if recipe not in heads:
        raise DataError(
            f"{file} ({HEAD_VARIABLE}) holds no head of {recipe}, but of {', '.join(sorted(heads)) or 'none'}: where the ledger "
            f"is, type `ae ledger head {recipe} >> FILE`, and copy that"
        )
    return heads[recipe]


def read_heads(file: Path) -> dict[str, LedgerHead]:
    """Return the heads in a file that `ae ledger head` wrote, by recipe; of two of a recipe, the last.

    Raises:
        DataError: it cannot be read, or holds something else.
    """
    expected = "expected a file that `ae ledger head > FILE` wrote"
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError as error:
        raise DataError(f"there is no file {file}; {expected}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{file} holds no text but other bytes, so it is no head of a ledger; {expected}") from error
    except OSError as error:
        raise DataError(f"the head of the ledger {file} cannot be read ({error.strerror}); {expected}") from error
    heads = {}
    for position, line in enumerate(lines, 1):
        try:
            head = parse_head(json.loads(line))
        except (ValueError, RecursionError) as error:
            raise DataError(f"line {position} of {file} is no head of a ledger ({error}); {expected}") from error
        heads[head.recipe] = head
    return heads


def parse_head(content: Any) -> LedgerHead:
    """Return the head that an object of JSON holds; the hash of its entry is checked.

    Raises:
        ValueError: it is none.
    """
    keys = ("recipe", "number", "hash", "last_move", "signature")
    if not isinstance(content, dict) or sorted(content) != sorted(keys):
        raise ValueError(f"expected an object with exactly {', '.join(keys)}")
    last_move, signature = None, None
    if content["last_move"] is not None:
        last_move = ledger.parse_entry(ledger.canonical_json(content["last_move"]))
        if ledger.entry_hash(last_move.to_dict()) != last_move.hash or last_move.recipe != content["recipe"]:
            raise ValueError("last_move was edited: its content does not match its hash or its recipe")
    if content["signature"] is not None:
        signature = parse_signature(content["signature"])
    if not isinstance(content["recipe"], str) or not isinstance(content["hash"], str) or type(content["number"]) is not int:
        raise ValueError("a value is of the wrong type")
    return LedgerHead(content["recipe"], content["number"], content["hash"], last_move, signature)


def require_head(entries: Iterable[LedgerEntry], head: LedgerHead) -> None:
    """Raise DataError unless one of the entries is the head's newest one."""
    if any((entry.number, entry.hash) == (head.number, head.hash) for entry in entries):
        return
    raise DataError(
        f"the ledger of {head.recipe} does not hold the entry number {head.number} ({head.hash[:12]}) that was kept as its head: "
        f"it was replaced or put back to an older state. Restore it from a backup, then type `ae ledger verify {head.recipe}`"
    )
