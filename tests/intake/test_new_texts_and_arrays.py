"""`ae new` on texts and arrays: keys, labels and layouts are found, and the recipe reads the very samples."""

import gzip
import json
from pathlib import Path

import numpy as np
import pytest
from data_project import shared_data
from image_folders import write_images
from intake_project import NewProject

from aeops.errors import DataError

TOPICS = {
    "sport": "the team won the match after a late goal in the second half",
    "money": "the bank raised its rates and the shares of the company fell",
}


def articles(count: int = 240) -> list[dict[str, object]]:
    draw = np.random.default_rng(0)
    rows = []
    for number in range(count):
        topic = "sport" if number % 3 else "money"
        words = TOPICS[topic].split()
        body = " ".join(draw.permutation(words).tolist() * 2) + f" report {number}"
        rows.append({"url": f"http://x/{number}", "body": body, "topic": topic, "views": number})
    return rows


def write_lines(file: Path, rows: list[dict[str, object]], extra: list[str] | None = None) -> Path:
    lines = [json.dumps(row, ensure_ascii=False) for row in rows]
    content = "\n".join([*lines, *(extra or [])]).encode()
    file.write_bytes(gzip.compress(content) if file.suffix == ".gz" else content)
    return file


@pytest.mark.parametrize("name", ["news.jsonl", "news.jsonl.gz"])
def test_keys_of_json_lines_are_found_and_dirt_is_set_aside_by_name(project: NewProject, tmp_path: Path, name: str) -> None:
    rows = articles()
    dirty = [{**rows[0], "url": "u1", "topic": "weather"}, {**rows[0], "url": "u2", "body": " "}, {**rows[0]}, {"url": "u4"}]
    path = write_lines(tmp_path / name, rows, [json.dumps(row) for row in dirty] + ["{no json", "[1, 2]", '"text"'])
    code, printed, errors = project.new("news", path, "--yes", "--anomalies", "money")
    assert (code, errors) == (0, "")
    assert "key or column body" in printed
    assert "keys that are not read: views" in printed
    assert project.keys("news")["data"]["source"] == {
        "kind": "texts",
        "path": str(path),
        "text": "body",
        "labels": "topic",
        "id": "url",
    }
    file = project.project.recipe_file("news")
    file.write_text(file.read_text().replace("[money, sport, weather]", "[money, sport]"))
    samples = project.samples("news")
    assert samples.ids is not None
    assert list(samples.ids) == [row["url"] for row in rows]
    assert bytes(samples.array[:1][0]).rstrip(b"\0").decode() == rows[0]["body"]
    assert {name: reason.partition(":")[0] for name, reason in samples.set_aside.items()} == {
        "line 241 (u1)": "unknown label 'weather'",
        "line 242 (u2)": "no text",
        f"line 1 ({rows[0]['url']})": "its id stands again in a later row, which replaces it",
        "line 244 (u4)": "no object with the key body",
        "line 245": "no JSON",
        "line 246": "no object with the key body",
        "line 247": "no object with the key body",
    }


def test_a_column_of_a_csv_file_holds_texts_where_it_is_named(project: NewProject, tmp_path: Path) -> None:
    rows = [f'{row["url"]};{row["topic"]};"{row["body"]}, with\n a second line"' for row in articles()]
    (tmp_path / "news.csv").write_text("\n".join(["nr;thema;text", *rows]), encoding="cp1252")
    code, _, errors = project.new("news", tmp_path / "news.csv", "--text", "text", "--labels", "thema", "--yes", "--id", "nr")
    assert (code, errors) == (0, "")
    samples = project.samples("news")
    assert len(samples.array) == 240
    assert project.recipe("news").label_names == ("money", "sport")
    assert b"second line" in bytes(samples.array[:1][0])


def test_lines_of_a_text_file_and_files_of_a_folder_are_texts(project: NewProject, tmp_path: Path) -> None:
    bodies = [str(row["body"]) for row in articles()]
    (tmp_path / "log.txt").write_text("\n\n".join(bodies))
    folder = tmp_path / "letters"
    for number, body in enumerate(bodies):
        (folder / f"{number % 3}").mkdir(parents=True, exist_ok=True)
        (folder / f"{number % 3}" / f"{number}.txt").write_text(body)
    (folder / "0" / "bytes.txt").write_bytes(b"\xff\xfe\x00nothing")
    (folder / "0" / "empty.txt").touch()
    assert project.new("log", tmp_path / "log.txt", "--yes")[0] == 0
    ids = project.samples("log").ids
    assert ids is not None
    assert ids[1] == "log.txt:3"
    assert project.new("letters", folder, "--yes")[0] == 0
    samples = project.samples("letters")
    assert samples.ids is not None
    assert "0/0.txt" in samples.ids
    assert len(samples.ids) == 240
    assert set(samples.set_aside) == {"0/bytes.txt", "0/empty.txt"}


