"""Samples that are read piece by piece: the same rows as in memory, the same training, under a limit they do not fit in."""

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ae_models.available_memory import address_space_bytes, control_group_bytes, machine_bytes
from ae_models.errors import TrainingError
from ae_models.sample_sets import ArraySampleSet, NpySampleSet

ROOT = Path(__file__).parents[2]
SPARE = 192 * 2**20  # bytes of address space that a training may take beside what torch and Lightning hold once imported
SIDE = 256  # pixels: rows of 64 KiB
# Trains twice on the same samples, in children as the imports take seconds: under the limit, and without one.
TRAINING = """
import json, os, resource, sys
from pathlib import Path
import onnxruntime
from ae_models.fit import fit
from ae_models.sample_sets import NpySampleSet
from ae_models.spec import FitSpec
folder = Path(sys.argv[1])
for name, spare in (("read", int(sys.argv[2])), ("resident", 0)):
    pid = os.fork()
    if pid:
        if os.waitpid(pid, 0)[1]:
            sys.exit(1)
        continue
    if spare:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limit = pages * resource.getpagesize() + spare
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    train, validation, calibration = (NpySampleSet(folder / f"{part}.npy") for part in ("train", "validation", "calibration"))
    spec = FitSpec.from_dict(json.loads((folder / "spec.json").read_text()), "spec.json")
    out = folder / name
    fit(spec, train, validation, calibration, checkpoints=out / "checkpoints", content_sha256="0" * 64, recipe="large",
        bundle=out / "bundle", history=out / "training", progress_bar=False)
    sys.exit(0)
"""


def raw_spec(side: int, batch: int) -> dict:
    return {
        "input": {"kind": "image", "shape": [1, side, side], "low": 0, "high": 255},
        "model": {
            "corrupt": {"kind": "none"},
            "encode": {"kind": "dense", "widths": [1]},
            "bottleneck": {"kind": "identity", "size": 2},
            "decode": {"kind": "dense", "widths": [1]},
            "compare": {"kind": "mse", "reduce": "mean"},
        },
        "score": {"kind": "normalised-residual", "energy": 0.5, "blur": 0},
        "threshold": {"kind": "split-conformal", "false_alarm_rate": 0.2},
        "train": {"epochs": 1, "batch": batch, "learning_rate": 0.01, "accelerator": "cpu", "threads": 2},
    }


def write_set(folder: Path, rows: int, side: int, batch: int) -> int:
    """train.npy of many rows, each tenth of them random, the others holes that take no room on the disk; its size in bytes."""
    folder.mkdir()
    random = np.random.default_rng(0)
    np.save(folder / "validation.npy", random.integers(0, 256, (4, 1, side, side), dtype=np.uint8))
    np.save(folder / "calibration.npy", random.integers(0, 256, (16, 1, side, side), dtype=np.uint8))
    train = np.lib.format.open_memmap(folder / "train.npy", mode="w+", dtype=np.uint8, shape=(rows, 1, side, side))
    for row in range(0, rows, 10):
        train[row] = random.integers(0, 256, (1, 1, 1), dtype=np.uint8)
    train.flush()
    (folder / "spec.json").write_text(json.dumps(raw_spec(side, batch)))
    return int(train.nbytes)


def test_rows_of_a_file_are_those_of_the_array(tmp_path: Path) -> None:
    array = np.random.default_rng(0).normal(size=(301, 2, 3)).astype(np.float32)
    np.save(tmp_path / "rows.npy", array)
    rows = NpySampleSet(tmp_path / "rows.npy")
    chosen = np.array([300, 0, 7, 7, 299])
    np.testing.assert_array_equal(rows.take(chosen), array[chosen])
    np.testing.assert_array_equal(np.concatenate(list(rows.blocks())), array)
    np.testing.assert_array_equal(ArraySampleSet(array).take(chosen), array[chosen])


def test_blocks_are_small_however_large_the_file(tmp_path: Path) -> None:
    write_set(tmp_path / "set", 400, SIDE, 8)
    sizes = [block.nbytes for block in NpySampleSet(tmp_path / "set" / "train.npy").blocks()]
    assert sum(sizes) == 400 * SIDE * SIDE
    assert max(sizes) <= 16 * 2**20


@pytest.mark.parametrize("spoil", ["short", "pickled", "another format"])
def test_a_file_that_is_no_whole_array_is_refused(tmp_path: Path, spoil: str) -> None:
    file = tmp_path / "rows.npy"
    np.save(file, np.array([{}]) if spoil == "pickled" else np.zeros((9, 4)))
    if spoil == "short":
        file.write_bytes(file.read_bytes()[:-1])
    if spoil == "another format":
        file.write_bytes(b"PK\3\4")
    with pytest.raises(TrainingError, match=r"rows\.npy"):
        NpySampleSet(file)


def test_limits_are_those_that_linux_tells(tmp_path: Path) -> None:
    soft, _ = resource.getrlimit(resource.RLIMIT_AS)
    assert (address_space_bytes() >= 2**62) == (soft == resource.RLIM_INFINITY)
    assert 0 < machine_bytes() < 2**50
    (tmp_path / "memory.max").write_text("1000\n")
    (tmp_path / "memory.current").write_text("400\n")
    assert control_group_bytes(tmp_path) == 600
    (tmp_path / "memory.max").write_text("max\n")
    assert control_group_bytes(tmp_path) >= 2**62


@pytest.mark.long
@pytest.mark.parametrize("times", [1.25, 4])
def test_a_set_of_so_many_times_the_memory_left_trains_to_the_weights_it_has_in_memory(tmp_path: Path, times: float) -> None:
    folder = tmp_path / "set"
    assert write_set(folder, int(times * SPARE) // SIDE**2 + 1, SIDE, 16) > times * SPARE
    command = [sys.executable, "-c", TRAINING, str(folder), str(SPARE)]
    environment = os.environ | {"MALLOC_ARENA_MAX": "1"}  # else each thread reserves 64 MiB and more that it does not use
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=560, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    read, resident = (folder / name / "bundle" / "SHA256SUMS" for name in ("read", "resident"))
    assert "weights.safetensors" in read.read_text()
    assert read.read_text() == resident.read_text()
