"""A series from near, in the report: any span of time by dragging, by buttons and by keys, with a spike never lost."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from chromium import axe_faults, needs_chromium, run_chromium

from aeops.drawing.svg import theme_css
from aeops.evaluation.series_charts import SeriesPicture
from aeops.evaluation.series_zoom import MAX_STEPS, write_zoom, zoom_document
from aeops.kinds.series_windows import AlarmInterval
from aeops.report.html_template import html_environment

START, EVERY, LENGTH = 1_770_000_000.0, 300.0, 16


def picture(steps: int) -> SeriesPicture:
    """Two channels with a gap, a spike and two alarms."""
    places = np.arange(steps)
    times = START + EVERY * (places + (places >= steps // 2) * 200)
    values = np.stack([60 + 8 * np.sin(places / 40), 2000 + 150 * np.cos(places / 90)], axis=1)
    values[steps // 3, 1] = 9000.0
    scores = 1 + 0.2 * np.sin(places / 30)
    scores[:LENGTH] = np.nan
    alarms = []
    for first in (steps // 3, 3 * steps // 4):
        scores[first : first + 5] = 4.0
        start, end = float(times[first]), float(times[first + 4])
        alarms.append(AlarmInterval("press-1", first, first + 4, start, end, start, 4.0, (("pressure", 1.0),)))
    return SeriesPicture(
        times,
        EVERY,
        ["temperature", "</script><b>pressure"],
        values,
        values + 0.5,
        scores,
        2.0,
        places < steps // 4,
        (places > steps // 3 - 3) & (places < steps // 3 + 9),
        alarms,
    )


def test_of_many_steps_those_with_the_extremes_stay() -> None:
    few, many = zoom_document(picture(1000), LENGTH), zoom_document(picture(60_000), LENGTH)
    assert len(few["steps"]) == 1000
    assert 5_000 < len(many["steps"]) <= MAX_STEPS
    for document in (few, many):
        assert max(document["channels"][1]["values"]) == 9000
        assert max(filter(None, document["scores"])) == 4
        assert document["scores"][0] is None
        assert len(document["alarms"]) == 2
        assert document["widest"] < 200 * EVERY  # the gap breaks the line
    assert few["steps"][-1] == 999 + 200
    assert len(json.dumps(many)) < 1_500_000


def page(folder: Path, steps: int = 4000) -> Path:
    """A page with the part of the report alone."""
    write_zoom(folder / "zoom.json", picture(steps), LENGTH)
    environment = html_environment()
    part = environment.get_template("series_zoom.html.j2").render(study_result={"zoom": (folder / "zoom.json").read_text()})
    css, script = (environment.get_template(name).render() for name in ("report.css", "report.js"))
    dialog = '<dialog id="larger" aria-label="figure"><button type="button">Close</button><div></div></dialog>'
    html = (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>series</title><style>{theme_css()}{css}</style></head><body><main><h1>Series</h1><section><h2>Alarms</h2>{part}"
        f"</section></main>{dialog}<script>{script}</script></body></html>"
    )
    file = folder / "page.html"
    file.write_text(html, encoding="utf-8")
    return file


@pytest.fixture(scope="module")
def browser() -> Any:
    with run_chromium() as running:
        yield running


def span(tab: Any) -> list[str]:
    text: str = tab.locator("[data-part=span]").inner_text()
    return text.removesuffix(" UTC").split(" to ")


@needs_chromium
@pytest.mark.parametrize("width", [1400, 400])
def test_a_span_is_chosen_by_dragging_by_buttons_and_by_keys(browser: Any, tmp_path: Path, width: int) -> None:
    file = page(tmp_path)
    with browser.new_context(viewport={"width": width, "height": 900}) as context:
        tab = context.new_page()
        errors: list[str] = []
        tab.on("pageerror", lambda error: errors.append(str(error)))
        tab.goto(file.as_uri())
        whole = span(tab)
        assert whole[0] == "2026-02-02 02:40:00"
        assert tab.locator(".zoom svg .title").all_text_contents() == ["temperature", "</script><b>pressure", "score of a step"]
        assert tab.evaluate("document.documentElement.scrollWidth") <= width
        box = tab.locator(".zoom .panels").bounding_box()
        tab.mouse.move(box["x"] + 0.5 * box["width"], box["y"] + 60)
        tab.mouse.down()
        tab.mouse.move(box["x"] + 0.7 * box["width"], box["y"] + 60, steps=4)
        tab.mouse.up()
        dragged = span(tab)
        assert whole[0] < dragged[0] < dragged[1] < whole[1]
        tab.get_by_role("button", name="Whole series").focus()
        tab.keyboard.press("Enter")
        assert span(tab) == whole
        assert tab.get_by_role("button", name="Zoom out").is_disabled()
        tab.get_by_role("button", name="Next alarm").press("Space")
        assert tab.locator(".zoom .alarmed").count() == 3  # in each panel
        assert span(tab)[0] > whole[0]
        tab.get_by_role("button", name="Earlier").click()
        for _ in range(30):
            if tab.get_by_role("button", name="Zoom in").is_disabled():
                break
            tab.get_by_role("button", name="Zoom in").click()
        assert tab.get_by_role("button", name="Zoom in").is_disabled()
        assert errors == []


@pytest.mark.slow
@needs_chromium
def test_axe_finds_no_fault_in_it(browser: Any, tmp_path: Path) -> None:
    file = page(tmp_path)
    for scheme in ("light", "dark"):
        assert axe_faults(browser, file.as_uri(), scheme) == []