def test_a_text_longer_than_the_sample_is_cut_at_a_character(project: NewProject, tmp_path: Path) -> None:
    rows = articles()
    rows[5]["body"] = "ü" * 2000
    assert project.new("news", write_lines(tmp_path / "news.jsonl", rows), "--yes")[0] == 0
    samples = project.samples("news")
    assert samples.metadata["cut_texts"] == 1
    assert set(bytes(samples.array[5:6][0]).rstrip(b"\0").decode()) == {"ü"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--text", "nothing"], "expected a key out of url, body, topic, views"),
        (["--labels", "views"], "expected at most 30 labels, got 240"),
    ],
)
def test_a_key_that_does_not_fit_is_refused(project: NewProject, tmp_path: Path, options: list[str], message: str) -> None:
    code, _, errors = project.new("news", write_lines(tmp_path / "news.jsonl", articles()), "--yes", *options)
    assert code == 2
    assert message in errors


# ---------------------------------------------------------------- arrays


def images(count: int = 150, side: int = 12) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, side, side)).astype(np.uint8)


@pytest.mark.parametrize("order", ["C", "F", ">"])
def test_images_in_npy_are_read_in_any_order_with_the_labels_beside_them(project: NewProject, tmp_path: Path, order: str) -> None:
    values = images()
    if order == ">":
        values = values.astype(">f4") / 255
    np.save(tmp_path / "x.npy", np.asfortranarray(values) if order == "F" else values)
    np.save(tmp_path / "x_labels.npy", np.array(["good", "bad", "good"])[np.arange(150) % 3])
    code, printed, errors = project.new("x", tmp_path / "x.npy", "--yes")
    assert (code, errors) == (0, "")
    assert "bad (50), good (100)" in printed
    samples = project.samples("x")
    np.testing.assert_array_equal(samples.array[:150][:, 0], values)
    assert project.keys("x")["input"]["high"] == (1 if order == ">" else 255)
    assert project.recipe("x").data.novelty == (0,)


def test_arrays_of_an_npz_file_and_their_layout_are_found(project: NewProject, tmp_path: Path) -> None:
    colours = np.stack([images()] * 3, axis=3)
    np.savez(tmp_path / "c.npz", images=colours, y=(np.arange(150) % 3 == 0).astype(int), other=np.zeros(3))
    assert project.new("c", tmp_path / "c.npz", "--yes")[0] == 0
    assert project.keys("c")["input"]["shape"] == [3, 12, 12]
    samples = project.samples("c")
    np.testing.assert_array_equal(samples.array[:1][0], colours[0].transpose(2, 0, 1))
    np.savez(tmp_path / "rows.npz", X=np.random.default_rng(0).normal(size=(300, 4)), y=np.arange(300) % 10 == 0)
    assert project.new("rows", tmp_path / "rows.npz", "--yes")[0] == 0
    labels = project.samples("rows").labels
    assert labels is not None
    assert labels.sum() == 30


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((150, 12, 12), np.uint8), "all 150 images that were measured show a single colour"),
        (np.tile(images(4), (50, 1, 1)), "only 4 of 200 images that were measured differ from each other"),
    ],
)
def test_images_that_are_all_alike_cannot_be_judged(project: NewProject, tmp_path: Path, array: np.ndarray, message: str) -> None:
    np.save(tmp_path / "x.npy", array)
    code, _, errors = project.new("x", tmp_path / "x.npy", "--yes")
    assert code == 3
    assert message in errors
    assert "no model can be judged" in errors
    write_images(tmp_path / "files", array, (".png",))
    code, _, errors = project.new("files", tmp_path / "files", "--yes")
    assert code == 3
    assert message in errors


