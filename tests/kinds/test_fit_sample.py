"""What is dropped or pasted becomes a sample of the model's shape, and every change is named."""

import io
import json
import time
from dataclasses import dataclass

import numpy as np
import pytest
from PIL import Image

from aeops.errors import DataError, UsageError
from aeops.kinds.interface import load_kind
from aeops.kinds.pictures import without_alpha
from aeops.kinds.samples import FitOptions, FittedSample, SampleSpec


@dataclass(frozen=True)
class Model:
    """What a model of the tests takes."""

    kind: str
    shape: tuple[int, ...]
    low: float
    high: float
    mean_bounds: tuple[float, float] | None = None


DIGIT = Model("image", (1, 28, 28), 0, 255, mean_bounds=(0.01, 0.6))
PHOTO = Model("image", (3, 32, 32), 0, 255, mean_bounds=(0.02, 0.98))
UNIT = Model("image", (1, 4, 4), 0, 1)
SERIES = Model("series", (2, 5), -1, 1)
TEXT = Model("text", (256,), 0, 255)


def fit(content: bytes, media_type: str, model: Model, row: int = 0, invert: str = "auto") -> FittedSample:
    spec = SampleSpec(model.shape, model.shape, model.low, model.high)
    return load_kind(model.kind).fit_sample(content, media_type, spec, FitOptions(row, invert, model.mean_bounds))


def picture(values: np.ndarray, kind: str = "PNG") -> bytes:
    written = io.BytesIO()
    Image.fromarray(values).save(written, kind)
    return written.getvalue()


def npy(values: np.ndarray) -> bytes:
    written = io.BytesIO()
    np.save(written, values)
    return written.getvalue()


def digit() -> np.ndarray:
    values = np.zeros((28, 28), np.uint8)
    values[6:22, 12:16] = 255
    return values


def test_an_image_of_the_models_own_form_is_taken_to_the_bit_and_nothing_is_told() -> None:
    found = fit(picture(digit()), "image/png", DIGIT)
    assert np.array_equal(found.batch[0, 0], digit())
    assert found.changes == found.hints == []


def test_a_photograph_of_a_digit_on_paper_tells_grey_size_border_and_inversion() -> None:
    paper = np.full((400, 520, 3), 250, np.uint8)
    paper[80:320, 230:290] = 20
    found = fit(picture(paper, "JPEG"), "image/jpeg", DIGIT)
    assert found.batch.shape == (1, 1, 28, 28)
    told = " ".join(found.changes)
    for part in (
        "greyscale",
        "from 520 x 400 to 28 x 22",
        "Filled up to 28 x 28",
        "Light and dark changed places",
        "0.01 to 0.6",
    ):
        assert part in told
    assert found.batch[0, 0, 0, 0] < 30 < 200 < found.batch[0, 0, 14, 14]


@pytest.mark.parametrize("number", [b"300 ", b"nan ", b"inf "])
def test_values_outside_the_range_are_taken_with_a_hint(number: bytes) -> None:
    found = fit(number + b"1 " * 783, "text/plain", DIGIT)
    assert found.hints == ["The sample holds values outside 0 to 255, or none in some places."]
    np.testing.assert_array_equal(found.batch[0, 0, 0, 0], float(number))


def test_light_and_dark_stay_where_the_person_says_so_with_a_hint() -> None:
    found = fit(picture(255 - digit()), "image/png", DIGIT, invert="no")
    assert np.array_equal(found.batch[0, 0], 255 - digit())
    assert "unlike what the recipe accepts" in found.hints[0]
    assert fit(picture(digit()), "image/png", DIGIT, invert="yes").changes == ["Light and dark changed places, as you asked."]


def test_transparent_parts_and_colours_are_told() -> None:
    drawn = np.zeros((32, 32, 4), np.uint8)
    found = fit(picture(drawn), "image/png", PHOTO)
    assert found.changes == ["Transparent parts were laid on white."]
    assert float(found.batch.min()) == 255
    assert fit(picture(np.full((32, 32), 90, np.uint8)), "image/png", PHOTO).changes == ["Grey became three equal colours."]


def test_a_picture_is_scaled_to_the_models_range() -> None:
    found = fit(picture(np.full((4, 4), 255, np.uint8)), "image/png", UNIT)
    assert float(found.batch.max()) == 1
    assert "0 to 1" in found.changes[0]


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (npy(digit()), []),
        (npy(np.stack([digit() * 0, digit()])), ["Of 2 samples given, number 1 is shown."]),
        (npy(digit().ravel()), ["A row of 784 numbers was laid out as 1 x 28 x 28."]),
    ],
)
def test_an_array_a_batch_and_a_flat_row_are_the_same_sample(given: bytes, told: list[str]) -> None:
    found = fit(given, "application/x-npy", DIGIT, row=1 if b"(2, 28, 28)" in given else 0)
    assert np.array_equal(found.batch[0, 0], digit())
    assert found.changes == told


