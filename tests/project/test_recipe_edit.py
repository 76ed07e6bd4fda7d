"""Settings of a recipe are changed as a person would change them: nothing else in the file moves."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from aeops.errors import UsageError
from aeops.recipe.edit import parse_setting, with_settings

RECIPES = sorted((Path(__file__).parents[2] / "recipes").glob("*.yaml"))
BLOCK = "a: 1  # one\nthreshold:\n  kind: mad  # why\n  deviations: 3.5\n\n# about b\nb: {c: 2}\nd:\n- {e: 1}\n- {e: 2}\n# end\n"


@pytest.mark.parametrize("file", RECIPES, ids=lambda file: file.stem)
def test_in_every_shipped_recipe_one_line_changes(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    values = {"false_alarm_rate": 0.00005, "samples": "calibration/x-1.npy", "samples_sha256": "0123" * 16}
    changed = with_settings(text, {f"threshold.{key}": value for key, value in values.items()}, file.name)
    before, after = yaml.safe_load(text), yaml.safe_load(changed)
    assert after == before | {"threshold": before["threshold"] | values}
    lines = list(zip(text.splitlines(), changed.splitlines(), strict=True))
    assert [old.partition(":")[0] for old, new in lines if old != new] == ["threshold"]


@pytest.mark.parametrize("file", RECIPES, ids=lambda file: file.stem)
def test_a_new_section_is_added_at_the_end_of_every_shipped_recipe(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    changed = with_settings(text, {"serving.shadow_requests": 3}, file.name)
    assert yaml.safe_load(changed) == yaml.safe_load(text) | {"serving": {"shadow_requests": 3}}
    assert changed.startswith(text.rstrip("\n"))


@pytest.mark.parametrize(
    ("settings", "old", "new"),
    [
        ({"threshold.deviations": 4, "threshold.samples": "x.npy"}, "deviations: 3.5\n", "deviations: 4\n  samples: x.npy\n"),
        ({"b.f.g": [1, "no", None]}, "{c: 2}", '{c: 2, f: {g: [1, "no", null]}}'),
        ({"b.c": {"kind": "knn", "share": 1e-5}}, "{c: 2}", "{c: {kind: knn, share: 0.00001}}"),
        ({"d.1.e": True}, "{e: 2}", "{e: true}"),
        ({"a": "two: three"}, "a: 1 ", 'a: "two: three" '),
        ({"z": 5}, "{e: 2}\n", "{e: 2}\nz: 5\n"),
        ({"b": {}, "b.c": 1}, "{c: 2}", "{c: 1}"),
    ],
)
def test_a_value_of_any_depth_is_changed_or_added_and_comments_stay(settings: dict[str, Any], old: str, new: str) -> None:
    assert BLOCK.count(old) == 1
    assert with_settings(BLOCK, settings, "r.yaml") == BLOCK.replace(old, new)


@pytest.mark.parametrize(
    ("text", "settings", "reason"),
    [
        ("threshold: mad\n", {"threshold.rate": 2}, "threshold.rate: expected a mapping that may hold rate, got 'mad'"),
        ("base: &t {rate: 1}\nthreshold: *t\n", {"threshold.rate": 2}, "cannot be changed safely: write threshold.rate: 2 there"),
        ("a: [\n", {"a": 2}, "not readable as YAML"),
        (BLOCK, {"threshold": 3}, "cannot be changed safely: write threshold: 3 there by hand"),
        (BLOCK, {"d.2.e": 3}, "d.2.e: expected 0 to 1, the number of an item, got '2'"),
    ],
)
def test_what_cannot_be_changed_alone_is_left_to_a_person(text: str, settings: dict[str, Any], reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        with_settings(text, settings, "r.yaml")


@pytest.mark.parametrize(
    ("typed", "value"),
    [("a.b=5", 5), ("a.b=1e-3", 0.001), ("a.b=[8, 16]", [8, 16]), ("a.b={kind: knn}", {"kind": "knn"}), ("a.b=x=y", "x=y")],
)
def test_a_typed_setting_is_read_as_yaml(typed: str, value: Any) -> None:
    assert parse_setting(typed) == ("a.b", value)


@pytest.mark.parametrize("typed", ["a.b", "=5", "a..b=5", ".=5", "a=[1"])
def test_a_setting_of_another_form_is_refused(typed: str) -> None:
    with pytest.raises(UsageError, match=r"expected KEY=VALUE, such as train\.epochs=5, got|not readable as YAML"):
        parse_setting(typed)
