"""How often Python's garbage collector runs in a process of this project."""

import gc

_NEW_OBJECTS, _YOUNG_COLLECTIONS = 10_000, 20  # Python's own: 700 and 10


def collect_rarely() -> None:
    """Let the collector run after ten thousand new objects: by default it takes a tenth of a process that imports for seconds.

    Most of what these processes drop is free at once, without the collector. Call it before the imports.
    """
    gc.set_threshold(_NEW_OBJECTS, _YOUNG_COLLECTIONS, _YOUNG_COLLECTIONS)
