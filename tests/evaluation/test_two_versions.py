"""`ae compare`: two registered versions of real digits, a model and one that learnt from images of one grey each."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from checkout import ROOT

from aeops.cli.main import main
from aeops.comparing import comparison as comparing
from aeops.comparing.comparison_page import measure_texts, summary_sentence
from aeops.comparing.same_samples import MeasuredPair, measure_pairs
from aeops.comparing.version_facts import Difference
from aeops.errors import UsageError
from aeops.evaluation.paired_scores import TestPredictions
from aeops.project import Project
from aeops.recipe.reader import load_recipe
from aeops.registry.store import Store, open_store


@pytest.fixture(scope="module")
def two_versions(evaluated, blind, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Project, Store]]:
    """A project in which the evaluated bundle is version 1 and the blind one version 2, made with one epoch less."""
    root = tmp_path_factory.mktemp("compared")
    (root / "recipes").mkdir()
    shutil.copy(evaluated.recipe, root / "recipes" / "digits.yaml")
    shutil.copy(ROOT / "dvc.yaml", root)
    shutil.copytree(evaluated.prepared, root / "artifacts" / "digits" / "prepared")
    project = Project(root=root, home=root / ".ae")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("MLFLOW_TRACKING_URI", "AE_HOME"):
            patch.delenv(name, raising=False)
        patch.chdir(root)
        store = open_store(project)
        for number, bundle in enumerate((evaluated.bundle, blind), 1):
            run = store.start_run("digits", {}, {}, {"dataset": "digits", "content_sha256": "c" * 64})
            recipe = yaml.safe_load(evaluated.recipe.read_text(encoding="utf-8"))
            recipe["train"]["epochs"] -= number - 1
            (root / "digits.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")
            store.log_files(run, [root / "digits.yaml"], "rebuild")
            tags = {"data.content_sha256": "c" * 64, "git.commit": str(number) * 40, "platform.cpu": "one", "started_by": "ada"}
            store.register(run, "digits", bundle, tags, "# digits: accepted\n\nIt works.\n\nDigits.")
        yield project, store


@pytest.fixture(scope="module")
def compared(two_versions: tuple[Project, Store]) -> comparing.VersionComparison:
    project, store = two_versions
    return comparing.compare_versions(project, store, load_recipe(project, "digits"), "1", "2")


@pytest.mark.slow
def test_only_what_differs_is_listed(compared: comparing.VersionComparison) -> None:
    epochs = int(compared.first.recipe_values["train.epochs"])
    assert compared.differences == [
        Difference("recipe", "train.epochs", str(epochs), str(epochs - 1)),
        Difference("code", "commit", "1" * 12, "2" * 12),
    ]
    assert (compared.first.sentence, compared.second.who) == ("It works.", "ada")


def test_a_sentence_says_on_how_many_samples_they_decide_differently(compared: comparing.VersionComparison) -> None:
    count = len(compared.samples.disagreements)
    assert summary_sentence(compared).endswith(
        f"On {compared.samples.rows:,} test samples they decide differently about {count:,}."
    )
    alike = replace(compared, samples=replace(compared.samples, disagreements=[]))
    assert summary_sentence(alike).endswith(f"They decide alike about all {compared.samples.rows:,} test samples.")


def test_the_metrics_are_those_of_both_on_the_same_samples(compared: comparing.VersionComparison, evaluated) -> None:
    metrics = json.loads((evaluated.report / "metrics.json").read_text(encoding="utf-8"))
    pairs = {pair.name: pair for pair in compared.samples.measures}
    assert compared.samples.rows == metrics["rows"]["test_normal"] + metrics["rows"]["test_novelty"]
    assert pairs["AUROC"].first == pytest.approx(metrics["detection"]["model"]["auroc"], abs=1e-6)
    assert pairs["false alarms"].first == pytest.approx(metrics["false_alarms"]["measured"])
    assert pairs["novelty caught"].first == pytest.approx(metrics["novelty_flagged"])
    assert pairs["reconstruction error"].first == pytest.approx(metrics["reconstruction"]["model"]["mse"], rel=1e-4)
    for name in ("AUROC", "reconstruction error"):
        low, high = pairs[name].interval
        assert low <= pairs[name].difference <= high
        assert pairs[name].better == "first"


def test_the_samples_they_disagree_on_are_all_there_and_the_widest_apart_first(
    compared: comparing.VersionComparison, evaluated
) -> None:
    pairs = {pair.name: pair for pair in compared.samples.measures}
    novelty = [one for one in compared.samples.disagreements if one.is_novelty]
    by_first, by_second = (sum(one.flagged_by == which for one in novelty) for which in ("first", "second"))
    novelty_rows = json.loads((evaluated.report / "metrics.json").read_text(encoding="utf-8"))["rows"]["test_novelty"]
    assert by_second - by_first == pytest.approx(pairs["novelty caught"].difference * novelty_rows)
    ratios = [abs(np.log(one.p_values[0] / one.p_values[1])) for one in compared.samples.disagreements]
    assert ratios == sorted(ratios, reverse=True)
    assert len(compared.pictures) == min(len(ratios), 48)
    assert all([block.title for block in blocks][1:] == ["Error at each pixel"] * 2 for blocks in compared.pictures)


@pytest.mark.slow
def test_the_command_prints_it_writes_the_page_and_gives_a_program_everything(
    two_versions: tuple[Project, Store], compared: comparing.VersionComparison, capsys: pytest.CaptureFixture[str]
) -> None:
    project, _ = two_versions
    assert main(["compare", "digits@1", "2"]) == 0
    printed = capsys.readouterr().out
    assert "digits 1 and digits 2  digits 1 is better by " in printed
    for text in ("train.epochs", "what differs: data: nothing", "they disagree on", compared.samples.disagreements[0].id):
        assert text in printed
    page = (project.home / "compare" / "digits" / "1-2.html").read_text(encoding="utf-8")
    assert page.count("<li><div") == len(compared.pictures)
    assert "http" not in page.replace("http://www.w3.org", "")
    assert main(["compare", "digits@1", "digits@2", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert len(answer["samples"]["disagreements"]) == len(compared.samples.disagreements)
    assert [version["version"] for version in answer["versions"]] == ["1", "2"]


@pytest.mark.parametrize(
    ("pair", "message"),
    [
        (("digits", "digits@2"), "expected two versions, such as digits@1 digits@2"),
        (("digits@1", "mnist@1"), "expected two versions of one recipe, got digits and mnist"),
        (("digits@1", "1"), "expected two versions, got digits@1 twice: `ae show digits` lists all"),
        (("digits@1", "9"), "9"),
    ],
)
def test_what_cannot_be_compared_says_what_to_type(
    two_versions: tuple[Project, Store], pair: tuple[str, str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["compare", *pair]) == 2
    assert message in capsys.readouterr().err


def test_without_prepared_samples_the_records_are_compared(two_versions: tuple[Project, Store], tmp_path: Path) -> None:
    project, store = two_versions
    folder = project.artifacts("digits")
    folder.rename(tmp_path / "aside")
    try:
        found = comparing.compare_versions(project, store, load_recipe(project, "digits"), "1", "2")
    finally:
        (tmp_path / "aside").rename(folder)
    assert found.samples.problem == "no test samples are prepared here: type `ae run digits`"
    assert len(found.differences) == 2


def predictions(flags: list[bool], error: float = 1.0) -> TestPredictions:
    values = np.array(flags, dtype=float)
    return TestPredictions(np.full(len(flags), error), values, 1 - values / 2, np.array(flags))


def test_too_few_samples_have_no_interval_and_no_better_one() -> None:
    pairs = measure_pairs(predictions([True] * 10), predictions([False] * 10), np.zeros(10, bool), np.arange(10))
    assert [(pair.name, pair.interval, pair.better) for pair in pairs] == [
        ("false alarms", None, ""),
        ("reconstruction error", None, ""),
    ]


def test_fewer_false_alarms_and_a_smaller_error_are_better() -> None:
    flags = [number < 60 for number in range(100)]
    pairs = measure_pairs(predictions(flags, 2.0), predictions([False] * 100, 1.0), np.zeros(100, bool), np.arange(100))
    assert [(pair.name, pair.better) for pair in pairs] == [("false alarms", "second"), ("reconstruction error", "second")]
    assert pairs[1].difference == pytest.approx(-0.5)


def test_a_difference_that_is_rounded_to_zero_has_no_sign() -> None:
    pair = MeasuredPair("false alarms", True, 0.01, 0.01, -1e-9, (-0.001, 0.002), "")
    assert measure_texts(pair) == ("1.00 %", "1.00 %", "0.00 points", "-0.10 to +0.20")


def test_names_of_pairs_may_leave_the_second_recipe_out() -> None:
    assert comparing.parse_pair("digits@1", "digits@champion") == ("digits", "1", "champion")
    assert comparing.parse_pair("digits@1", "2") == ("digits", "1", "2")
    with pytest.raises(UsageError):
        comparing.parse_pair("digits@1", "digits@")
