"""What this project's modules load, asked of one fresh process for all tests, as the imports take seconds.

`python tests/fresh_imports.py FILE` imports the lines of LIGHT one after the other, then each stage as if it were the first, and
writes what is loaded after each to FILE, as JSON. See the fixture `loaded_modules` of tests/conftest.py.
"""

import gc
import importlib
import json
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
OURS = ("aeops", "ae_models")
# The lightest first: a line may load whatever those before it may, and so is asked for less.
LIGHT = (
    ("aeops.recipe.reader",),
    ("flows.training", "flows.scoring"),
    ("aeops.monitoring.__main__", "aeops.monitoring.check_steps", "aeops.monitoring.drift", "flows.monitoring"),
    ("ae_models.calibration",),
)


def import_all() -> dict[str, list[str]]:
    """Return the names of the modules that are loaded after each line, by its first module; of stages, ours alone."""
    gc.disable()  # a sixth of the imports would be collections
    loaded = {}
    for line in LIGHT:
        for module in line:
            importlib.import_module(module)
        loaded[line[0]] = [*sys.modules]
    for file in sorted((ROOT / "aeops" / "stages").glob("[a-z]*.py")):
        for name in [name for name in sys.modules if name.startswith(OURS)]:
            del sys.modules[name]  # what is not ours stays loaded
        importlib.import_module(f"aeops.stages.{file.stem}")
        loaded[f"aeops.stages.{file.stem}"] = [name for name in sys.modules if name.startswith(OURS)]
    return loaded


if __name__ == "__main__":
    del sys.path[0]  # of the tests
    Path(sys.argv[1]).write_text(json.dumps(import_all()), encoding="utf-8")
