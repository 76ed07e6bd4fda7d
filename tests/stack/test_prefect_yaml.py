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
    "retrain": "flows/training.py:training",
    "score": "flows/scoring.py:scoring",
    "monitor": "flows/monitoring.py:monitoring",
}


def test_every_recipe_has_its_three_deployments_and_nothing_else_is_deployed() -> None:
    wanted = {(f"{verb}-{recipe}", entrypoint, recipe) for recipe in RECIPES for verb, entrypoint in FLOWS.items()}
    found = [(one["name"], one["entrypoint"], one["parameters"]["recipe"]) for one in DEPLOYMENTS]
    assert set(found) == wanted
    assert len(found) == len(wanted)


@pytest.mark.parametrize("entrypoint", sorted(FLOWS.values()))
def test_every_entrypoint_is_a_flow_that_takes_a_recipe(entrypoint: str) -> None:
    file, name = entrypoint.split(":")
    flow = getattr(importlib.import_module(file.removesuffix(".py").replace("/", ".")), name)
    flow.validate_parameters({"recipe": "digits"})


def test_only_the_recipe_whose_data_ships_with_the_environment_is_active() -> None:
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
