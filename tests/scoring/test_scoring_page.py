"""The page of a run says what the run found, loads nothing from elsewhere, and shows the samples that scored highest."""

import html.parser
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from explained_bundles import edges_bundle, image_bundle, images

from ae_models.intervals import clopper_pearson
from ae_models.thresholds import read_threshold
from aeops.bundle.detector import Detector
from aeops.drawing.words import format_number
from aeops.scoring import inbox_run as running
from aeops.scoring.charts import histogram_edges, relative_densities
from aeops.scoring.inbox import InboxFile, read_fingerprint
from aeops.scoring.score_file import ScoredFile
from aeops.scoring.scoring_page import AnomalousSample, _draw_samples, alarm_rate

from .conftest import Room

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


class Elements(html.parser.HTMLParser):
    """The ids of a page, what it links to within itself, and every address it names."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.links: list[str] = []
        self.addresses: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        for name, value in attributes:
            if name == "id" and value:
                self.ids.append(value)
            if name in ("href", "src") and value:
                (self.links if value.startswith("#") else self.addresses).append(value)


@pytest.mark.slow
def test_the_page_tells_the_run_and_loads_nothing(room: Room, digits: np.ndarray, linear_bundle: Path) -> None:
    room.put("a<b>.npy", digits[:400])
    room.put("same.npy", digits[:400])
    room.put_bytes("broken.npy", b"garbage")
    told = room.run(now=NOW)
    page = Path(told["page"]).read_text(encoding="utf-8")
    assert page == (room.folder / "latest.html").read_text(encoding="utf-8")
    elements = Elements(page)
    assert len(set(elements.ids)) == len(elements.ids)
    assert {"promise", "days", "samples", "files"} <= set(elements.ids)
    assert {link.removeprefix("#") for link in elements.links} <= set(elements.ids)
    assert [address for address in elements.addresses if not address.startswith("data:image/png;base64,")] == []
    assert "@import" not in page
    scored = Detector(linear_bundle).score(digits[:400])
    flagged, threshold = int(scored["is_anomaly"].sum()), Detector(linear_bundle).bundle["threshold"]
    low, high = clopper_pearson(flagged, 400)
    worst = int(np.argmax(scored["score"]))
    call = told["files"]["taken"][0]["call"]
    for words in (
        *("version 1", told["run"], "2026-03-01 12:00 UTC", f"{flagged} of 400 samples were flagged", f"{flagged / 4:.2f} %"),
        *(f"{format_number(low * 100, 2)} % to {format_number(high * 100, 2)} %", f"{threshold['false_alarm_rate'] * 100:.2f} %"),
        *("a&lt;b&gt;.npy", f"a&lt;b&gt;.npy[{worst}]", f"ae why {call}-{worst}", "broken.npy", "cannot be read as .npy"),
        *("same.npy", "its content is that of a&lt;b&gt;.npy", "error at a pixel"),
    ):
        assert words in page, words
    assert page.count("<image") == 2  # two strips of six samples, each with its reconstruction and error map
    assert len(re.findall(r"<td class=\"mono\">[0-9a-f]{16}-\d+</td>", page)) == 12


def test_the_page_shows_the_days_before_but_counts_its_own_run(room: Room, digits: np.ndarray) -> None:
    for day in range(3):
        room.put(f"{day}.npy", digits[day * 50 : (day + 1) * 50])
        told = room.run(now=NOW + timedelta(days=day))
    page = Path(told["page"]).read_text(encoding="utf-8")
    assert told["samples"] == 50
    for date in ("2026-03-01", "2026-03-02", "2026-03-03"):
        assert date in page
    assert page.count("50 samples,") == 3


def test_a_run_that_only_refused_has_a_page_too(room: Room) -> None:
    room.put_bytes("broken.npy", b"garbage")
    page = Path(room.run()["page"]).read_text(encoding="utf-8")
    assert "No sample was scored" in page
    assert 'id="days"' not in page


@pytest.mark.parametrize("make", [image_bundle, edges_bundle])
def test_the_most_anomalous_samples_stand_above_their_nearest_normal_ones(make: Callable[[Path], Path], tmp_path: Path) -> None:
    detector = Detector(make(tmp_path))
    samples = np.concatenate([images(9)] * detector.shape[0], axis=1)
    np.save(tmp_path / "new.npy", samples)
    file = InboxFile("new.npy", tmp_path / "new.npy", read_fingerprint(tmp_path / "new.npy"))
    scores = detector.score(samples, explanation=True)
    scored = ScoredFile("new.npy", "a" * 64, "0123abcd", tmp_path / "0123abcd.parquet", "1", 9, 0)
    worst = [AnomalousSample(scored, row, float(scores["score"][row]), 0.5, "", False, []) for row in range(9)]
    first, second = map(str, _draw_samples(worst, {"a" * 64: file}, detector))
    for picture, count in ((first, 6), (second, 3)):
        assert picture.count(">nearest<") == 1
        assert len(re.findall(r">-?\d\.\d+<", picture)) == count
    parts = detector.part_names
    if parts:
        spoke = parts[int(scores["part_scores"][8].argmax())].partition("-")[0].partition(" ")[0]
        assert spoke in second


def test_pages_of_long_ago_go(room: Room, digits: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "MAX_PAGES", 2)
    for day in range(3):
        room.put(f"{day}.npy", digits[day : day + 1])
        room.run(now=NOW + timedelta(days=day))
    assert sorted(page.name[:8] for page in room.folder.glob("2*.html")) == ["20260302", "20260303"]
    assert (room.folder / "latest.html").is_file()


@pytest.mark.parametrize(("flagged", "verdict"), [(0, "fewer than promised"), (50, "as promised"), (120, "more than promised")])
def test_the_rate_is_judged_by_the_interval_that_has_the_luck_of_the_calibration(flagged: int, verdict: str) -> None:
    section = {"kind": "split-conformal", "false_alarm_rate": 0.05, "value": 1.0, "calibration_rows": 400}
    threshold = read_threshold(section)
    found = alarm_rate(flagged, 1000, threshold)
    assert found is not None
    assert (found.measured, found.verdict) == (flagged / 1000, verdict)
    assert found.wide == threshold.plausible_rates(flagged, 1000)
    assert alarm_rate(0, 0, threshold) is None


def test_a_threshold_that_names_no_rate_is_not_judged() -> None:
    section = {"kind": "mad", "deviations": 3.5, "value": 1.0, "calibration_rows": 400, "median": 0.5, "mad": 0.1}
    found = alarm_rate(50, 1000, read_threshold(section))
    assert found is not None
    assert (found.promised, found.wide, found.verdict) == (None, None, "nothing promised")


def test_bins_hold_every_score_and_cut_at_the_threshold() -> None:
    scores = np.random.default_rng(0).lognormal(size=1000)
    edges, is_log = histogram_edges(scores, 1.5)
    assert is_log
    assert 1.5 in edges
    assert np.histogram(scores, edges)[0].sum() == 1000
    assert relative_densities(scores, edges, is_log).max() == 1
    edges, is_log = histogram_edges(np.array([-1.0, 2.0, 2.0]), 1.0)
    assert not is_log
    assert np.histogram([-1.0, 2.0, 2.0], edges)[0].sum() == 3
