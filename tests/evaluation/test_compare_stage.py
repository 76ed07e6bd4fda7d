"""The program that compares a challenger with the champion, on real bundles and real digits."""

import importlib.util
import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ae_models import tokens
from ae_models.checksums import bundle_sha256
from ae_models.fit import fit
from ae_models.spec import FitSpec
from aeops.bundle.detector import Detector
from aeops.errors import DataError, UsageError
from aeops.gate.documents import SeedEvidence
from aeops.gate.evidence import holdout_sha256, write_evidence
from aeops.gate.rules import RuleInputs, evaluate_rules
from aeops.gate.seed_record import SeedSpread
from aeops.recipe.gate_rules import Rule
from aeops.recipe.reader import Recipe, read_recipe
from aeops.stages.compare import Champion, compare

ROOT = Path(__file__).parents[2]
UNASKED = {"not_worse_than_champion": {"switched_off": "the rules beside it are to be judged alone"}}
RULES = {
    "keeps_its_error": {"champion": "error", "margin": 0.1},
    "keeps_its_ranking": {"champion": "auroc", "margin": 0.4},
}


@pytest.fixture(scope="module")
def recipe(writers, tmp_path_factory) -> Recipe:
    """The digits recipe with the evaluation's novelty and two rules against the champion."""
    file = tmp_path_factory.mktemp("recipe") / "digits.yaml"
    data = writers.recipe(file)["data"]
    writers.recipe(file, gate=RULES | UNASKED, data=data | {"novelty": [4]})
    return read_recipe(file)


@pytest.fixture(scope="module")
def poor(evaluated, writers, tmp_path_factory) -> Path:
    """A bundle that saw 40 samples, and rebuilds the others the worse for it."""
    folder = tmp_path_factory.mktemp("poor") / "bundle"
    train, calibration = (np.load(evaluated.prepared / f"{name}.npy") for name in ("train", "calibration"))
    writers.bundle(folder, train[:40], calibration)
    return folder


def judged(recipe, evaluated, tmp_path, challenger, champion, count=1, prepared=None) -> dict:
    known = Champion("3", champion) if champion is not None else None
    return compare(recipe, prepared or evaluated.prepared, challenger, known, count, tmp_path / "comparison.json")


@pytest.mark.slow
def test_without_a_champion_the_first_is_accepted(recipe, evaluated, tmp_path):
    found = judged(recipe, evaluated, tmp_path, evaluated.bundle, None)
    assert (found["verdict"], found["accepted"], found["champion"], found["rules"]) == ("first", True, None, [])
    assert "had no champion: there was nothing to compare with" in found["reasons"][0], "it is read after the promotion, too"
    assert json.loads((tmp_path / "comparison.json").read_text()) == found


def test_the_champions_very_bundle_is_the_same_wherever_it_lies(recipe, evaluated, tmp_path):
    shutil.copytree(evaluated.bundle, tmp_path / "copy")
    found = judged(recipe, evaluated, tmp_path, tmp_path / "copy", evaluated.bundle)
    assert (found["verdict"], found["accepted"], found["rules"]) == ("the same", True, [])
    assert found["champion"] == {"version": "3"} | found["challenger"]


def test_a_recipe_without_such_rules_compares_nothing_and_says_so(recipe, evaluated, poor, tmp_path):
    found = judged(replace(recipe, gate={"served": Rule(check="served")}), evaluated, tmp_path, evaluated.bundle, poor)
    assert (found["verdict"], found["accepted"], found["rules"]) == ("not compared", True, [])
    assert "no rule with the key champion" in found["reasons"][0]


def test_a_better_challenger_is_called_so_and_in_its_stead_the_champion_is_worse(recipe, evaluated, poor, tmp_path):
    found = judged(recipe, evaluated, tmp_path, evaluated.bundle, poor)
    assert (found["verdict"], found["accepted"]) == ("better", True), found["reasons"]
    assert found["champion"] == {"version": "3", "bundle_sha256": bundle_sha256(poor)}
    back = judged(recipe, evaluated, tmp_path, poor, evaluated.bundle)
    assert (back["verdict"], back["accepted"]) == ("worse", False)
    assert any(reason.startswith("keeps_its_error: ") and "worse by more than the margin" in reason for reason in back["reasons"])
    assert back["holdout"]["sha256"] == found["holdout"]["sha256"]


