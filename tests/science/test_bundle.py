"""A bundle round-trips, refuses every alteration before anything is loaded, and its ONNX answers as torch does."""

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from scipy.ndimage import gaussian_filter

from ae_models.bundle import load_bundle, write_bundle
from ae_models.checksums import CHECKSUM_FILE, bundle_sha256, file_sha256, verify_bundle
from ae_models.errors import BundleError

SCORER_OUTPUTS = ("score", "p_value", "is_anomaly", "reconstruction", "code")  # of a score without a bank and without parts
FILES = ("bundle.json", "decoder.onnx", "model.onnx", "scorer.safetensors", "weights.safetensors")
OLD = Path(__file__).parents[1] / "fixtures" / "bundle-format-1"


@pytest.fixture
def copied(fitted: Any, tmp_path: Path) -> Path:
    return Path(shutil.copytree(fitted.bundle, tmp_path / "bundle"))


def run_onnx(folder: Path, raw: np.ndarray) -> dict[str, np.ndarray]:
    session = onnxruntime.InferenceSession(str(folder / "model.onnx"), providers=["CPUExecutionProvider"])
    return dict(zip(SCORER_OUTPUTS, session.run(list(SCORER_OUTPUTS), {"input": raw.astype(np.float32)}), strict=True))


@pytest.mark.slow
def test_a_loaded_bundle_answers_as_its_onnx_at_any_batch_size(fitted: Any, digits: np.ndarray) -> None:
    scorer = load_bundle(fitted.bundle).scorer
    for rows in (1, 2, 7, 300):
        raw = digits[:rows]
        outputs = run_onnx(fitted.bundle, raw)
        with torch.inference_mode():
            expected = dict(zip(SCORER_OUTPUTS, scorer(torch.from_numpy(raw.astype(np.float32))), strict=True))
        for name in SCORER_OUTPUTS:
            assert outputs[name].shape == expected[name].shape
            np.testing.assert_allclose(outputs[name], expected[name].numpy(), atol=1e-3 if name == "reconstruction" else 1e-5)


def test_outputs_mean_what_they_say(fitted: Any, digits: np.ndarray) -> None:
    document = json.loads((fitted.bundle / "bundle.json").read_text())
    calibration = load_bundle(fitted.bundle).scorer.calibration_scores.numpy()
    outputs = run_onnx(fitted.bundle, digits)
    x, y = digits / 255.0, outputs["reconstruction"] / 255.0
    residual = gaussian_filter(x - y, (0, 0, 1, 1), mode="constant", radius=(0, 0, 3, 3))
    score = np.log((residual**2).sum((1, 2, 3))) - 0.5 * np.log((x**2).sum((1, 2, 3)))
    np.testing.assert_allclose(outputs["score"], score, atol=1e-4)
    at_least = (calibration[None] >= outputs["score"][:, None]).sum(axis=1)
    np.testing.assert_allclose(outputs["p_value"], (1 + at_least) / (len(calibration) + 1), rtol=1e-6)
    assert (outputs["is_anomaly"] == (outputs["score"] > np.float32(document["threshold"]["value"]))).all()
    assert 0 <= outputs["reconstruction"].min() <= outputs["reconstruction"].max() <= 255


def test_calibration_scores_are_ascending_and_of_the_calibration_samples(fitted: Any, digits: np.ndarray) -> None:
    stored = load_bundle(fitted.bundle).scorer.calibration_scores.numpy()
    np.testing.assert_allclose(stored, np.sort(run_onnx(fitted.bundle, digits[384:])["score"]), atol=1e-5)


def test_onnx_is_one_valid_file_with_a_free_batch(fitted: Any) -> None:
    model = onnx.load(fitted.bundle / "model.onnx", load_external_data=False)
    onnx.checker.check_model(model, full_check=True)
    assert [value.name for value in model.graph.output] == list(SCORER_OUTPUTS)
    assert all(value.type.tensor_type.shape.dim[0].dim_param for value in (*model.graph.input, *model.graph.output))
    assert model.opset_import[0].version >= 17


def test_the_measured_difference_is_small_and_recorded(fitted: Any) -> None:
    exported = json.loads((fitted.bundle / "bundle.json").read_text())["export"]
    assert exported["rows"] == 64
    assert 0 <= exported["max_difference"] < 1e-4