@pytest.mark.parametrize("shape", ["images", "rows"])
def test_groups_of_an_npz_file_share_a_split_and_times_are_named(project: NewProject, tmp_path: Path, shape: str) -> None:
    groups = np.repeat(np.arange(30), 10)
    values = images(300) if shape == "images" else np.random.default_rng(0).normal(size=(300, 4))
    arrays = {"X": values, "groups": groups, "t": np.arange(300), "y": np.arange(300) // 30 % 2}
    np.savez(tmp_path / "a.npz", **arrays)
    code, printed, errors = project.new("a", tmp_path / "a.npz", "--yes")
    assert (code, errors) == (0, "")
    assert "groups: 30 groups, each in one split" in printed
    assert "t is not read: splits are drawn by content" in printed
    found = project.samples("a").groups
    assert found is not None
    assert found.tolist() == [f"groups-{group}" for group in groups]
    np.savez(tmp_path / "b.npz", **{**arrays, "groups": groups % 3})
    code, printed, _ = project.new("b", tmp_path / "b.npz", "--yes")
    assert "groups is not read: 3 groups of samples cannot fill the splits" in printed
    assert project.samples("b").groups is None
    code, _, errors = project.new("c", tmp_path / "a.npz", "--yes", "--group", "machine")
    assert code == 2
    assert "--group machine: expected an array out of X, groups, t, y" in errors
    code, _, errors = project.new("c", tmp_path / "a.npz", "--yes", "--group", "X")
    assert code == 2
    assert "--group X: expected one whole number or name a sample" in errors
    np.savez(tmp_path / "d.npz", **{**arrays, "y": np.arange(300) % 10 == 0})
    code, _, errors = project.new("d", tmp_path / "d.npz", "--yes")
    assert code == (3 if shape == "images" else 0)  # images are read row by row, and their labels are numbers or names
    assert shape == "rows" or "write y.astype('uint8') in its place" in errors
    np.savez(tmp_path / "a.npz", **{**arrays, "groups": groups[:7]})
    with pytest.raises(DataError, match=r"groups.*: expected one whole number or name for each of 300 samples"):
        project.samples("a")


def test_groups_beside_an_npy_file_share_a_split(project: NewProject, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", images())
    np.save(tmp_path / "x_groups.npy", np.array([f"part {place}" for place in range(15)])[np.arange(150) % 15])
    code, _, errors = project.new("x", tmp_path / "x.npy", "--yes")
    assert (code, errors) == (0, "")
    found = project.samples("x").groups
    assert found is not None
    assert found[:2].tolist() == ["x_groups-part 0", "x_groups-part 1"]
    np.save(tmp_path / "x_groups.npy", np.arange(3))
    code, _, errors = project.new("y", tmp_path / "x.npy", "--yes")
    assert code == 3
    assert "x_groups.npy: expected 150 groups, one a sample, got an array of shape (3,)" in errors


def test_rows_with_named_fields_are_a_table_and_pickles_are_refused(project: NewProject, tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    rows = np.zeros(200, [("length", ">f8"), ("colour", "U8"), ("made", "M8[s]"), ("count", "<i4")])
    rows["length"], rows["count"] = draw.normal(size=200), draw.integers(0, 9, 200)
    rows["colour"] = draw.choice(["red", "blue"], 200)
    rows["made"] = np.datetime64("2026-01-01") + draw.integers(0, 9000, 200)
    np.save(tmp_path / "rows.npy", rows)
    code, _, errors = project.new("rows", tmp_path / "rows.npy", "--yes")
    assert (code, errors) == (0, "")
    columns = {column.name: column.type for column in project.recipe("rows").fit.input.columns}
    assert columns == {"length": "number", "colour": "category", "made": "date", "count": "integer"}
    np.testing.assert_allclose(project.samples("rows").array[:]["length"], rows["length"])
    np.save(tmp_path / "matrix.npy", np.asfortranarray(draw.normal(size=(200, 3))))
    assert project.new("matrix", tmp_path / "matrix.npy", "--yes")[0] == 0
    np.save(tmp_path / "objects.npy", np.array([{"a": 1}] * 200, dtype=object), allow_pickle=True)
    code, _, errors = project.new("objects", tmp_path / "objects.npy", "--yes")
    assert code == 3
    assert "without objects" in errors


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (images(120, 10), "expected sides that are multiples of 4"),
        (np.stack([images(120)] * 3, axis=3), "n.moveaxis(x, 3, 1)"),
        (images(120).astype(np.int16), "x.astype('float32')"),
        (np.zeros((2, 3, 4, 5, 6)), "expected images (n, h, w)"),
        (images(20), "expected at least 100 normal samples, got 20"),
    ],
)
def test_an_array_that_no_source_reads_is_refused_with_the_command(
    project: NewProject, tmp_path: Path, array: np.ndarray, message: str
) -> None:
    np.save(tmp_path / "x.npy", array)
    code, _, errors = project.new("x", tmp_path / "x.npy", "--yes")
    assert code == 3
    assert message in errors


def test_a_cut_array_is_refused(project: NewProject, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", images())
    (tmp_path / "x.npy").write_bytes((tmp_path / "x.npy").read_bytes()[:500])
    code, _, errors = project.new("x", tmp_path / "x.npy", "--yes")
    assert code == 3
    assert "not readable as an array" in errors


def test_the_idx_files_of_mnist_are_a_source_with_a_test_part(project: NewProject) -> None:
    code, printed, errors = project.new("mnist", shared_data("mnist"), "--yes", "--anomalies", "5")
    assert (code, errors) == (0, "")
    assert "60,000 images" in printed
    keys = project.keys("mnist")
    assert keys["data"]["novelty"] == [5]
    assert "test" not in keys["data"]["split"]
    assert project.recipe("mnist").data.source.own_test