def test_the_numbers_are_those_of_the_report(recipe, evaluated, poor, tmp_path):
    error, ranking = judged(recipe, evaluated, tmp_path, evaluated.bundle, poor)["rules"]
    scores = pd.read_parquet(evaluated.report / "scores.parquet")
    metrics = json.loads((evaluated.report / "metrics.json").read_text())
    assert error["challenger"] == pytest.approx(scores["mse"][~scores["novelty"]].mean(), rel=1e-5)
    assert ranking["challenger"] == pytest.approx(metrics["detection"]["model"]["auroc"])
    assert error["difference"] == pytest.approx(1 - error["challenger"] / error["champion"])
    assert ranking["difference"] == pytest.approx(ranking["challenger"] - ranking["champion"])


def seeds_of(**spread: float) -> SeedSpread:
    """A record of 5 seeds with these standard deviations."""
    evidence: SeedEvidence = {"state": "used", "reason": "5 seeds", "sha256": "e" * 64, "seeds": [0, 1, 2, 3, 4]}
    return SeedSpread(evidence, {measure: {"sd": sd, "slice": "all"} for measure, sd in spread.items()})


def test_a_rule_without_a_margin_has_that_of_the_seeds_and_the_evidence_says_so(recipe, evaluated, poor, tmp_path):
    unsaid = replace(recipe, gate={"keeps_its_error": Rule(champion="error"), "ranks": Rule(champion="auroc", margin=0.4)})
    champion = Champion("3", poor)
    found = compare(
        unsaid, evaluated.prepared, evaluated.bundle, champion, 1, tmp_path / "comparison.json", seeds_of(error=0.02, auroc=0.02)
    )
    error, ranking = found["rules"]
    assert (error["margin"], error["margin_source"]) == (pytest.approx(0.02 * 8**0.5), "seeds")
    assert (ranking["margin"], ranking["margin_source"]) == (0.4, "recipe")
    assert "margin of 5.7 %" in error["says"]
    assert error["says"].endswith("the margin is twice the standard deviation of a difference between two of 5 seeds")
    assert found["seeds"] == {"state": "used", "reason": "5 seeds", "sha256": "e" * 64, "seeds": [0, 1, 2, 3, 4]}
    assert found["warnings"] == []


def test_without_a_record_of_seeds_the_default_margin_holds_and_the_result_says_so(recipe, evaluated, poor, tmp_path):
    unsaid = replace(recipe, gate={"keeps_its_error": Rule(champion="error")})
    found = judged(unsaid, evaluated, tmp_path, evaluated.bundle, poor)
    [error] = found["rules"]
    assert (error["margin"], error["margin_source"], found["seeds"]["state"]) == (0.1, "default", "missing")
    assert "the margin is the default, as there is no record of seeds: `ae seeds digits` measures one" in error["says"]


def test_each_label_is_a_slice_of_its_own(recipe, evaluated, poor, tmp_path):
    by_label = replace(recipe, gate={"each": Rule(champion="error", margin=0.3, by="label")})
    found = judged(by_label, evaluated, tmp_path, evaluated.bundle, poor)
    assert [one["slice"] for one in found["rules"]] == [f"label {digit}" for digit in range(10) if digit != 4]


