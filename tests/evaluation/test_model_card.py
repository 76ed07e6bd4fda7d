import json

import pytest
import yaml

from aeops.drawing.words import format_share
from aeops.report.headline import verdict_sentence
from aeops.report.model_card import card_sentence, model_card, with_refusal

LINEAGE = {"git.commit": "c0ffee", "data.content_sha256": "d" * 64, "platform.system": "Linux x86_64"}


@pytest.fixture
def facts(evaluated, verdict, comparison) -> tuple[dict, dict, dict, dict, dict]:
    metrics = json.loads((evaluated.report / "metrics.json").read_text(encoding="utf-8"))
    recipe = yaml.safe_load(evaluated.recipe.read_text(encoding="utf-8"))
    recipe["threshold"]["false_alarm_rate"] = metrics["false_alarms"]["requested"]  # the rate of the small bundle
    return recipe, metrics, {}, verdict, comparison


def test_the_card_shows_metrics_beside_their_baselines_with_intervals(facts):
    _, metrics, *_ = facts
    card = model_card(*facts, LINEAGE)
    low, high = metrics["detection"]["model"]["auroc_interval"]
    for text in ("PCA-16", "kNN-5 distance", f"{metrics['detection']['knn']['auroc']:.3f}", f"{low:.3f} to {high:.3f}"):
        assert text in card


def test_the_card_begins_with_the_verdict_and_has_the_shares_at_each_rate(facts):
    _, metrics, _, _, comparison = facts
    card = model_card(*facts, LINEAGE)
    assert card_sentence(card) == verdict_sentence(metrics, comparison, [])
    hull = metrics["detection"]["local_hull_20"]
    caught, false_alarms = (format_share(hull[name]["at_5_percent"]) for name in ("caught", "false_alarms"))
    [row] = [line for line in card.splitlines() if line.startswith("| hull-20 residual | –")]
    assert f"| {caught} ({false_alarms}) |" in row
    assert "A rate of 0.1 % needs 999 of them or more." in card
    assert f"Lead: {metrics['detection']['lead']:+.3f} in AUROC over the best baseline" in card


def test_the_card_says_what_it_is_for_its_promise_its_limits_and_its_lineage(facts):
    card = model_card(*facts, LINEAGE)
    for heading in (
        "Data",
        "Metrics",
        "Threshold",
        "Verdict",
        "Compared with the champion",
        "Limits",
        "Lineage",
        "Use",
        "Rebuild",
    ):
        assert f"\n## {heading}\n" in card
    assert facts[0]["about"].strip() in card
    assert "at most 5.00 % of fresh normals" in card
    assert "`c0ffee`" in card


def test_a_refused_version_says_so_first_and_is_not_offered_for_serving(facts):
    recipe, metrics, findings, verdict, comparison = facts
    refused = verdict | {"verdict": "refused", "rules": [verdict["rules"][0] | {"passed": False}]}
    card = model_card(recipe, metrics, findings, refused, comparison, LINEAGE)
    assert card.startswith("# digits: refused\n")
    assert "**failed**" in card
    assert "ae serve" not in card


def test_the_card_of_an_ensemble_says_which_model_is_shown(facts):
    recipe, *others = facts
    assert "Ensemble" not in model_card(recipe, *others, LINEAGE)
    card = model_card(recipe | {"train": recipe["train"] | {"members": 4}}, *others, LINEAGE)
    assert "## Ensemble\n\n4 networks, trained with different seeds. The first one reconstructs.\n" in card


def test_a_pipe_in_a_value_does_not_break_its_table(facts):
    card = model_card(*facts, LINEAGE | {"seed": "a|b"})
    assert "`a\\|b`" in card


def test_the_card_tells_what_every_study_found(facts):
    recipe, metrics, _, verdict, comparison = facts
    finding = {"title": "A study", "lead": "It found this.", "head": ["", "value"], "rows": [["ours", "1.25"]], "note": "So."}
    card = model_card(recipe, metrics, {"some-study": finding}, verdict, comparison, LINEAGE)
    assert "## A study\n\nIt found this.\n\n|  | value |\n| --- | --- |\n| ours | 1.25 |\n\nSo.\n" in card


def test_a_card_without_baselines_tells_of_the_model_alone(facts):
    recipe, metrics, findings, verdict, comparison = facts
    bare = {key: value for key, value in metrics.items() if key != "detection"}
    bare |= {"reconstruction": {"model": metrics["reconstruction"]["model"]}, "novelty_flagged": None}
    card = model_card(recipe, bare, findings, verdict | {"warnings": []}, comparison, LINEAGE)
    assert "PCA" not in card
    assert "AUROC" not in card


def test_what_the_comparison_refused_is_refused_and_its_numbers_stand_in_the_card(facts, worse):
    recipe, metrics, findings, verdict, _ = facts
    card = model_card(recipe, metrics, findings, verdict, worse, LINEAGE)
    assert card.startswith("# digits: refused\n")
    assert "**worse than champion 3**" in card
    (rule,) = worse["rules"]
    for text in (f"{rule['champion']:.4f}", f"{rule['challenger']:.4f}", f"{rule['difference']:.4f}", worse["reasons"][0]):
        assert text in card
    assert f"on which {worse['holdout']['judged']} candidates have been compared so far" in card


def test_a_margin_that_is_not_the_recipes_has_its_source_beside_it(facts, worse):
    recipe, metrics, findings, verdict, _ = facts
    [rule] = worse["rules"]
    for source, cell in (("recipe", "| 0.1000 |"), ("seeds", "| 0.1000 (seeds) |"), ("default", "| 0.1000 (default) |")):
        comparison = worse | {"rules": [rule | {"margin_source": source}]}
        assert cell in model_card(recipe, metrics, findings, verdict, comparison, LINEAGE)
    older = {key: value for key, value in rule.items() if key != "margin_source"}
    assert "| 0.1000 |" in model_card(recipe, metrics, findings, verdict, worse | {"rules": [older]}, LINEAGE)


def test_a_version_that_is_refused_after_its_evidence_was_good_begins_with_the_refusal(facts):
    _, metrics, _, _, comparison = facts
    card = model_card(*facts, LINEAGE)
    sentence = verdict_sentence(metrics, comparison, ["ada rejected digits 3 on 2026-11-30 (too many alarms)"])
    refused = with_refusal(card, "digits", sentence)
    assert refused.startswith("# digits: refused\n\nRefused: ada rejected digits 3 on 2026-11-30 (too many alarms). It catches ")
    assert card_sentence(refused) == sentence
    assert refused.split("\n\n")[2:] == card.split("\n\n")[2:], "nothing else of the card has changed"


def test_a_description_that_is_no_card_has_no_sentence():
    assert card_sentence("") == card_sentence("# digits") == card_sentence("By hand.\n\nIt works.\n\nWell.") == ""
