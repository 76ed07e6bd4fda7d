"""Expectations in words, their severities, and bounds that a person widens."""

import json
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from data_project import CHECKOUT, Room, make_room
from forked import Fork

from aeops.cli.main import main
from aeops.cli.suite import describe_suite, observed_text, pick_lines
from aeops.data.judgements import RELEASE, Judgement, resolve
from aeops.data.suite import CONSEQUENCES, require_known_severities, static_checks
from aeops.data.widening import Widening, plan_widenings, round_outward
from aeops.errors import DataError, UsageError
from aeops.recipe.edit import with_settings
from aeops.recipe.reader import Recipe, read_recipe

pytestmark = pytest.mark.xdist_group("great expectations")  # it takes seconds to import
DIM, BLANK = "mine-000030", "mine-000003"
SHIPPED = ("digits", "tiles", "table", "news-text", "nab")  # of each kind of data one or two


def suite(*arguments: str) -> int:
    return main(["suite", "mine", *arguments])


@pytest.fixture(scope="module")
def judged_once(tmp_path_factory: pytest.TempPathFactory, digits: tuple[np.ndarray, np.ndarray]) -> Path:
    """A project in whose quarantine are a dim digit and a blank one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("AE_HOME", raising=False)
        room = make_room(tmp_path_factory.mktemp("judged") / "project", *digits)
        room.images[30] = room.images[30] // 40
        room.images[3] = 0
        room.save()
        room.accept()
    return room.root


@pytest.fixture
def judged(room: Room, judged_once: Path, monkeypatch: pytest.MonkeyPatch) -> Room:
    shutil.copytree(judged_once, room.root, dirs_exist_ok=True)
    monkeypatch.chdir(room.root)
    monkeypatch.setenv("AE_BY", "ada")
    monkeypatch.delenv("COLUMNS", raising=False)  # lines are not wrapped where nothing says how wide they may be
    room.images[30] = room.images[30] // 40
    room.images[3] = 0
    return room


# ---------------------------------------------------------------- in words


@pytest.mark.parametrize("name", SHIPPED)
def test_each_expectation_is_a_sentence_of_its_own(name: str) -> None:
    recipe = read_recipe(CHECKOUT / "recipes" / f"{name}.yaml")
    lines = describe_suite(recipe, None)
    sentences = [line["sentence"] for line in lines]
    assert len(set(sentences)) == len(sentences) >= 6
    for line in lines:
        assert line["sentence"][0].isalnum(), line
        assert line["sentence"].endswith("."), line
        assert line["severity"] in CONSEQUENCES
        assert line["observed"] is None


@pytest.mark.slow
def test_the_suite_stands_in_words_with_what_was_observed(judged: Room, capsys: pytest.CaptureFixture[str]) -> None:
    assert suite() == 0
    printed = capsys.readouterr().out
    for words in (
        "the last validation accepted 600 samples",
        "row: a sample that breaks it is set aside",
        "set: data that breaks it is refused",
        "The mean of a sample's values, scaled to 0 to 1, is 0.01 to 0.6.",
        "There are 300 to 5,000 samples.",
    ):
        assert words in printed, words
    assert suite("--json") == 0
    lines = {line["name"]: line for line in json.loads(capsys.readouterr().out)["expectations"]}
    assert lines["sample_mean"]["broken"] == "2 of 600"
    assert lines["sample_mean"]["observed"].startswith("0 to 0.")
    assert lines["rows"]["observed"] == "598"
    assert lines["across_splits"]["observed"] == "never"
    assert lines["label"]["observed"] == "0 to 9"
    assert lines["rows"]["broken"] is None


def test_an_observed_value_of_nothing_is_left_out() -> None:
    assert observed_text({"range": {"values": ["", "kWh: 'abc'"]}}) == "kWh: 'abc'"
    assert observed_text({"range": {"values": [""]}}) == ""


def test_of_hundreds_of_expectations_those_that_are_broken_are_printed_and_some_others() -> None:
    lines = [{"name": f"column {number}: present", "broken": None} for number in range(100)]
    lines[70]["broken"] = "2 of 600"
    shown = [line["name"] for line in pick_lines(lines)]
    assert shown == ["column 70: present", *(f"column {number}: present" for number in range(39))]
    assert pick_lines(lines[:40]) == lines[:40]


# ---------------------------------------------------------------- severities


@pytest.mark.slow
def test_a_warning_is_only_told_wherever_a_person_looks(judged: Room, capsys: pytest.CaptureFixture[str]) -> None:
    judged.edit(
        validate={"severity": {"blank": "warning", "sample_mean": "warning", "sample_std": "warning", "class_share": "warning"}}
    )
    judged.images, judged.labels = judged.images[:400], np.where(judged.labels[:400] == 6, 5, judged.labels[:400])
    judged.save()
    shutil.rmtree(judged.data)  # so that no drift is judged
    judged.accept()
    validation = judged.validation()
    assert validation["passed"]
    assert validation["rows"]["accepted"] == 400
    assert any(warning.startswith("blank: expected values that differ") for warning in validation["warnings"])
    assert any(warning.startswith("class_share: ") for warning in validation["warnings"])
    page = (judged.project.home / validation["data_docs"]).read_text()
    assert "Only reported: " in page
    assert "<td>warning</td>" in page
    assert suite() == 0
    assert "warning: only reported" in capsys.readouterr().out


@pytest.mark.slow
def test_a_sample_of_severity_set_refuses_the_data_until_it_is_judged(judged: Room) -> None:
    judged.edit(validate={"severity": {"blank": "set"}})
    judged.save()
    with pytest.raises(DataError, match=rf"refuses the whole set \(severity set\): blank: .* for id {BLANK}.*ae quarantine mine"):
        judged.accept()
    assert main(["quarantine", "mine", "--drop", BLANK, "--why", "a lens cap"]) == 0
    judged.accept()
    assert judged.validation()["passed"]


def test_mistakes_in_severities_are_told_before_anything_starts(room: Room, capsys: pytest.CaptureFixture[str]) -> None:
    severities = {"blnak": "warning", "rows": "row", "nan": "warning", "drift": "row", "label": "set"}
    room.edit(validate={"severity": severities})
    with pytest.raises(UsageError) as caught:
        require_known_severities(room.recipe)
    lines = str(caught.value).splitlines()
    assert len(lines) == 4
    assert lines[0].startswith("recipes/mine.yaml: validate.severity.blnak: no such expectation, expected shape")
    assert "did you mean" in lines[0]
    assert "rows: expected set or warning, as it judges the set, got row" in lines[1]
    assert "nan: expected row or set, as no model can take such samples, got warning" in lines[2]
    assert "drift: expected set or warning" in lines[3]
    room.edit(validate={"severity": {"blank": "loud"}})
    with pytest.raises(UsageError, match=r"severity.blank: expected row, set, warning, got 'loud'"):
        _ = room.recipe


# ---------------------------------------------------------------- widening


@pytest.mark.slow
def test_bounds_move_so_far_that_released_samples_pass_and_the_record_says_who_and_why(
    judged: Room, capsys: pytest.CaptureFixture[str]
) -> None:
    assert suite("--accept", "--why", "too early") == 2
    assert "nothing to widen: released samples meet every bound" in capsys.readouterr().err
    assert main(["quarantine", "mine", "--release", DIM, "--why", "a dim lamp"]) == 0
    assert suite("--accept") == 2
    assert "--why TEXT is missing" in capsys.readouterr().err
    before = judged.recipe_file.read_text()
    assert suite("--accept", "--dry-run") == 0
    told = capsys.readouterr().out
    assert judged.recipe_file.read_text() == before
    assert suite("--accept", "--why", "dim lamps are normal", "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert all(line in told for line in document["diff"])
    changes = {change["setting"]: change for change in document["changes"]}
    assert set(changes) == {"validate.sample_mean.min", "validate.sample_std.min"}
    assert changes["validate.sample_mean.min"]["because"] == [DIM]
    bound = yaml.safe_load(judged.recipe_file.read_text())["validate"]["sample_mean"]["min"]
    [item] = [entry for entry in judged.validation()["expectations"] if entry["name"] == "sample_mean"]
    [value] = [one["value"] for one in item["broken"] if one["id"] == DIM]
    assert 0 < bound <= value < 0.01
    assert bound > value * 0.99, "no further than needed"
    [record] = judged.project.suite_record("mine").read_text().splitlines()
    assert (json.loads(record)["who"], json.loads(record)["why"]) == ("ada", "dim lamps are normal")
    judged.project.judgements("mine").unlink()  # the sample passes by itself now
    judged.save()
    judged.accept()
    assert [entry["id"] for entry in judged.validation()["quarantined"]] == [BLANK]


def test_a_kill_between_the_record_and_the_recipe_is_made_good_by_the_same_command(judged: Room) -> None:
    assert main(["quarantine", "mine", "--release", DIM, "--why", "a dim lamp"]) == 0
    before = judged.recipe_file.read_text()

    def die_before_the_recipe() -> None:
        import aeops.files

        aeops.files.atomic_write = lambda *_: os.kill(os.getpid(), signal.SIGKILL)  # type: ignore[assignment]
        suite("--accept", "--why", "dim lamps are normal")

    assert Fork(die_before_the_recipe, cwd=judged.root, env=os.environ).wait(timeout=60) == -signal.SIGKILL
    assert judged.recipe_file.read_text() == before
    assert suite("--accept", "--why", "dim lamps are normal") == 0
    assert judged.recipe_file.read_text() != before
    assert len(judged.project.suite_record("mine").read_text().splitlines()) == 1


def test_what_cannot_be_widened_is_told_at_once(judged: Room, capsys: pytest.CaptureFixture[str]) -> None:
    names = [part for name in ("blank", "sample_mean", "sampel_std", "drift") for part in ("--accept", name)]
    assert suite(*names, "--why", "x") == 2
    errors = capsys.readouterr().err
    for words in (
        "blank has no bounds that could be widened",
        "sample_mean: nobody has released a sample that breaks it",
        "'sampel_std': no such expectation",
        "drift was not evaluated",
    ):
        assert words in errors, words
    assert suite("--why", "x") == 2
    assert "go with --accept" in capsys.readouterr().err
    (judged.project.validation("mine") / "validation.json").unlink()
    assert suite("--accept", "--why", "x") == 2
    assert "nothing was validated yet" in capsys.readouterr().err


@pytest.mark.slow
def test_a_set_that_was_refused_is_accepted_by_name(judged: Room) -> None:
    kept = np.flatnonzero((judged.labels != 6) | (np.arange(600) % 6 == 0))
    judged.images, judged.labels = judged.images[kept], judged.labels[kept]
    judged.edit(validate={"rows": {"min": 580, "max": 5000}})
    judged.save()
    with pytest.raises(DataError, match=r"rows: expected 580 to 5000 samples, got 548; class_share"):
        judged.accept()
    assert suite("--accept", "rows", "--accept", "class_share", "--why", "sixes are rare") == 0
    assert judged.recipe.validate.rows.min == 548
    assert judged.recipe.validate.class_share is not None
    assert judged.recipe.validate.class_share.min == pytest.approx(10 / 548, rel=0.01)
    judged.accept()
    assert judged.validation()["passed"]


def released(recipe: Recipe, check: Any, value: Any) -> list[Widening]:
    """What a released sample with this value asks for."""
    who = {"who": "ada", "account": "ada@here", "why": "seen", "time": "2026-11-30T12:00:00+00:00"}
    judgement = Judgement(RELEASE, "a", "0" * 64, (check.name,), None, **who)
    item = {"id": "a", "sha256": "0" * 64, "value": value}
    validation = {"expectations": [{"name": check.name, "applicable": True, "success": False, "broken": [item]}]}
    raw_recipe = yaml.safe_load((CHECKOUT / "recipes" / f"{recipe.name}.yaml").read_text())
    return plan_widenings(recipe, raw_recipe, validation, resolve([judgement], "mine"), [])


@pytest.mark.parametrize("name", SHIPPED)
def test_every_bound_of_every_kind_can_be_widened(name: str, tmp_path: Path) -> None:
    text = (CHECKOUT / "recipes" / f"{name}.yaml").read_text()
    recipe = read_recipe(CHECKOUT / "recipes" / f"{name}.yaml")
    for check in static_checks(recipe):
        if check.level != "row" or not check.setting:
            continue
        for key, step in (("min_value", -0.123456), ("max_value", 0.123456)):
            value = check.arguments[key] + step
            [widening] = released(recipe, check, value)
            file = tmp_path / f"{name}.yaml"
            file.write_text(with_settings(text, {widening.setting: widening.after}, f"{name}.yaml"))
            [after] = [one for one in static_checks(read_recipe(file)) if one.name == check.name]
            assert after.arguments["min_value"] <= value <= after.arguments["max_value"]


def test_a_table_gets_bounds_and_categories(tmp_path: Path) -> None:
    text = (CHECKOUT / "recipes" / "table.yaml").read_text()
    settings = {"input.columns.0.min": 100, "input.columns.0.max": 160}
    text = with_settings(text, settings, "table.yaml").replace("{name: AC}", "{name: AC, type: category, categories: [a, b]}")
    file = tmp_path / "table.yaml"
    file.write_text(text)
    recipe, raw_recipe = read_recipe(file), yaml.safe_load(text)
    who = {"who": "ada", "account": "ada@here", "why": "seen", "time": "2026-11-30T12:00:00+00:00"}
    reasons = ("LB: range", "AC: category")
    standings = resolve([Judgement(RELEASE, "a", "0" * 64, reasons, None, **who)], "table")
    item = {"id": "a", "sha256": "0" * 64}
    broken = {"LB: range": 171.2345, "AC: category": "c"}
    entries = [
        {"name": name, "applicable": True, "success": False, "broken": [item | {"value": value}]}
        for name, value in broken.items()
    ]
    widenings = plan_widenings(recipe, raw_recipe, {"expectations": entries}, standings, [])
    assert {one.setting: one.after for one in widenings} == {
        "input.columns.0.max": 172,
        "input.columns.1.categories": ["a", "b", "c"],
    }
    file.write_text(with_settings(text, {one.setting: one.after for one in widenings}, "table.yaml"))
    columns = read_recipe(file).fit.input.columns
    assert (columns[0].max, columns[1].categories) == (172, ("a", "b", "c"))


@pytest.mark.parametrize(("drift", "observed", "after"), [(0.02, 0.245, 0.045), (0.02, 0.21, None), (0.5, 3.0, 1.0)])
def test_the_bound_of_all_means_moves_to_the_farthest(room: Room, drift: float, observed: float, after: float | None) -> None:
    room.edit(validate={"mean_drift": drift})
    kwargs = {"min_value": 0.2 - drift, "max_value": 0.2 + drift}
    entry = {"name": "drift_of_mean", "applicable": True, "success": False, "kwargs": kwargs, "observed": {"value": observed}}
    raw_recipe = yaml.safe_load(room.recipe_file.read_text())
    widenings = plan_widenings(room.recipe, raw_recipe, {"expectations": [entry]}, {}, ["drift"])
    assert [one.after for one in widenings] == ([] if after is None else [pytest.approx(after, rel=0.01)])


def test_rounding_goes_outward() -> None:
    for value in (0.00123456, -7.7777, 1234.5678, 0.5, -3):
        assert round_outward(value, up=False) <= value <= round_outward(value, up=True)
