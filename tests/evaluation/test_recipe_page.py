"""The page of a recipe, its row in the README and the benchmark that writes both, on a real small report."""

import base64
import io
import json
import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from ae_models.errors import SpecError
from aeops.errors import UsageError
from aeops.gate.seed_record import METRIC_SECTIONS, seed_settings_sha256
from aeops.gate.seed_summary import summarize_values
from aeops.project import Project
from aeops.report import recipe_page
from aeops.report.targets import RecipeTarget, RecipeTargets, TargetResult, read_targets, target_results

ROOT = Path(__file__).parents[2]
SVG = "{http://www.w3.org/2000/svg}"
MSE = RecipeTarget("MSE", "reconstruction.model.mse", "less", 5, baselines={"PCA-16": "reconstruction.pca.mse"})
AUROC = RecipeTarget("AUROC", "detection.model.auroc", "more", 3, bound=0.999)
SHOWS = RecipeTargets("rebuilds a digit", (MSE, AUROC))
FACTS = {
    "command": "make bench-models RECIPES=digits",
    "commit": "c0ffee" * 6,
    "machine": {"platform.cpu": "A Processor (avx2)", "platform.threads": "2", "platform.gpu": "none"},
    "settings_sha256": "0" * 64,
    "seconds": {"run": 65.3, "train": 31.2},
}


@pytest.fixture(scope="module")
def artifacts(evaluated, verdict, tmp_path_factory) -> Path:
    """What a finished run leaves: a real report with a finding of a study in it, and the verdict."""
    folder = tmp_path_factory.mktemp("artifacts") / "digits"
    shutil.copytree(evaluated.report, folder / "report")
    finding = {
        "title": "Texts and what became of them",
        "lead": "Read them.",
        "head": ["given", "made"],
        "rows": [["<b>bold</b> | *stars*\nand more", "[a link](x)"]],
        "figures": [["gallery_worst.svg", "What a study [shows]."]],
        "note": "",
    }
    (folder / "report" / "studies.json").write_text(json.dumps({"examples": finding}))
    (folder / "verdict.json").write_text(json.dumps(verdict))
    return folder


@pytest.fixture
def pictures(artifacts, tmp_path) -> tuple[list[recipe_page.RecipePicture], list[str]]:
    return recipe_page.copy_pictures(artifacts / "report", tmp_path / "pictures")


@pytest.fixture
def record(artifacts, pictures) -> dict:
    return recipe_page.recipe_record(FACTS, artifacts, pictures[0])


@pytest.fixture
def page(evaluated, record) -> str:
    return recipe_page.recipe_page("digits", evaluated.recipe.read_text(), record, SHOWS)


# ---------------------------------------------------------------- the record


def test_a_record_keeps_every_number_of_the_metrics_to_six_digits(artifacts, record):
    metrics = json.loads((artifacts / "report" / "metrics.json").read_text())
    assert record["metrics"]["rows"] == metrics["rows"]
    assert record["metrics"]["reconstruction"]["model"]["mse"] == float(f"{metrics['reconstruction']['model']['mse']:.5e}")
    assert len(record["metrics"]["false_alarms"]["interval"]) == 2
    assert json.loads(json.dumps(record, allow_nan=False)) == record


# ---------------------------------------------------------------- the pictures


def test_a_page_shows_four_small_pictures_the_studies_first(pictures, tmp_path):
    chosen, _ = pictures
    assert len(chosen) == recipe_page.MAX_PICTURES
    assert chosen[0].file == "gallery_worst.svg"
    files = sorted((tmp_path / "pictures").iterdir())
    assert [file.name for file in files] == sorted(picture.file for picture in chosen)
    assert all(file.stat().st_size < recipe_page.PICTURE_BYTES for file in files)


def test_a_large_picture_is_left_out_and_told(artifacts, tmp_path):
    report = tmp_path / "report"
    shutil.copytree(artifacts / "report", report)
    large = report / "figures" / "gallery_worst.svg"
    large.write_text(large.read_text() + "<!--" + "x" * recipe_page.PICTURE_BYTES + "-->")
    chosen, left_out = recipe_page.copy_pictures(report, tmp_path / "pictures")
    assert "gallery_worst.svg" not in [picture.file for picture in chosen]
    assert any(line.startswith("gallery_worst.svg is left out: ") for line in left_out)


