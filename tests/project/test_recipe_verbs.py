"""`ae recipes`, `ae recipe check`, `ae plan` and the settings that are typed with `ae run`: before anything runs."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from checkout import ROOT, Checkout

from aeops.data.stage_code import STAGES, code_hashes
from aeops.provenance.run_plan import NOT_RUN, plan_run


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    """A project with the recipes and what DVC recorded of the digits, without code and data."""
    for name in ("dvc.yaml", "params.yaml", "dvc.lock", "data.dvc"):
        shutil.copy(ROOT / name, tmp_path)
    shutil.copytree(ROOT / "recipes", tmp_path / "recipes")
    return Checkout(tmp_path)


@pytest.fixture
def up_to_date(checkout: Checkout) -> Checkout:
    """The same, as it is after a run: with the commands of dvc.yaml, and the hashes of today's code and of the data."""
    lock = yaml.safe_load((checkout.root / "dvc.lock").read_text())
    hashes, stages = code_hashes(checkout.root), yaml.safe_load((checkout.root / "dvc.yaml").read_text())["stages"]
    for stage in STAGES:
        command = stages[stage]["do"]["cmd"].replace("${key}", "digits").replace("${item.dataset}", "digits")
        lock["stages"][f"{stage}@digits"]["cmd"] = command
        lock["stages"][f"{stage}@digits"]["params"]["params.yaml"] = {f"code.{stage}": hashes[stage]}
    md5 = lock["stages"]["prepare@digits"]["deps"][0]["md5"]
    (checkout.root / "data.dvc").write_text(yaml.safe_dump({"outs": [{"md5": md5, "path": "data/digits"}]}))
    (checkout.root / "dvc.lock").write_text(yaml.safe_dump(lock))
    return checkout


def reasons(checkout: Checkout, **changes: Any) -> dict[str, list[str]]:
    raw_recipe = yaml.safe_load((checkout.root / "recipes" / "digits.yaml").read_text())
    for section, settings in changes.items():
        raw_recipe[section] = {**raw_recipe[section], **settings}
    from aeops.project import Project

    plans = plan_run(Project(checkout.root, checkout.home), "digits", raw_recipe, "digits")
    return {plan.stage: plan.reasons for plan in plans}


# ---------------------------------------------------------------- ae plan


def test_a_dvc_yaml_that_an_upgrade_will_write_anew_is_told_before_it_is_written(up_to_date: Checkout) -> None:
    file = up_to_date.root / "dvc.yaml"
    older = file.read_text().replace("sh .dvc/stage gate", "python -m aeops.stages.gate")
    file.write_text(older)
    assert reasons(up_to_date)["gate"] == [], "the next run writes dvc.yaml as this version has it"
    lock = up_to_date.root / "dvc.lock"
    lock.write_text(lock.read_text().replace("sh .dvc/stage gate", "python -m aeops.stages.gate"))
    assert reasons(up_to_date)["gate"] == ["its command changed"]
    assert file.read_text() == older


def test_after_a_run_nothing_runs(up_to_date: Checkout) -> None:
    assert reasons(up_to_date) == {stage: [] for stage in STAGES}
    done = up_to_date.ae_in_process("plan", "digits")
    assert done.returncode == 0, done.stderr
    assert "Every stage of digits is up to date" in done.stdout


def test_a_setting_of_the_training_runs_it_and_what_follows(up_to_date: Checkout) -> None:
    found = reasons(up_to_date, train={"epochs": 5})
    assert found["prepare"] == []
    assert found["train"] == ["train.epochs: 50 -> 5"]
    assert found["calibrate"] == ["train runs"]
    assert "train.epochs: 50 -> 5" in found["evaluate"]
    assert found["gate"] == ["evaluate runs"] or "evaluate runs" in found["gate"]


def test_a_setting_of_the_threshold_trains_nothing(up_to_date: Checkout) -> None:
    found = reasons(up_to_date, threshold={"false_alarm_rate": 0.05})
    assert (found["prepare"], found["train"]) == ([], [])
    assert found["calibrate"] == ["threshold.false_alarm_rate: 0.01 -> 0.05"]


def test_other_data_and_other_code_are_named(up_to_date: Checkout) -> None:
    (up_to_date.root / "data.dvc").write_text("outs: [{path: data/other, md5: 0123.dir}]")
    assert reasons(up_to_date)["prepare"] == ["data.dvc does not record its data"]
    (up_to_date.root / "data.dvc").write_text("outs: [{path: data/digits, md5: 0123.dir}]")
    assert reasons(up_to_date)["prepare"] == ["the data changed"]
    lock = yaml.safe_load((up_to_date.root / "dvc.lock").read_text())
    lock["stages"]["train@digits"]["params"]["params.yaml"] = {"code.train": "older"}
    del lock["stages"]["gate@digits"]
    (up_to_date.root / "dvc.lock").write_text(yaml.safe_dump(lock))
    found = reasons(up_to_date)
    assert found["train"] == ["its code changed", "prepare runs"]
    assert found["gate"][0] == NOT_RUN