def test_a_champion_of_other_samples_cannot_be_told_from_and_the_reason_says_in_what(recipe, evaluated, poor, tmp_path, writers):
    shutil.copytree(poor, tmp_path / "old")
    document = json.loads((tmp_path / "old" / "bundle.json").read_text())
    document["input"] |= {"shape": [1, 32, 32], "high": 1.0}
    (tmp_path / "old" / "bundle.json").write_text(json.dumps(document))
    writers.sums(tmp_path / "old")
    found = judged(recipe, evaluated, tmp_path, evaluated.bundle, tmp_path / "old")
    assert (found["verdict"], found["accepted"]) == ("cannot tell", False)
    assert [(one["verdict"], one["difference"]) for one in found["rules"]] == [("cannot tell", None)] * 2
    for text in ("shape [1, 32, 32] instead of [1, 28, 28]", "high 1.0 instead of 255.0", "ae retire digits"):
        assert text in found["reasons"][0]


def test_of_a_champion_of_format_1_only_what_it_has_is_held_against_it(recipe, evaluated, tmp_path):
    found = judged(recipe, evaluated, tmp_path, evaluated.bundle, ROOT / "tests" / "fixtures" / "bundle-format-1")
    assert "shape [1, 8, 8] instead of [1, 28, 28]" in found["reasons"][0]
    assert not any(word in found["reasons"][0] for word in ("target_channels", "given clean", "low", "kind"))


def test_a_damaged_champion_is_a_failure_and_no_verdict(recipe, evaluated, poor, tmp_path):
    shutil.copytree(poor, tmp_path / "old")
    (tmp_path / "old" / "model.onnx").write_bytes(b"something else")
    with pytest.raises(DataError, match=r"model\.onnx was altered"):
        judged(recipe, evaluated, tmp_path, evaluated.bundle, tmp_path / "old")
    assert not (tmp_path / "comparison.json").exists()


def test_a_holdout_that_judged_28_is_worn_and_the_warning_says_what_to_do(recipe, evaluated, poor, tmp_path):
    fresh, worn = (judged(recipe, evaluated, tmp_path, evaluated.bundle, poor, count) for count in (27, 28))
    assert (fresh["holdout"]["worn"], fresh["warnings"]) == (False, [])
    assert worn["holdout"]["worn"]
    assert worn["holdout"]["chance_of_luck"] == pytest.approx(1 - 0.975**28)
    assert "judged 28 candidates" in worn["warnings"][0]
    assert "bring more data to digits" in worn["warnings"][0]
    assert (fresh["verdict"], fresh["reasons"]) == (worn["verdict"], worn["reasons"])


def test_the_same_evidence_gives_the_same_bytes(recipe, evaluated, poor, tmp_path):
    files = []
    for name in ("one", "two"):
        judged(recipe, evaluated, tmp_path / name, evaluated.bundle, poor)
        files.append((tmp_path / name / "comparison.json").read_bytes())
    assert files[0] == files[1]


# ---------------------------------------------------------------- the holdout and the evidence


def copied(prepared: Path, place: Path) -> Path:
    shutil.copytree(prepared, place)
    return place


def test_the_holdouts_hash_is_of_its_samples_ids_labels_and_novelty_and_of_nothing_else(evaluated, tmp_path):
    pinned = holdout_sha256(evaluated.prepared)
    other = copied(evaluated.prepared, tmp_path / "other")
    np.save(other / "train.npy", np.load(other / "train.npy")[:10])
    table = pd.read_parquet(other / "test.parquet")
    table.assign(more=1).to_parquet(other / "test.parquet", compression="gzip")
    assert holdout_sha256(other) == pinned
    first = table.index == 0
    for changed in (
        table.assign(label=table["label"].mask(first, 9 - table["label"])),
        table.assign(label=table["label"].mask(first, pd.NA)),
        table.assign(novelty=table["novelty"] ^ first),
        table.assign(id=table["id"] + "x"),
        table[::-1],
    ):
        changed.to_parquet(other / "test.parquet")
        assert holdout_sha256(other) != pinned
    table.to_parquet(other / "test.parquet")
    samples = np.load(other / "test.npy")
    samples[0, 0, 0, 0] ^= 1
    np.save(other / "test.npy", samples)
    assert holdout_sha256(other) != pinned


def test_no_prepared_samples_is_said_with_what_to_type(recipe, evaluated, tmp_path):
    with pytest.raises(DataError, match=r"lacks test\.npy, test\.parquet.*dvc repro prepare@"):
        judged(recipe, evaluated, tmp_path, evaluated.bundle, None, prepared=tmp_path)


