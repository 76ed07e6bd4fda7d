"""benchmarks/five_versions.py: its first step (make test-long), and how it checks a step and writes its record."""

import json
from pathlib import Path

import five_versions
import pytest
from benchmark_checkout import make_benchmark_checkout
from five_versions import Clone
from served_champion import scratch_project

from aeops.errors import DataError


@pytest.mark.long
def test_a_version_is_promoted_and_rebuilt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "five.json"
    monkeypatch.chdir(make_benchmark_checkout(tmp_path / "checkout").root)
    five_versions.main(["--steps", "1", "--out", str(out)])
    record = json.loads(out.read_text(encoding="utf-8"))
    assert record["champions"] == ["1"]
    assert record["rebuilt"] == {"1": "identical"}


@pytest.mark.long
def test_the_champion_at_every_moment_is_checked_and_recorded(trained: Path, tmp_path: Path) -> None:
    clone = Clone(scratch_project(tmp_path / "project", trained / "bundle").root)
    clone.require("first", "1", "version 1 is the first", "first")
    assert five_versions.summarize(clone, {"1": "identical"}) == {
        "champions": ["1"],
        "events": ["promotion"],
        "rebuilt": {"1": "identical"},
        "seconds": {},
    }
    with pytest.raises(DataError, match=r"expected \['refused'\] in the output"):
        clone.require("second", "1", "it was promoted", "refused")


def test_a_key_of_the_recipe_is_changed_by_its_path(tmp_path: Path) -> None:
    (tmp_path / "recipes").mkdir()
    file = tmp_path / "recipes" / "digits.yaml"
    file.write_text("train: {epochs: 60, seed: 0}\n", encoding="utf-8")
    five_versions.edit_recipe(file, {"train__epochs": 5, "data__split__test": 0.02})
    assert five_versions.yaml.safe_load(file.read_text(encoding="utf-8")) == {
        "train": {"epochs": 5, "seed": 0},
        "data": {"split": {"test": 0.02}},
    }


@pytest.mark.parametrize("steps", ["0", "7"])
def test_there_are_six_steps(steps: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        five_versions.main(["--steps", steps])
    assert "invalid choice" in capsys.readouterr().err