def test_a_picture_lies_on_white_paper_behind_all_else(pictures, tmp_path):
    for file in (tmp_path / "pictures").iterdir():
        first = next(iter(ElementTree.parse(file).getroot()))
        assert (first.tag, first.get("width"), first.get("height"), first.get("fill")) == (
            f"{SVG}rect",
            "100%",
            "100%",
            "#ffffff",
        )


def test_paths_are_kept_to_hundredths_and_nothing_else_is_touched():
    svg = '<svg><path d="M 16.000943 -3.00024 L 7.5 8"/><use x="16.000943"/></svg>'
    assert recipe_page.put_on_paper(svg).endswith('<path d="M 16.00 -3.00 L 7.5 8"/><use x="16.000943"/></svg>')


def test_an_image_in_a_picture_is_smaller_and_looks_the_same_on_white(artifacts, pictures, tmp_path):
    before, after = (
        base64.b64decode(recipe_page.EMBEDDED_PNG.search((folder / "gallery_median.svg").read_text())[2])
        for folder in (artifacts / "report" / "figures", tmp_path / "pictures")
    )
    drawn, kept = (Image.open(io.BytesIO(content)) for content in (before, after))
    ground = Image.new("RGBA", drawn.size, "white")
    assert Image.alpha_composite(ground, drawn.convert("RGBA")).convert("RGB").tobytes() == kept.convert("RGB").tobytes()
    assert len(after) < len(before)


# ---------------------------------------------------------------- the page


def test_the_page_tells_command_seconds_machine_and_commit(page):
    assert "`ae run digits` took 65 s, 31 s of them in training, on A Processor (avx2), 2 threads, no GPU" in page
    assert "`c0ffeec0ffee`" in page


def test_the_page_quotes_the_sentence_as_the_recipe_has_it(page, evaluated):
    (quoted,) = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    recipe = yaml.safe_load(evaluated.recipe.read_text())
    assert yaml.safe_load(quoted) == {key: recipe[key] for key in recipe_page.MODEL_SECTIONS}


def test_a_section_keeps_its_own_comments_and_not_those_of_the_next():
    text = "about: >-\n  a\n\nmodel:\n  # inside\n\n  compare: {kind: mse}  # why\n\n# of train\ntrain: {epochs: 1}"
    assert recipe_page.recipe_section(text, "model") == "model:\n  # inside\n\n  compare: {kind: mse}  # why"
    assert recipe_page.recipe_section(text, "train") == "train: {epochs: 1}"


def test_the_page_shows_each_measurement_rule_and_finding(page, record):
    model, pca = (record["metrics"]["reconstruction"][who] for who in ("model", "pca"))
    assert f"| model | {model['mse']:.5f} |" in page
    assert f"| PCA-16 | {pca['mse']:.5f} |" in page
    assert record["rules"]
    assert all(rule["says"] in page for rule in record["rules"])
    assert "## Texts and what became of them" in page
    assert "not defined" not in page


def test_what_people_wrote_cannot_break_the_page(page):
    assert r"| &lt;b&gt;bold&lt;/b&gt; \| \*stars\* and more | \[a link\](x) |" in page


def test_every_picture_of_the_page_is_one_that_was_copied(page, pictures):
    assert re.findall(r"!\[.*\]\(digits/(.*)\)", page) == [picture.file for picture in pictures[0]]


def test_the_page_marks_what_is_met_and_lists_what_falls_short(page, record):
    auroc = record["metrics"]["detection"]["model"]["auroc"]
    assert re.search(r"\| MSE \| [\d.]+ \| PCA-16 [\d.]+ \| below PCA-16 \| met, one seed \|", page)
    assert f"| AUROC | {auroc:.3f} |  | at least 0.999 | **missed**, one seed |" in page
    assert f"- AUROC: {auroc:.3f}, at least 0.999 was the target." in page
    assert "every target is met" not in page


