"""What became of a version, told by its evidence, the registry and the ledger together; changes nothing."""

from aeops.registry import ledger
from aeops.registry.approval import EXPECTED, NONE, waits
from aeops.registry.ledger import Line
from aeops.registry.store import Store
from aeops.registry.versions import VersionInfo

CHAMPION, WAITING = "champion", "waits for approval"  # states in which a run has done what it could
TURNED_AWAY = {"rejection": "rejected", "rollback": "rolled back from", "retirement": "retired"}
BACK = {"rejection": "ae approve {} {} --by NAME --why TEXT"} | dict.fromkeys(
    ("rollback", "retirement"), "ae rollback {} --to {} --why TEXT"
)


# ---------------------------------------------------------------- by the evidence


# ---------------------------------------------------------------- by the ledger


def turned_away(lines: list[Line], version: str) -> Line | None:
    """The line by which a person turned the version away, unless it became champion after that."""
    for line in reversed(lines):
        if line.moves and line.after == version:
            return None
        if line.event == "rejection" and line.version == version:
            return line
        if line.event in ("rollback", "retirement") and line.before == version:
            return line
    return None


def told(recipe: str, version: str, no: Line) -> str:
    """Why a version that a person has turned away stays so."""
    back = BACK[no.event].format(recipe, version)
    return f"{no.who} {TURNED_AWAY[no.event]} {recipe} {version} on {no.moment:%Y-%m-%d} ({no.why}); only `{back}` undoes that"


def state(recipe: str, held: VersionInfo, lines: list[Line]) -> str:
    """Where a version stands, in a few words."""
    if "champion" in held.aliases:
        return CHAMPION
    if waits(held):
        return WAITING
    if no := turned_away(lines, held.version):
        return f"not champion: {told(recipe, held.version, no)}"
    return "refused" if held.tags.get("verdict") == "refused" else f"not champion: that is {ledger.champion(lines) or 'none'}"


def is_settled(store: Store, held: VersionInfo, recipe: str, lines: list[Line]) -> bool:
    """Whether a run that makes the same bundle again would find nothing to decide about it."""
    champion = store.champion(recipe)
    present = None if champion is None else champion.version
    if present != ledger.champion(lines):
        return False  # a crash or a hand came between them: a run mends the one and tells the other
    if waits(held):
        return held.tags.get(EXPECTED) == (present or NONE)
    decided = held.tags.get("verdict") == "refused" or turned_away(lines, held.version) is not None
    return decided or present == held.version
