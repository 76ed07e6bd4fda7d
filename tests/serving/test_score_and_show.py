"""`ae score` and `ae show` as a person types them, in this process."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from aeops.bundle.detector import Detector
from aeops.bundle.explanations import MAX_EXPLAINED_SAMPLES
from aeops.cli import score, show
from aeops.cli.main import build_parser, main
from aeops.errors import AeError, DataError, UsageError
from aeops.kinds.image import KIND
from aeops.kinds.samples import SampleSpec
from aeops.predictions import prediction_store
from aeops.project import Project

SHAPE = (1, 28, 28)


@pytest.fixture(autouse=True)
def in_the_project(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project.root)
    monkeypatch.setenv("COLUMNS", "160")
    for name in ("MLFLOW_TRACKING_URI", "AE_HOME"):
        monkeypatch.delenv(name, raising=False)


def scored(file: Path, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    score.run(
        SimpleNamespace(
            recipe="digits", file=file, version="champion", json=True, inbox=False, fdr=None, explain=False, on=None, shards=None
        )
    )  # type: ignore[arg-type]
    return dict(json.loads(capsys.readouterr().out))


def test_the_same_digit_scores_the_same_as_npy_png_and_in_a_folder(
    digits: np.ndarray, tmp_path: Path, capsys: pytest.CaptureFixture[str], linear_bundle: Path
) -> None:
    expected = float(Detector(linear_bundle).score(digits[7])["score"][0])
    np.save(tmp_path / "one.npy", digits[7, 0])
    folder = tmp_path / "folder"
    folder.mkdir()
    for name in ("b.png", "a.png"):
        Image.fromarray(digits[7, 0]).save(folder / name)
    (folder / "notes.txt").write_text("not an image", encoding="utf-8")
    for file, names in ((tmp_path / "one.npy", ["one.npy[0]"]), (folder / "a.png", ["a.png"]), (folder, ["a.png", "b.png"])):
        answer = scored(file, capsys)
        assert [row["sample"] for row in answer["samples"]] == names
        assert {row["score"] for row in answer["samples"]} == {expected}
        assert (answer["recipe"], answer["version"]) == ("digits", "1")


def test_a_batch_keeps_its_order(
    digits: np.ndarray, tmp_path: Path, capsys: pytest.CaptureFixture[str], linear_bundle: Path
) -> None:
    np.save(tmp_path / "batch.npy", digits[:60])
    expected = Detector(linear_bundle).score(digits[:60])["score"].tolist()
    assert [row["score"] for row in scored(tmp_path / "batch.npy", capsys)["samples"]] == expected


def test_the_table_shows_the_highest_scores_and_counts_all(
    digits: np.ndarray, tmp_path: Path, capsys: pytest.CaptureFixture[str], linear_bundle: Path
) -> None:
    np.save(tmp_path / "batch.npy", digits[:60])
    known = Detector(linear_bundle).score(digits[:60])
    score.run(
        SimpleNamespace(
            recipe="digits",
            file=tmp_path / "batch.npy",
            version="1",
            json=False,
            inbox=False,
            fdr=None,
            explain=False,
            on=None,
            shards=None,
        )
    )  # type: ignore[arg-type]
    told = capsys.readouterr().out
    assert "the 40 highest scores of 60" in told
    assert f"batch.npy[{int(np.argmax(known['score']))}]" in told
    assert f"batch.npy[{int(np.argmin(known['score']))}]" not in told
    assert f"60 samples, {int(known['is_anomaly'].sum())} flagged; the threshold" in told


def bad_files(folder: Path) -> dict[str, tuple[Path, type[AeError], str]]:
    """Every bad file with what must be said of it."""
    files = {
        name: folder / name
        for name in ("cut.npy", "nan.npy", "wide.npy", "cut.png", "wide.png", "deep.png", "words.txt", "two.npz")
    }
    np.save(folder / "whole.npy", np.zeros((2, 28, 28), np.uint8))
    files["cut.npy"].write_bytes((folder / "whole.npy").read_bytes()[:-100])
    np.save(files["nan.npy"], np.full((28, 28), np.nan))
    np.save(files["wide.npy"], np.zeros((28, 30), np.uint8))
    Image.new("L", (28, 28)).save(folder / "whole.png")
    files["cut.png"].write_bytes((folder / "whole.png").read_bytes()[:50])
    Image.new("L", (30, 28)).save(files["wide.png"])
    Image.fromarray(np.zeros((28, 28), np.uint16)).save(files["deep.png"])
    files["words.txt"].write_text("hello", encoding="utf-8")
    (folder / "pickled.npy").write_bytes(b"")
    np.save(folder / "pickled.npy", np.array([{}], dtype=object), allow_pickle=True)
    (folder / "empty").mkdir()
    return {
        "cut npy": (files["cut.npy"], DataError, "cut.npy cannot be read as .npy"),
        "pickled npy": (folder / "pickled.npy", DataError, "pickled.npy cannot be read as .npy"),
        "nan": (files["nan.npy"], DataError, "sample 0 holds missing values, expected values from 0 to 255"),
        "wide npy": (files["wide.npy"], DataError, "expected one sample of shape (1, 28, 28)"),
        "cut png": (files["cut.png"], DataError, "cut.png cannot be read as an image"),
        "wide png": (files["wide.png"], DataError, "wide.png: expected 28x28 pixels, got 30x28"),
        "deep png": (files["deep.png"], DataError, "deep.png: expected 8 bits a channel, got more"),
        "words": (files["words.txt"], DataError, "words.txt is neither .npy nor an image"),
        "empty folder": (folder / "empty", DataError, "no image in"),
        "absent": (folder / "absent.npy", UsageError, "no file"),
    }


def test_every_bad_file_is_refused_by_name(tmp_path: Path, linear_bundle: Path) -> None:
    detector = Detector(linear_bundle)
    for kind, (file, error, told) in bad_files(tmp_path).items():
        with pytest.raises(error) as caught:
            detector.require_scored(detector.check(detector.read_file(file).values).flags)
        assert told in str(caught.value), kind


def test_one_bad_file_of_a_folder_is_refused_and_the_rest_is_scored(
    digits: np.ndarray, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a.png", "line2/b.tiff"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.fromarray(digits[7, 0]).save(tmp_path / name)
    (tmp_path / "line2" / "cut.png").write_bytes((tmp_path / "a.png").read_bytes()[:60])
    assert main(["score", "digits", str(tmp_path), "--json"]) == DataError.exit_code
    captured = capsys.readouterr()
    answer = json.loads(captured.out)
    assert [row["sample"] for row in answer["samples"]] == ["a.png", "line2/b.tiff"]
    assert [refusal["file"] for refusal in answer["refused"]] == ["line2/cut.png"]
    assert "refused    line2/cut.png: " in captured.err
    assert main(["score", "digits", str(tmp_path)]) == DataError.exit_code
    assert "2 samples, " in (told := capsys.readouterr().out)
    assert "1 file refused, with the reasons below" in told
    (tmp_path / "line2" / "cut.png").unlink()
    assert main(["score", "digits", str(tmp_path)]) == 0


def test_nothing_is_cut_in_a_pipe(
    digits: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    name = f"{'long' * 50}.npy"
    np.save(tmp_path / name, digits[:2])
    monkeypatch.delenv("COLUMNS")
    assert main(["score", "digits", str(tmp_path / name)]) == 0
    told = capsys.readouterr().out
    assert f"{name}[0]" in told
    assert "…" not in told
    assert main(["show", "digits"]) == 0
    [row] = [line for line in capsys.readouterr().out.splitlines() if "1 champion" in line]
    assert "1.20% (1.00%)" in row
    assert "01234567+" in row


def test_a_prediction_is_whole_on_a_narrow_terminal(
    digits: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    np.save(tmp_path / f"{'long' * 20}.npy", digits[:1])
    monkeypatch.setenv("COLUMNS", "60")
    assert main(["score", "digits", str(tmp_path / f"{'long' * 20}.npy")]) == 0
    told = capsys.readouterr().out
    prediction = told.split("ae why ")[1].split()[0]
    assert told.count(prediction) == 2


@pytest.mark.slow
def test_options_may_stand_before_between_and_after_files(digits: np.ndarray, tmp_path: Path) -> None:
    np.save(tmp_path / "one.npy", digits[:1])
    np.save(tmp_path / "-two.npy", digits[:1])
    one = str(tmp_path / "one.npy")
    for number, arguments in enumerate(
        (
            ["embed", "digits", "-o", "{}", one],
            ["embed", "-o", "{}", "digits", one, one],
            ["embed", "digits", one, "-o", "{}", one],
            ["embed", one.replace(one, "digits"), "--version", "1", one, "--out={}"],
        )
    ):
        out = str(tmp_path / f"{number}.parquet")
        assert main([argument.format(out) for argument in arguments]) == 0
    for arguments in (
        ["score", "digits", "--version", "1", one],
        ["score", "--json", "digits", one],
        ["ledger", "verify", "digits"],
    ):
        assert main(arguments) == 0
    parser = build_parser()
    assert parser.parse_args(["compress", "a", "-o", "x.aez", "b"]).files == [Path("a"), Path("b")]
    assert parser.parse_args(["score", "digits", "--", "-two.npy"]).file == Path("-two.npy")
    assert parser.parse_args(["sign", "digits", "--key", "k.pem", "3"]).version == "3"


@pytest.mark.parametrize("arguments", [["embed", "digits"], ["embed", "digits", "--what", "-o", "x"], ["score"], ["recipe"], []])
def test_what_is_missing_or_unknown_is_still_told(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        build_parser().parse_args(arguments)
    assert "usage: ae" in capsys.readouterr().err


def test_a_colour_image_becomes_the_recipes_channels(digits: np.ndarray, tmp_path: Path) -> None:
    Image.fromarray(digits[0, 0]).convert("RGB").save(tmp_path / "colour.png")
    grey, colour, pair = (SampleSpec((channels, 28, 28), (channels, 28, 28), 0, 255) for channels in (1, 3, 2))
    np.testing.assert_array_equal(KIND.read_file(tmp_path / "colour.png", grey).values[0], digits[0])
    assert KIND.read_file(tmp_path / "colour.png", colour).values.shape == (1, 3, 28, 28)
    with pytest.raises(DataError, match="2 channels, which no image has"):
        KIND.read_file(tmp_path / "colour.png", pair)


def test_ae_score_explains_the_champions_scores_and_records_each_once(
    project: Project, digits: np.ndarray, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.save(tmp_path / "two.npy", digits[:2])
    assert main(["score", "digits", str(tmp_path / "two.npy"), "--explain", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["samples"]
    assert all(row["why"].startswith("rows ") for row in rows)
    assert np.shape(rows[1]["residual"]) == SHAPE
    [call] = {row["id"].rpartition("-")[0] for row in rows}
    assert [row["id"] for row in rows] == [f"{call}-0", f"{call}-1"]
    assert prediction_store.find_prediction(project, rows[1]["id"]).score == pytest.approx(rows[1]["score"])
    assert main(["score", "digits", str(tmp_path / "two.npy"), "--explain"]) == 0
    printed = capsys.readouterr().out
    assert " why " in printed
    assert "of the error" in printed


def test_more_samples_than_are_explained_are_refused_before_anything_is_recorded(project: Project, tmp_path: Path) -> None:
    np.save(tmp_path / "many.npy", np.zeros((MAX_EXPLAINED_SAMPLES + 1, *SHAPE), np.uint8))
    recorded = sorted(project.home.glob("predictions/**/*.parquet"))
    with pytest.raises(UsageError, match=r"--explain: expected at most 1,024 samples, got 1,025 in .*many.npy: leave --explain"):
        run_parsed("score", "digits", str(tmp_path / "many.npy"), "--explain")
    assert sorted(project.home.glob("predictions/**/*.parquet")) == recorded


def test_the_inbox_is_not_explained() -> None:
    with pytest.raises(UsageError, match=r"--inbox: expected no --explain.* type `ae score RECIPE FILE --explain`"):
        run_parsed("score", "digits", "--inbox", "--explain")


def run_parsed(*arguments: str) -> None:
    parsed = build_parser().parse_args(list(arguments))
    parsed.run(parsed)


def test_show_tells_versions_promise_and_where_to_look(capsys: pytest.CaptureFixture[str]) -> None:
    show.run(SimpleNamespace(recipe="digits", json=False))  # type: ignore[arg-type]
    told = capsys.readouterr().out
    for words in (
        "1 champion",
        "accepted",
        "01234567+",
        "cccccccc",
        "1.20% (1.00%)",
        "above 0.0500",
        "1.00% of normal samples",
        "/runs/",
    ):
        assert words in told, words


def test_show_without_a_version_says_what_to_type(project: Project) -> None:
    text = (project.recipes / "digits.yaml").read_text(encoding="utf-8")
    (project.recipes / "unborn.yaml").write_text(text.replace("recipe: digits", "recipe: unborn"), encoding="utf-8")
    with pytest.raises(UsageError, match=r"no version of unborn is registered .* make one with `ae run unborn`"):
        show.run(SimpleNamespace(recipe="unborn", json=False))  # type: ignore[arg-type]
