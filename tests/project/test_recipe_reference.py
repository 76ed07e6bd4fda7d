"""What is said of a recipe's keys, in docs, in the JSON Schema and by `ae recipe explain`, is what its reader accepts."""

from collections.abc import Iterator
from pathlib import Path

import jsonschema
import pytest
import yaml
from checkout import ROOT

from aeops.cli.main import main
from aeops.errors import UsageError
from aeops.recipe.json_schema import recipe_schema
from aeops.recipe.reader import SECTIONS
from aeops.recipe.reference import explain, reference_page
from aeops.recipe.structure import Either, Group, Key, Kinds, ListOf, MappingOf, Node, recipe_structure

RECIPES = sorted((ROOT / "recipes").glob("*.yaml"))


@pytest.fixture(scope="module")
def validator() -> jsonschema.Draft202012Validator:
    schema = recipe_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def keys_below(node: Node, path: str = "") -> Iterator[tuple[str, Key]]:
    if isinstance(node, Group):
        for name, key in node.keys.items():
            yield f"{path}{name}", key
            yield from keys_below(key.node, f"{path}{name}.")
    elif isinstance(node, Kinds):
        for kind, group in node.groups.items():
            yield from keys_below(group, f"{path}{kind}.")
    elif isinstance(node, ListOf | MappingOf):
        yield from keys_below(node.item if isinstance(node, ListOf) else node.value, path)
    elif isinstance(node, Either):
        for form in node.forms:
            yield from keys_below(form, path)


def test_the_page_is_that_of_the_code() -> None:
    page = (ROOT / "docs" / "recipe-reference.md").read_text(encoding="utf-8")
    assert page == reference_page(), "type: python docs/generate_recipe_reference.py"


def test_every_section_and_every_key_has_a_description_and_can_be_explained() -> None:
    keys = dict(keys_below(recipe_structure()))
    assert tuple(recipe_structure().keys) == SECTIONS
    assert len(keys) > 250
    assert [path for path, key in keys.items() if not key.description] == []
    for path in keys:
        assert explain(path)[0].startswith(f"{path}: ")


@pytest.mark.parametrize("file", RECIPES, ids=lambda file: file.stem)
def test_every_shipped_recipe_fits_the_schema(file: Path, validator: jsonschema.Draft202012Validator) -> None:
    errors = [error.message for error in validator.iter_errors(yaml.safe_load(file.read_text(encoding="utf-8")))]
    assert errors == []


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("train.epoch", 3),
        ("train.epochs", 0),
        ("train.epochs", "many"),
        ("model.encode.kind", "konv"),
        ("model.encode.hidden", 3),
        ("threshold.false_alarm_rate", 0.9),
        ("data.source.kind", "folder"),
        ("purpose", "guess"),
        ("gate.mine", {"at": 3}),
        ("evaluate.studies", {"powers": {}}),
    ],
)
def test_what_the_reader_refuses_the_schema_refuses(path: str, value: object, validator: jsonschema.Draft202012Validator) -> None:
    recipe = yaml.safe_load((ROOT / "recipes" / "digits.yaml").read_text(encoding="utf-8"))
    assert validator.is_valid(recipe)
    *sections, key = path.split(".")
    place = recipe
    for section in sections:
        place = place[section]
    place[key] = value
    assert not validator.is_valid(recipe)


def test_a_key_is_explained_with_its_bounds_and_its_default(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["recipe", "explain", "train.epochs"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "train.epochs: a whole number, 1 to 100,000"
    assert lines[1].split() == ["default", "10"]
    assert "conv " in "\n".join(explain("model.encode"))
    assert "channels after each halving" in "\n".join(explain("model.encode.conv"))
    assert "a number, 0.05 to 10; default 0.3" in "\n".join(explain("score.combined.scores.local-hull"))


def test_a_key_that_does_not_exist_is_refused_with_the_near_match() -> None:
    with pytest.raises(UsageError, match=r"no key 'epoch': expected epochs, .* in train: did you mean epochs\?"):
        explain("train.epoch")
    with pytest.raises(UsageError, match=r"no key 'x': train\.epochs has no keys"):
        explain("train.epochs.x")
