"""The hashes of the stages' code: complete, the same everywhere, and written to params.yaml."""

import itertools
import shutil
from pathlib import Path

import pytest
import yaml
from checkout import ROOT

from aeops.data.stage_code import (
    EXEMPT_MODULES,
    STAGE_EXEMPT_MODULES,
    STAGES,
    code_hashes,
    exempt_modules,
    stage_files,
    stage_sha256,
    write_code_hashes,
)
from aeops.errors import UsageError
from aeops.machine.source_files import PACKAGES, file_references, is_within, module_file
from aeops.project import Project
from aeops.provenance.last_run import FLOW_STAGES

ALL_STAGES = (*STAGES, *FLOW_STAGES)
# Only aeops.recipe and other modules that a training reads no value from import them.
BY_STAGE_EXEMPT_MODULES = {"train": {"aeops.kinds", "aeops.files", "ae_models.mappings"}}


@pytest.fixture
def code(tmp_path: Path) -> Path:
    """A folder with the packages, to be changed."""
    for package in PACKAGES:
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def test_each_stage_module_is_hashed() -> None:
    modules = {path.stem for path in (ROOT / "aeops" / "stages").glob("[a-z]*.py")}
    assert modules == set(ALL_STAGES)


@pytest.mark.slow
def test_what_a_stage_imports_lies_within_its_code_and_the_exceptions(loaded_modules: dict[str, list[str]]) -> None:
    for stage in ALL_STAGES:
        names = loaded_modules[f"aeops.stages.{stage}"]
        assert {"aeops", f"aeops.stages.{stage}"} < set(names)
        expected = stage_files(ROOT, stage).keys() | BY_STAGE_EXEMPT_MODULES.get(stage, set())
        assert {name for name in names if not is_within(name, exempt_modules(stage))} <= expected, stage


def test_every_exception_is_a_module() -> None:
    names = [*EXEMPT_MODULES, *itertools.chain.from_iterable(STAGE_EXEMPT_MODULES.values())]
    assert [name for name in names if module_file(ROOT, name) is None] == []
    assert STAGE_EXEMPT_MODULES.keys() <= set(ALL_STAGES)


def test_modules_that_are_chosen_by_name_count() -> None:
    studies = {f"aeops.evaluation.studies.{path.stem}" for path in (ROOT / "aeops/evaluation/studies").glob("[a-z]*.py")}
    assert studies
    assert studies <= stage_files(ROOT, "evaluate").keys()
    assert "aeops.data/data_docs.css" in stage_files(ROOT, "validate")


def changed_stages(code: Path) -> set[str]:
    return {stage for stage in ALL_STAGES if stage_sha256(code, stage) != stage_sha256(ROOT, stage)}


@pytest.mark.slow
def test_a_copy_of_the_code_has_the_same_hashes(code: Path) -> None:
    assert changed_stages(code) == set()


@pytest.mark.slow
def test_a_change_in_a_module_reaches_every_stage_that_uses_it_and_no_other(code: Path) -> None:
    file = code / "aeops" / "data" / "statistics.py"
    file.write_text(file.read_text() + "\n# changed\n")
    changed = changed_stages(code)
    assert {"ingest", "evaluate"} <= changed
    assert not changed & {"train", "gate"}


def test_code_of_scores_thresholds_and_what_comes_later_trains_nothing_again() -> None:
    calibration = {f"ae_models.{name}" for name in ("calibration", "scores", "thresholds", "export", "bundle")}
    calibration |= {f"ae_models.{name}" for name in ("bank_scores", "combined_score", "ensemble_scores", "patch_scores")}
    calibration |= {f"ae_models.spec.{name}" for name in ("scores", "bank_scores", "combined_score", "ensemble_scores")}
    calibration |= {f"ae_models.spec.{name}" for name in ("patch_scores", "thresholds", "fit")}
    later = {"aeops.recipe.reader", "aeops.recipe.gate_rules", "aeops.recipe.studies", "aeops.kinds.image", "aeops.stages.gate"}
    training = {
        f"ae_models.{name}" for name in ("training", "ensemble", "losses", "augmentations", "checkpoint", "spec.training")
    }
    assert calibration <= stage_files(ROOT, "calibrate").keys()
    assert not stage_files(ROOT, "train").keys() & (calibration | later)
    assert training <= stage_files(ROOT, "train").keys()


