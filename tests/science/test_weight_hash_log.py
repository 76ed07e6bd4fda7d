"""The log of weight hashes: the steps it names, what it hashes, and that no kill leaves a mark on it or on the bundle."""

import dataclasses
import hashlib
import json
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fork_server import run_in_fork
from safetensors.numpy import load_file

from ae_models.checksums import tensor_sha256, tensors_sha256
from ae_models.spec import FitSpec
from ae_models.weight_hash_log import WEIGHT_HASH_HEADER, truncate_weight_hashes

ROOT = Path(__file__).parents[2]

# Trains as tests/science/conftest.py does, in each folder of a folder, in children that it kills with SIGKILL at steps of every
# kind: in the first epoch, right after a power of two, in the middle of an epoch. Every epoch keeps a checkpoint.
KILLER = """
import json, os, signal, sys
from pathlib import Path
import numpy as np
from ae_models import checkpoint, fit
from ae_models.lightning_module import AutoencoderModule
from ae_models.spec import FitSpec

checkpoint.MIN_SECONDS_BETWEEN = 0.0
take_step = AutoencoderModule.train_step

def child(folder, last):
    def stop(self, step_of_epoch):
        if self.steps_done == last:  # in the middle of the step, after the other members of an ensemble
            self.autoencoder.members[-1].loss_of = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
        take_step(self, step_of_epoch)

    AutoencoderModule.train_step = stop
    samples = np.load(folder / "samples.npy")
    spec = FitSpec.from_dict(json.loads((folder / "spec.json").read_text()), "spec.json")
    fit.fit(spec, samples[:320], samples[320:384], samples[384:], checkpoints=folder / "checkpoints",
            content_sha256="0" * 64, recipe="small", bundle=folder / "bundle", history=folder / "training", progress_bar=False)

for folder in sorted(Path(sys.argv[1]).iterdir()):
    killed = 0
    for last in [*map(int, sys.argv[2:]), -1]:
        pid = os.fork()
        if pid == 0:
            child(folder, last)
            os._exit(0)
        killed += os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
    print(killed)
"""


def steps_of(path: Path) -> list[int]:
    return [int(line.split(",")[0]) for line in path.read_text().splitlines()[1:]]


@pytest.mark.slow
def test_the_log_names_the_powers_of_two_and_the_end_of_each_epoch(fitted: Any) -> None:
    assert steps_of(fitted.history / "trail.csv") == [1, 2, 4, 5, 8, 10, 15, 16, 20]  # 4 epochs of 5 steps


@pytest.mark.slow
def test_the_last_hash_is_that_of_the_weights_in_the_bundle(fitted: Any, fitted_ensemble: Any) -> None:
    for folders in (fitted, fitted_ensemble):
        last = (folders.history / "trail.csv").read_text().splitlines()[-1].split(",")[1]
        assert last == tensors_sha256(load_file(folders.bundle / "weights.safetensors"))


def test_another_seed_parts_from_the_first_step_and_the_same_seed_never(
    spec: FitSpec, fitted: Any, fit_into: Callable[..., Any], tmp_path: Path
) -> None:
    other = fit_into(dataclasses.replace(spec, train=dataclasses.replace(spec.train, seed=4)), tmp_path)
    ours, theirs = ((result.history / "trail.csv").read_text().splitlines()[1:] for result in (fitted, other))
    assert all(one != two for one, two in zip(ours, theirs, strict=True))


