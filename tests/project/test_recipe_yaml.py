"""A recipe says what it says: no key twice, no small file that becomes large, no name that leads elsewhere."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from aeops.cli.main import main
from aeops.data.sources.samples import source_labels
from aeops.errors import DataError, UsageError
from aeops.project import Project, is_recipe_name
from aeops.recipe import yaml_reader
from aeops.recipe.reader import load_recipe, read_recipe
from aeops.recipe.yaml_reader import read_yaml

ROOT = Path(__file__).parents[2]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.delenv("AE_HOME", raising=False)
    root = tmp_path / "project"
    (root / "recipes").mkdir(parents=True)
    shutil.copy(ROOT / "recipes" / "digits.yaml", root / "recipes")
    shutil.copy(ROOT / "dvc.yaml", root)
    monkeypatch.chdir(root)
    return Project(root=root, home=root / ".ae")


def write_yaml(folder: Path, text: str | bytes) -> Path:
    file = folder / "one.yaml"
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    return file


# ---------------------------------------------------------------- keys that stand twice


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("gate: {a: 1}\ndata: 2\ngate: {}\n", "the key 'gate' stands in line 1 and again in line 3"),
        ("gate:\n  rule: {a: 1}\n  rule: {a: 2}\n", "the key 'rule' stands in line 2 and again in line 3"),
        ("train: {epochs: 1, epochs: 9}\n", "the key 'epochs' stands in line 1 and again in line 1"),
        ("a: 1\n'a': 2\n", "the key 'a' stands in line 1"),
        ("1: a\n0x1: b\n", "the key 1 stands in line 1"),
        ("list:\n- {b: 1, b: 1}\n", "the key 'b' stands in line 2"),
        ("base: &base {x: 1}\nother: {<<: *base, <<: *base}\n", "the key '<<' stands in line 2"),
    ],
)
def test_a_key_that_stands_twice_is_refused_with_both_lines(text: str, reason: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        read_yaml(write_yaml(tmp_path, text))
    assert reason in str(caught.value)
    assert str(caught.value).startswith("one.yaml: ")


def test_a_second_gate_does_not_replace_the_first_in_silence(project: Project) -> None:
    file = project.recipe_file("digits")
    file.write_text(file.read_text() + "\ngate:\n  anything: {metric: reconstruction.model.mse, at_most: 1000}\n")
    with pytest.raises(UsageError, match="the key 'gate' stands in line"):
        load_recipe(project, "digits")


def test_a_key_may_replace_one_that_is_merged_in(tmp_path: Path) -> None:
    text = "base: &base {x: 1, y: 2}\nother: {<<: *base, x: 3}\n"
    assert read_yaml(write_yaml(tmp_path, text))["other"] == {"x": 3, "y": 2}


# ---------------------------------------------------------------- bombs and what is no YAML


def alias_bomb(levels: int = 12) -> str:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    for level in range(1, levels):
        lines.append(f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 9)}]")
    return "\n".join(lines)


def merge_bomb() -> str:
    lines = ["a0: &a0 {" + ", ".join(f"k{key}: 1" for key in range(50)) + "}"]
    for level in range(1, 8):
        lines.append(f"a{level}: &a{level}\n  <<: [{', '.join([f'*a{level - 1}'] * 9)}]")
    return "\n".join(lines)


@pytest.mark.parametrize(
    "content",
    [
        alias_bomb(),
        merge_bomb(),
        "a: &a [*a]\n",
        "a: &a {b: *a}\n",
        "[" * 2000,
        "{a: " * 2000,
        "- " * 5000,
        "day: 2026-13-45\n",
        f"number: {'9' * 5000}\n",
        "? [a, b]\n: 1\n",
        "a: !!python/object/apply:os.system [true]\n",
        "a: !!float x\n",
        b"a: \xff\n",
        b"a: \0\n",
        "\ta: 1\n",
        "a: *nowhere\n",
        "a: 1\n---\nb: 2\n",
        "x: " + "y" * (yaml_reader.MAX_FILE_BYTES + 1),
    ],
    ids=lambda content: str(content[:20]),
)
def test_what_cannot_be_read_is_one_line_with_the_files_name_at_once(content: str | bytes, tmp_path: Path) -> None:
    file = write_yaml(tmp_path, content)
    with pytest.raises(UsageError) as caught:
        read_recipe(file)
    assert "one.yaml: " in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", ["[" * 2000, "{a: " * 2000, "- " * 5000, "? " * 5000])
def test_deep_nesting_is_refused_before_all_of_it_is_read(content: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=f"it is nested more than {yaml_reader.MAX_DEPTH} deep .*line 1, column"):
        read_yaml(write_yaml(tmp_path, content))


def test_anchors_and_aliases_of_a_usual_size_are_read(tmp_path: Path) -> None:
    assert read_yaml(write_yaml(tmp_path, "a: &a [1, 2]\nb: *a\nc: *a\n")) == {"a": [1, 2], "b": [1, 2], "c": [1, 2]}
    assert read_yaml(write_yaml(tmp_path, "\ufeffa: 1\n")) == {"a": 1}


# ---------------------------------------------------------------- names


@pytest.mark.parametrize(
    "name", ["../x", "./digits", "a/../digits", "x" * 300, "", ".", "..", "-x", "a@1", "a b", "a\0b", "\u202ea"]
)
def test_a_name_that_is_no_plain_name_is_refused_everywhere(
    name: str, project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(project.recipe_file("digits"), project.root / "x.yaml")
    assert not is_recipe_name(name)
    with pytest.raises(UsageError, match=r"^no recipe ") as caught:
        load_recipe(project, name)
    assert len(str(caught.value)) < 400
    for command in (["show"], ["history"], ["retire", "--why", "x"], ["monitor"], ["score", "--inbox"]):
        assert main([command[0], *command[1:], "--", name]) == 2
        assert "Traceback" not in capsys.readouterr().err


def test_names_of_recipes_that_there_are_are_good() -> None:
    for file in (ROOT / "recipes").glob("*.yaml"):
        assert is_recipe_name(file.stem)
    for name in ("Linie-2", "größe", "v1.2", "x_y", "7"):
        assert is_recipe_name(name)


def test_a_file_whose_name_no_recipe_may_have_is_a_mistake(project: Project) -> None:
    file = project.recipes / "two words.yaml"
    shutil.copy(project.recipe_file("digits"), file)
    with pytest.raises(UsageError, match="expected a file named by letters"):
        read_recipe(file)


# ---------------------------------------------------------------- labels by name


def named(project: Project, labels: str, novelty: str) -> None:
    file = project.recipe_file("digits")
    text = file.read_text()
    text = text.replace("labels: [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]", f"labels: {labels}")
    file.write_text(text.replace("novelty: [5]", f"novelty: {novelty}"))


def test_labels_may_be_names_which_stand_for_their_places(project: Project) -> None:
    named(project, "[good, scratch, dent]", "[dent]")
    recipe = load_recipe(project, "digits")
    assert (recipe.data.labels, recipe.data.novelty) == ((0, 1, 2), (2,))
    assert [recipe.label_text(label) for label in (0, 2, 9)] == ["good", "dent", "9"]
    for labels in (np.array(["good", "dent", "good"]), np.array([0, 2, 0])):
        np.testing.assert_array_equal(source_labels(labels, 3, recipe, "labels.npy", "x.npy"), [0, 2, 0])
    with pytest.raises(DataError, match=r"labels\.npy: expected the labels good, scratch, dent \(data\.labels\), got dents"):
        source_labels(np.array(["good", "dents"]), 2, recipe, "labels.npy", "x.npy")


def test_names_that_the_recipe_does_not_have_are_told_how_to_be_written(project: Project) -> None:
    recipe = load_recipe(project, "digits")
    assert recipe.label_text(5) == "5"
    with pytest.raises(
        DataError, match=r"write the names in data\.labels of recipes/digits\.yaml, such as labels: \[bad, good\]"
    ):
        source_labels(np.array(["good", "bad"]), 2, recipe, "labels.npy", "x.npy")


@pytest.mark.parametrize(
    ("labels", "novelty", "reason"),
    [
        ("[good, 1]", "[]", "expected whole numbers, or different names"),
        ("[good, good]", "[]", "expected whole numbers, or different names"),
        ("['$x', b]", "[]", "without \\$"),
        ("[good, scratch]", "[scrach]", "expected good or scratch, as in data.labels, got 'scrach': did you mean scratch"),
        ("[good, scratch]", "[1]", "expected good or scratch"),
    ],
)
def test_mistakes_in_named_labels_are_told(labels: str, novelty: str, reason: str, project: Project) -> None:
    named(project, labels, novelty)
    with pytest.raises(UsageError, match=reason):
        load_recipe(project, "digits")