def test_the_evidence_is_one_file_that_the_ledgers_line_names_by_its_hash(recipe, evaluated, poor, verdict, tmp_path):
    found = judged(recipe, evaluated, tmp_path, evaluated.bundle, poor)
    place = tmp_path / "reports" / "digits" / "evidence.json"
    line = write_evidence(place, verdict, found)
    assert json.loads(place.read_text()) == {"gate": verdict, "comparison": found}
    told = {"bundle_sha256": bundle_sha256(evaluated.bundle), "holdout_sha256": holdout_sha256(evaluated.prepared)}
    summed = subprocess.run(["sha256sum", place], capture_output=True, text=True, check=True).stdout.split()[0]
    assert line == {"sha256": summed, "verdict": "better"} | told
    assert [file.name for file in place.parent.iterdir()] == ["evidence.json"]


# ---------------------------------------------------------------- texts


def test_texts_are_measured_in_the_champions_tokens_though_each_model_has_its_own(recipe, tmp_path):
    words = np.array(["a", "cat", "dog", "sees", "hears", "the", "bird", "often"])
    rng = np.random.default_rng(0)
    rows = tokens.texts_to_bytes([" ".join(rng.choice(words, 5)) for _ in range(300)])
    rows = np.pad(rows, ((0, 0), (0, 48 - rows.shape[1])))
    parts = dict(zip(("train", "validation", "calibration", "test"), np.split(rows, [120, 140, 240]), strict=True))
    (tmp_path / "prepared").mkdir()
    for name, part in parts.items():
        np.save(tmp_path / "prepared" / f"{name}.npy", part)
    names = [f"x-{i}" for i in range(60)]
    table = {"id": names, "label": pd.array([None] * 60, "Int64"), "group": names, "novelty": [False] * 60}
    pd.DataFrame(table).to_parquet(tmp_path / "prepared" / "test.parquet")
    facts = {"rows": {name: len(part) for name, part in parts.items()}, "low": 0, "high": 255}
    (tmp_path / "prepared" / "prepared.json").write_text(json.dumps(facts))
    bundles = {}
    for vocabulary, length in ((270, 12), (320, 16)):
        spec = text_spec(vocabulary, length)
        bundles[vocabulary] = tmp_path / f"bundle-{vocabulary}"
        training = {name: parts[name] for name in ("train", "validation", "calibration")}
        places = {"checkpoints": tmp_path / "c", "bundle": bundles[vocabulary], "history": tmp_path / "h"}
        fit(spec, **training, **places, content_sha256="d" * 64, recipe="x", progress_bar=False)
    gate = {"keeps_its_error": Rule(champion="error", margin=0.5)}
    champion = Champion("1", bundles[270])
    found = compare(
        replace(recipe, fit=text_spec(320, 16), gate=gate), tmp_path / "prepared", bundles[320], champion, 1, tmp_path / "c.json"
    )
    [one] = found["rules"]
    ruler = Detector(bundles[270])
    wanted = ruler.check(parts["test"]).model_input
    reconstructed = Detector(bundles[320]).score(parts["test"], reconstruction=True)["reconstruction"].tolist()
    made = ruler.check(reconstructed).model_input
    wrong = [1 - (made[row] == wanted[row])[wanted[row] != 0].mean() for row in range(60)]
    assert one["challenger"] == pytest.approx(np.mean(wrong))


def text_spec(vocabulary: int, length: int) -> FitSpec:
    encode = {"kind": "tokens", "vocabulary": vocabulary, "length": length, "width": 16, "layers": 0, "heads": 2}
    model = {
        "corrupt": {"kind": "none"},
        "encode": encode,
        "bottleneck": {"kind": "identity", "size": 8},
        "decode": {"kind": "tokens", "width": 16, "layers": 0, "heads": 2},
        "compare": {"kind": "cross-entropy"},
    }
    given = {
        "input": {"kind": "text", "shape": [48]},
        "model": model,
        "score": {"kind": "token-surprise"},
        "threshold": {"kind": "split-conformal"},
        "train": {"epochs": 1, "batch": 32, "threads": 1, "accelerator": "cpu"},
    }
    return FitSpec.from_dict(given, "texts")