@pytest.mark.parametrize("text", ["0 1 2 3 4 5 6 7 8 9", "0,1, 2;3\t4\n5 6 7 8 9", "[0,1,2,3,4,5,6,7,8,9]"])
def test_a_pasted_row_and_json_are_the_same_sample(text: str) -> None:
    model = Model("series", (2, 5), 0, 10)
    assert fit(text.encode(), "text/plain", model).batch[0].tolist() == [[0, 1, 2, 3, 4], [5, 6, 7, 8, 9]]


def test_the_body_of_the_service_can_be_pasted() -> None:
    body = json.dumps({"inputs": [[[0.5] * 5, [-1] * 5]]}).encode()
    assert fit(body, "text/plain", SERIES).batch.shape == (1, 2, 5)


def test_a_text_becomes_one_line_and_json_strings_are_read() -> None:
    assert fit(b"a text\nin lines", "text/plain", TEXT).batch.tolist() == ["a text in lines"]
    assert fit(b'"quoted \\u00e9"', "text/plain", TEXT).batch.tolist() == ["quoted \u00e9"]


@pytest.mark.parametrize(
    ("content", "kind", "model", "told"),
    [
        (b"", "text/plain", DIGIT, "nothing was given"),
        (b"\x89PNG not really", "image/png", DIGIT, r"UnidentifiedImageError: cannot identify image file\): expected PNG"),
        (b"GIF89a", "image/gif", DIGIT, "cannot be read as an image"),
        (b"0 1 two", "text/plain", DIGIT, "the text is neither JSON of numbers"),
        (b"[[1,2],[3]]", "text/plain", DIGIT, "neither JSON of numbers"),
        (b"[" * 5000, "text/plain", DIGIT, "neither|nested"),
        (b"1 2 3", "text/plain", DIGIT, "got 3 numbers"),
        (npy(digit())[:-1], "application/x-npy", DIGIT, "header promises"),
        (npy(np.array([{}], dtype=object)), "application/x-npy", DIGIT, "dtype object"),
        (npy(np.array(["a"])), "application/x-npy", DIGIT, "dtype <U1"),
        (b"PK\x03\x04", "application/zip", DIGIT, "type application/zip"),
        (picture(digit()), "image/png", SERIES, "a series of"),
        (picture(digit()), "image/png", TEXT, "takes texts"),
        (b"\xff\xfe", "text/plain", TEXT, "no UTF-8"),
        (picture(np.zeros((4, 4), np.uint16)), "image/png", DIGIT, "expected 8 bits a channel"),
    ],
)
def test_what_cannot_be_a_sample_is_refused_in_one_line(content: bytes, kind: str, model: Model, told: str) -> None:
    with pytest.raises(DataError, match=told) as refused:
        fit(content, kind, model)
    assert "\n" not in str(refused.value)


def test_a_header_that_promises_more_than_there_is_allocates_nothing() -> None:
    torn = npy(np.zeros((1, 1), np.uint8)).replace(b"(1, 1), }", b"(99999999")
    with pytest.raises(DataError, match="cannot be read"):
        fit(torn, "application/x-npy", DIGIT)
    header = b"{'descr': '<f8', 'fortran_order': False, 'shape': (99999999999999, 9), }".ljust(117) + b"\n"
    with pytest.raises(DataError, match="header promises"):
        fit(b"\x93NUMPY\x01\x00v\x00" + header, "application/x-npy", DIGIT)


@pytest.mark.slow
@pytest.mark.parametrize(("form", "side"), [("PNG", 8000), ("WEBP", 5500)])
def test_a_picture_of_too_many_pixels_is_refused_before_it_is_decoded(form: str, side: int) -> None:
    written = io.BytesIO()
    Image.new("1", (side, side)).save(written, form)
    assert len(written.getvalue()) < 100_000
    with pytest.raises(DataError, match=f"{side} x {side}"):
        fit(written.getvalue(), f"image/{form.lower()}", DIGIT)


def test_more_pasted_numbers_than_allowed_are_refused_before_they_are_parsed() -> None:
    json_numbers, row = b"[" + b"1," * 3_000_000 + b"1]", b"1 " * 3_000_000
    for content, message in ((json_numbers, "at most 1,000,000 numbers"), (row, "a row of more")):
        started = time.monotonic()
        with pytest.raises(DataError, match=message):
            fit(content, "text/plain", DIGIT)
        assert time.monotonic() - started < 1


def test_a_large_picture_with_alpha_becomes_what_it_becomes_as_a_whole() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (600, 31, 4), dtype=np.uint8)  # more rows than are converted at once
    whole, changes = Image.fromarray(pixels), list[str]()
    expected = Image.alpha_composite(Image.new("RGBA", whole.size, "white"), whole).convert("RGB")
    assert np.array_equal(np.asarray(without_alpha(whole, changes)), np.asarray(expected))
    assert changes == ["Transparent parts were laid on white."]


def test_an_option_that_there_is_not_is_refused() -> None:
    with pytest.raises(UsageError, match="auto, no, yes"):
        fit(b"1", "text/plain", DIGIT, invert="perhaps")
    with pytest.raises(DataError, match="expected a sample from 0 to 1, got 2"):
        fit(npy(np.stack([digit(), digit()])), "application/x-npy", DIGIT, row=2)
