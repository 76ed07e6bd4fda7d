"""The modules of docs/plugins.md, and a recipe that names each part of them."""

import re
import sys
from pathlib import Path

import numpy as np
import yaml
from checkout import ROOT, write_small_recipe

FILE = re.compile(r"<!-- file: (\S+) -->\n```python\n(.*?)```", re.DOTALL)
MODULES = ("my_parts", "my_work", "my_data")


def documented_files() -> dict[str, str]:
    return dict(FILE.findall((ROOT / "docs" / "plugins.md").read_text(encoding="utf-8")))


def write_plugins(root: Path) -> None:
    """Write the modules into a project, and let its ae.yaml name them."""
    for name, text in documented_files().items():
        (root / name).write_text(text, encoding="utf-8")
    (root / "ae.yaml").write_text("plugins: [my_parts]\n", encoding="utf-8")


def write_own_recipe(root: Path) -> None:
    """Write the recipe `small` of 1,200 digits with own source, encoder, decoder, score, threshold and study."""
    write_small_recipe(root)
    for name in ("images", "labels"):
        np.load(root / "inbox" / f"{name}.npy").astype(np.uint8).tofile(root / "inbox" / f"{name}.bin")
    file = root / "recipes" / "small.yaml"
    recipe = yaml.safe_load(file.read_text())
    recipe["data"]["source"] = {"kind": "flat-file", "path": "inbox/images.bin", "labels": "inbox/labels.bin"}
    recipe["model"] |= {"encode": {"kind": "pooled", "side": 2}, "decode": {"kind": "linear"}}
    recipe["score"] = {"kind": "worst-pixels", "count": 30}
    recipe["threshold"] = {"kind": "fences", "ranges": 3.0}
    recipe["evaluate"]["studies"]["brightness"] = {}
    for rule in list(recipe["gate"]):
        if "requested" in str(recipe["gate"][rule]) or rule == "keeps_its_promise":
            del recipe["gate"][rule]
    file.write_text(yaml.safe_dump(recipe, sort_keys=False))


def forget_plugins(root: Path) -> None:
    """Let this process know no own part, as a fresh one; the modules of other projects may have the same names."""
    from ae_models.own_parts import forget_parts
    from aeops.plugins import discovery

    forget_parts()
    discovery._roots.clear()
    discovery.own_parts.cache_clear()
    for name in MODULES:
        sys.modules.pop(name, None)
    sys.path[:] = [entry for entry in sys.path if entry != str(root)]
