"""benchmarks/gate_simulation.py at its smallest size (make test-long), and one comparison as a trial makes it.

tests/evaluation/test_compare_stage.py holds its record and page.
"""

import json
from pathlib import Path

import gate_simulation
import pytest


@pytest.mark.long
def test_every_question_is_asked(tmp_path: Path) -> None:
    out = tmp_path / "gate.json"
    gate_simulation.main(["--trials", "3", "--full-seeds", "3", "--full-epochs", "1", "--processes", "1", "--out", str(out)])
    record = json.loads(out.read_text(encoding="utf-8"))
    assert {name: record[name]["trials"] for name in gate_simulation.LABELS} == {
        "unchanged": 3,
        "unchanged_without_margin": 3,
        "improved": 2,
        "recipe_at_full_length": 3,
    }
    for name in gate_simulation.LABELS:
        assert sum(record[name]["verdicts"].values()) == record[name]["trials"]
        assert set(record[name]["differences"]) == set(record["rules"])
    assert "Of 3 models" in gate_simulation.summarize(record)


@pytest.mark.long
def test_a_trained_challenger_is_compared_with_a_champion_and_recorded(trained: Path, tmp_path: Path) -> None:
    recipe = gate_simulation.digits_recipe(tmp_path, cheap=True, margin=gate_simulation.TINY_MARGIN)
    prepared = tmp_path / "prepared"
    gate_simulation.prepare(prepared, recipe, gate_simulation.CHEAP_NORMALS, seed=0)
    champion = gate_simulation.Champion("1", trained / "bundle")
    challenger = gate_simulation.train(tmp_path / "challenger", prepared, recipe, seed=0)
    comparison = gate_simulation.compare(
        recipe, prepared, challenger, champion, candidate_count=1, output_file=tmp_path / "comparison.json"
    )
    record = gate_simulation.build_record({name: [comparison] * 2 for name in gate_simulation.LABELS}, recipe, full_seeds=2)
    assert record["unchanged"]["verdicts"][comparison["verdict"]] == 2
    assert set(record["unchanged"]["differences"]) == set(record["rules"])
    assert all(rule["margin"] == gate_simulation.TINY_MARGIN for rule in record["rules"].values())
    assert "Of 2 models" in gate_simulation.summarize(record)
