"""prefect.yaml: three deployments a recipe, taken by any checkout."""

import importlib
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
RECIPES = sorted(yaml.safe_load((ROOT / "params.yaml").read_text())["recipes"])
TEXT = (ROOT / "prefect.yaml").read_text()
DEPLOYMENTS: list[dict[str, Any]] = yaml.safe_load(TEXT)["deployments"]
FLOWS = {
    "retrain": "flows.training.training",
    "score": "flows.scoring.scoring",
    "monitor": "flows.monitoring.monitoring",
}


def test_every_recipe_has_its_three_deployments_and_nothing_else_is_deployed() -> None:
    wanted = {(f"{verb}-{recipe}", entrypoint, recipe) for recipe in RECIPES for verb, entrypoint in FLOWS.items()}
    found = [(one["name"], one["entrypoint"], one["parameters"]["recipe"]) for one in DEPLOYMENTS]
    assert set(found) == wanted
    assert len(found) == len(wanted)


@pytest.mark.parametrize("entrypoint", sorted(FLOWS.values()))
def test_every_entrypoint_is_a_flow_that_takes_a_recipe(entrypoint: str) -> None:
    module, _, name = entrypoint.rpartition(".")
    flow = getattr(importlib.import_module(module), name)
    flow.validate_parameters({"recipe": "digits"})


def test_it_speaks_of_the_recipe_that_was_run_in_this_checkout_alone_and_its_schedules_are_active() -> None:
    assert RECIPES == ["digits"]
    active = {one["parameters"]["recipe"] for one in DEPLOYMENTS for schedule in one["schedules"] if schedule["active"]}
    assert active == {"digits"}


def test_runs_of_a_deployment_queue_in_the_process_pool_and_times_are_utc() -> None:
    for one in DEPLOYMENTS:
        assert one["concurrency_limit"] == {"limit": 1, "collision_strategy": "ENQUEUE"}
        assert one["work_pool"]["name"] == "ae"
        assert {schedule["timezone"] for schedule in one["schedules"]} == {"UTC"}
        assert one["schedules"]


def test_no_path_of_any_machine_stands_in_it() -> None:
    assert not re.findall(r"(?<![\w.])/(?:home|root|work|opt|srv|app|tmp|usr|Users)\b", TEXT)
