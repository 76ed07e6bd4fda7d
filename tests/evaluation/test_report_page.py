import html
import json
import re
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from chromium import axe_faults, needs_chromium, run_chromium

from aeops.drawing.svg import inline_svg
from aeops.evaluation.threshold_table import error_table, threshold_table, to_csv
from aeops.page.app import REPORT_SCRIPT
from aeops.project import find_project
from aeops.recipe.reader import read_recipe
from aeops.report.headline import verdict_sentence
from aeops.report.report_page import ReportHead, metric_tiles, read_slider, write_report
from aeops.report.tables import describe_lead, rate_table
from aeops.stages.evaluate import evaluate

ROOT = Path(__file__).parents[2]
SECTIONS = ("detection", "errors", "champion", "reconstruction", "codes", "gate", "training", "data", "lineage", "use")
HEAD = ReportHead("3", datetime(2026, 11, 30, 4, 5, tzinfo=UTC), "ada")
LINEAGE = {"git.commit": "c0ffee" * 6, "git.dirty": "false", "seed": "0", "version": "3"}


class Elements(HTMLParser):
    """Every element with its attributes, and the ids there are."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    @property
    def ids(self) -> list[str]:
        return [attributes["id"] for _, attributes in self.found if attributes.get("id")]


@pytest.fixture
def write(evaluated, verdict, comparison, validation, tmp_path):
    """Writes the page, with a recipe, verdict or lineage changed, and returns its text."""

    def written(
        recipe: dict | None = None,
        verdict_changes: dict | None = None,
        report: Path = evaluated.report,
        beside: dict = comparison,
        expectations: list[dict] | None = None,
    ) -> str:
        judged = validation if expectations is None else validation | {"expectations": expectations}
        page = write_report(
            tmp_path / "reports" / "report.html",
            recipe=yaml.safe_load(evaluated.recipe.read_text(encoding="utf-8")) | (recipe or {}),
            report=report,
            bundle=evaluated.bundle,
            training=evaluated.training,
            verdict=verdict | (verdict_changes or {}),
            comparison=beside,
            validation=judged,
            lineage=LINEAGE,
            timings={"train": 31.25},
            head=HEAD,
        )
        return page.read_text(encoding="utf-8")

    return written


def test_the_page_tells_the_comparison_with_the_champion(write, worse):
    page = html.unescape(write(beside=worse))
    (rule,) = worse["rules"]
    for text in ("✗ Refused", "Worse than champion 3", f"{rule['difference']:.4f}", rule["says"], *worse["reasons"]):
        assert text in page
    assert "Both were scored on the same" in page
    alone = write()
    assert "It was scored on" in alone
    assert "Both were" not in alone, "there is no champion yet"


def test_the_page_holds_every_section_figure_and_rule(write, evaluated, verdict):
    page = write()
    elements = Elements(page)
    assert set(SECTIONS) <= set(elements.ids)
    drawn = len(list((evaluated.report / "figures").iterdir()))
    assert sum(attributes.get("role") == "img" for _, attributes in elements.found) == drawn
    assert verdict["rules"]
    assert all(rule["says"] in page for rule in verdict["rules"])
    for fact in ("c0ffee", "digit-17", "31.2", "no version has been accepted yet"):
        assert fact in page


def test_the_page_begins_with_the_version_its_date_and_author_and_the_verdict(write, evaluated, comparison):
    metrics = json.loads((evaluated.report / "metrics.json").read_text(encoding="utf-8"))
    page = html.unescape(write())
    first_paragraphs = re.findall(r'<p class="(over|made|headline|lead)">(.*?)</p>', page, re.DOTALL)
    assert first_paragraphs[2] == ("headline", verdict_sentence(metrics, comparison, []))
    assert re.sub("<.*?>", "", first_paragraphs[1][1]) == "Made on 30 November 2026, 04:05 UTC by ada"
    assert re.search(r"<h1>digits 3\s", page)


def test_detection_stands_before_the_rows_of_the_validation(write):
    ids = [name for name in Elements(write()).ids if name in SECTIONS]
    assert tuple(ids) == SECTIONS


def test_the_page_has_the_shares_caught_at_each_rate_with_the_best_marked(write, evaluated):
    metrics = json.loads((evaluated.report / "metrics.json").read_text(encoding="utf-8"))
    page = html.unescape(write())
    table = rate_table(metrics)
    for cells in table.rows.values():
        for cell in cells:
            mark = " best" if cell.is_best else ""
            assert f'<td class="right{mark}">{cell.text}</td>' in page
    assert table.note in page
    assert describe_lead(metrics) in page
    for colour in ("pca", "knn", "hull", "forest"):
        assert f"background:var(--{colour})" in page
        assert f"--{colour}:" in page


def test_every_bar_of_a_baseline_has_a_colour_on_the_pages(evaluated):
    metrics = json.loads((evaluated.report / "metrics.json").read_text(encoding="utf-8"))
    page_css = (ROOT / "aeops" / "page" / "templates" / "page.css").read_text(encoding="utf-8")
    colours = {bar["colour"] for tile in metric_tiles(metrics) for bar in tile["bars"]}
    assert {"model", "pca", "knn", "hull", "forest"} <= colours
    for colour in colours:
        assert f".fill-{colour}{{fill:var(--{colour})}}" in page_css


def test_the_page_loads_nothing_from_outside(write):
    page = write()
    for tag, attributes in Elements(page).found:
        assert tag not in {"link", "iframe", "object", "embed", "base"}
        assert tag != "script" or not attributes, "the page's own script, which is in it"
        for name, value in attributes.items():
            if name in {"src", "href", "xlink:href", "srcset", "action", "data"}:
                assert value.startswith(("#", "data:image/")), (tag, name, value)
    assert not re.search(r"url\(\s*['\"]?(?!#)|@import|https?://", page)


def test_every_reference_inside_the_page_leads_somewhere_and_ids_are_unique(write):
    page = write()
    ids = Elements(page).ids
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'(?:href="#|url\(#)([^")]+)', page)) <= set(ids)


def test_the_page_is_small_enough_to_send(write):
    assert len(write().encode()) < 1_500_000


def test_the_page_of_an_ensemble_says_which_model_is_shown(write, evaluated):
    assert "trained with different seeds" not in write()
    train = yaml.safe_load(evaluated.recipe.read_text(encoding="utf-8"))["train"]
    page = write(recipe={"train": train | {"members": 4}})
    assert "It has 4 networks, trained with different seeds: figures and curves show the first one." in page


def test_of_hundreds_of_expectations_those_that_failed_stand_open_and_the_rest_is_folded_in(write, validation):
    usual = next(item for item in validation["expectations"] if item["applicable"])
    columns = [usual | {"name": f"column_{number:03d}", "success": True} for number in range(100)]
    columns[70] |= {"success": False}
    page = write(expectations=columns)
    shown, folded = page.partition("<details><summary>60 more expectations, none of which failed</summary>")[::2]
    assert "column 070" in shown
    assert "column 038" in shown
    assert "column 039" in folded
    assert "<details" not in write()


def test_text_of_the_recipe_is_escaped(write):
    page = write(recipe={"about": "<script>alert('x')</script> & more"})
    assert page.count("<script") == page.count(REPORT_SCRIPT) == 1, "its own"
    assert "&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt; &amp; more" in page


def test_an_accepted_page_says_so_and_how_to_serve(write):
    page = write()
    assert "✓ Accepted" in page
    assert "ae serve digits" in page
    assert 'role="alert"' not in page


def test_a_refused_page_says_so_at_the_top_with_every_reason(write, verdict):
    reasons = ["detection.model.auroc is 0.5; at least 0.9 is needed", "export.max_difference is 1; at most 0.0001 is needed"]
    page = write(verdict_changes={"verdict": "refused", "reasons": reasons})
    top = page[: page.index('id="gate"')]
    assert "✗ Refused" in top
    assert all(reason in top for reason in reasons)
    assert "ae serve digits" not in page


@pytest.fixture
def studied(evaluated, tmp_path) -> Path:
    """The report with a finding of two columns and one figure."""
    folder = tmp_path / "studied"
    shutil.copytree(evaluated.report, folder)
    drawing = (folder / "figures" / "gallery_best.svg").read_text(encoding="utf-8")
    (folder / "figures" / "of_study.svg").write_text(drawing, encoding="utf-8")
    finding = {"title": "A study", "lead": "It <found> this.", "head": ["", "value"], "rows": [["ours", "1.25"]], "note": "So."}
    finding |= {"figures": [["of_study.svg", "What it shows."]]}
    (folder / "studies.json").write_text(json.dumps({"some-study": finding, "bare": finding | {"rows": [], "figures": []}}))
    return folder


def test_every_finding_stands_in_the_page_with_its_table_figure_and_entry_in_the_navigation(write, studied):
    page = write(report=studied)
    elements = Elements(page)
    assert {"study-some-study", "study-bare"} <= set(elements.ids)
    assert page.count('<a href="#study-') == 2
    for text in ("It &lt;found&gt; this.", '<td class="name">ours</td><td>1.25</td>', "What it shows.", "So."):
        assert text in page
    assert len(elements.ids) == len(set(elements.ids))


@pytest.mark.slow
def test_what_was_not_measured_is_not_shown_as_a_number(write, evaluated, digits, writers, tmp_path):
    writers.prepared(tmp_path / "prepared", *digits, novelty=None)
    places = (tmp_path / "prepared", evaluated.bundle, evaluated.training, tmp_path / "report")
    evaluate(read_recipe(evaluated.recipe), find_project(ROOT), *places)
    page = write(report=tmp_path / "report")
    assert "holds out no novelty" in page
    assert "AUROC" not in page
    assert "None" not in page


def test_figures_follow_the_theme_of_the_page():
    drawn = '<g id="a"><path id="b" style="fill: #0072b2"/><use href="#b"/></g>'
    shown = inline_svg(f'<?xml?><svg width="72pt" height="36pt" viewBox="0 0 72 36">{drawn}</svg>', "map", 'say "hi"')
    assert 'style="fill: var(--model)"' in shown
    assert '<path id="map-b"' in shown
    assert 'href="#map-b"' in shown
    assert 'id="a"' not in shown
    assert 'aria-label="say &#34;hi&#34;"' in shown
    assert "max-width:96px" in shown


def test_writing_the_page_imports_neither_torch_nor_matplotlib():
    heavy = "{'torch', 'matplotlib', 'pandas', 'mlflow'}"
    check = f"import sys, aeops.report.report_page, aeops.report.model_card; assert not {heavy} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", check], check=True, timeout=400, cwd=ROOT)


def test_the_slider_begins_at_the_threshold_of_the_version_with_its_shares(write, evaluated):
    metrics = json.loads((evaluated.report / "metrics.json").read_text(encoding="utf-8"))
    slider = read_slider(evaluated.report / "thresholds.csv", metrics["false_alarms"]["threshold"])
    threshold, false_alarms, caught = slider.shown
    assert threshold == pytest.approx(metrics["false_alarms"]["threshold"], rel=1e-5)
    assert false_alarms == pytest.approx(metrics["false_alarms"]["measured"], abs=1e-5)
    assert caught == pytest.approx(metrics["novelty_flagged"], abs=1e-5)
    rows = json.loads(slider.rows)
    assert rows[0][1:] == [0.0, 0.0]
    assert [row[1] for row in rows] == sorted(row[1] for row in rows)
    page = html.unescape(write())
    assert f'data-rows="{slider.rows}"' in page
    assert f'data-own="{slider.own}"' in page


def test_a_report_of_before_the_slider_has_none(write, evaluated, tmp_path):
    older = Path(shutil.copytree(evaluated.report, tmp_path / "older"))
    (older / "thresholds.csv").unlink()
    assert '<div id="slider"' not in write(report=older)
    page = write(report=older)
    assert 'id="slider"' not in page
    assert page.count("<script") == page.count(REPORT_SCRIPT) == 1, "figures can be enlarged all the same"


def test_tables_of_thresholds_and_errors_are_those_of_the_samples():
    scores, is_normal = np.array([1.0, 2.0, 3.0, 4.0, np.nan]), np.array([True, True, False, False, False])
    table = threshold_table(scores, is_normal, 2.5)
    assert table.to_dict("list") == {
        "threshold": [4.0, 3.0, 2.5, 2.0, 1.0],
        "false_alarms": [0.0, 0.0, 0.0, 0.0, 0.5],
        "caught": [0.0, 0.5, 1.0, 1.0, 1.0],
    }
    alone = threshold_table(scores[:2], is_normal[:2], 2.5)
    assert alone["caught"].isna().all()
    assert to_csv(alone).splitlines()[:2] == ["threshold,false_alarms,caught", "2.5,0,"]
    errors = error_table(np.array([0.0, 1.0, 1.0]), np.array([True, False, False]))
    assert (errors["normal"].iloc[0], errors["novelty"].iloc[-1]) == (1.0, 1.0)
    assert errors[["normal", "novelty"]].sum().tolist() == [1.0, 1.0]
    large = threshold_table(np.random.default_rng(0).normal(size=50_000), np.arange(50_000) % 2 == 0, 1.0)
    assert len(large) <= 361


def test_what_dvc_plots_is_what_the_stages_write(evaluated):
    document = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))
    folders = {"report": evaluated.report, "training": evaluated.training}
    assert [folders[Path(name).parts[2]] / Path(name).name for name in document["metrics"]] == [evaluated.report / "metrics.json"]
    for plot in document["plots"]:
        (settings,) = plot.values()
        for name, columns in settings["y"].items():
            table = pd.read_csv(folders[Path(name).parts[2]] / Path(name).name)
            wanted = [columns] if isinstance(columns, str) else columns
            assert {settings["x"], *wanted} <= set(table.columns)
            assert len(table) > 1


@pytest.mark.slow
@needs_chromium
def test_a_figure_can_be_enlarged_and_the_slider_moved(write, tmp_path):
    write()
    with run_chromium() as browser:
        page = browser.new_page(viewport={"width": 1200, "height": 900})
        complaints = []
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto((tmp_path / "reports" / "report.html").as_uri())
        figure = page.locator("main figure").first
        small = figure.locator("svg").bounding_box()["width"]
        figure.locator("button.enlarge").click()
        larger = page.locator("#larger svg")
        assert larger.bounding_box()["width"] > small
        page.keyboard.press("Escape")
        assert not page.locator("#larger").is_visible()
        before = page.locator("#slider [data-part=alarms]").inner_text()
        page.locator("#slider input").evaluate("input => { input.value = input.max; input.dispatchEvent(new Event('input')); }")
        assert page.locator("#slider [data-part=alarms]").inner_text() != before
        assert complaints == []


@pytest.mark.slow
@needs_chromium
def test_axe_finds_no_fault_of_accessibility_in_the_report(write, tmp_path):
    write()
    with run_chromium() as browser:
        for scheme in ("light", "dark"):
            assert axe_faults(browser, (tmp_path / "reports" / "report.html").as_uri(), scheme) == []
