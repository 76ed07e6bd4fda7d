"""benchmarks/models.py; its pages, and runs that fail, are tested in tests/evaluation/test_recipe_page.py."""

import json
import shutil
import subprocess
from pathlib import Path

import models
import pytest
from checkout import ROOT, make_checkout

TARGETS = """
small:
  summary: rebuilds digits
  targets:
    - {name: MSE, metric: reconstruction.model.mse, better: less, bound: 1}
"""
GIT = ("git", "-c", "user.name=t", "-c", "user.email=t@example.org")


@pytest.mark.long
def test_a_recipe_is_measured_in_a_clone_and_gets_its_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = make_checkout(tmp_path / "checkout").root
    (root / "benchmarks").mkdir()
    (root / "benchmarks" / "targets.yaml").write_text(TARGETS, encoding="utf-8")
    shutil.copy(ROOT / "README.md", root)
    for command in (["add", "-A"], ["commit", "-qm", "targets"]):
        subprocess.run([*GIT, *command], cwd=root, check=True)
    monkeypatch.chdir(root)
    models.main(["--seeds", "2", "small"])
    record = json.loads((root / "benchmarks" / "records" / "models" / "small.json").read_text(encoding="utf-8"))
    assert record["seconds"]["run"] > record["seconds"]["train"] > 0
    page = (root / "docs" / "recipes" / "small.md").read_text(encoding="utf-8")
    assert "# small" in page
    assert "(2 seeds)" in page
    assert json.loads((root / "recipes" / "seeds" / "small.json").read_text(encoding="utf-8"))["seeds"] == [0, 1]