def test_every_file_is_readable_by_others_and_summed_in_sha256sum_format(fitted: Any) -> None:
    assert {file.stat().st_mode & 0o777 for file in fitted.bundle.iterdir()} == {0o644}
    lines = (fitted.bundle / "SHA256SUMS").read_text().splitlines()
    names = sorted(file.name for file in fitted.bundle.iterdir() if file.name != "SHA256SUMS")
    assert lines == [f"{file_sha256(fitted.bundle / name)}  {name}" for name in names]
    assert bundle_sha256(fitted.bundle) == hashlib.sha256((fitted.bundle / "SHA256SUMS").read_bytes()).hexdigest()


@pytest.mark.parametrize("name", FILES)
def test_one_altered_byte_is_refused(copied: Path, name: str) -> None:
    content = bytearray((copied / name).read_bytes())
    content[len(content) // 2] ^= 1
    (copied / name).write_bytes(content)
    with pytest.raises(BundleError, match=f"{name} was altered"):
        load_bundle(copied)


@pytest.mark.parametrize("name", [*FILES, CHECKSUM_FILE])
def test_a_missing_file_is_refused(copied: Path, name: str) -> None:
    (copied / name).unlink()
    with pytest.raises(BundleError, match="is refused"):
        load_bundle(copied)


def test_an_extra_file_is_refused_even_when_listed(copied: Path) -> None:
    (copied / "more.py").write_text("print('never run')\n")
    with pytest.raises(BundleError, match=r"more\.py"):
        load_bundle(copied)
    with (copied / CHECKSUM_FILE).open("a") as sums:
        sums.write(f"{file_sha256(copied / 'more.py')}  more.py\n")
    with pytest.raises(BundleError, match=r"more\.py"):
        load_bundle(copied)


def test_a_link_to_the_right_bytes_is_refused(copied: Path, tmp_path: Path) -> None:
    (copied / "model.onnx").rename(tmp_path / "elsewhere.onnx")
    (copied / "model.onnx").symlink_to(tmp_path / "elsewhere.onnx")
    with pytest.raises(BundleError, match=r"model\.onnx"):
        verify_bundle(copied)


def test_a_later_format_is_refused_by_name(copied: Path) -> None:
    document = json.loads((copied / "bundle.json").read_text()) | {"format": 99}
    (copied / "bundle.json").write_text(json.dumps(document))
    lines = [f"{file_sha256(copied / name)}  {name}\n" for name in FILES]
    (copied / CHECKSUM_FILE).write_text("".join(lines))
    with pytest.raises(BundleError, match="expected format 1 to 4, got 99"):
        load_bundle(copied)


def test_a_folder_that_is_no_bundle_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="SHA256SUMS cannot be read"):
        verify_bundle(tmp_path / "nowhere")


def test_writing_replaces_a_bundle_and_leaves_nothing_aside(fitted: Any, copied: Path, digits: np.ndarray) -> None:
    (copied / "stray").write_text("of an older bundle")
    (copied.parent / ".bundle.tmp").mkdir()  # what a killed writer leaves
    loaded = load_bundle(fitted.bundle)
    document = {key: value for key, value in loaded.document.items() if key not in ("format", "export")}
    write_bundle(copied, document, loaded.scorer, digits[384:448], tokenizer=None, word_counts=None)
    assert verify_bundle(copied) == verify_bundle(fitted.bundle)
    assert [entry.name for entry in copied.parent.iterdir()] == ["bundle"]


def test_a_bundle_of_the_first_format_loads_and_answers_as_it_did() -> None:
    raw = np.arange(128, dtype=np.float32).reshape(2, 1, 8, 8)
    with torch.inference_mode():
        score, p_value, is_anomaly, _, code = load_bundle(OLD).scorer(torch.from_numpy(raw))
    np.testing.assert_allclose(score, [-1.1102447509765625, 0.4875409603118897], rtol=1e-5)
    np.testing.assert_allclose(p_value, [1.0, 0.939393937587738], rtol=1e-6)
    assert is_anomaly.tolist() == [False, False]
    np.testing.assert_allclose(code[0], [-0.1024230420589447, -0.0848441794514656], atol=1e-6)


def test_the_decoder_alone_makes_of_codes_what_the_whole_model_makes_of_samples(fitted: Any, digits: np.ndarray) -> None:
    outputs = run_onnx(fitted.bundle, digits[:9])
    decoder = onnxruntime.InferenceSession(str(fitted.bundle / "decoder.onnx"), providers=["CPUExecutionProvider"])
    decoded = decoder.run(["reconstruction"], {"code": outputs["code"]})[0]
    np.testing.assert_allclose(decoded, outputs["reconstruction"], atol=1e-3)
