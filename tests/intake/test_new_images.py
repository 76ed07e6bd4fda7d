"""`ae new` on folders of images: what it says, what it asks, and that its recipe reads what it looked at."""

from pathlib import Path

import numpy as np
import pytest
from image_folders import dirt, encoded, textures, write_images
from intake_project import NewProject
from PIL import Image

from ae_models.spec import LocalHullScoreSpec, single_scores
from aeops.recipe.image_sources import ImageLabels


@pytest.fixture
def shoes(tmp_path: Path) -> Path:
    """150 pictures of good and 30 of scratched shoes, with masks and a note."""
    folder = tmp_path / "shoes"
    write_images(folder / "good", textures(150))
    bad = textures(30, seed=1)
    bad[:, 4:6] = 255
    names = write_images(folder / "scratch", bad, (".png",))
    mask = np.zeros(bad[0].shape, np.uint8)
    mask[4:6] = 255
    for name in names:
        path = folder / "ground_truth" / "scratch" / name.replace(".png", "_mask.png")
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(mask).save(path)
    (folder / "readme.txt").write_text("shoes")
    return folder


def test_a_folder_is_understood_and_its_recipe_reads_it(project: NewProject, shoes: Path) -> None:
    reasons = dirt(shoes / "good")
    code, printed, errors = project.new("shoes", shoes, "--yes")
    assert (code, errors) == (0, "")
    for text in ("image: 192 files", "good (162), scratch (30)", "30 in ground_truth/, of 30 images", "readme.txt", "16x16"):
        assert text in printed
    assert "have another depth" in printed
    assert "next       ae run shoes" in printed
    keys = project.keys("shoes")
    assert keys["data"]["labels"] == ["good", "scratch"]
    assert keys["data"]["novelty"] == ["scratch"]
    assert keys["data"]["source"] == {
        "kind": "images",
        "path": str(shoes),
        "labels": {"folder": 1},
        "masks": "ground_truth",
    }
    assert keys["input"]["shape"] == [3, 16, 16]  # the animated file has colours
    samples = project.samples("shoes")
    assert samples.ids is not None
    assert len(samples.ids) == 182
    assert set(samples.set_aside) == {f"good/{name}" for name in set(reasons) - {"pages.tiff", "animated.webp"}}


def test_every_choice_of_the_recipe_has_a_comment(project: NewProject, shoes: Path) -> None:
    assert project.new("shoes", shoes, "--yes")[0] == 0
    lines = project.project.recipe_file("shoes").read_text().splitlines()
    assert lines[0].startswith("# Needs: ")
    assert lines[1] == "# Run: ae run shoes"
    for key in ("shape:", "resize:", "labels:", "novelty:", "split:", "epochs:", "quarantine_budget:", "threshold:"):
        place = next(number for number, line in enumerate(lines) if line.strip().startswith(key))
        assert lines[place - 1].strip().startswith("#"), key


def test_what_cannot_be_told_is_asked_and_without_a_terminal_named(project: NewProject, tmp_path: Path) -> None:
    for name in ("boot", "sneaker"):
        write_images(tmp_path / "kinds" / name, textures(105, seed=len(name)))
    code, _, errors = project.new("kinds", tmp_path / "kinds")
    assert code == 2
    assert "which of the labels boot, sneaker are anomalies" in errors
    assert "--anomalies" in errors
    assert not project.project.recipe_file("kinds").exists()
    code, printed, _ = project.new("kinds", tmp_path / "kinds", "--yes")
    assert code == 0
    assert "none of them: all are normal" in printed
    assert project.recipe("kinds").data.novelty == ()
    assert project.new("kinds", tmp_path / "kinds", "--anomalies", "boot", "--force")[0] == 0
    assert project.keys("kinds")["data"]["novelty"] == ["boot"]
    code, _, errors = project.new("kinds", tmp_path / "kinds", "--anomalies", "bot", "--force")
    assert code == 2
    assert "expected labels out of boot, sneaker, got bot" in errors


def test_a_recipe_that_is_there_is_kept_unless_it_is_to_be_replaced(project: NewProject, shoes: Path) -> None:
    assert project.new("shoes", shoes, "--yes")[0] == 0
    before = project.project.recipe_file("shoes").read_bytes()
    code, _, errors = project.new("shoes", shoes, "--yes", "--size", "32x32")
    assert code == 2
    assert "is there already" in errors
    assert project.project.recipe_file("shoes").read_bytes() == before
    assert project.new("shoes", shoes, "--yes", "--size", "32x32", "--force")[0] == 0
    assert project.keys("shoes")["input"]["shape"][1:] == [32, 32]