@pytest.mark.slow
def test_of_a_package_that_only_exports_names_those_count_that_a_stage_uses(code: Path) -> None:
    file = code / "ae_models" / "spec" / "__init__.py"
    text = file.read_text()
    file.write_text(text.replace("    AmbiguityScoreSpec,\n", "").replace('    "AmbiguityScoreSpec",\n', "") + "# changed\n")
    assert "AmbiguityScoreSpec" not in file.read_text()
    assert "train" not in changed_stages(code)
    assert "calibrate" in changed_stages(code)


@pytest.mark.slow
@pytest.mark.parametrize(
    "changed",
    [
        ("import TrainSpec\n", "import TrainSpec\nfrom ae_models.spec.encoders import ConvEncoderSpec as TrainSpec\n"),
        ("import TrainSpec\n", "import TrainSpec\nTrainSpec.epochs = 3\n"),
    ],
)
def test_a_package_that_exports_another_thing_or_does_more_reaches_the_stage_train(code: Path, changed: tuple[str, str]) -> None:
    file = code / "ae_models" / "spec" / "__init__.py"
    file.write_text(file.read_text().replace(*changed))
    assert "train" in changed_stages(code)


@pytest.mark.slow
def test_a_change_in_an_exempt_module_reaches_none(code: Path) -> None:
    (code / "aeops" / "machine" / "lock.py").write_text("")
    assert changed_stages(code) == set()


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import ae_models.one", {"ae_models.one"}),
        ("def load():\n    from aeops.some import one, two", {"aeops.some", "aeops.some.one", "aeops.some.two"}),
        ("from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import aeops.one\nelse:\n    import aeops.two", {"aeops.two"}),
        ("from . import one\nfrom .two import three", {"aeops.here", "aeops.here.one", "aeops.here.two", "aeops.here.two.three"}),
        ("from .. import one", {"aeops", "aeops.one"}),
        ("command = ['-m', 'aeops.one']", {"aeops.one"}),
        ("find(f'aeops.kinds.{name}')", {"aeops.kinds"}),
        ("find(f'{__package__}.parts.{name}')", {"aeops.here.parts"}),
        ("text = f'{name}.aeops.one.'", set()),
    ],
)
def test_names_are_read_from_the_source(source: str, found: set[str], tmp_path: Path) -> None:
    file = tmp_path / "module.py"
    file.write_text(source)
    references = file_references(file, "aeops.here.module")
    names = references.imports | references.strings | references.prefixes
    assert {name for name in names if name.startswith(PACKAGES)} == found


def test_a_project_without_code_takes_the_installed_packages(tmp_path: Path) -> None:
    assert stage_sha256(tmp_path, "train") == stage_sha256(ROOT, "train")


def test_a_stage_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"expected a stage of aeops\.stages, got 'trian'"):
        stage_files(tmp_path, "trian")


# ---------------------------------------------------------------- params.yaml


def test_the_committed_hashes_are_those_of_the_code() -> None:
    recorded = yaml.safe_load((ROOT / "params.yaml").read_text())["code"]
    assert recorded == code_hashes(ROOT), "type: make params"


def test_a_training_waits_for_no_score_and_no_threshold() -> None:
    stages = {name: stage["do"] for name, stage in yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"].items()}
    assert [stages[name]["params"][1] for name in ("train", "calibrate")] == [
        {"recipes/${key}.yaml": ["input", "model", "train"]},
        {"recipes/${key}.yaml": ["score", "threshold", "validate"]},
    ]
    [training] = stages["train"]["outs"]
    assert training in stages["calibrate"]["deps"]


def test_dvc_watches_the_hash_of_each_stage_and_no_file_of_code() -> None:
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    assert tuple(stages) == STAGES
    for name, stage in stages.items():
        assert f"code.{name}" in stage["do"]["params"]
        assert all(path.startswith(("data/", "artifacts/")) for path in stage["do"]["deps"])


@pytest.mark.parametrize("before", ["", "# why\nrecipes:\n  one: {dataset: one}\n", "code:\n  train: old\nother: 1\n"])
def test_writing_keeps_the_other_lines_and_changes_nothing_the_second_time(before: str, tmp_path: Path) -> None:
    file = tmp_path / "params.yaml"
    file.write_text(before)
    project = Project(root=tmp_path, home=tmp_path / ".ae")
    assert write_code_hashes(project)
    text = file.read_text()
    kept = [line for line in before.splitlines() if "code:" not in line and "train:" not in line]
    assert text.splitlines()[: len(kept)] == kept
    assert yaml.safe_load(text)["code"] == code_hashes(ROOT)
    assert not write_code_hashes(project)
    assert file.read_text() == text
    assert [path for path in tmp_path.iterdir() if path != project.home] == [file]  # the state has the lock of who writes
