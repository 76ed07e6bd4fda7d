"""Prefect's artifacts: each says in a line what it is, beside its name in Prefect's list."""

import ast
from pathlib import Path

from checkout import ROOT


def artifact_calls(file: Path) -> list[ast.Call]:
    """Return the calls of Prefect's `create_..._artifact` in a file."""
    calls = []
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id.endswith("_artifact"):
            calls.append(node)
    return calls


def test_every_artifact_of_a_flow_has_a_description_and_no_link_to_a_file() -> None:
    calls = []
    for file in sorted((ROOT / "flows").glob("*.py")):
        for call in artifact_calls(file):
            keywords = [keyword.arg for keyword in call.keywords]
            assert "description" in keywords, f"{file.name}:{call.lineno}"
            assert "as_uri" not in ast.unparse(call), f"{file.name}:{call.lineno}: a browser opens no file:// of a page"
            calls.append(call)
    assert len(calls) > 7
