"""One reader: a file, the page and a request give the same sample of the same content."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from aeops.errors import DataError, UsageError
from aeops.kinds.arrays import small_numbers
from aeops.kinds.interface import load_kind
from aeops.kinds.samples import FitOptions, SampleSpec

image, series, text = load_kind("image"), load_kind("series"), load_kind("text")
ORIENTATION, TURNED = 0x0112, 6  # of EXIF: the camera was held upright


def spec(*shape: int, low: float = 0, high: float = 255) -> SampleSpec:
    return SampleSpec(shape, shape, low, high)


def encoded(picture: Image.Image, form: str = "PNG", orientation: int = 1) -> bytes:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    written = io.BytesIO()
    picture.save(written, form, exif=exif)
    return written.getvalue()


def by_file_and_page(content: bytes, ending: str, spec: SampleSpec, folder: Path) -> tuple[np.ndarray, np.ndarray]:
    (folder / f"one{ending}").write_bytes(content)
    read = image.read_file(folder / f"one{ending}", spec).values
    fitted = image.fit_sample(content, "image/any", spec, FitOptions(invert="no"))
    return read, fitted.batch


@pytest.mark.parametrize(("form", "ending"), [("PNG", ".png"), ("JPEG", ".jpg"), ("WEBP", ".webp"), ("BMP", ".BMP")])
@pytest.mark.parametrize("channels", [1, 3])
def test_file_and_page_read_the_same_pixels(form: str, ending: str, channels: int, tmp_path: Path) -> None:
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8))
    read, fitted = by_file_and_page(encoded(picture, form), ending, spec(channels, 6, 8), tmp_path)
    assert read.dtype == np.uint8
    np.testing.assert_allclose(fitted, read, atol=1e-9)


def test_an_image_is_turned_upright_as_its_camera_noted(tmp_path: Path) -> None:
    wide = np.arange(48, dtype=np.uint8).reshape(6, 8)
    read, fitted = by_file_and_page(encoded(Image.fromarray(wide), orientation=TURNED), ".png", spec(1, 8, 6), tmp_path)
    np.testing.assert_array_equal(read[0, 0], np.rot90(wide, -1))
    np.testing.assert_allclose(fitted, read)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparent_parts_are_laid_on_white(mode: str, tmp_path: Path) -> None:
    picture = Image.new("RGBA", (4, 4), (0, 0, 0, 0))
    picture.paste((0, 0, 0, 255), (0, 0, 4, 2))
    read, fitted = by_file_and_page(encoded(picture.convert(mode)), ".png", spec(1, 4, 4), tmp_path)
    np.testing.assert_array_equal(read[0, 0], [[0] * 4] * 2 + [[255] * 4] * 2)
    np.testing.assert_allclose(fitted, read)


def test_a_model_with_four_channels_gets_the_transparency_itself(tmp_path: Path) -> None:
    picture = Image.new("RGBA", (4, 4), (10, 20, 30, 40))
    read, fitted = by_file_and_page(encoded(picture), ".png", spec(4, 4, 4), tmp_path)
    assert read[0, :, 0, 0].tolist() == [10, 20, 30, 40]
    np.testing.assert_allclose(fitted, read)


def test_a_folder_is_read_by_name_and_other_files_are_counted(tmp_path: Path) -> None:
    for name, value in (("b.png", 2), ("a.webp", 1)):
        picture = Image.new("L", (4, 4), value)
        picture.save(tmp_path / name, lossless=True)
    (tmp_path / "notes.txt").write_text("no image")
    (tmp_path / ".hidden").write_text("not counted")
    found = image.read_file(tmp_path, spec(1, 4, 4))
    assert list(found.names) == ["a.webp", "b.png"]
    assert found.values[:, 0, 0, 0].tolist() == [1, 2]
    assert found.skipped == 1


def test_a_series_is_read_of_npy_alone(tmp_path: Path) -> None:
    np.save(tmp_path / "windows.npy", np.zeros((3, 2, 5)))
    found = series.read_file(tmp_path / "windows.npy", spec(2, 5))
    assert (list(found.names)[2], found.values.shape) == ("windows.npy[2]", (3, 2, 5))
    (tmp_path / "one.png").write_bytes(encoded(Image.new("L", (5, 2))))
    for path, error, reason in (
        (tmp_path, DataError, "got the folder"),
        (tmp_path / "one.png", DataError, "takes series"),
        (tmp_path / "absent.npy", UsageError, "no file"),
    ):
        with pytest.raises(error, match=reason):
            series.read_file(path, spec(2, 5))


def test_json_of_a_request_and_what_is_pasted_are_the_same_sample() -> None:
    body = {"inputs": [[[0, 1.5, 2], [3, 4, 5]]]}
    wanted = spec(2, 3, low=0, high=10)
    read = series.read_json(body["inputs"], wanted, only_numbers=True)
    pasted = series.fit_sample(json.dumps(body).encode(), "text/plain", wanted, FitOptions())
    np.testing.assert_array_equal(pasted.batch, read)


@pytest.mark.parametrize("inputs", [[[True, False]], [["1", "2"]], [[{}, 1]]])
def test_truths_texts_and_objects_are_no_numbers_for_anybody(inputs: list[object]) -> None:
    wanted = spec(1, 2)
    with pytest.raises(DataError, match="whole or real numbers"):
        series.read_json(inputs, wanted, only_numbers=False)
    with pytest.raises(DataError, match="neither JSON of numbers"):
        series.fit_sample(json.dumps(inputs).encode(), "text/plain", wanted, FitOptions())


def test_texts_are_one_form_whether_they_come_as_json_bytes_or_a_file(tmp_path: Path) -> None:
    wanted, texts = spec(16), ["Ärger", "b"]
    stored = np.zeros((2, 8), np.uint8)
    for row, one in zip(stored, texts, strict=True):
        content = one.encode()
        row[: len(content)] = list(content)
    (tmp_path / "two.txt").write_text("\n".join(texts), encoding="utf-8")
    forms = [
        text.read_json(texts, wanted, only_numbers=False),
        text.read_array(stored, wanted),
        text.read_array(np.array(texts), wanted),
        text.read_file(tmp_path / "two.txt", wanted).values,
    ]
    for found in forms:
        assert found.dtype == object
        assert found.tolist() == texts
    assert text.longest_sample(forms[0]) == (0, 5)


def test_whole_numbers_of_json_are_stored_as_bytes_and_others_as_float32() -> None:
    values = small_numbers([[[0, 255]]])
    assert values is not None
    assert image.stored_form(values, spec(1, 1, 2), is_json=True).dtype == np.uint8
    assert image.stored_form(values, spec(1, 1, 2, high=256), is_json=True).dtype == np.float32
    assert image.stored_form(values.astype(np.float64), spec(1, 1, 2), is_json=False).dtype == np.float64