# ---------------------------------------------------------------- the recipe


@pytest.mark.parametrize(
    ("rule", "says"),
    [
        ({"champion": "errors", "margin": 0.1}, "expected error, auroc or power, got 'errors': did you mean error?"),
        (
            {"champion": "error", "margin": 0},
            "margin: expected more than 0 and less than 1, a share of the champion's error, got 0",
        ),
        ({"champion": "auroc", "margin": 0.5}, "expected more than 0 and less than 0.5, a difference of two AUROCs, got 0.5"),
        (
            {"champion": "error", "margin": -0.1},
            "expected more than 0 and less than 1, a share of the champion's error, got -0.1",
        ),
        ({"champion": "error", "margin": 0.1, "needs": "beter"}, "did you mean better?"),
        ({"champion": "error", "margin": 0.1, "by": "digit"}, "expected label, got 'digit'"),
        (
            {"champion": "error", "margin": 0.1, "at_least": 1},
            "unexpected key at_least beside champion, expected margin, needs, by",
        ),
        ({"champion": "error", "margin": 0.1, "check": "served"}, "or {champion}, got check, champion"),
        (
            {"metric": "reconstruction.model.mse", "at_most": 1, "margin": 0.1},
            "unexpected key margin beside metric, expected at_least, at_most",
        ),
        ({"metric": "reconstruction.model.mse"}, "without a bound: give at_least, at_most or both"),
        ({"interval": "false_alarms.interval"}, "without covers or above: name the metric"),
        (
            {"interval": "false_alarms.interval", "covers": "false_alarms.requested", "above": "false_alarms.requested"},
            "expected one of covers and above, got both",
        ),
        ({"check": "served", "milliseconds": 5}, "milliseconds is set with check served, but only the check logged has"),
        ({"check": "logged", "milliseconds": 0}, "expected 0.001 to 3.6e+06, got 0"),
        ({}, "or {champion}, got none of them"),
    ],
)
def test_a_rule_that_cannot_be_is_told(rule, says, writers, tmp_path):
    writers.recipe(tmp_path / "digits.yaml", gate={"mine": rule, "yours": {"champion": "error", "margin": 2}})
    with pytest.raises(UsageError) as error:
        read_recipe(tmp_path / "digits.yaml")
    mine = [line for line in str(error.value).splitlines() if ": gate.mine" in line]
    assert any(says in line for line in mine), mine
    assert ": gate.yours" in str(error.value)  # every mistake at once


def test_comparisons_that_the_data_does_not_allow_are_told(writers, tmp_path):
    data = writers.recipe(tmp_path / "digits.yaml")["data"]
    gate = {"rank": {"champion": "auroc", "margin": 0.1}, "each": {"champion": "error", "margin": 0.1, "by": "label"}}
    writers.recipe(tmp_path / "digits.yaml", gate=gate, data=data | {"novelty": []})
    with pytest.raises(UsageError, match=r"gate\.rank\.champion: expected error, got auroc: without data\.novelty"):
        read_recipe(tmp_path / "digits.yaml")
    writers.recipe(tmp_path / "digits.yaml", gate=gate, data=data | {"labels": [], "novelty": []})
    with pytest.raises(UsageError, match=r"gate\.each\.by: expected no label, since data\.labels names no normal label"):
        read_recipe(tmp_path / "digits.yaml")


def test_the_gate_of_the_bundle_alone_leaves_the_registrys_rules_to_others(evaluated):
    rules = {
        "mine": Rule(metric="value", at_least=1),
        "theirs": Rule(champion="error", margin=0.1),
        "logged": Rule(check="logged", milliseconds=5),
    }
    assert [one.name for one in evaluate_rules(rules, RuleInputs({"value": 2}, evaluated.bundle), "digits.yaml")] == ["mine"]


