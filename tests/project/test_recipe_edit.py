"""A setting of a recipe is changed as a person would change it: nothing else in the file moves."""

from pathlib import Path

import pytest
import yaml

from aeops.errors import UsageError
from aeops.recipe.edit import with_settings

RECIPES = sorted((Path(__file__).parents[2] / "recipes").glob("*.yaml"))
BLOCK = "a: 1  # one\nthreshold:\n  kind: mad  # why\n  deviations: 3.5\n\n# about b\nb: {c: 2}\n"


@pytest.mark.parametrize("file", RECIPES, ids=lambda file: file.stem)
def test_in_every_shipped_recipe_one_line_changes(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    settings = {"false_alarm_rate": 0.00005, "samples": "calibration/x-1.npy", "samples_sha256": "0123" * 16}
    changed = with_settings(text, "threshold", settings, file.name)
    before, after = yaml.safe_load(text), yaml.safe_load(changed)
    assert after == before | {"threshold": before["threshold"] | settings}
    lines = list(zip(text.splitlines(), changed.splitlines(), strict=True))
    assert [old.partition(":")[0] for old, new in lines if old != new] == ["threshold"]


def test_in_a_block_the_comments_stay_and_a_new_key_follows_the_last() -> None:
    changed = with_settings(BLOCK, "threshold", {"deviations": 4, "samples": "x.npy"}, "r.yaml")
    assert changed == BLOCK.replace("deviations: 3.5\n", "deviations: 4\n  samples: x.npy\n")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a: 1\n", "expected a section threshold with settings, got none"),
        ("threshold: mad\n", "expected a section threshold with settings, got none"),
        ("base: &t {rate: 1}\nthreshold: *t\n", "cannot be changed safely: write rate: 2 there by hand"),
        ("a: [\n", "not readable as YAML"),
    ],
)
def test_a_section_that_cannot_be_changed_alone_is_left_to_a_person(text: str, reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        with_settings(text, "threshold", {"rate": 2}, "r.yaml")
