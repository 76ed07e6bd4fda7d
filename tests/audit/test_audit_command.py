"""`ae audit` as a person types it, on digits, windows and texts."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from data_project import Room

from aeops.cli.main import main

CHROMIUM = Path("/usr/bin/chromium")


def audited(capsys: pytest.CaptureFixture[str], *options: str) -> dict[str, Any]:
    assert main(["audit", "mine", "--json", *options]) == 0
    return dict(json.loads(capsys.readouterr().out))


@pytest.fixture
def dirty(room: Room, monkeypatch: pytest.MonkeyPatch) -> Room:
    """Digits with a wrong label, two copies of one digit, and one with another label than its original."""
    room.labels[5] = 8
    room.images = np.concatenate([room.images, room.images[100:101], room.images[200:201]])
    room.labels = np.concatenate([room.labels, room.labels[100:101], [9]])
    room.save()
    room.edit(validate={"rows": {"min": 300, "max": 5000}}, data={"on_duplicate": "accept"})  # else the later label counts
    monkeypatch.chdir(room.root)
    return room


@pytest.mark.slow
def test_a_dataset_is_audited_without_a_change_and_its_page_names_no_other_host(
    dirty: Room, capsys: pytest.CaptureFixture[str]
) -> None:
    dirty.accept_unjudged()
    before = sorted((path, path.stat().st_mtime_ns) for path in dirty.root.rglob("*") if ".ae" not in path.parts)
    report = audited(capsys, "--rows", "12")
    assert before == sorted((path, path.stat().st_mtime_ns) for path in dirty.root.rglob("*") if ".ae" not in path.parts)
    assert (report["origin"], report["rows"], report["kind"]) == ("dataset", 402, "image")
    suspects = report["labels"]["suspects"]
    assert len(suspects) == 12
    assert ("mine-000005", "8", "0") in [(one["id"], one["label"], one["suggested"]) for one in suspects]
    assert "mine-000401" in [one["id"] for one in suspects] or report["copies"]["label_conflicts"] >= 1
    assert report["copies"]["samples"]["exact"] == 4
    assert report["copies"]["label_conflicts"] >= 1
    html = Path(report["page"]).read_text(encoding="utf-8")
    assert html.count("data:image/png;base64,") >= 12
    assert not [part for part in ("http://", "https://", "<script") if part in html]


@pytest.mark.slow
def test_without_a_dataset_the_source_is_read_and_nothing_stays(dirty: Room, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["audit", "mine", "--page", str(dirty.root / "found.html"), "--rows", "3"]) == 0
    printed = capsys.readouterr().out
    for words in ("402 samples of the source", "labels that look wrong: the first 3", "4 exact (2 pairs)", "took", "found.html"):
        assert words in printed, words
    assert not (dirty.project.home / "audit" / "mine-source").exists()
    assert not dirty.data.exists()


@pytest.mark.slow
def test_windows_of_one_series_leak_and_unlabelled_ones_are_audited(
    room: Room, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    series = np.cumsum(np.random.default_rng(0).normal(size=500)).astype(np.float32)
    windows = np.stack([series[None, start : start + 32] for start in range(0, 460, 4)])
    make_series(room, windows)
    monkeypatch.chdir(room.root)
    report = audited(capsys)
    assert "no labels" in report["labels"]["skipped"]
    leak = next(leak for leak in report["leaks"] if (leak["split"], leak["known_from"]) == ("test", "train"))
    assert leak["by_relation"]["shared steps"] == leak["leaked"]
    assert leak["leaked"] / leak["samples"] > 0.9  # a split at random of overlapping windows
    html = Path(report["page"]).read_text(encoding="utf-8")
    assert "<polyline" in html
    assert "Windows that share steps".lower() in html


def make_series(room: Room, windows: np.ndarray) -> None:
    """Makes the recipe one of windows (n, 1, 32)."""
    np.save(room.root / "images.npy", windows)
    room.replace(
        data={
            "dataset": "mine",
            "source": {"kind": "npy", "path": "images.npy"},
            "split": {"validation": 0.1, "calibration": 0.2, "test": 0.2},
        },
        input={"kind": "series", "shape": [1, 32], "low": -60, "high": 60},
        model={
            "corrupt": {"kind": "none"},
            "encode": {"kind": "temporal", "widths": [4]},
            "bottleneck": {"kind": "identity", "size": 4},
            "decode": {"kind": "temporal", "widths": [4]},
            "compare": {"kind": "mse"},
        },
        purpose="reconstruct",
        score={"kind": "normalised-residual"},
        train={"epochs": 1},
        evaluate={},
    )


@pytest.mark.slow
def test_near_texts_and_their_page(room: Room, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    random = np.random.default_rng(0)
    words = ["ship", "bank", "goal", "rain", "film", "vote", "seed", "rock", "fish", "lamp", "road", "bell"]
    texts = [" ".join(random.choice(words, 9, replace=False)) + f" {number}" for number in range(40)]
    texts.append(texts[0] + " again <b>")
    rows = "".join(f"{text}\n" for text in texts)
    (room.root / "texts.csv").write_text("text\n" + rows, encoding="utf-8")
    room.ask_for_texts(120, {"kind": "sentences", "files": [{"path": "texts.csv", "columns": ["text"], "sentences": "whole"}]})
    room.replace(purpose="embed")
    monkeypatch.chdir(room.root)
    report = audited(capsys)
    assert report["copies"]["pairs"]["near"] >= 1
    assert ("mine-000000", "mine-000040") in [(one["first"], one["second"]) for one in report["copies"]["examples"]]
    html = Path(report["page"]).read_text(encoding="utf-8")
    assert "again &lt;b&gt;" in html


@pytest.mark.slow
@pytest.mark.parametrize(
    ("labels", "words"),
    [(np.zeros(400, np.int64), "expected two labels or more"), (np.arange(400) // 8, "expected two labels or more")],
    ids=["one label", "eight of each"],
)
def test_labels_that_cannot_be_checked_say_why(
    room: Room, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], labels: np.ndarray, words: str
) -> None:
    room.save(labels=labels)
    room.edit(data={"labels": sorted(set(labels.tolist())), "novelty": []})
    room.replace(purpose="reconstruct", score={"kind": "normalised-residual"}, evaluate={})
    monkeypatch.chdir(room.root)
    assert words in audited(capsys)["labels"]["skipped"]


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (["digts"], 2, "did you mean"),
        (["mine", "--near", "1.5", "--samples", "3", "--rows", "0", "--page", "x.txt"], 2, "--near: expected a number above 0"),
    ],
    ids=["unknown", "options"],
)
def test_what_cannot_be_is_a_usage_error(
    dirty: Room, capsys: pytest.CaptureFixture[str], options: list[str], code: int, words: str
) -> None:
    assert main(["audit", *options]) == code
    message = capsys.readouterr().err
    assert words in message
    if len(options) > 1:
        assert all(option in message for option in ("--samples", "--rows", "--page"))


@pytest.mark.slow
def test_an_altered_dataset_and_a_missing_source_are_data_errors(dirty: Room, capsys: pytest.CaptureFixture[str]) -> None:
    dirty.accept_unjudged()
    shard = dirty.data / "shards" / "00000.npy"
    content = bytearray(shard.read_bytes())
    content[-1] ^= 1
    shard.write_bytes(content)
    assert main(["audit", "mine"]) == 3
    assert "does not match its receipt" in capsys.readouterr().err
    (dirty.root / "images.npy").unlink()
    assert main(["audit", "mine", "--source"]) == 3
    assert "images.npy" in capsys.readouterr().err


@pytest.mark.long
@pytest.mark.skipif(not CHROMIUM.is_file(), reason=f"no {CHROMIUM} here: apt-get install chromium")
def test_a_browser_shows_the_page_without_a_complaint(dirty: Room, capsys: pytest.CaptureFixture[str]) -> None:
    from playwright.sync_api import sync_playwright

    page_file = audited(capsys, "--rows", "12")["page"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport={"width": 400, "height": 800})
        complaints: list[str] = []
        page.on("console", lambda message: complaints.append(message.text))
        page.goto(f"file://{page_file}")
        assert page.locator("h1").inner_text().startswith("mine")
        assert page.evaluate("document.documentElement.scrollWidth") == 400  # a phone needs no scrolling sideways
        sizes = page.locator("#labels img").evaluate_all("images => images.map(image => image.naturalWidth)")
        browser.close()
    assert sizes == [28] * 12
    assert complaints == []
