"""Training: the same bits whatever interrupts it, a stored loss curve, and clear words when it cannot go on."""

import dataclasses
import json
import logging
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from ae_models import checkpoint
from ae_models.autoencoder import Autoencoder
from ae_models.bundle import load_bundle
from ae_models.checksums import file_sha256
from ae_models.data_loading import epoch_orders
from ae_models.errors import SpecError, TrainingError
from ae_models.fit import fit
from ae_models.lightning_module import AutoencoderModule
from ae_models.sample_sets import ArraySampleSet
from ae_models.spec import ConvDecoderSpec, ConvEncoderSpec, FitSpec
from ae_models.training_environment import require_threads
from ae_models.training_progress import BATCH_FILE, ProgressCallback, history_columns, history_csv, truncate_progress

ROOT = Path(__file__).parents[2]

# Losses of the small spec on the first 320 digits; another CPU may round differently, a changed method lands elsewhere.
CURVE = [0.08516, 0.07520, 0.06638, 0.06395]

# Trains as tests/science/conftest.py does, in children that it kills with SIGKILL: the first import serves them all.
# A step takes a while and every epoch keeps a checkpoint, so that a kill finds any moment of an epoch.
KILLER = """
import json, os, signal, sys, time
from pathlib import Path
import numpy as np
from ae_models import checkpoint, fit
from ae_models.lightning_module import AutoencoderModule
from ae_models.spec import FitSpec

folder = Path(sys.argv[1])
checkpoint.MIN_SECONDS_BETWEEN = 0.0
fast = AutoencoderModule.train_step

def slow(self, step_of_epoch):
    time.sleep(0.02)
    return fast(self, step_of_epoch)

def child():
    samples = np.load(folder / "samples.npy")
    spec = FitSpec.from_dict(json.loads((folder / "spec.json").read_text()), "spec.json")
    fit.fit(spec, samples[:320], samples[320:384], samples[384:], checkpoints=folder / "checkpoints",
            content_sha256="0" * 64, recipe="small", bundle=folder / "bundle", history=folder / "training", progress_bar=False)

def epochs_done():
    file = folder / "checkpoints" / "progress.jsonl"
    return file.read_text().count(chr(10)) if file.is_file() else 0

AutoencoderModule.train_step = slow
killed = 0
for further in [*map(int, sys.argv[2:]), 100]:
    pid = os.fork()
    if pid == 0:
        child()
        os._exit(0)
    if further < 100:
        goal = epochs_done() + further
        while epochs_done() < goal:
            time.sleep(0.007)
        time.sleep(0.037 * killed)
        os.kill(pid, signal.SIGKILL)
    killed += os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
print(killed)
"""


def with_train(spec: FitSpec, **changes: Any) -> FitSpec:
    return dataclasses.replace(spec, train=dataclasses.replace(spec.train, **changes))


