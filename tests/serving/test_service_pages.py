"""docs/serving.md says what the records of the two benchmarks say, and names what there is."""

import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from aeops.recipe.sections import ServingSpec
from aeops.serving.app import GET_HANDLERS, SCORING_PATHS
from aeops.serving.limits import RequestLimits

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "serving.md").read_text(encoding="utf-8")


def benchmark(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(name, ROOT / "benchmarks" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # its dataclasses look there
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", ["serving_speed", "serving_soak"])
def test_the_page_says_what_the_record_says(name: str) -> None:
    found = benchmark(name)
    recorded = json.loads(found.RECORD.read_text()) if found.RECORD.is_file() else None
    assert found.update_page(PAGE, recorded) == PAGE, f"python benchmarks/{name}.py --docs-only"


def test_the_page_names_every_path_and_the_limits_as_they_are() -> None:
    for path in (*SCORING_PATHS, *GET_HANDLERS):
        assert path in PAGE
    limits = RequestLimits()
    assert f"{limits.body_bytes // 2**20} MiB a body and {limits.bytes_in_flight // 2**20} MiB of all" in PAGE
    assert f"{limits.samples:,} samples; {limits.json_numbers // 10**6} million numbers in a JSON body" in PAGE
    assert f"{limits.explained_samples:,} samples to explain;\n{limits.text_bytes:,} characters a text" in PAGE
    assert f"{limits.all_text_bytes // 2**10} KiB of all texts; {limits.answer_values // 10**6} million numbers in a JSON" in PAGE
    assert (
        f"{limits.queue} requests that wait; {limits.body_seconds:g} s for a body, {limits.head_seconds:g} s for headers" in PAGE
    )
    spec = ServingSpec()
    assert f"shadow_requests: {spec.shadow_requests}, shadow_seconds: {spec.shadow_seconds:g}" in PAGE
