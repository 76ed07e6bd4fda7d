"""State of a version (champion, refused, waiting or dismissed) by its evidence, the registry and the ledger."""

from aeops.registry import ledger
from aeops.registry.aliases import CHAMPION
from aeops.registry.approval import EXPECTED_TAG, NO_VERSION, is_waiting
from aeops.registry.ledger import LedgerEntry
from aeops.registry.store import Store
from aeops.registry.versions import VersionInfo

WAITING = "waits for approval"  # state of a version whose run has done all that it could
DISMISSAL_WORDS = {"rejection": "rejected", "rollback": "rolled back from", "retirement": "retired"}


# ---------------------------------------------------------------- from the evidence


# ---------------------------------------------------------------- from the ledger


def find_dismissal(entries: list[LedgerEntry], version: str) -> LedgerEntry | None:
    """Return the entry by which a person dismissed the version, unless it became champion after that."""
    for entry in reversed(entries):
        if entry.moves_champion and entry.to_version == version:
            return None
        if entry.event == "rejection" and entry.version == version:
            return entry
        if entry.event in ("rollback", "retirement") and entry.from_version == version:
            return entry
    return None


def dismissal_reason(recipe: str, version: str, dismissal: LedgerEntry) -> str:
    """Say why a dismissed version stays dismissed, and which command changes that."""
    if dismissal.event == "rejection":
        command = f"ae approve {recipe} {version} --by NAME --why TEXT"
    else:
        command = f"ae rollback {recipe} --to {version} --why TEXT"
    return (
        f"{dismissal.who} {DISMISSAL_WORDS[dismissal.event]} {recipe} {version} on {dismissal.timestamp:%Y-%m-%d} "
        f"({dismissal.why}); only `{command}` undoes that"
    )


def describe_state(recipe: str, version_info: VersionInfo, entries: list[LedgerEntry]) -> str:
    """Describe the state of a version in a few words."""
    if CHAMPION in version_info.aliases:
        return CHAMPION
    if is_waiting(version_info):
        return WAITING
    if dismissal := find_dismissal(entries, version_info.version):
        return f"not champion: {dismissal_reason(recipe, version_info.version, dismissal)}"
    if version_info.tags.get("verdict") == "refused":
        return "refused"
    return f"not champion: that is {ledger.champion_at(entries) or 'none'}"


def is_settled(store: Store, version_info: VersionInfo, recipe: str, entries: list[LedgerEntry]) -> bool:
    """Return True if a run that makes the same bundle again would find nothing to decide about it."""
    present_champion = store.champion_version(recipe)
    if present_champion != ledger.champion_at(entries):
        return False  # a crash or a change by hand came between them, which a run repairs or reports
    if is_waiting(version_info):
        return version_info.tags.get(EXPECTED_TAG) == (present_champion or NO_VERSION)
    if version_info.tags.get("verdict") == "refused" or present_champion == version_info.version:
        return True
    return find_dismissal(entries, version_info.version) is not None
