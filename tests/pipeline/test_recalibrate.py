"""`ae recalibrate`: another threshold for the champion's weights, with the recipe as the truth."""

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from checkout import Checkout, copy_checkout
from shipped_digits import shipped_digits


@pytest.fixture
def copy(ran: Checkout, tmp_path: Path) -> Checkout:
    return copy_checkout(ran, tmp_path / "copy")


def ledger_events(checkout: Checkout) -> list[str]:
    lines = (checkout.home / "ledger" / "small.jsonl").read_text().splitlines()
    return [json.loads(line)["event"] for line in lines]


def recipe_of(checkout: Checkout) -> dict[str, Any]:
    recipe: dict[str, Any] = yaml.safe_load((checkout.root / "recipes" / "small.yaml").read_text())
    return recipe


def bundle_of(checkout: Checkout) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((checkout.root / "artifacts" / "small" / "bundle" / "bundle.json").read_text())
    return document


def tree(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


@pytest.mark.slow
def test_another_rate_on_samples_of_a_file_is_a_version_and_a_line_of_its_own_and_the_next_run_keeps_it(
    copy: Checkout, prefect_address: str, tmp_path: Path
) -> None:
    training, data = copy.root / "artifacts" / "small" / "training", copy.root / "data"
    before = (tree(training), tree(data))
    images, labels = shipped_digits()
    normal = images[labels != 5][::3][:400]
    np.save(tmp_path / "normal.npy", normal)
    options = ("--rate", "0.05", "--on", str(tmp_path / "normal.npy"))
    done = copy.ae_in_forks("recalibrate", "small", *options, PREFECT_API_URL=prefect_address)
    assert done.returncode == 0, done.stdout + done.stderr
    for step in ("ingest", "validate", "train ..."):
        assert f"\n{step}" not in done.stderr
    assert (tree(training), tree(data)) == before
    (_, _, first), (number, aliases, second) = copy.versions()
    assert (number, aliases) == ("2", ("challenger", "champion"))
    assert first["weights_sha256"] == second["weights_sha256"]
    assert ledger_events(copy) == ["promotion", "recalibration"]

    threshold, bundle = recipe_of(copy)["threshold"], bundle_of(copy)
    file = copy.home / "sources" / threshold["samples"]
    assert hashlib.sha256(file.read_bytes()).hexdigest() == threshold["samples_sha256"]
    np.testing.assert_array_equal(np.load(file).reshape(normal.shape), normal)
    assert (threshold["false_alarm_rate"], bundle["threshold"]["false_alarm_rate"]) == (0.05, 0.05)
    assert bundle["threshold"]["calibration_rows"] == 400
    evidence = json.loads((copy.home / "reports" / "small" / "evidence.json").read_text())
    for hashes in (bundle["data"], evidence["gate"]["evidence"]):
        assert hashes["calibration_sha256"] == threshold["samples_sha256"]
    metrics = json.loads((copy.root / "artifacts" / "small" / "report" / "metrics.json").read_text())
    assert metrics["rows"]["calibration"] == 400

    again = copy.ae_in_forks("run", "small", PREFECT_API_URL=prefect_address)  # which looks at the source, unlike `recalibrate`
    assert again.returncode == 0, again.stdout + again.stderr
    assert [aliases for _, aliases, _ in copy.versions()] == [(), ("challenger", "champion")]
    assert ledger_events(copy) == ["promotion", "recalibration"]
    assert "nothing changed" in copy.ae_in_process("run", "small").stdout

    file.write_bytes(b"other")
    refused = copy.ae_in_process("run", "small")
    assert refused.returncode == 3
    assert "correct threshold.samples in recipes/small.yaml" in refused.stderr


def test_what_cannot_be_recalibrated_is_said_at_once_and_changes_nothing(copy: Checkout, tmp_path: Path) -> None:
    file = copy.root / "recipes" / "small.yaml"
    before = file.read_bytes()
    np.save(tmp_path / "bad.npy", np.full((3, 28, 28), 255, np.uint8))

    def refused(*options: str) -> str:
        done = copy.ae_in_process("recalibrate", "small", *options)
        assert done.returncode in (2, 3), done.stdout
        assert file.read_bytes() == before
        return done.stderr

    assert "threshold.false_alarm_rate: expected 0.0001 to 0.5, got 0.9" in refused("--rate", "0.9")
    assert "no file" in refused("--on", "absent.npy")
    assert "got 3 of 3 that are not as those of the training" in refused("--on", str(tmp_path / "bad.npy"))
    copy.edit_recipe({"threshold": {"kind": "mad"}})
    before = file.read_bytes()
    assert "the threshold of kind mad has no false_alarm_rate, but deviations" in refused("--rate", "0.05")


@pytest.mark.long
def test_calibration_samples_of_another_distribution_are_refused_by_the_gate_and_the_recipe_is_as_before(
    copy: Checkout, prefect_address: str, tmp_path: Path
) -> None:
    images, _ = shipped_digits()
    np.save(tmp_path / "smooth.npy", (images[:400] // 2 + np.arange(28, dtype=np.uint8)))  # faint, on a slope: low scores
    before = (copy.root / "recipes" / "small.yaml").read_bytes()
    done = copy.ae_in_forks("recalibrate", "small", "--on", str(tmp_path / "smooth.npy"), PREFECT_API_URL=prefect_address)
    assert done.returncode == 4, done.stdout + done.stderr
    assert "keeps_its_promise" in done.stdout or "promise_interval" in done.stdout
    assert "recipes/small.yaml is as it was before" in done.stderr
    assert (copy.root / "recipes" / "small.yaml").read_bytes() == before
    assert [aliases for _, aliases, _ in copy.versions()] == [("champion",), ("challenger",)]
    assert ledger_events(copy)[-1] == "refusal"


@pytest.mark.long
def test_too_few_samples_for_the_new_rate_and_a_training_that_is_not_the_recipes_are_refused(
    copy: Checkout, prefect_address: str
) -> None:
    file = copy.root / "recipes" / "small.yaml"
    before = file.read_bytes()
    done = copy.ae_in_forks("recalibrate", "small", "--rate", "0.001", PREFECT_API_URL=prefect_address)
    assert done.returncode == 2
    assert "0.001 needs 999 calibration samples or more, got" in done.stderr
    assert "recipes/small.yaml is as it was before" in done.stderr
    assert file.read_bytes() == before
    copy.store().client.set_model_version_tag("small", "1", "weights_sha256", "0" * 64)  # as after a refused retrain
    done = copy.ae_in_forks("recalibrate", "small", "--rate", "0.05", PREFECT_API_URL=prefect_address)
    assert done.returncode == 2
    assert "the last training of small is not that of its champion, version 1" in done.stderr
    copy.edit_recipe({"train.seed": 5})
    done = copy.ae_in_forks("recalibrate", "small", "--rate", "0.05", PREFECT_API_URL=prefect_address)
    assert done.returncode == 2
    assert "a recalibration trains nothing: type `ae run small`" in done.stderr
    assert ledger_events(copy) == ["promotion"]
    shutil.rmtree(copy.root / "artifacts")
    done = copy.ae_in_process("recalibrate", "small", "--on", "inbox/images.npy")
    assert (done.returncode, "has not been trained here" in done.stderr) == (2, True)
