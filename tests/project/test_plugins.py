"""Own parts, sources and studies: the modules of docs/plugins.md are found, checked, hashed, recorded and built."""

import shutil
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from checkout import ROOT
from documented_plugins import MODULES, documented_files, forget_plugins, write_own_recipe, write_plugins

from ae_models.autoencoder import Autoencoder
from ae_models.combined_score import build_score
from ae_models.errors import SpecError
from ae_models.factory import build_part
from ae_models.threshold_interface import CalibrationScores
from ae_models.thresholds import THRESHOLDS, read_threshold
from aeops.data.listed_recipes import list_recipe
from aeops.data.own_code import own_source_sha256, stage_suffixes
from aeops.data.pipeline_files import metrics_and_plots, pipeline_text
from aeops.data.sources.catalogue import read_source, source_digest
from aeops.errors import DataError, UsageError
from aeops.plugins import own_parts, use_project
from aeops.project import Project
from aeops.project_files.templates import read_template
from aeops.provenance.code_archive import code_facts, unpack_code, write_code_archive
from aeops.provenance.run_plan import plan_run
from aeops.recipe.json_schema import recipe_schema
from aeops.recipe.reader import Recipe, load_recipe
from aeops.recipe.reference import explain
from aeops.recipe.structure import _group, recipe_structure
from aeops.registry.carried_code import carried_files


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    """A project with the documented modules, the recipe `small` that names each part of them, and `digits`, which names none."""
    root = tmp_path / "project"
    (root / "recipes").mkdir(parents=True)
    shutil.copy(ROOT / "recipes" / "digits.yaml", root / "recipes")
    (root / "dvc.yaml").write_text(read_template("dvc.yaml"))
    write_plugins(root)
    write_own_recipe(root)
    yield Project(root, root / ".ae")
    forget_plugins(root)
    for cached in (recipe_structure, _group):
        cached.cache_clear()


def changed(project: Project, name: str, old: str, new: str) -> Recipe:
    """Change a text of one of the modules, and read the recipe as a fresh process does."""
    file = project.root / name
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))
    forget_plugins(project.root)
    return load_recipe(project, "small")


def refusal(project: Project) -> str:
    forget_plugins(project.root)
    with pytest.raises(UsageError) as refused:
        load_recipe(project, "small")
    return str(refused.value)


# ---------------------------------------------------------------- a recipe names them


def test_a_recipe_names_own_parts_like_any_other(project: Project) -> None:
    recipe = load_recipe(project, "small")
    fit = recipe.fit
    assert (fit.model.encode.kind, fit.model.decode.kind) == ("pooled", "linear")
    assert (fit.score.kind, fit.threshold.kind) == ("worst-pixels", "fences")
    assert recipe.data.source.kind == "flat-file"
    assert set(recipe.evaluate.studies) == {"power", "brightness"}


def test_mistakes_in_their_settings_are_told_with_all_others(project: Project) -> None:
    file = project.recipe_file("small")
    recipe = yaml.safe_load(file.read_text())
    recipe["model"]["encode"]["side"] = 0
    recipe["score"]["cuont"] = 3
    recipe["evaluate"]["studies"]["brightnes"] = {}
    recipe["data"]["source"]["labels"] = 3
    file.write_text(yaml.safe_dump(recipe))
    message = refusal(project)
    assert "model.encode.side: expected 1 to 64, got 0" in message
    assert "score: unexpected key 'cuont', expected count: did you mean count?" in message
    assert "did you mean brightness?" in message
    assert "data.source.labels: expected a word, got 3" in message


def test_explain_and_the_schema_know_them(project: Project) -> None:
    use_project(project.root)
    for cached in (recipe_structure, _group):
        cached.cache_clear()
    assert "pixels a side of a square" in "\n".join(explain("model.encode.pooled"))
    schema = recipe_schema()["properties"]
    for section, kind in (("score", "worst-pixels"), ("threshold", "fences")):
        assert kind in [form["properties"]["kind"]["const"] for form in schema[section]["oneOf"]]