def test_a_rule_that_failed_falls_short(evaluated, record):
    rules = [{"name": "is_sharp", "says": "sharpness is 1; at least 2 is needed", "passed": False}]
    page = recipe_page.recipe_page("digits", evaluated.recipe.read_text(), record | {"rules": rules, "verdict": "refused"}, SHOWS)
    assert "- The gate's rule `is_sharp` failed: sharpness is 1; at least 2 is needed." in page
    assert "**refused**" in page


# ---------------------------------------------------------------- targets


@pytest.mark.parametrize(
    ("better", "bound", "value", "beside", "met"),
    [
        ("less", 0.5, 0.5, {}, True),
        ("less", 0.5, 0.51, {}, False),
        ("more", 20.5, 20.5, {}, True),
        ("more", 20.5, 20.4, {"filter": 17.0}, False),
        ("more", None, 0.9, {"kNN": 0.8, "PCA": 0.89}, True),
        ("more", None, 0.9, {"kNN": 0.8, "PCA": 0.9}, False),
        ("less", None, 0.1, {"PCA": 0.2, "lossless": None}, True),
        ("less", 0.5, None, {}, False),
    ],
)
def test_a_target_is_met_at_its_bound_or_above_every_baseline(better, bound, value, beside, met):
    target = RecipeTarget("x", "x", better, bound=bound, baselines={name: name for name in beside})
    assert TargetResult(target, value, beside).is_reached is met


@pytest.mark.parametrize(
    ("better", "bound", "values", "beside", "met"),
    [
        ("less", 0.5, [0.4, 0.41, 0.42], [], True),
        ("less", 0.5, [0.3, 0.4, 0.51], [], False),  # the mean is below, its interval is not
        ("more", None, [0.90, 0.93, 0.96], [0.80, 0.80, 0.80], True),
        ("more", None, [0.90, 0.93, 0.96], [0.88, 0.88, 0.88], False),
        ("more", None, [0.90, 0.93, 0.96], [0.88, 0.91, 0.941], True),  # ahead with every seed by nearly as much
    ],
)
def test_over_seeds_a_target_is_met_where_the_interval_of_the_mean_lies_on_the_right_side(better, bound, values, beside, met):
    over_seeds = {"x": summarize_values(values)}
    baselines = {}
    if beside:
        over_seeds["y"], baselines = summarize_values(beside), {"kNN": "y"}
    target = RecipeTarget("x", "x", better, bound=bound, baselines=baselines)
    result = TargetResult(target, values[0], {"kNN": beside[0]} if beside else {}, over_seeds)
    assert result.is_reached is met
    assert result.status_text == ("met" if met else "**missed**")
    assert result.value_text == f"{np.mean(values):.3f} ± {np.std(values, ddof=1):.3f} (3 seeds)"


def test_what_is_not_defined_counts_as_not_measured_and_not_as_met():
    target = RecipeTarget("characters wrong", "x", "less", unit="%", baselines={"noisy": "y"})
    result = TargetResult(target, None, {"noisy": None})
    assert (result.status_text, result.baselines_text) == ("**not measured**", "noisy not defined")


def test_a_share_is_written_in_percent_and_a_unit_after_the_number():
    share = RecipeTarget("in use", "x", "less", 2, "%", 0.05)
    assert (share.format_measured(0.0498), share.requirement) == ("4.98 %", "at most 5 %")
    level = RecipeTarget("PSNR", "x", "more", 2, "dB", 20.5)
    assert (level.format_measured(20.613), level.requirement, level.format_measured(None)) == (
        "20.61 dB",
        "at least 20.5 dB",
        "not defined",
    )


def test_a_target_of_a_metric_that_is_not_there_is_told_with_the_near_match(record):
    shows = RecipeTargets("x", (RecipeTarget("MSE", "reconstruction.model.mze", "less", bound=1),))
    with pytest.raises(
        UsageError, match=r"digits: no metric 'reconstruction.model.mze'.*did you mean reconstruction.model.mse\?"
    ):
        target_results(shows, record["metrics"], "digits", {})