def test_a_recipe_that_never_ran_runs_all(checkout: Checkout) -> None:
    done = checkout.ae_in_process("plan", "mnist", "--json")
    assert {stage: found[0] for stage, found in json.loads(done.stdout).items()} == dict.fromkeys(STAGES, NOT_RUN)


def test_a_dry_run_shows_the_changed_lines_and_changes_nothing(up_to_date: Checkout) -> None:
    before = {path: path.read_bytes() for path in up_to_date.root.rglob("*") if path.is_file()}
    done = up_to_date.ae_in_process("run", "digits", "--dry-run", "--set", "score.scores.2.rows=100", "--seed", "3")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert [line[0] for line in lines[:6]] == ["-", "+", "-", "+", "-", "+"]
    assert "rows: 100, tangents: true}" in done.stdout
    assert "train      runs: train.seed: 0 -> 3" in lines
    assert "score.scores.2.rows: 3000 -> 100" in done.stdout
    assert {path: path.read_bytes() for path in up_to_date.root.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--set", "train.epoch=3"), "train: unexpected key 'epoch'"),
        (("--set", "train.epochs=0", "--set", "train.batch=x"), "train.batch: expected a whole number, got 'x'"),
        (("--set", "train.epochs"), "--set: expected KEY=VALUE, such as train.epochs=5, got 'train.epochs'"),
        (("--set", "recipe=other"), "recipe is the name of the file"),
        (("--seed", "-1"), "train.seed: expected 0 to"),
    ],
)
@pytest.mark.parametrize("verb", ["plan", "run"])
def test_settings_that_a_recipe_cannot_have_are_refused_before_anything_starts(
    checkout: Checkout, verb: str, options: tuple[str, ...], message: str
) -> None:
    before = (checkout.root / "recipes" / "digits.yaml").read_bytes()
    done = checkout.ae_in_process(verb, "digits", *options)
    assert done.returncode == 2, done.stdout
    assert message in done.stderr
    assert (checkout.root / "recipes" / "digits.yaml").read_bytes() == before
    assert not (checkout.root / "data").exists()


# ---------------------------------------------------------------- ae recipes, ae recipe check


def test_recipes_are_listed_with_what_they_are_for_and_their_mistakes(checkout: Checkout) -> None:
    checkout.edit_recipe({"train.epochs": 0, "train.batch": -1}, "mnist")
    done = checkout.ae_in_process("recipes", "--json")
    listed = {one["recipe"]: one for one in json.loads(done.stdout)}
    assert listed.keys() == {file.stem for file in (ROOT / "recipes").glob("*.yaml")}
    digits = listed["digits"]
    assert (digits["purpose"], digits["kind"], digits["dataset"], digits["mistakes"]) == ("detect", "image", "digits", 0)
    assert listed["mnist"]["mistakes"] == 2
    shown = checkout.ae_in_process("recipes").stdout
    assert "2 mistakes: ae recipe check mnist" in shown


def test_a_narrow_list_of_recipes_leaves_room_for_what_they_are_about(checkout: Checkout) -> None:
    lines = checkout.ae_in_process("recipes", COLUMNS="80").stdout.splitlines()
    assert max(map(len, lines)) <= 80
    recipes = list((ROOT / "recipes").glob("*.yaml"))
    assert len(lines) <= 4 * len(recipes) + 5
    assert not any("…" in line for line in lines)


def test_a_check_says_what_is_asked_for_and_every_mistake_of_all_recipes(checkout: Checkout) -> None:
    done = checkout.ae_in_process("recipe", "check", "digits", "recipes/news-text.yaml")
    assert done.returncode in (0, 3), done.stderr  # 3 where the texts are absent
    assert "digits: no mistakes" in done.stdout
    checkout.edit_recipe({"train.epochs": 0}, "mnist")
    checkout.edit_recipe({"purpose": "guess"}, "mnist-vae")
    done = checkout.ae_in_process("recipe", "check", "mnist", "mnist-vae", "digits", "mnits")
    assert done.returncode == 2
    assert "digits: no mistakes" in done.stdout
    for message in ("recipes/mnist.yaml: train.epochs", "recipes/mnist-vae.yaml: purpose", "no recipe 'mnits'"):
        assert message in done.stderr
    outside = checkout.ae_in_process("recipe", "check", "/tmp/digits.yaml")
    assert (outside.returncode, "where recipes are looked for" in outside.stderr) == (2, True)
