"""From a folder of files to a champion: three commands in an empty folder, no file edited.

The small table is of every run of the suite; the others, and those of tests/long/test_transcripts.py, take minutes.
"""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from checkout import Checkout, make_checkout
from image_folders import dirt, encoded, textures, write_images
from PIL import Image

from aeops.bundle.detector import Detector


def new_and_run(checkout: Checkout, name: str, origin: Path, *options: str) -> str:
    """Type `ae new` and `ae run`; return what the run printed."""
    proposed = checkout.ae_in_process("new", name, "--from", str(origin), "--yes", *options)
    assert proposed.returncode == 0, proposed.stderr
    assert f"next       ae run {name}" in proposed.stdout
    done = checkout.ae_in_forks("run", name)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{name} 1 (challenger, champion)" in done.stdout
    return done.stdout


def test_rows_of_a_small_table_become_a_champion_in_an_empty_folder(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    rows = pd.DataFrame(draw.normal(size=(260, 2)) @ draw.normal(size=(2, 5))).add_prefix("m")
    rows["part_id"] = [f"p{number}" for number in range(260)]
    rows["state"] = np.where(np.arange(260) % 20 == 7, "faulty", "good")
    rows.loc[rows["state"] == "faulty", ["m0", "m1"]] += 6
    rows.to_csv(tmp_path / "rows.csv", index=False)
    (tmp_path / "mine").mkdir()
    project = Checkout(tmp_path / "mine")
    assert project.ae_in_process("init").returncode == 0
    new_and_run(project, "parts", tmp_path / "rows.csv")
    assert yaml.safe_load((project.root / "params.yaml").read_text())["recipes"].keys() == {"parts"}
    scores = pd.read_parquet(project.root / "artifacts" / "parts" / "report" / "scores.parquet")
    assert scores["id"].str.fullmatch(r"p\d+").all()
    assert scores["novelty"].sum() == 13


@pytest.mark.long
def test_a_folder_of_images_with_dirt_becomes_a_champion_that_takes_raw_files(tmp_path: Path) -> None:
    folder, checkout = tmp_path / "shoes", make_checkout(tmp_path / "checkout")
    write_images(folder / "good", textures(500))
    faulty = textures(40, seed=1)
    faulty[:, 4:8, 3:12] = 250
    write_images(folder / "scratch", faulty, (".png",))
    reasons = dirt(folder / "good")
    printed = new_and_run(checkout, "shoes", folder, "--channels", "1", "--size", "12x12")
    assert f"set aside  {len(reasons) - 2} of" in printed
    scores = pd.read_parquet(checkout.root / "artifacts" / "shoes" / "report" / "scores.parquet")
    assert {"good/0000.png", "scratch/0000.png"} & set(scores["id"])
    detector = Detector(checkout.root / "artifacts" / "shoes" / "bundle")
    assert (detector.spec.frames, detector.spec.resize) == ("first", "pad")
    photo = Image.fromarray(textures(1, seed=9)[0]).convert("RGB").resize((64, 64))
    samples = detector.data_kind.read_content(encoded(photo, "JPEG"), detector.spec)
    answer = detector.score(np.asarray(samples))
    assert np.isfinite(answer["score"]).all()


@pytest.mark.long
def test_rows_of_parquet_with_nulls_and_categories_become_a_champion(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    rows = pd.DataFrame({"a": draw.normal(100, 10, 900), "kind": draw.choice(["x", "y", "z"], 900)})
    rows["b"] = rows["a"] * 0.3 + draw.normal(0, 0.5, 900)
    rows["c"] = np.where(draw.random(900) < 0.05, np.nan, draw.exponential(2, 900))
    rows["part_id"] = [f"p{number}" for number in range(900)]
    rows.to_parquet(tmp_path / "rows.parquet")
    checkout = make_checkout(tmp_path / "checkout")
    new_and_run(checkout, "plant", tmp_path / "rows.parquet")
    scores = pd.read_parquet(checkout.root / "artifacts" / "plant" / "report" / "scores.parquet")
    assert scores["id"].str.fullmatch(r"p\d+").all()


@pytest.mark.long
def test_texts_of_json_lines_become_a_champion(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    subjects, verbs, things = (
        ("bank", "team", "court", "city", "party"),
        ("sold", "won", "lost", "named"),
        ("match", "share", "vote"),
    )
    lines = []
    for number in range(700):
        words = [draw.choice(part) for part in (subjects, verbs, things, subjects, verbs, things)]
        lines.append(json.dumps({"id": number, "text": f"the {' the '.join(map(str, words))} today", "label": "news"}))
    (tmp_path / "news.jsonl").write_text("\n".join(lines))
    new_and_run(make_checkout(tmp_path / "checkout"), "news", tmp_path / "news.jsonl")