@pytest.mark.long  # tests/science/test_weight_hash_log.py kills one at chosen steps
@pytest.mark.parametrize("trim", [0.0, 0.1], ids=["whole", "trimmed"])
def test_a_training_killed_again_and_again_ends_in_the_same_files(
    trim: float, spec: FitSpec, digits: np.ndarray, fit_into: Callable[..., Any], tmp_path: Path
) -> None:
    kills = [2, 3, 2]  # after so many further epochs
    longer = with_train(spec, epochs=12, trim=trim)
    whole = fit_into(longer, tmp_path / "whole")
    killed = tmp_path / "killed"
    killed.mkdir()
    np.save(killed / "samples.npy", digits)
    (killed / "spec.json").write_text(json.dumps(longer.to_dict()))
    command = [sys.executable, "-c", KILLER, str(killed), *map(str, kills)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [str(len(kills))]
    assert "starts over" not in done.stderr
    assert file_sha256(killed / "bundle" / "weights.safetensors") == file_sha256(whole.bundle / "weights.safetensors")
    assert (killed / "bundle" / "SHA256SUMS").read_text() == (whole.bundle / "SHA256SUMS").read_text()
    assert (killed / "training" / "history.csv").read_text() == (whole.history / "history.csv").read_text()


@pytest.mark.slow
def test_the_same_seed_gives_the_same_bundle_and_another_seed_another(
    spec: FitSpec, fitted: Any, fit_into: Callable[..., Any], tmp_path: Path
) -> None:
    again = fit_into(spec, tmp_path / "again")
    other = fit_into(with_train(spec, seed=4), tmp_path / "other")
    assert (again.bundle / "SHA256SUMS").read_text() == (fitted.bundle / "SHA256SUMS").read_text()
    assert file_sha256(other.bundle / "weights.safetensors") != file_sha256(fitted.bundle / "weights.safetensors")


def test_the_loss_curve_is_the_stored_one(fitted: Any) -> None:
    lines = (fitted.history / "history.csv").read_text().splitlines()
    assert lines[0].split(",") == history_columns(members=1)
    losses = [float(line.split(",")[2]) for line in lines[1:]]
    assert losses == pytest.approx(CURVE, rel=0.01)


def test_the_last_validation_error_is_that_of_the_bundle(fitted: Any, digits: np.ndarray) -> None:
    with torch.inference_mode():
        y = load_bundle(fitted.bundle).scorer(torch.from_numpy(digits[320:384].astype(np.float32)))[3].numpy()
    mse = np.mean((y / 255.0 - digits[320:384] / 255.0) ** 2)
    last = (fitted.history / "history.csv").read_text().splitlines()[-1].split(",")
    assert float(last[3]) == pytest.approx(mse, rel=1e-4)
    assert int(last[1]) == 4 * 5


def test_a_finished_training_leaves_its_progress_and_no_checkpoint(fitted: Any) -> None:
    assert [file.name for file in fitted.checkpoints.iterdir()] == ["progress.jsonl"]
    lines = [json.loads(line) for line in (fitted.checkpoints / "progress.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [1, 2, 3, 4]
    assert all(line["samples_per_second"] > 0 for line in lines)


def test_a_loss_that_is_no_number_says_what_to_type_and_keeps_no_checkpoint(
    spec: FitSpec, fit_into: Callable[..., Any], tmp_path: Path
) -> None:
    widths = (16, 16, 16, 16, 16)  # many layers, so that their product overflows at once
    deep = dataclasses.replace(spec.model, encode=ConvEncoderSpec(widths), decode=ConvDecoderSpec(widths))
    with pytest.raises(TrainingError, match=r"the loss is (nan|inf) in epoch 1 of 4: lower train\.learning_rate \(now 10\)"):
        fit_into(dataclasses.replace(with_train(spec, learning_rate=10.0), model=deep), tmp_path)
    assert not (tmp_path / "checkpoints" / checkpoint.CHECKPOINT_FILE).exists()
    assert not (tmp_path / "bundle").exists()


@pytest.mark.parametrize(("limit", "allowed"), [("1", False), ("2", True), ("", True)])
def test_a_limit_of_threads_under_which_a_training_never_ends_is_refused(
    monkeypatch: pytest.MonkeyPatch, limit: str, allowed: bool
) -> None:
    monkeypatch.setenv("OMP_THREAD_LIMIT", limit)
    if allowed:
        require_threads(2)
    else:
        with pytest.raises(TrainingError, match=r"OMP_THREAD_LIMIT=1 is set and train\.threads is 2: .* unset OMP_THREAD_LIMIT"):
            require_threads(2)


def test_a_truncated_checkpoint_starts_over_and_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert checkpoint.find_checkpoint(tmp_path, {"seed": 1}) is None
    torch.save({"a": torch.zeros(1000)}, tmp_path / checkpoint.CHECKPOINT_FILE)
    assert checkpoint.find_checkpoint(tmp_path, {"seed": 1}) == tmp_path / checkpoint.CHECKPOINT_FILE
    whole = (tmp_path / checkpoint.CHECKPOINT_FILE).read_bytes()
    for size in (0, 10, len(whole) // 2, len(whole) - 1):
        (tmp_path / checkpoint.CHECKPOINT_FILE).write_bytes(whole[:size])
        with caplog.at_level(logging.WARNING):
            assert checkpoint.find_checkpoint(tmp_path, {"seed": 1}) is None
        assert "starts over" in caplog.text
        assert not (tmp_path / checkpoint.CHECKPOINT_FILE).exists()
        caplog.clear()


def test_a_checkpoint_of_another_training_starts_over_and_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    checkpoint.find_checkpoint(tmp_path, {"seed": 1})
    torch.save({}, tmp_path / checkpoint.CHECKPOINT_FILE)
    with caplog.at_level(logging.WARNING):
        assert checkpoint.find_checkpoint(tmp_path, {"seed": 2}) is None
    assert "of another specification" in caplog.text
    assert not (tmp_path / checkpoint.CHECKPOINT_FILE).exists()


def test_a_damaged_line_of_progress_is_named(tmp_path: Path) -> None:
    (tmp_path / "progress.jsonl").write_text('{"epoch": 1, "step"')
    with pytest.raises(TrainingError, match=r"line 1 of .*progress\.jsonl is damaged .* remove the folder"):
        history_csv(tmp_path / "progress.jsonl", members=1)


def test_progress_is_cut_back_to_the_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "progress.jsonl").write_text("1\n2\n3\n{torn")
    truncate_progress(tmp_path / "progress.jsonl", 2)
    assert (tmp_path / "progress.jsonl").read_text() == "1\n2\n"


def test_an_epoch_holds_every_sample_once_in_an_order_of_its_own() -> None:
    first, second = (epoch_orders(rows=103, seed=5, members=1, epoch=epoch)[0].tolist() for epoch in range(2))
    assert sorted(first) == sorted(second) == list(range(103))
    assert first != second
    torch.rand(1)
    assert epoch_orders(rows=103, seed=5, members=1, epoch=0)[0].tolist() == first


@pytest.mark.parametrize(
    ("part", "samples", "message"),
    [
        (
            "train",
            np.zeros((0, 1, 28, 28), np.uint8),
            r"the train samples have shape \(0, 1, 28, 28\), expected \(n, 1, 28, 28\) with n >= 2 \(input\.shape in the spec\)",
        ),
        ("validation", np.zeros((5, 28, 28), np.uint8), r"the validation samples have shape \(5, 28, 28\)"),
        (
            "calibration",
            np.full((5, 1, 28, 28), np.nan, np.float32),
            "the calibration samples have values from nan to nan, expected 0 to 255",
        ),
        ("train", np.full((5, 1, 28, 28), 256.0, np.float32), "the train samples have values from 256.0 to 256.0"),
    ],
)
def test_samples_that_cannot_be_are_refused_by_name(
    spec: FitSpec, digits: np.ndarray, tmp_path: Path, part: str, samples: np.ndarray, message: str
) -> None:
    parts = {"train": digits, "validation": digits, "calibration": digits} | {part: samples}
    with pytest.raises(TrainingError, match=message):
        fit(spec, **parts, checkpoints=tmp_path, content_sha256="", recipe="", bundle=tmp_path / "b", history=tmp_path)


def test_too_few_calibration_samples_are_named_before_the_training(spec: FitSpec, digits: np.ndarray, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="needs 19 calibration samples or more, got 18"):
        fit(
            spec,
            digits,
            digits,
            digits[:18],
            checkpoints=tmp_path / "c",
            content_sha256="",
            recipe="",
            bundle=tmp_path,
            history=tmp_path,
        )
    assert not (tmp_path / "c").exists()


def test_a_training_says_within_an_epoch_where_it_is(spec: FitSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ae_models.training_progress._BATCH_SECONDS", 0.0)
    callback = ProgressCallback(tmp_path, show_bar=False)
    trainer = SimpleNamespace(current_epoch=1, max_epochs=4)
    samples = ArraySampleSet(np.zeros((640, 1, 28, 28), np.uint8))
    module = AutoencoderModule(
        Autoencoder(spec.model, spec.input), with_train(spec, epochs=4).train, samples, samples, resident=False
    )
    callback.on_train_start(trainer, module)  # type: ignore[arg-type]
    module.steps_done = 10  # the first epoch's
    for _ in range(3):
        module.steps_done += 1
        for observe in module.step_observers:
            observe(module.steps_done)
    place = json.loads((tmp_path / BATCH_FILE).read_text(encoding="utf-8"))
    assert {name: place[name] for name in ("epoch", "epochs", "batch", "batches")} == {
        "epoch": 2,
        "epochs": 4,
        "batch": 3,
        "batches": 10,
    }
    assert place["samples_per_second"] > 0
    assert callback.samples_done == 3 * 64
    callback.teardown(trainer, module, "fit")  # type: ignore[arg-type]
    assert not (tmp_path / BATCH_FILE).exists()
