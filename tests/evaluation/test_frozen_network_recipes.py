"""A recipe with a frozen network: its file is named by content, found as sources are, and checked before anything starts."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import yaml
from digits_recipe import single_model_recipe
from frozen_backbone import export_network
from torch import nn

from ae_models.onnx_graph import SUPPORTED_OPERATORS
from ae_models.spec import FitSpec, OnnxEncoderSpec
from aeops.data.fit_samples import find_backbone
from aeops.errors import DataError, UsageError
from aeops.evaluation.before_training import require_named_files
from aeops.files import file_sha256
from aeops.project import Project
from aeops.recipe.reader import read_recipe
from aeops.stages import train as train_stage
from aeops.stages.calibrate import calibrate_bundle

RECIPES = Path(__file__).parents[2] / "recipes"


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    layers = [nn.Conv2d(1, 4, 3, 2, 1), nn.ReLU(), nn.Conv2d(4, 6, 3, 2, 1), nn.ReLU(), nn.Flatten(), nn.Linear(6 * 49, 2)]
    return export_network(nn.Sequential(*layers).eval(), tmp_path_factory.mktemp("networks") / "backbone.onnx")


@pytest.fixture
def project(tmp_path: Path, backbone: Path) -> Project:
    project = Project(tmp_path, tmp_path / ".ae")
    file = project.home / "sources" / "networks" / "backbone.onnx"
    file.parent.mkdir(parents=True)
    file.write_bytes(backbone.read_bytes())
    return project


def recipe_with(tmp_path: Path, encode: dict[str, Any], **sections: Any) -> Path:
    """The recipe digits with another encoder."""
    document = single_model_recipe()
    document["model"]["encode"] = {"kind": "onnx", "path": "networks/backbone.onnx"} | encode
    document |= sections
    file = tmp_path / "digits.yaml"
    file.write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")
    return file


def test_a_recipe_names_the_content_of_the_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as error:
        read_recipe(recipe_with(tmp_path, {}, purpose="guess"))
    expected = "expected the SHA-256 of networks/backbone.onnx, as `sha256sum networks/backbone.onnx` prints it, got nothing"
    assert f"recipes/digits.yaml: model.encode.path_sha256: {expected}" in str(error.value)
    assert "recipes/digits.yaml: purpose: " in str(error.value)  # with every other mistake


def test_the_file_is_found_as_those_of_a_source_are(project: Project, tmp_path: Path, backbone: Path) -> None:
    recipe = read_recipe(recipe_with(tmp_path, {"path_sha256": file_sha256(backbone)}, score={"kind": "patch-bank"}))
    require_named_files(recipe, project)
    assert find_backbone(recipe.fit, project) == project.home / "sources" / "networks" / "backbone.onnx"
    assert find_backbone(read_recipe(RECIPES / "digits.yaml").fit, project) is None


def test_another_file_and_none_are_said_before_anything_starts(project: Project, tmp_path: Path) -> None:
    recipe = read_recipe(recipe_with(tmp_path, {"path_sha256": "0" * 64}))
    with pytest.raises(DataError, match=r"expected SHA-256 0{12}\.\.\. \(path_sha256\), got .* correct model\.encode\.path in"):
        require_named_files(recipe, project)
    recipe = read_recipe(recipe_with(tmp_path, {"path_sha256": "0" * 64, "path": "gone.onnx"}))
    with pytest.raises(DataError, match=r"gone\.onnx: no such file; looked for .* correct model\.encode\.path in recipes/digits"):
        require_named_files(recipe, project)


def test_a_network_that_cannot_be_used_is_refused_before_anything_starts(
    project: Project, tmp_path: Path, backbone: Path
) -> None:
    known = {"path_sha256": file_sha256(backbone)}
    rivals = {"studies": {"rivals": {"larger": {"model": {"encode": {"resize": [40, 40]}}}}}}
    recipe = read_recipe(
        recipe_with(tmp_path, known | {"maps": ["none"]}, evaluate={"pca_components": 16, "neighbours": 5} | rivals)
    )
    with pytest.raises(UsageError) as error:
        require_named_files(recipe, project)
    lines = str(error.value).splitlines()
    assert "recipes/digits.yaml: model.encode: " in lines[0]
    assert "maps: expected names of tensors" in lines[0]
    assert "recipes/digits.yaml: evaluate.studies.rivals.larger.model.encode: " in lines[1]
    assert "expected images of 28 x 28 pixels, as the network reads, got 40 x 40 (resize)" in lines[1]
    text = project.find_source("networks/backbone.onnx")
    text.write_text("no network")
    recipe = read_recipe(recipe_with(tmp_path, {"path_sha256": file_sha256(text)}))
    with pytest.raises(UsageError, match=r"recipes/digits\.yaml: model\.encode: .* expected an ONNX file, got something else"):
        require_named_files(recipe, project)


@pytest.mark.slow
def test_the_stages_train_with_the_file_and_carry_it(
    project: Project, tmp_path: Path, backbone: Path, digits: tuple[np.ndarray, np.ndarray], writers: SimpleNamespace
) -> None:
    writers.prepared(tmp_path / "prepared", *digits)
    encode, train = (
        {"path_sha256": file_sha256(backbone), "width": 4},
        {"epochs": 1, "batch": 64, "accelerator": "cpu", "threads": 1},
    )
    recipe = read_recipe(recipe_with(tmp_path, encode, train=train, score={"kind": "patch-bank", "rows": 50}))
    folders = [tmp_path / name for name in ("prepared", "training", "bundle")]
    train_stage.train(recipe, project, *folders[:2])
    calibrate_bundle(recipe, project, *folders)
    document = json.loads((tmp_path / "bundle" / "bundle.json").read_text(encoding="utf-8"))
    assert document["model"]["encode"]["path"] == "networks/backbone.onnx"
    assert document["data"]["backbone_sha256"] == file_sha256(tmp_path / "bundle" / "backbone.onnx") == encode["path_sha256"]
    (project.home / "sources" / "networks" / "backbone.onnx").unlink()
    with pytest.raises(DataError, match=r"networks/backbone\.onnx: no such file"):
        train_stage.train(recipe, project, *folders[:2])
    calibrate_bundle(recipe, project, *folders)  # which needs the training alone


def test_a_rival_needs_the_hash_as_well(tmp_path: Path) -> None:
    document = single_model_recipe()
    rival = {"model": {"encode": {"kind": "onnx", "path": "networks/backbone.onnx"}}}
    document["evaluate"]["studies"] = {"rivals": {"frozen": rival}}
    file = tmp_path / "digits.yaml"
    file.write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")
    with pytest.raises(UsageError, match=r"evaluate\.studies\.rivals\.frozen\.model\.encode\.path_sha256: expected the SHA-256"):
        read_recipe(file)


def test_the_page_lists_every_operator_and_its_recipe_is_one(tmp_path: Path) -> None:
    page = (RECIPES.parent / "docs" / "features.md").read_text(encoding="utf-8")
    listed = page.partition("The operators: ")[2].partition(". ")[0].replace("\n", " ").split(", ")
    assert set(listed) == SUPPORTED_OPERATORS
    sections = yaml.safe_load(page.partition("```yaml")[2].partition("```")[0])
    sections["model"]["encode"]["path_sha256"] = "0" * 64
    digits = single_model_recipe()
    fit = FitSpec.from_dict({key: digits[key] for key in ("input", "threshold", "train")} | sections, "features.md")
    assert isinstance(fit.model.encode, OnnxEncoderSpec)
    assert fit.score.kind == "patch-bank"