def test_their_work_is_built_and_a_stored_threshold_is_read_back(project: Project) -> None:
    fit = load_recipe(project, "small").fit
    autoencoder = Autoencoder(fit.model, fit.input).eval()
    images = torch.rand(4, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    output = autoencoder.run(images)
    scores = build_score(fit.score, autoencoder)(output)
    worst = (images - output.reconstruction).square().flatten(1).sort(1).values[:, -30:].mean(1)
    torch.testing.assert_close(scores, torch.log(worst + 1e-6))
    threshold = build_part(THRESHOLDS, fit.threshold).calibrate(CalibrationScores(np.arange(101, dtype=np.float32)))
    assert threshold.value == 75 + 3 * 50
    section = {"kind": "fences", "ranges": 3.0, "value": threshold.value, "upper_quartile": 75.0, "calibration_rows": 101}
    assert read_threshold(section).details == {"upper_quartile": 75.0}


def test_an_own_source_is_read_and_its_files_give_its_digest(project: Project) -> None:
    recipe = load_recipe(project, "small")
    samples = read_source(recipe, project)
    np.testing.assert_array_equal(samples.array, np.load(project.root / "inbox" / "images.npy"))
    before = source_digest(recipe, project)
    with (project.root / "inbox" / "labels.bin").open("r+b") as file:
        file.write(b"\x07")
    assert source_digest(recipe, project) != before


def test_the_served_model_needs_no_own_part(project: Project) -> None:
    modules = set(carried_files(ROOT))
    assert modules
    assert not modules & {"ae_models.factory", "ae_models.encoders", "ae_models.thresholds", "aeops.plugins"}


# ---------------------------------------------------------------- what a change of code does


@pytest.mark.parametrize(
    ("file", "old", "new", "stages"),
    [
        ("my_work.py", "mean(1)", "amax(1)", {"train", "calibrate"}),  # one module has the work of both
        ("my_data.py", '"grey level"', '"level"', {"evaluate"}),
        ("my_parts.py", "default", "default", set()),
        ("my_parts.py", "log of the mean square", "log of the mean", {"train", "calibrate", "evaluate"}),
    ],
)
def test_a_change_of_code_reaches_the_stages_that_use_it_and_no_other_recipe(
    project: Project, file: str, old: str, new: str, stages: set[str]
) -> None:
    (project.root / "my_parts.py").open("a").write("# default\n")
    before = stage_suffixes(project.root, load_recipe(project, "small"))
    after = stage_suffixes(project.root, changed(project, file, old, new))
    assert {stage for stage in after if before[stage] != after[stage]} == stages
    assert set(stage_suffixes(project.root, load_recipe(project, "digits")).values()) == {""}


def test_code_that_an_own_part_imports_counts_and_that_of_a_source_counts_for_the_ingest(project: Project) -> None:
    (project.root / "my_tools.py").write_text("FLOOR = 1\n")
    recipe = changed(project, "my_data.py", "import numpy as np\n", "import numpy as np\n\nimport my_tools  # noqa\n")
    before, source_before = stage_suffixes(project.root, recipe), own_source_sha256(project.root, recipe)
    recipe = changed(project, "my_tools.py", "1", "2")
    after = stage_suffixes(project.root, recipe)
    assert {stage for stage in after if before[stage] != after[stage]} == {"evaluate"}
    assert own_source_sha256(project.root, recipe) != source_before
    assert own_source_sha256(project.root, load_recipe(project, "digits")) == ""


def test_dvc_sees_it_in_the_commands_and_plan_says_it(project: Project) -> None:
    recipe = load_recipe(project, "small")
    list_recipe(project, load_recipe(project, "digits"))
    list_recipe(project, recipe)
    entries = yaml.safe_load((project.root / "params.yaml").read_text())["recipes"]
    suffixes = stage_suffixes(project.root, recipe)
    assert entries["small"] == {"dataset": "small", "own": suffixes}
    assert set(entries["digits"]["own"].values()) == {""}
    text = pipeline_text("dvc.yaml", project.root)
    assert "sh .dvc/stage train${item.own.train} --recipe" in text
    assert "sh .dvc/stage prepare --recipe" in text
    raw_recipe = yaml.safe_load(project.recipe_file("small").read_text())
    lock = {"stages": {f"{stage}@small": recorded_stage(text, stage, suffixes, raw_recipe) for stage in ("calibrate", "gate")}}
    (project.root / "dvc.lock").write_text(yaml.safe_dump(lock))
    assert reasons(project, raw_recipe, suffixes) == {"calibrate": [], "gate": []}
    others = suffixes | {"calibrate": ":0123456789ab"}
    assert reasons(project, raw_recipe, others) == {"calibrate": ["the code of its own parts changed"], "gate": []}


def recorded_stage(text: str, stage: str, suffixes: dict[str, str], raw_recipe: dict[str, Any]) -> dict[str, Any]:
    """What dvc.lock records of a stage that has run with these sections and the code of today."""
    from aeops.data.stage_code import stage_sha256

    definition = yaml.safe_load(text)["stages"][stage]["do"]
    command = definition["cmd"].replace("${key}", "small").replace(f"${{item.own.{stage}}}", suffixes.get(stage, ""))
    [sections] = [entry["recipes/${key}.yaml"] for entry in definition["params"] if isinstance(entry, dict)]
    params = {
        "params.yaml": {f"code.{stage}": stage_sha256(ROOT, stage)},
        "recipes/small.yaml": {name: raw_recipe.get(name) for name in sections},
    }
    return {"cmd": command, "params": params, "deps": []}


def reasons(project: Project, raw_recipe: dict[str, Any], own_code: dict[str, str]) -> dict[str, list[str]]:
    plans = plan_run(project, "small", raw_recipe, "small", own_code)
    found = {plan.stage: [reason for reason in plan.reasons if not reason.endswith(" runs")] for plan in plans}
    return {stage: found[stage] for stage in ("calibrate", "gate")}


def test_a_project_without_plugins_has_none_of_it(project: Project) -> None:
    (project.root / "ae.yaml").unlink()
    forget_plugins(project.root)
    list_recipe(project, load_recipe(project, "digits"))
    assert yaml.safe_load((project.root / "params.yaml").read_text()) == {"recipes": {"digits": {"dataset": "digits"}}}
    assert pipeline_text("dvc.yaml", project.root) == read_template("dvc.yaml") + metrics_and_plots(["digits"])


# ---------------------------------------------------------------- the record


def test_the_record_has_the_code_of_package_and_plugins_and_a_checkouts_that_of_plugins_alone(
    project: Project, tmp_path: Path
) -> None:
    facts = code_facts(project)
    assert facts["code.plugins"] == "my_parts"
    write_code_archive(project, tmp_path / "code.zip")
    unpack_code(tmp_path / "code.zip", tmp_path / "laid", facts["code.sha256"])
    for name, text in documented_files().items():
        assert (tmp_path / "laid" / name).read_text() == text
    assert (tmp_path / "laid" / "aeops" / "plugins" / "discovery.py").read_bytes() == (
        ROOT / "aeops" / "plugins" / "discovery.py"
    ).read_bytes()
    assert (tmp_path / "laid" / "aeops" / "report" / "templates" / "report.css").is_file()
    assert yaml.safe_load((tmp_path / "laid" / "ae.yaml").read_text()) == {"plugins": ["my_parts"]}
    (project.root / "aeops").mkdir()
    own = code_facts(project)
    assert own.keys() == {"code.sha256", "code.plugins"}
    write_code_archive(project, tmp_path / "own.zip")
    assert set(zipfile.ZipFile(tmp_path / "own.zip").namelist()) == {"ae.yaml", *documented_files()}


@pytest.mark.parametrize("damage", ["altered", "cut", "escapes"])
def test_an_archive_that_was_altered_is_refused_and_nothing_is_unpacked(project: Project, tmp_path: Path, damage: str) -> None:
    (project.root / "aeops").mkdir()
    archive, expected = tmp_path / "code.zip", code_facts(project)["code.sha256"]
    write_code_archive(project, archive)
    if damage == "altered":
        with zipfile.ZipFile(archive, "a") as stream:
            stream.writestr("more.py", "1")
    elif damage == "cut":
        archive.write_bytes(archive.read_bytes()[:-100])
    else:
        with zipfile.ZipFile(archive, "w") as stream:
            stream.writestr("../outside.py", "1")
    with pytest.raises(DataError, match=r"rebuild/code\.zip of its run"):
        unpack_code(archive, tmp_path / "laid", expected)
    assert not (tmp_path / "laid").exists()
    assert not (tmp_path / "outside.py").exists()


# ---------------------------------------------------------------- mistakes, all at once


def test_modules_that_are_missing_or_fail_are_told_with_the_line(project: Project) -> None:
    (project.root / "my_broken.py").write_text("x = 1\nraise ValueError('no')\n")
    (project.root / "my_empty.py").write_text("")
    (project.root / "my_needy.py").write_text("import no_such_library\n")
    (project.root / "ae.yaml").write_text("plugins: [my_broken, my_empty, my_gone, my_needy, 'my_parts:GONE']\n")
    message = refusal(project)
    assert f"the plugin my_broken cannot be imported: ValueError: no ({project.root / 'my_broken.py'}, line 2)" in message
    assert "the plugin my_empty: expected one of AE_PARTS, AE_SOURCES, AE_STUDIES in" in message
    assert f"the plugin my_gone: no such module in {project.root} or among the installed packages" in message
    assert "the plugin my_needy cannot be imported: ModuleNotFoundError: No module named 'no_such_library'" in message
    assert "my_parts.py has no GONE" in message


def test_declarations_of_another_form_and_names_that_are_taken_are_told(project: Project) -> None:
    (project.root / "my_wrong.py").write_text(
        "from dataclasses import dataclass\n"
        "from ae_models.spec import DenseEncoderSpec\n"
        "from aeops.plugins import Part, Study\n"
        "from my_parts import PooledEncoderSpec\n"
        "class Loose: pass\n"
        "@dataclass(frozen=True)\n"
        "class Bare:\n    kind = 'bare'\n"
        "AE_PARTS = [Part('encode', DenseEncoderSpec, 'my_work:PooledEncoder'), Part('encode', PooledEncoderSpec, 'my_gone:X'),\n"
        "            Part('loss', Bare, 'my_work:X'), Part('threshold', Bare, 'my_work:X'), Part('score', Loose, 'my_work:X')]\n"
    )
    (project.root / "ae.yaml").write_text("plugins: [my_parts, my_wrong]\n")
    message = refusal(project)
    for expected in (
        "my_wrong: encode has a kind 'dense' already: choose another name",
        "my_wrong: the encode 'pooled' is added by my_parts as well: remove one of them from `plugins`",
        "my_wrong: PooledEncoderSpec: expected `module:name` of a module that is there as its work, got 'my_gone:X'",
        "my_wrong: Bare: expected a part of encode, decode, score, threshold, got 'loss'",
        "my_wrong: Bare has no supported_inputs, as every spec of its sort has",
        "my_wrong: Bare has no has_rate, as every spec of its sort has",
        "my_wrong: expected a frozen dataclass as spec, got <class 'my_wrong.Loose'>",
    ):
        assert expected in message
    sys.modules.pop("my_wrong")


def test_a_study_or_source_with_the_name_of_ours_is_refused(project: Project) -> None:
    for old, new in (('Study("brightness"', 'Study("codes"'), ('"flat-file"', '"npy"')):
        file = project.root / "my_parts.py"
        file.write_text(file.read_text().replace(old, new))
    message = refusal(project)
    assert "plugins: the study 'codes' is one of ae-pipeline's own: choose another name" in message
    assert "plugins: the source 'npy' is one of ae-pipeline's own: choose another name" in message


def test_work_that_fails_names_the_part_and_its_place(project: Project) -> None:
    (project.root / "my_work.py").write_text("raise RuntimeError('broken')\n")
    fit = load_recipe(project, "small").fit
    with pytest.raises(
        SpecError, match=r"the part 'pooled' of this project cannot be loaded from my_work:PooledEncoder: .*broken"
    ):
        Autoencoder(fit.model, fit.input)


# ---------------------------------------------------------------- installed packages


def test_an_installed_package_adds_parts_by_entry_points(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = tmp_path / "site-packages"
    for name in MODULES:
        site.mkdir(exist_ok=True)
        (project.root / f"{name}.py").rename(site / f"{name}.py")
    (project.root / "ae.yaml").unlink()
    metadata = site / "my_package-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: my-package\nVersion: 1.0\n")
    groups = {"ae.parts": "AE_PARTS", "ae.sources": "AE_SOURCES", "ae.studies": "AE_STUDIES"}
    lines = [f"[{group}]\nall = my_parts:{name}\n" for group, name in groups.items()]
    (metadata / "entry_points.txt").write_text("\n".join(lines))
    monkeypatch.syspath_prepend(str(site))
    forget_plugins(project.root)
    recipe = load_recipe(project, "small")
    assert own_parts(project.root).plugins == ["my_parts:AE_PARTS", "my_parts:AE_SOURCES", "my_parts:AE_STUDIES"]
    assert all(stage_suffixes(project.root, recipe).values())
    write_code_archive(project, tmp_path / "code.zip")
    laid = tmp_path / "laid"
    unpack_code(tmp_path / "code.zip", laid, code_facts(project)["code.sha256"])
    assert (laid / "my_work.py").is_file()
    (laid / "recipes").mkdir()
    shutil.copy(project.recipe_file("small"), laid / "recipes")
    (metadata / "entry_points.txt").unlink()  # a rebuild finds them by the archive's ae.yaml, whatever is installed by then
    forget_plugins(project.root)
    assert load_recipe(Project(laid, laid / ".ae"), "small").fit.to_dict() == recipe.fit.to_dict()
    assert own_parts(laid).plugins == ["my_parts:AE_PARTS", "my_parts:AE_SOURCES", "my_parts:AE_STUDIES"]
    forget_plugins(laid)
