"""The recipe digits as most tests use it."""

from pathlib import Path
from typing import Any

import yaml

DIGITS_RECIPE = Path(__file__).parents[1] / "recipes" / "digits.yaml"


def single_model_recipe() -> dict[str, Any]:
    """Return the recipe with one model and its residual as the score: an ensemble takes as many times as long to train."""
    recipe: dict[str, Any] = yaml.safe_load(DIGITS_RECIPE.read_text(encoding="utf-8"))
    del recipe["train"]["members"]
    recipe["score"] = {"kind": "normalised-residual", "energy": 0.5, "blur": 1}
    return recipe
