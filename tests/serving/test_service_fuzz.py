"""The OpenAPI of the service, held to its word by schemathesis: no 5xx, no status or form that the document does not have."""

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from fastapi.testclient import TestClient
from fuzz_settings import fuzz_settings
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from running_service import running
from schemathesis.generation import GenerationMode
from small_bundles import small_bundle, text_bundle

from aeops.bundle.detector import Detector
from aeops.serving.app import GET_HANDLERS, SCORING_PATHS, detector_app
from aeops.serving.limits import RequestLimits
from aeops.serving.request_bodies import JSON

EXAMPLES = 15  # a path, a model and a mode
SECONDS = 5.0  # that an answer may take
QUIET = fuzz_settings(EXAMPLES)


def image_file(file_format: str) -> bytes:
    """Return a file of the size that the model of images takes, which a document of OpenAPI cannot ask for."""
    content = io.BytesIO()
    Image.new("L", (4, 4), 100).save(content, file_format)
    return content.getvalue()


for file_format in ("png", "jpeg", "webp", "bmp", "tiff"):
    schemathesis.openapi.media_type(f"image/{file_format}", st.just(image_file(file_format)))


@pytest.fixture(scope="module", params=["images", "texts"])
def schema(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    make = small_bundle if request.param == "images" else text_bundle
    with running(Detector(make(tmp_path_factory.mktemp("fuzz") / "bundle")), RequestLimits()) as found:
        yield schemathesis.openapi.from_url(f"http://127.0.0.1:{found.port}/openapi.json")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("path", "mode"),
    [
        *((path, GenerationMode.POSITIVE) for path in (*SCORING_PATHS, *GET_HANDLERS)),
        *((path, GenerationMode.NEGATIVE) for path in SCORING_PATHS),
    ],
)
def test_the_service_keeps_its_openapi(schema: Any, path: str, mode: GenerationMode) -> None:
    operation = schema[path]["POST" if path in SCORING_PATHS else "GET"]

    @QUIET
    @given(case=operation.as_strategy(generation_mode=mode))
    def check(case: Any) -> None:
        response = case.call_and_validate()
        assert response.elapsed < SECONDS

    check()


def test_the_document_gives_the_shape_that_the_model_takes(tmp_path: Path) -> None:
    client = TestClient(detector_app(Detector(small_bundle(tmp_path / "bundle")), "images", "1"))
    told = client.get("/openapi.json").json()
    sample = told["paths"]["/score"]["post"]["requestBody"]["content"][JSON]["schema"]["properties"]["inputs"]["anyOf"][0]
    assert [sample["minItems"], sample["items"]["minItems"], sample["items"]["items"]["minItems"]] == [1, 4, 4]
    assert json.dumps(sample["items"]["items"]["items"]) == '{"type": "number", "minimum": 0.0, "maximum": 255.0}'
