import json

import pytest
import yaml

from aeops.report.card import model_card

LINEAGE = {"git.commit": "c0ffee", "data.content_sha256": "d" * 64, "platform.system": "Linux x86_64"}


@pytest.fixture
def facts(evaluated, verdict) -> tuple[dict, dict, dict]:
    metrics = json.loads((evaluated.report / "metrics.json").read_text(encoding="utf-8"))
    return yaml.safe_load(evaluated.recipe.read_text(encoding="utf-8")), metrics, verdict


def test_the_card_shows_metrics_beside_their_baselines_with_intervals(facts):
    recipe, metrics, verdict = facts
    card = model_card(recipe, metrics, verdict, LINEAGE)
    low, high = metrics["detection"]["model"]["auroc_interval"]
    for text in ("PCA-16", "kNN-5 distance", f"{metrics['detection']['knn']['auroc']:.3f}", f"{low:.3f} to {high:.3f}"):
        assert text in card


def test_the_card_says_what_it_is_for_its_promise_its_limits_and_its_lineage(facts):
    card = model_card(*facts, LINEAGE)
    for heading in ("Data", "Metrics", "Threshold", "Verdict", "Limits", "Lineage", "Use"):
        assert f"\n## {heading}\n" in card
    assert facts[0]["about"].strip() in card
    assert "at most 5.00 % of fresh normals" in card
    assert "`c0ffee`" in card


def test_a_refused_version_says_so_first_and_is_not_offered_for_serving(facts):
    recipe, metrics, verdict = facts
    refused = verdict | {"verdict": "refused", "rules": [verdict["rules"][0] | {"passed": False}]}
    card = model_card(recipe, metrics, refused, LINEAGE)
    assert card.startswith("# digits: refused\n")
    assert "**failed**" in card
    assert "ae serve" not in card


def test_a_pipe_in_a_value_does_not_break_its_table(facts):
    card = model_card(*facts, LINEAGE | {"seed": "a|b"})
    assert "`a\\|b`" in card