# ---------------------------------------------------------------- the program


# Runs the program several times in one process, as its imports take seconds: exit code, output and errors of each.
TYPED = """
import io, json, sys
from contextlib import redirect_stderr, redirect_stdout
from aeops.stages.compare import main
done = []
for arguments in json.loads(sys.argv[1]):
    sys.argv[1:], code = arguments, 0
    with redirect_stdout(io.StringIO()) as printed, redirect_stderr(io.StringIO()) as errors:
        try:
            main()
        except SystemExit as end:
            code = end.code
    done.append((code, printed.getvalue(), errors.getvalue()))
print(json.dumps([done, [name for name in ("torch", "mlflow", "prefect") if name in sys.modules]]))
"""


@pytest.fixture(scope="module")
def typed(writers, evaluated, poor, tmp_path_factory):
    """What the program did four times, in whose order the tests read it, the heavy modules that it loaded, and its folder."""
    folder = tmp_path_factory.mktemp("typed")
    writers.recipe(folder / "digits.yaml", gate={"keeps_its_error": RULES["keeps_its_error"]} | UNASKED)
    places = {"recipe": folder / "digits.yaml", "prepared": evaluated.prepared, "challenger": evaluated.bundle}
    given = [word for name, place in places.items() for word in (f"--{name}", str(place))]
    champion = ["--champion", str(evaluated.bundle), "--champion-version", "7"]
    commands = [
        ["--champion", str(poor), "--champion-version", "7", "--judged", "2", "--out", str(folder / "new" / "comparison.json")],
        ["--challenger", str(poor), *champion, "--judged", "1", "--out", str(folder / "c.json")],
        ["--champion", str(poor), "--judged", "1", "--out", str(folder / "d.json")],
        ["--judged", "0", "--out", str(folder / "d.json")],
    ]
    arguments = [sys.executable, "-c", TYPED, json.dumps([[*given, *command] for command in commands])]
    done = subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True, timeout=400, check=True)
    return *json.loads(done.stdout), folder


@pytest.mark.slow
def test_the_program_tells_the_verdict_and_loads_no_torch(typed):
    [(code, printed, errors), *_], heavy, folder = typed
    assert (code, printed.splitlines()[0]) == (0, "better: accepted"), errors
    assert heavy == []
    assert json.loads((folder / "new" / "comparison.json").read_text())["champion"]["version"] == "7"


def test_a_refusal_exits_with_0_and_a_mistake_does_not(typed):
    [_, (code, printed, errors), half, none], _, folder = typed
    assert (code, printed.splitlines()[0]) == (0, "worse: refused"), errors
    assert half[0] == UsageError.exit_code
    assert "expected --champion-version with --champion" in half[2]
    assert none[0] == UsageError.exit_code
    assert "--judged: expected 1 or more, as this candidate counts, got 0" in none[2]
    assert not (folder / "d.json").exists()


# ---------------------------------------------------------------- what docs/gates.md says


def simulation():
    spec = importlib.util.spec_from_file_location("gate_simulation", ROOT / "benchmarks" / "gate_simulation.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_on_gates_says_what_the_record_says():
    found = simulation()
    recorded = json.loads(found.RECORD.read_text()) if found.RECORD.is_file() else None
    text = found.DOCS.read_text(encoding="utf-8")
    assert found.update_page(text, recorded) == text, "python benchmarks/gate_simulation.py --docs-only"


def test_what_is_recorded_was_judged_by_the_rules_as_they_stand_and_keeps_the_promise():
    found = simulation()
    assert found.RECORD.is_file(), "not measured yet: python benchmarks/gate_simulation.py"
    recorded = json.loads(found.RECORD.read_text())
    assert recorded["rules"] == found.judged_rules(read_recipe(ROOT / "recipes" / "digits.yaml"))
    unchanged = recorded["unchanged"]
    assert unchanged["trials"] >= 200
    assert unchanged["verdicts"]["better"] <= 0.05 * unchanged["trials"]
