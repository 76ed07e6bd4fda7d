"""Several workers share each batch: what a share is, what is drawn for it, and what is refused. tests/long/test_workers.py trains
every kind of bottleneck so, and kills workers."""

import dataclasses
import importlib
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning_fabric.utilities.distributed import _set_num_threads_if_needed
from safetensors.numpy import load_file
from torch import Tensor

from ae_models import own_parts
from ae_models.augmentations import AffineAugmentation, FlipAugmentation
from ae_models.batch_share import BatchShare, draw_like, share_of_worker, use_share
from ae_models.bottlenecks import VariationalBottleneck
from ae_models.corruptions import (
    GaussianCorruption,
    MaskingCorruption,
    SaltAndPepperCorruption,
    WordDeletionCorruption,
)
from ae_models.errors import SpecError, TrainingError
from ae_models.local_workers import _write_job, read_job
from ae_models.own_parts import OwnPart
from ae_models.sample_sets import ArraySampleSet, NpySampleSet
from ae_models.spec import FitSpec, QuantisedBottleneckSpec, TrainSpec
from ae_models.training import train_weights
from ae_models.training_environment import deterministic_threads, require_accelerator
from ae_models.trimming import _own_of_kept

ROWS, WORKERS = 7, 3
# Rows of images in channels_last, the memory order in which training draws noise for them; token ids; outputs of an encoder.
IMAGES = torch.rand(ROWS, 3, 8, 8).contiguous(memory_format=torch.channels_last)
TOKENS = torch.randint(3, 50, (ROWS, 12))
HIDDEN = torch.rand(ROWS, 20)
DRAWING = {
    "affine": (AffineAugmentation(1.0, 8.0, 0.1), IMAGES),
    "flip": (FlipAugmentation(), IMAGES),
    "gaussian": (GaussianCorruption(0.3), IMAGES),
    "salt-and-pepper": (SaltAndPepperCorruption(0.4), IMAGES),
    "masked features": (MaskingCorruption(0.4, "features", 1), IMAGES),
    "masked pixels": (MaskingCorruption(0.4, "pixels", 1), IMAGES),
    "masked blocks": (MaskingCorruption(0.4, "blocks", 3), IMAGES),
    "word-deletion": (WordDeletionCorruption(0.5), TOKENS),
    "variational": (VariationalBottleneck(10, beta=1.0, free_bits=0.0), HIDDEN),
}


