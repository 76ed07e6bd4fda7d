"""Image files as they are, sent to the scoring service and given to `ae score`: the bundle says how they become samples."""

import io
from pathlib import Path

import numpy as np
import pytest
from fastapi.testclient import TestClient
from image_folders import encoded, png_bomb, textures
from PIL import Image
from small_bundles import SIDE, small_bundle, text_bundle

from aeops.bundle.detector import Detector
from aeops.serving.app import detector_app


def client_of(folder: Path, **rules: str) -> TestClient:
    return TestClient(detector_app(Detector(small_bundle(folder / "bundle", **rules)), "small", "1"))


def post(client: TestClient, content: bytes, media_type: str) -> tuple[int, dict[str, object]]:
    answer = client.post("/score", content=content, headers={"content-type": media_type})
    return answer.status_code, answer.json()


@pytest.mark.parametrize(("kind", "media_type"), [("PNG", "image/png"), ("BMP", "image/bmp"), ("TIFF", "image/tiff")])
def test_a_file_is_scored_as_its_pixels_are(tmp_path: Path, kind: str, media_type: str) -> None:
    pixels = textures(1, SIDE)
    client = client_of(tmp_path)
    expected = client.post("/score", json={"inputs": pixels.tolist()}).json()["predictions"]
    status, answer = post(client, encoded(Image.fromarray(pixels[0]), kind), media_type)
    assert status == 200
    assert answer["predictions"] == expected


def test_a_large_colour_photograph_is_resized_by_the_bundles_rule_and_refused_where_it_has_none(tmp_path: Path) -> None:
    photo = Image.fromarray(textures(1, 64)[0]).convert("RGB")
    content = encoded(photo, "JPEG", quality=95)
    status, answer = post(client_of(tmp_path / "ruled", resize="stretch"), content, "image/jpeg")
    assert status == 200
    small = np.asarray(Image.open(io.BytesIO(content)).convert("L").resize((SIDE, SIDE), Image.Resampling.LANCZOS))
    expected = float(np.mean((small / 255 - 0.5) ** 2))
    assert answer["predictions"][0]["score"] == pytest.approx(expected, rel=1e-4)  # type: ignore[index]
    status, answer = post(client_of(tmp_path / "plain"), content, "image/jpeg")
    assert status == 422
    assert f"expected {SIDE}x{SIDE} pixels, got 64x64" in str(answer["error"])


def test_each_page_is_a_prediction_where_the_rule_says_so(tmp_path: Path) -> None:
    pages = [Image.fromarray(page) for page in textures(3, SIDE)]
    content = encoded(pages[0], "TIFF", save_all=True, append_images=pages[1:])
    assert len(post(client_of(tmp_path / "each", frames="each"), content, "image/tiff")[1]["predictions"]) == 3  # type: ignore[arg-type]
    assert len(post(client_of(tmp_path / "first", frames="first"), content, "image/tiff")[1]["predictions"]) == 1  # type: ignore[arg-type]
    status, answer = post(client_of(tmp_path / "none"), content, "image/tiff")
    assert status == 422
    assert "3 pages or frames" in str(answer["error"])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "cannot be read"),
        (b"no image", "cannot be read"),
        (png_bomb(30_000, 30_000), "more than 178,956,970 pixels"),
        (png_bomb(8_000, 6_000), "pixels"),
    ],
)
def test_a_hostile_file_is_refused_in_one_line(tmp_path: Path, content: bytes, message: str) -> None:
    status, answer = post(client_of(tmp_path), content, "image/png")
    assert status == 422
    assert message in str(answer["error"])
    assert "\n" not in str(answer["error"])


def test_a_model_of_texts_takes_no_image_and_the_description_names_what_is_taken(tmp_path: Path) -> None:
    texts = TestClient(detector_app(Detector(text_bundle(tmp_path / "texts")), "texts", "1"))
    status, answer = post(texts, encoded(Image.new("L", (8, 8)), "PNG"), "image/png")
    assert status == 415
    assert "samples are no images" in str(answer["error"])
    described = client_of(tmp_path).get("/openapi.json").json()["paths"]["/score"]["post"]["requestBody"]["content"]
    assert {"image/png", "image/jpeg", "image/tiff"} <= set(described)
    assert "image/png" not in texts.get("/openapi.json").json()["paths"]["/score"]["post"]["requestBody"]["content"]


def test_a_folder_of_files_is_read_by_the_bundles_rule_and_each_keeps_its_path(tmp_path: Path) -> None:
    detector = Detector(small_bundle(tmp_path / "bundle", resize="pad", frames="each"))
    folder = tmp_path / "photos" / "monday"
    folder.mkdir(parents=True)
    Image.fromarray(textures(1, 64)[0]).save(folder / "a.jpg")
    pages = [Image.fromarray(page) for page in textures(2, SIDE)]
    pages[0].save(folder / "b.tiff", save_all=True, append_images=pages[1:])
    (folder / "c.png").write_bytes(b"no image")
    found = detector.data_kind.read_file(tmp_path / "photos", detector.spec)
    assert list(found.names) == ["monday/a.jpg", "monday/b.tiff#1", "monday/b.tiff#2"]
    assert found.values.shape == (3, 1, SIDE, SIDE)
    assert list(found.refused) == ["monday/c.png"]
