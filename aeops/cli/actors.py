"""Name the person or program behind a decision."""


def actor_name(name: str | None) -> str:
    """Return the value of --by, or AE_BY, or else the login name."""
    from aeops.registry import ledger

    if name is None:
        return ledger.current_actor()
    return name