@pytest.mark.parametrize("before", [None, "7"])
def test_a_worker_has_the_threads_of_its_recipe_though_lightning_shares_out_the_cores(
    before: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if before is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", before)
    with deterministic_threads(3):
        _set_num_threads_if_needed(num_processes=1)  # which its strategy ddp does
        assert torch.get_num_threads() == 3
    assert os.environ.get("OMP_NUM_THREADS") == before


@pytest.mark.parametrize(("total", "workers"), [(7, 3), (64, 2), (64, 64), (1, 2), (2, 5), (5, 1)])
def test_shares_are_those_of_tensor_split_and_weigh_as_much_as_they_hold(total: int, workers: int) -> None:
    shares = [share_of_worker(total, worker, workers) for worker in range(workers)]
    rows = torch.arange(total)
    for share, expected in zip(shares, torch.tensor_split(rows, workers), strict=True):
        assert rows[share.first : share.first + share.count].tolist() == expected.tolist()
        assert len(rows[share.computed]) == max(1, share.count)
    assert sum(share.weight for share in shares) / workers == pytest.approx(1.0)


@pytest.mark.parametrize("name", DRAWING)
def test_a_sample_gets_the_same_random_numbers_however_many_workers_there_are(name: str) -> None:
    part, samples = DRAWING[name]

    def draw(share: BatchShare | None) -> Tensor:
        torch.manual_seed(1)
        with use_share(share):
            drawn: Tensor = part(samples if share is None else samples[share.computed])
        return drawn

    shares = [share_of_worker(ROWS, worker, WORKERS) for worker in range(WORKERS)]
    assert torch.equal(torch.cat([draw(share) for share in shares]), draw(None))


def test_what_is_drawn_for_the_whole_batch_is_what_torch_draws() -> None:
    for x in (IMAGES, HIDDEN, HIDDEN[:, 0::2]):
        torch.manual_seed(1)
        ours = draw_like(x, torch.Tensor.normal_)
        torch.manual_seed(1)
        assert torch.equal(ours, torch.randn_like(x))


def test_of_a_trimmed_batch_each_worker_has_those_of_its_samples_that_remain() -> None:
    kept = torch.tensor([0, 2, 5, 6])  # of 7: worker 2 had rows 3 and 4, and none is left to it
    shares = [_own_of_kept(kept, share_of_worker(ROWS, worker, WORKERS)) for worker in range(WORKERS)]
    assert [(share.first, share.count, share.total) for share, _ in shares] == [(0, 2, 4), (2, 0, 4), (2, 2, 4)]
    assert [own.tolist() for _, own in shares] == [[0, 2], [0], [0, 1]]


@pytest.mark.parametrize(
    ("train", "message"),
    [
        ({"devices": 5, "batch": 4}, "devices is 5 and batch is 4: .* batch must be 5 or more"),
        ({"devices": 0}, r"train\.devices: expected 1 to 1024, got 0"),
        ({"devices": "two"}, r"train\.devices: expected auto or 1, got 'two'"),
        ({"devices": 1.5}, r"train\.devices: expected auto, 1 or a whole number, got 1\.5"),
    ],
)
def test_a_number_of_workers_that_cannot_be_is_refused_with_the_recipe(
    train: dict[str, Any], message: str, spec: FitSpec
) -> None:
    document = spec.to_dict()
    with pytest.raises(SpecError, match=message):
        FitSpec.from_dict(document | {"train": document["train"] | train}, "recipe")


def test_more_workers_than_gpus_are_refused_before_the_training(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(SpecError, match=r"train\.devices: expected at most 1 on this machine, which has 1 GPU, got 2"):
        require_accelerator(TrainSpec(devices=2), workers=2)
    require_accelerator(TrainSpec(devices=2, accelerator="cpu"), workers=2)


@pytest.mark.slow
def test_two_workers_train_what_one_trains_up_to_rounding(spec: FitSpec, digits: np.ndarray, tmp_path: Path) -> None:
    """Codebooks, and a last batch of one sample: what needs the whole batch, and a worker without a sample."""
    model = dataclasses.replace(spec.model, bottleneck=QuantisedBottleneckSpec(16, slots=4, words=8))
    train = dataclasses.replace(spec.train, threads=1, epochs=2, batch=40)

    def weights(devices: int) -> dict[str, np.ndarray]:
        one = dataclasses.replace(spec.weights, model=model, train=dataclasses.replace(train, devices=devices))
        folder = tmp_path / str(devices)
        folders: dict[str, Any] = {"checkpoints": folder / "checkpoints", "training": folder / "training"}
        names = {"content_sha256": "0" * 64, "recipe": "small"}
        train_weights(one, digits[:81], digits[320:384], progress_bar=False, **folders, **names)
        assert not (folder / "checkpoints" / "workers").exists()
        return load_file(folder / "training" / "weights.safetensors")

    alone, shared = weights(1), weights(2)
    for name, values in alone.items():
        np.testing.assert_allclose(shared[name], values, rtol=1e-3, atol=1e-4, err_msg=name)


def test_a_process_that_belongs_to_a_group_already_is_told_to_pass_its_worker(
    spec: FitSpec, digits: np.ndarray, tmp_path: Path
) -> None:
    store = torch.distributed.FileStore(str(tmp_path / "group"), 1)
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    shared = dataclasses.replace(spec.weights, train=dataclasses.replace(spec.train, devices=2))
    folders: dict[str, Any] = {"checkpoints": tmp_path / "checkpoints", "training": tmp_path / "training"}
    try:
        with pytest.raises(TrainingError, match=re.escape("in a torch process group already: pass `worker`")):
            train_weights(shared, digits[:80], digits[:20], content_sha256="0" * 64, recipe="small", **folders)
    finally:
        torch.distributed.destroy_process_group()


OWN_ENCODER = """
from dataclasses import dataclass
from typing import ClassVar

@dataclass(frozen=True)
class FlatEncoderSpec:
    kind: ClassVar[str] = "flat"
    supported_inputs: ClassVar[tuple[str, ...]] = ("image",)
    width: int = 8
"""


def test_a_worker_is_told_the_spec_the_samples_and_the_projects_own_parts(
    spec: FitSpec, digits: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own_encoder.py").write_text(OWN_ENCODER)
    monkeypatch.syspath_prepend(str(tmp_path))
    own_spec = importlib.import_module("own_encoder").FlatEncoderSpec
    monkeypatch.setattr(own_parts, "_parts", {"encode": {"flat": OwnPart("encode", own_spec, "own_encoder:FlatEncoder")}})
    train = dataclasses.replace(spec.train, devices=3)
    asked = dataclasses.replace(spec.weights, model=dataclasses.replace(spec.model, encode=own_spec(4)), train=train)
    np.save(tmp_path / "validation.npy", digits[:5])
    folder = tmp_path / "workers"
    folder.mkdir()
    _write_job(folder, asked, ArraySampleSet(digits[:9]), NpySampleSet(tmp_path / "validation.npy"))
    own_parts._parts.clear()  # as in the process of a worker
    job = read_job(folder, 2)
    assert (job.spec, job.checkpoints) == (asked, tmp_path)
    assert (job.worker.number, job.worker.count, job.worker.is_first) == (2, 3, False)
    assert np.array_equal(job.train.take(np.arange(9)), digits[:9])
    assert job.validation.path == tmp_path / "validation.npy"  # the file itself, where there is one