def test_every_mistake_in_the_targets_is_told_at_once(tmp_path):
    file = tmp_path / "targets.yaml"
    one, other = {"name": "MSE", "metric": "a", "better": "lower"}, {"name": "MSE", "metric": "a", "better": "less"}
    file.write_text(yaml.safe_dump({"digits": {"summary": "x", "targets": [one]}, "small": {"summary": "x", "targets": [other]}}))
    with pytest.raises(SpecError) as told:
        read_targets(file, ["digits", "mnist"])
    message = str(told.value)
    assert "expected less or more, got 'lower'" in message
    assert "expected bound or baselines, got neither" in message
    assert "targets.yaml: mnist: expected a summary and targets" in message


# ---------------------------------------------------------------- the tables


def test_a_row_of_the_readme_has_figure_baseline_target_and_seconds(record):
    (row,) = recipe_page.readme_table(["digits"], {"digits": record}, {"digits": SHOWS}).splitlines()[2:]
    model, pca = (record["metrics"]["reconstruction"][who]["mse"] for who in ("model", "pca"))
    auroc = record["metrics"]["detection"]["model"]["auroc"]
    assert row == (
        f"| [digits](docs/recipes/digits.md) | rebuilds a digit | MSE {model:.5f}<br>AUROC {auroc:.3f} | PCA-16 {pca:.5f}<br> "
        "| below PCA-16: met, one seed<br>at least 0.999: **missed**, one seed | 31 s |"
    )


def test_a_recipe_without_a_record_is_not_measured_yet():
    (row,) = recipe_page.readme_table(["digits"], {}, {"digits": SHOWS}).splitlines()[2:]
    assert "| not measured yet |" in row
    assert "(recipes/digits.yaml)" in row


def test_a_readme_without_the_marks_is_refused():
    with pytest.raises(UsageError, match="marks"):
        recipe_page.with_table("# nothing\n", "| a |", "README.md")


# ---------------------------------------------------------------- the benchmark


@pytest.fixture
def checkout(tmp_path, evaluated, artifacts) -> Path:
    """A project whose recipe `digits` was run, with a record and no page yet; `mnist` was not measured."""
    root = tmp_path / "checkout"
    for name in ("recipes", "benchmarks/records/models"):
        (root / name).mkdir(parents=True)
    for name in ("dvc.yaml", "benchmarks/targets.yaml", "recipes/mnist.yaml"):
        shutil.copy(ROOT / name, root / name)
    shutil.copy(evaluated.recipe, root / "recipes" / "digits.yaml")
    (root / "README.md").write_text(f"# Before\n\n{recipe_page.TABLE_BEGIN}\nold\n{recipe_page.TABLE_END}\n\nafter\n")
    shutil.copytree(artifacts, root / "artifacts" / "digits")
    facts = FACTS | {"settings_sha256": recipe_page.settings_sha256(evaluated.recipe)}
    record = recipe_page.recipe_record(facts, artifacts, [])
    (root / "benchmarks" / "records" / "models" / "digits.json").write_text(json.dumps(record))
    return root


def bench(checkout: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "benchmarks" / "models.py"), *arguments]
    return subprocess.run(command, cwd=checkout, capture_output=True, text=True, timeout=400, check=False)


@pytest.mark.slow
def test_pages_only_writes_page_pictures_index_and_the_readmes_table(checkout):
    done = bench(checkout, "--pages-only")
    assert done.returncode == 0, done.stderr
    record = json.loads((checkout / "benchmarks" / "records" / "models" / "digits.json").read_text())
    folder = checkout / "docs" / "recipes"
    assert sorted(file.name for file in (folder / "digits").iterdir()) == sorted(one["file"] for one in record["pictures"])
    assert len(record["pictures"]) == recipe_page.MAX_PICTURES
    targets = read_targets(checkout / "benchmarks" / "targets.yaml", ["digits"])
    text = (checkout / "recipes" / "digits.yaml").read_text()
    assert (folder / "digits.md").read_text() == recipe_page.recipe_page("digits", text, record, targets["digits"])
    assert "[mnist](../../recipes/mnist.yaml)" in (folder / "README.md").read_text()
    readme = (checkout / "README.md").read_text()
    assert readme.startswith("# Before\n") and readme.endswith("\nafter\n") and "\nold\n" not in readme  # noqa: PT018
    assert recipe_page.readme_table(["digits", "mnist"], {"digits": record}, targets) in readme


