"""What a command that works for minutes does when SIGTERM ends it."""

from collections.abc import Callable
from functools import partial


def notice_of_stop(command: str, recipe: str) -> Callable[[], None]:
    """Return what notifies the receivers of ae.yaml that `ae COMMAND RECIPE` was stopped; for `RunWatch`."""
    return partial(_tell, command, recipe)


def _tell(command: str, recipe: str) -> None:
    from aeops.alerts.notices import stopped
    from aeops.alerts.receivers import send_before_end
    from aeops.project import find_project

    send_before_end(find_project(), stopped(recipe, f"ae {command} {recipe}"))