def test_a_training_killed_again_and_again_leaves_the_very_same_log_and_bundle(
    spec: FitSpec,
    fitted: Any,
    ensemble_spec: FitSpec,
    fitted_ensemble: Any,
    digits: np.ndarray,
    tmp_path: Path,
    kill_step: int,
) -> None:
    kills = [3, 8, 9, 17][::kill_step]  # steps, from 0, in order: one that a checkpoint holds does not come again
    for name, killed_spec in (("ensemble", ensemble_spec), ("model", spec)):
        (tmp_path / name).mkdir()
        np.save(tmp_path / name / "samples.npy", digits)
        (tmp_path / name / "spec.json").write_text(json.dumps(killed_spec.to_dict()))
    done = run_in_fork("code", KILLER, str(tmp_path), *map(str, kills), cwd=ROOT, env=os.environ)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [str(len(kills))] * 2
    assert "starts over" not in done.stderr
    for folder, whole in ((tmp_path / "ensemble", fitted_ensemble), (tmp_path / "model", fitted)):
        for name in ("trail.csv", "history.csv", "weights.safetensors"):
            assert (folder / "training" / name).read_bytes() == (whole.history / name).read_bytes(), name
        assert (folder / "bundle" / "SHA256SUMS").read_text() == (whole.bundle / "SHA256SUMS").read_text()
        assert sorted(file.name for file in (folder / "checkpoints").iterdir()) == ["progress.jsonl"]


@pytest.mark.slow
def test_a_checkpoint_is_on_the_disk_after_the_lines_before_it(
    spec: FitSpec, fit_into: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    sync, replace = os.fsync, os.replace

    def note_sync(descriptor: int) -> None:
        calls.append(Path(os.readlink(f"/proc/self/fd/{descriptor}")).name)
        sync(descriptor)

    def note_replace(old: Path, new: Path) -> None:
        calls.append(f"-> {Path(new).name}")
        replace(old, new)

    monkeypatch.setattr(os, "fsync", note_sync)
    monkeypatch.setattr(os, "replace", note_replace)
    fit_into(spec, tmp_path)
    saved = [position for position, call in enumerate(calls) if call == "-> last.ckpt"]
    assert saved
    for position in saved:
        assert calls[position - 3 : position] == ["progress.jsonl", "trail.csv", ".last.ckpt.tmp"]


def test_a_torn_line_and_what_lies_beyond_the_checkpoint_are_dropped(tmp_path: Path) -> None:
    path = tmp_path / "trail.csv"
    path.write_text(f"{WEIGHT_HASH_HEADER}1,a\n2,b\n4,c\n1")
    truncate_weight_hashes(path, 2)
    assert path.read_text() == f"{WEIGHT_HASH_HEADER}1,a\n2,b\n"
    truncate_weight_hashes(path, 0)
    assert path.read_text() == WEIGHT_HASH_HEADER


def test_a_hash_depends_on_name_type_shape_and_values_and_on_nothing_else() -> None:
    values = np.arange(6, dtype=np.float32).reshape(2, 3)
    known = tensor_sha256("w", values)
    by_hand = b'["w", "<f4", [2, 3]]\n' + struct.pack("<6f", 0, 1, 2, 3, 4, 5)
    assert known == hashlib.sha256(by_hand).hexdigest()
    for same in (np.asfortranarray(values), values.astype(">f4"), np.repeat(values, 2, axis=1)[:, ::2]):
        assert tensor_sha256("w", same) == known
    changed = values.copy()
    changed[1, 2] = np.nextafter(changed[1, 2], np.float32(9))
    for name, other in (
        ("v", values),
        ("w", values.T),
        ("w", values.astype(np.float64)),
        ("w", changed),
        ("w", values.view("i4")),
    ):
        assert tensor_sha256(name, other) != known


def test_the_order_of_tensors_does_not_count_and_their_number_does() -> None:
    one, two = np.zeros(3, np.float32), np.ones((), np.int64)
    assert tensors_sha256({"a": one, "b": two}) == tensors_sha256({"b": two, "a": one})
    assert tensors_sha256({"a": one, "b": two}) != tensors_sha256({"a": one})
    assert tensors_sha256({"a": two}) == tensors_sha256({"a": two.reshape(1)})  # files of weights know no difference


@pytest.mark.parametrize("dtype", [np.bool_, np.int64, np.float16])
def test_every_type_and_an_empty_tensor_have_a_hash(dtype: type) -> None:
    assert len(tensor_sha256("w", np.zeros((0, 3), dtype))) == 64