@pytest.mark.slow
def test_a_page_is_written_from_the_record_alone_and_another_runs_report_is_no_source(checkout):
    metrics = checkout / "artifacts" / "digits" / "report" / "metrics.json"
    metrics.write_text(metrics.read_text().replace('"mse": 0.0', '"mse": 0.9'))
    record = (checkout / "benchmarks" / "records" / "models" / "digits.json").read_bytes()
    assert bench(checkout, "--pages-only").returncode == 0
    assert (checkout / "benchmarks" / "records" / "models" / "digits.json").read_bytes() == record
    assert "# digits" in (checkout / "docs" / "recipes" / "digits.md").read_text()


@pytest.mark.slow
def test_a_recipe_that_changed_since_gets_no_page_and_is_told(checkout):
    file = checkout / "recipes" / "digits.yaml"
    file.write_text(file.read_text() + "# a comment and a rule of the gate change no figure\n")
    assert bench(checkout, "--pages-only").returncode == 0
    (checkout / "docs" / "recipes" / "digits.md").unlink()
    recipe = yaml.safe_load(file.read_text())
    recipe["train"]["seed"] += 1
    file.write_text(yaml.safe_dump(recipe))
    done = bench(checkout, "--pages-only")
    assert done.returncode == 1
    assert "make bench-models RECIPES=digits" in done.stderr
    assert not (checkout / "docs" / "recipes" / "digits.md").exists()


@pytest.mark.slow
def test_a_recipe_that_is_none_is_refused_with_those_there_are(checkout):
    done = bench(checkout, "digit")
    assert done.returncode == 2
    assert "no recipe digit in benchmarks/targets.yaml; expected some of digits, mnist" in done.stderr


@pytest.mark.slow
def test_a_run_that_fails_is_told_and_the_others_go_on(checkout):
    recipe = checkout / "recipes" / "digits.yaml"
    for name in ("digits", "mnist"):
        (checkout / "recipes" / f"{name}.yaml").write_text(recipe.read_text().replace("epochs:", "epoch:"))
    (checkout / ".gitignore").write_text("artifacts/\n.ae/\n")
    who = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    for command in (["init", "-q"], ["add", "-A"], [*who, "commit", "-qm", "start"]):
        subprocess.run(["git", *command], cwd=checkout, check=True)
    recipe.write_text(recipe.read_text().replace("epoch:", "epochs:"))  # HEAD is measured, not what lies about
    done = bench(checkout, "mnist", "digits")
    assert done.returncode == 1
    assert "the checkout differs from HEAD" in done.stderr
    for name in ("digits", "mnist"):
        assert f"{name}: ae run ended with exit code 2" in done.stderr


def test_a_record_of_seeds_is_quoted_while_it_is_of_the_recipe_as_it_stands(checkout):
    project = Project(checkout, checkout / ".ae")
    file = project.seed_record("digits")
    file.parent.mkdir()
    hashes = {"settings_sha256": "", "content_sha256": "c" * 64}
    hashes["measured_sha256"] = seed_settings_sha256(project.recipe_file("digits"), METRIC_SECTIONS)
    metrics = {"reconstruction.model.mse": summarize_values([0.01, 0.02])}
    file.write_text(json.dumps({"format": 1, "seeds": [0, 1], "metrics": metrics, "spread": {}} | hashes))
    record = recipe_page.read_records(project, ["digits"])["digits"]
    assert "MSE 0.01500 ± 0.00707 (2 seeds)" in recipe_page.readme_table(["digits"], {"digits": record}, {"digits": SHOWS})
    recipe = yaml.safe_load(project.recipe_file("digits").read_text())
    recipe["threshold"]["false_alarm_rate"] = 0.02
    project.recipe_file("digits").write_text(yaml.safe_dump(recipe))
    assert recipe_page.metrics_over_seeds(project, "digits") == {}
