"""Write docs/api.md from the signatures and docstrings of the modules meant for other projects: python docs/generate_api.py"""

import ast
import inspect
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "api.md"
MODULES = {
    "ae_models.spec": "Settings of a model, its training, score and threshold. Standard library only.",
    "ae_models.fit": "Train an autoencoder, calibrate it and write its bundle.",
    "ae_models.training": "Train an autoencoder and write its weights.",
    "ae_models.calibration": "Make a bundle of trained weights: score, threshold and export.",
    "ae_models.bundle": "Write a bundle, and load one for further training.",
    "ae_models.thresholds": "Thresholds of a recipe or a bundle: see docs/thresholds.md.",
    "ae_models.threshold_interface": "A kind of threshold: calibration, p-values, flags and what it promises.",
    "ae_models.conformal_thresholds": "Kinds of threshold with a promise about false alarms.",
    "ae_models.unpromised_thresholds": "Kinds of threshold without one.",
    "ae_models.threshold_samples": "Labels and labelled anomalies that some kinds of threshold read.",
    "ae_models.sklearn": "Anomaly detectors for tables with scikit-learn's interface: see docs/sklearn.md.",
    "ae_models.checksums": "Checksums of files, arrays and bundles.",
    "aeops.bundle.detector": "Score samples with a bundle. Needs onnxruntime and numpy, not torch.",
    "aeops.client": "A client of the scoring service; needs httpx alone.",
    "aeops.bundle.answers": "Turn scores into JSON.",
    "aeops.bundle.false_discovery": "The anomalies of one batch of which few are normal.",
}
INTRODUCTION = """# API

Generated from the docstrings by `python docs/generate_api.py`. These modules are meant for other projects; everything
else may change without notice. Train a model and score with it:

```python
import numpy as np
from pathlib import Path

from ae_models.fit import fit
from ae_models.spec import FitSpec
from aeops.bundle.detector import Detector

spec = FitSpec.from_dict(raw_spec, "spec.json")       # raises SpecError with every mistake at once
detector = Detector(Path("bundle"))                   # of a bundle that `python -m ae_models fit` or `ae run` has written
detector.score(samples)["p_value"]                    # samples (n, *shape) in raw units, or texts
```
"""


def public_names(tree: ast.Module) -> list[str]:
    """Return the names in `__all__`, or every public class and function if there is none."""
    names = []
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return list(ast.literal_eval(node.value))
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and not node.name.startswith("_"):
            names.append(node.name)
    return names


def module_file(module: str) -> Path:
    path = ROOT / module.replace(".", "/")
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def definitions(module: str) -> dict[str, ast.ClassDef | ast.FunctionDef]:
    """Return the public classes and functions of a module by name, those that it imports from its own package included."""
    tree = ast.parse(module_file(module).read_text(encoding="utf-8"))
    names = public_names(tree)
    found = {}
    for node in tree.body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name in names:
            found[node.name] = node
        elif isinstance(node, ast.ImportFrom) and node.module and node.module.startswith(f"{module}."):
            imported = {alias.name for alias in node.names} & set(names)
            own = definitions(node.module)
            found |= {name: own[name] for name in sorted(imported & own.keys())}
    return found


def signature(node: ast.ClassDef | ast.FunctionDef) -> str:
    """Return the head of a function, or a class with its constructor's arguments or its fields."""
    if isinstance(node, ast.FunctionDef):
        returns = f" -> {ast.unparse(node.returns)}" if node.returns else ""
        return f"{node.name}({ast.unparse(node.args)}){returns}"
    for item in node.body:
        if isinstance(item, ast.FunctionDef) and item.name == "__init__":
            return f"class {node.name}({ast.unparse(item.args).removeprefix('self, ').removeprefix('self')})"
    fields = [ast.unparse(item) for item in node.body if isinstance(item, ast.AnnAssign)]
    if not fields:
        return f"class {node.name}"
    return f"class {node.name}:\n    " + "\n    ".join(fields)


def describe(node: ast.ClassDef | ast.FunctionDef, level: str) -> list[str]:
    """Return the lines about one definition: its name, its signature, its docstring, and its public methods."""
    lines = [f"{level} `{node.name}`", "", "```python", signature(node), "```", ""]
    if docstring := ast.get_docstring(node):
        lines += ["```text", inspect.cleandoc(docstring), "```", ""]
    if isinstance(node, ast.ClassDef):
        for item in node.body:
            if isinstance(item, ast.FunctionDef) and not item.name.startswith("_") and ast.get_docstring(item):
                lines += describe(item, level + "#")
    return lines


def build_page() -> str:
    lines = [INTRODUCTION]
    for module, summary in MODULES.items():
        lines += [f"## {module}", "", summary, ""]
        for node in definitions(module).values():
            lines += describe(node, "###")
    return "\n".join(lines).rstrip() + "\n"


if __name__ == "__main__":
    PAGE.write_text(build_page(), encoding="utf-8")
