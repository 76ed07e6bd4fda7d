"""The detector: what it refuses, and that its numbers are the model's."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from ae_models.checksums import bundle_sha256, write_checksums
from aeops.bundle.detector import PART_ROWS, Detector
from aeops.errors import DataError
from aeops.kinds.arrays import ROWS_AT_ONCE
from aeops.kinds.flags import flag_names

FORMAT_2 = Path(__file__).parents[1] / "fixtures" / "bundle-format-2"


@pytest.fixture(scope="module")
def detector(linear_bundle: Path) -> Detector:
    return Detector(linear_bundle)


@pytest.fixture
def copy(linear_bundle: Path, tmp_path: Path) -> Path:
    return shutil.copytree(linear_bundle, tmp_path / "bundle")


def test_scores_of_many_blocks_are_those_of_one_bare_session(detector: Detector, linear_bundle: Path, digits: np.ndarray) -> None:
    samples = digits[: 2 * ROWS_AT_ONCE + 7]
    bare = onnxruntime.InferenceSession(str(linear_bundle / "model.onnx"), providers=["CPUExecutionProvider"])
    expected = bare.run(None, {"input": samples.astype(np.float32)})
    scored = detector.score(samples, reconstruction=True, code=True)
    assert not scored.pop("flags").any()
    assert list(scored) == ["score", "p_value", "is_anomaly", "reconstruction", "code"]
    for got, wanted in zip(scored.values(), expected, strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-4)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system cannot take cores away from a process")
def test_scores_are_the_same_to_the_last_bit_on_one_core_and_on_all(
    detector: Detector, linear_bundle: Path, digits: np.ndarray, tmp_path: Path
) -> None:
    """Of a batch that is cut into parts, with a rest."""
    samples = digits[: ROWS_AT_ONCE + 3 * PART_ROWS + 5]
    np.save(tmp_path / "samples.npy", samples)
    script = (
        "import os, sys, numpy as np; from pathlib import Path; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
        "from aeops.bundle.detector import Detector\n"
        "said = Detector(Path(sys.argv[1])).score(np.load(sys.argv[2]), reconstruction=True, code=True)\n"
        "np.savez(sys.argv[3], **said)"
    )
    places = [str(linear_bundle), str(tmp_path / "samples.npy"), str(tmp_path / "said.npz")]
    subprocess.run([sys.executable, "-c", script, *places], check=True, timeout=300)
    on_one = np.load(tmp_path / "said.npz")
    for name, values in detector.score(samples, reconstruction=True, code=True).items():
        np.testing.assert_array_equal(on_one[name], values, err_msg=name)


def test_what_was_not_asked_for_is_not_answered(detector: Detector, digits: np.ndarray) -> None:
    assert list(detector.score(digits[:3])) == ["score", "p_value", "is_anomaly", "flags"]
    assert list(detector.score(digits[:3], code=True)) == ["score", "p_value", "is_anomaly", "flags", "code"]


def test_scores_keep_their_bits_whatever_else_is_asked_for(detector: Detector, digits: np.ndarray) -> None:
    samples = digits[: PART_ROWS + 5]
    fresh = Detector(detector.folder)
    fresh.score(samples, code=True)
    assert "_whole_network" not in vars(fresh), "what is recorded needs no decoder"
    alone, with_others = detector.score(samples), detector.score(samples, reconstruction=True, code=True, explanation=True)
    for name, values in alone.items():
        np.testing.assert_array_equal(values, with_others[name], err_msg=name)


def test_a_sample_scores_the_same_in_every_shape_it_may_come_in(detector: Detector, digits: np.ndarray) -> None:
    one = digits[0, 0]
    shapes = [one, one[None], one[None, None], one.tolist(), one.astype(np.float64)]
    assert len({float(detector.score(given)["score"][0]) for given in shapes}) == 1
    np.testing.assert_array_equal(detector.score(digits[:5, 0])["score"], detector.score(digits[:5])["score"])


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (np.zeros((28, 27)), r"expected one sample of shape \(1, 28, 28\) or a batch .* got samples of shape \(28, 27\)"),
        (np.zeros((2, 3, 28, 28)), r"got samples of shape \(2, 3, 28, 28\)"),
        (np.float32(3), r"got samples of shape \(\)"),
        (np.zeros((0, 1, 28, 28)), "expected at least one sample"),
        (np.full((28, 28), "7"), "expected whole or real numbers, got samples of dtype <U1"),
        ([[1.0, 2.0], [3.0]], "unequal shapes"),
        ([[None, 2.0]], "dtype object"),
    ],
)
def test_what_no_sample_can_be_is_refused(detector: Detector, given: object, told: str) -> None:
    with pytest.raises(DataError, match=told):
        detector.check(given)


@pytest.mark.parametrize(
    ("value", "flag"), [(np.nan, "missing"), (256, "out_of_range"), (-0.5, "out_of_range"), (np.inf, "out_of_range")]
)
def test_a_bad_sample_late_in_a_batch_is_refused_in_its_place(
    detector: Detector, digits: np.ndarray, value: float, flag: str
) -> None:
    samples = digits[: ROWS_AT_ONCE + 10].astype(np.float32)
    samples[ROWS_AT_ONCE + 3, 0, 5, 5] = value
    scored = detector.score(samples)
    assert np.flatnonzero(scored["flags"]).tolist() == [ROWS_AT_ONCE + 3]
    assert flag_names(int(scored["flags"][ROWS_AT_ONCE + 3])) == (flag, "refused")
    assert np.flatnonzero(np.isnan(scored["score"])).tolist() == [ROWS_AT_ONCE + 3]


def test_a_memory_mapped_file_is_scored(detector: Detector, digits: np.ndarray, tmp_path: Path) -> None:
    np.save(tmp_path / "samples.npy", digits[:50])
    mapped = np.load(tmp_path / "samples.npy", mmap_mode="r")
    np.testing.assert_array_equal(detector.score(mapped)["score"], detector.score(digits[:50])["score"])


def test_its_name_is_the_hash_of_its_sums(detector: Detector, linear_bundle: Path) -> None:
    assert detector.sha256 == bundle_sha256(linear_bundle)


@pytest.mark.parametrize("name", ["model.onnx", "bundle.json"])
def test_one_changed_byte_anywhere_is_refused(copy: Path, name: str) -> None:
    content = bytearray((copy / name).read_bytes())
    content[len(content) // 2] ^= 1
    (copy / name).write_bytes(content)
    with pytest.raises(DataError, match=f"{name} was altered"):
        Detector(copy)


def test_a_missing_a_surplus_and_a_missing_sums_file_are_named(copy: Path) -> None:
    (copy / "extra.bin").write_bytes(b"x")
    with pytest.raises(DataError, match=r"extra\.bin is not in SHA256SUMS"):
        Detector(copy)
    (copy / "extra.bin").unlink()
    (copy / "model.onnx").unlink()
    with pytest.raises(DataError, match=r"model\.onnx is missing"):
        Detector(copy)
    (copy / "SHA256SUMS").unlink()
    with pytest.raises(DataError, match="SHA256SUMS cannot be read"):
        Detector(copy)


@pytest.mark.parametrize("text", ["", "nonsense\n", "0" * 64 + "  bundle.json\n"])
def test_sums_that_cover_nothing_are_refused(copy: Path, text: str) -> None:
    (copy / "SHA256SUMS").write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match="SHA256SUMS"):
        Detector(copy)


def test_a_format_of_the_future_is_refused_with_its_number(copy: Path) -> None:
    text = (copy / "bundle.json").read_text(encoding="utf-8")
    (copy / "bundle.json").write_text(text.replace('"format": 1', '"format": 99'), encoding="utf-8")
    write_checksums(copy)
    with pytest.raises(DataError, match="expected format 1 to 4, got 99"):
        Detector(copy)


def test_scoring_loads_neither_torch_nor_mlflow(linear_bundle: Path) -> None:
    code = (
        "import sys, numpy as np; from pathlib import Path; from aeops.bundle.detector import Detector;"
        f"Detector(Path({str(linear_bundle)!r})).score(np.zeros((1, 28, 28)));"
        "print(sorted({'torch', 'mlflow', 'pandas', 'pytorch_lightning'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# ---------------------------------------------------------------- swapped after the check


@pytest.mark.parametrize("name", ["decoder.onnx", "scorer.safetensors"])
def test_a_file_that_is_read_later_is_verified_when_it_is_read(tmp_path: Path, name: str) -> None:
    folder = shutil.copytree(FORMAT_2, tmp_path / "bundle")
    detector = Detector(folder)
    (folder / name).write_bytes(b"swapped")
    with pytest.raises(DataError, match=f"{name} was altered"):
        detector.decode(np.zeros((1, 2), np.float32)) if name == "decoder.onnx" else detector.word_counts


def test_another_whole_bundle_in_the_checked_ones_place_is_not_loaded(tmp_path: Path, linear_bundle: Path) -> None:
    checked = bundle_sha256(FORMAT_2)
    with pytest.raises(DataError, match=rf"expected {checked}: it was replaced after it was checked"):
        Detector(linear_bundle, checked)
    assert Detector(FORMAT_2, checked).sha256 == checked