def test_a_csv_file_of_labels_is_found(project: NewProject, tmp_path: Path) -> None:
    names = write_images(tmp_path / "flat", textures(120))
    rows = [f"{name},{'defect' if number % 6 == 0 else 'normal'}" for number, name in enumerate(names)]
    (tmp_path / "flat" / "truth.csv").write_text("\n".join(["picture,class", *rows]))
    code, printed, errors = project.new("flat", tmp_path / "flat", "--yes")
    assert (code, errors) == (0, "")
    assert "column class of truth.csv" in printed
    source = project.recipe("flat").data.source
    assert source.labels == ImageLabels(file="truth.csv", name="picture", label="class")
    labels = project.samples("flat").labels
    assert labels is not None
    assert labels.tolist().count(project.recipe("flat").label_names.index("defect")) == 20


@pytest.mark.parametrize(("size", "cell", "blur", "tangents"), [("16x16", 4, 0.7, True), ("48x64", 6, 0, False)])
def test_edges_are_compared_in_at_most_twelve_cells_a_side(
    project: NewProject, shoes: Path, size: str, cell: int, blur: float, tangents: bool
) -> None:
    assert project.new("shoes", shoes, "--yes", "--size", size)[0] == 0
    *_, pixels, edges = single_scores(project.recipe("shoes").fit.score).values()
    assert isinstance(pixels, LocalHullScoreSpec)
    assert isinstance(edges, LocalHullScoreSpec)
    assert (pixels.space, pixels.tangents) == ("input", True)
    assert (edges.space, edges.pool, edges.blur, edges.tangents) == ("orientations", cell, blur, tangents)


def test_large_colour_pictures_of_many_sizes_are_shrunk_and_sixteen_bits_are_kept(project: NewProject, tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    for number, image in enumerate(textures(110, 60)):
        picture = Image.fromarray(np.stack([image, image // 2, 255 - image], axis=2)).resize((120 + number % 7, 90))
        (folder / f"{number}.jpg").write_bytes(encoded(picture, "JPEG"))
    assert project.new("photos", folder, "--yes")[0] == 0
    keys = project.keys("photos")
    assert keys["input"]["shape"] == [3, 48, 64]
    assert keys["input"]["resize"] == "pad"
    assert project.samples("photos").array.shape == (110, 3, 48, 64)
    deep = tmp_path / "deep"
    deep.mkdir()
    for number, image in enumerate(textures(110)):
        Image.fromarray(image.astype(np.uint16) * 16).save(deep / f"{number}.png")
    assert project.new("deep", deep, "--yes")[0] == 0
    assert project.keys("deep")["input"]["high"] == 4095
    assert project.samples("deep").array[:1].max() > 255


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ([], "the folder is empty"),
        (["a.h5"], "a.h5 is not read here (HDF5)"),
        (["a.png"], "none of 1 image files can be read"),
        (["notes.xyz"], "nothing in it is known"),
    ],
)
def test_a_folder_that_holds_nothing_to_learn_from_is_refused(
    project: NewProject, tmp_path: Path, files: list[str], message: str
) -> None:
    (tmp_path / "folder").mkdir()
    for name in files:
        (tmp_path / "folder" / name).write_bytes(b"x")
    code, _, errors = project.new("x", tmp_path / "folder", "--yes")
    assert code == 3
    assert message in errors


def test_too_few_images_are_refused_with_the_number_that_is_needed(project: NewProject, tmp_path: Path) -> None:
    write_images(tmp_path / "few", textures(20))
    code, _, errors = project.new("few", tmp_path / "few", "--yes")
    assert code == 3
    assert "expected at least 100 normal samples, got 20" in errors


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--size", "10"], "expected WIDTHxHEIGHT"),
        (["--size", "10x10"], "expected multiples of 4"),
        (["--labels", "nowhere.csv"], "expected a CSV file below"),
    ],
)
def test_an_option_that_does_not_fit_is_refused(project: NewProject, shoes: Path, options: list[str], message: str) -> None:
    code, _, errors = project.new("shoes", shoes, *options)
    assert code == 2
    assert message in errors


def test_a_name_that_leads_out_of_the_project_is_refused(project: NewProject, shoes: Path) -> None:
    code, _, errors = project.new("../shoes", shoes, "--yes")
    assert code == 2
    assert "expected a name of letters" in errors
    assert project.new("shoes", shoes.parent / "nowhere", "--yes")[0] == 2


def test_names_of_two_lines_are_printed_in_one_and_links_do_not_count_as_images(project: NewProject, tmp_path: Path) -> None:
    folder = tmp_path / "shots"
    write_images(folder, textures(3, 16), (".png",))
    (folder / "two\nlines.png").write_bytes(b"")
    for number in range(2):
        (folder / f"link{number}.png").symlink_to(folder / "0000.png")
    code, _, errors = project.new("shots", folder, "--yes")
    assert code == 3
    assert "expected at least 100 normal samples, got 3:" in errors
    write_images(folder, textures(150, 16), (".png",))
    code, printed, _ = project.new("shots", folder, "--yes")
    assert code == 0
    assert "two\\nlines.png: its name has characters that cannot be printed" in printed
    assert project.recipe("shots").validate.quarantine_budget == pytest.approx(2 * 3 / 153, abs=1e-3)
