"""The study of documents: pages out of tiles, the classical threshold, and what Tesseract reads, where it is installed."""

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytesseract
import pytest
from PIL import Image, ImageDraw, ImageFont

from aeops.data.sources.tiles import cut_tiles
from aeops.errors import DataError
from aeops.evaluation import model_input, ocr
from aeops.evaluation.prepared import PreparedSamples
from aeops.evaluation.studies import documents
from aeops.evaluation.study import EvaluationContext, StudyResult
from aeops.project import find_project
from aeops.recipe.reader import read_recipe
from aeops.recipe.studies import DocumentsStudy

RECIPES = Path(__file__).parents[2] / "recipes"
SCANS = RECIPES.parents[1] / "shared" / "data" / "documents" / "noisyoffice_420x540.npz"
CORE, MARGIN, ROWS, COLUMNS = 60, 10, 2, 4  # of the recipe; and of pages that are 120 x 240 pixels
LINES = ("autoencoders", "read stained", "paper again")

needs_tesseract = pytest.mark.skipif(
    bool(ocr.installation_command()), reason=f"Tesseract is not installed: {ocr.INSTALL_COMMAND}"
)


def typed(lines: tuple[str, ...]) -> np.ndarray:
    """A clean page (120, 240)."""
    page = Image.new("L", (COLUMNS * CORE, ROWS * CORE), 250)
    ImageDraw.Draw(page).multiline_text((20, 12), "\n".join(lines), fill=10, font=ImageFont.load_default(size=24), spacing=10)
    return np.asarray(page)


def stained(clean: np.ndarray, seed: int) -> np.ndarray:
    """The page with a shadow across it and grains of dirt."""
    shadow = 90 * np.sin(np.linspace(0, 3, clean.shape[1]) + seed)[None].clip(0, 1)
    return (clean - shadow - np.random.default_rng(seed).normal(8, 6, clean.shape)).clip(0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def pages() -> tuple[np.ndarray, np.ndarray]:
    """Three scans, noisy and clean, (3, 120, 240) each."""
    clean = np.stack([typed(LINES), typed(LINES[::-1]), typed(LINES[1:])])
    return np.stack([stained(page, seed) for seed, page in enumerate(clean)]), clean


def scene_of(folder: Path, noisy: np.ndarray, clean: np.ndarray, made: np.ndarray | None = None) -> EvaluationContext:
    """A scene of all scans as test scans, their noises 0, 1, 0, ..., whose model makes the pages `made`; noisy as they are."""
    recipe = read_recipe(RECIPES / "documents-denoise.yaml")
    tiles = cut_tiles(np.stack([noisy, clean], axis=1), CORE, MARGIN)
    answer = tiles[:, :1] if made is None else cut_tiles(made[:, None], CORE, MARGIN)
    ids = [f"noisyoffice-{place:06d}" for place in range(len(tiles))]
    kinds = pd.array(np.arange(len(noisy)) % 2, "Int64").repeat(ROWS * COLUMNS)
    table = pd.DataFrame({"id": ids, "label": kinds, "novelty": False})
    facts = {"scans": len(noisy), "rows": ROWS, "columns": COLUMNS}
    (folder / "prepared.json").write_text(json.dumps({"source": {"facts": facts}}), encoding="utf-8")
    data = PreparedSamples(folder, tiles, tiles, table, {"train": len(tiles)}, 0.0, 255.0)
    given, target = (
        model_input.served_inputs(recipe.fit, tiles, model_input.TEST_SEED),
        model_input.scaled_targets(recipe.fit.input, data, tiles),
    )
    said = {"reconstruction": answer.astype(np.float32)}
    return EvaluationContext(recipe, data, None, given, target, said, find_project(RECIPES), folder, folder)


def shuffled(scene: EvaluationContext, rows: np.ndarray) -> EvaluationContext:
    """The scene with its test samples in another order, or some of them only."""
    data = replace(scene.data, test=scene.data.test[rows], table=scene.data.table.iloc[rows].reset_index(drop=True))
    said = {name: values[rows] for name, values in scene.predictions.items()}
    return replace(scene, data=data, inputs=scene.inputs[rows], target=scene.target[rows], predictions=said)


@pytest.fixture
def without_tesseract(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pytesseract.pytesseract, "tesseract_cmd", "no-such-program")


def ask(scene: EvaluationContext, folder: Path) -> StudyResult:
    return documents.run_documents_study(DocumentsStudy(), scene, folder)


def rmse(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.sqrt(np.mean((one.astype(float) - other) ** 2)))


# ---------------------------------------------------------------- pages


@pytest.mark.usefixtures("without_tesseract")
def test_errors_are_those_of_the_whole_pages(pages, tmp_path):
    noisy, clean = pages
    found = ask(scene_of(tmp_path, noisy, clean), tmp_path).metrics["rmse"]["noisy"]
    assert found["all"] == pytest.approx(rmse(noisy, clean), rel=1e-4)
    assert found["0"] == pytest.approx(rmse(noisy[::2], clean[::2]), rel=1e-4)
    assert found["1"] == pytest.approx(rmse(noisy[1], clean[1]), rel=1e-4)


@pytest.mark.usefixtures("without_tesseract")
def test_a_perfect_model_is_off_by_nothing_and_one_that_does_nothing_by_the_noise(pages, tmp_path):
    noisy, clean = pages
    perfect = ask(scene_of(tmp_path, noisy, clean, clean), tmp_path).metrics
    idle = ask(scene_of(tmp_path, noisy, clean), tmp_path).metrics
    assert perfect["rmse"]["model"]["all"] == 0.0
    assert perfect["rmse_lead"] == perfect["rmse"]["threshold"]["all"]
    assert idle["rmse"]["model"] == idle["rmse"]["noisy"]


@pytest.mark.usefixtures("without_tesseract")
def test_tiles_find_their_place_by_their_ids(pages, tmp_path):
    scene = scene_of(tmp_path, *pages)
    order = np.random.default_rng(0).permutation(len(scene.inputs))
    assert ask(shuffled(scene, order), tmp_path).metrics == ask(scene, tmp_path).metrics


@pytest.mark.usefixtures("without_tesseract")
def test_a_scan_with_a_hole_is_left_out_and_told(pages, tmp_path):
    scene = scene_of(tmp_path, *pages)
    finding = ask(shuffled(scene, np.delete(np.arange(len(scene.inputs)), 3)), tmp_path)
    assert finding.metrics["scans"] == 2
    assert "1 test scans are left out" in finding.note


def test_scans_with_holes_only_are_refused(pages, tmp_path):
    scene = scene_of(tmp_path, *pages)
    with pytest.raises(DataError, match="expected a test scan with all of its 8 tiles, got none among 3"):
        ask(shuffled(scene, np.flatnonzero(np.arange(len(scene.inputs)) % 8)), tmp_path)


@pytest.mark.usefixtures("without_tesseract")
def test_every_figure_is_small(pages, tmp_path):
    finding = ask(scene_of(tmp_path, *pages), tmp_path)
    assert [name for name, _ in finding.figures] == ["documents_0.svg", "documents_1.svg"]
    assert all((tmp_path / name).stat().st_size < 60_000 for name, _ in finding.figures)


def test_what_is_shown_is_where_the_noise_is():
    noise = np.zeros((420, 540), np.float32)
    noise[210:260, 280:500] = 0.4
    rows, columns = documents.noisiest_piece(noise)
    assert noise[rows, columns].mean() > 0.5 * 0.4


# ---------------------------------------------------------------- the classical way


def test_a_shown_piece_cuts_no_line_and_no_word() -> None:
    page = typed(LINES) / 255
    rows, columns = documents.whole_lines(page, (slice(30, 60), slice(60, 130)))
    has_ink = page < documents.INK_BELOW
    assert rows.start <= 30 < 60 <= rows.stop
    assert columns.start <= 60 < 130 <= columns.stop
    assert not has_ink[rows.start, columns].any()
    assert not has_ink[rows.stop - 1, columns].any()
    assert not has_ink[rows, columns.start].any()
    assert not has_ink[rows, columns.stop - 1].any()
    assert documents.whole_lines(np.ones((40, 60)), (slice(5, 20), slice(0, 60))) == (slice(5, 20), slice(0, 60))
    assert documents.whole_lines(np.zeros((40, 60)), (slice(5, 20), slice(9, 30))) == (slice(0, 40), slice(0, 60))


def test_the_threshold_takes_most_of_a_shadow_away(pages):
    noisy, clean = (array / np.float32(255) for array in pages)
    chosen = documents.choose_threshold(noisy[:2], clean[:2], MARGIN)
    assert chosen.white == pytest.approx(250 / 255)
    assert rmse(chosen.clean(noisy[2:]), clean[2:]) < 0.5 * rmse(noisy[2:], clean[2:])


def test_blank_paper_is_nowhere_darker_than_itself():
    assert not documents.pixel_darkness(np.full((1, 40, 40), 0.6, np.float32)).any()


# ---------------------------------------------------------------- reading


def test_character_error_rate_counts_edits_over_the_references_characters():
    assert ocr.character_error_rate(["kitten", "page"], ["sitting", "page"]) == pytest.approx(3 / 10)
    assert ocr.character_error_rate(["a"], ["abc"]) == 2.0
    assert ocr.character_error_rate([""], ["stain"]) is None


@pytest.mark.usefixtures("without_tesseract")
def test_without_tesseract_nothing_is_claimed_and_the_note_says_what_to_install(pages, tmp_path):
    finding = ask(scene_of(tmp_path, *pages), tmp_path)
    assert finding.metrics["character_error_rate"]["model"] == {"all": None, "0": None, "1": None}
    assert not [row for row in finding.rows if "characters" in row[0]]
    assert "Type apt install tesseract-ocr" in finding.note


@needs_tesseract
def test_tesseract_reads_what_was_typed():
    before = dict(os.environ)
    assert ocr.read_text(typed(LINES) / 255) == " ".join(LINES)
    assert dict(os.environ) == before, "a limit of threads that stays hangs every later training of this process's children"


@pytest.mark.slow
@needs_tesseract
def test_a_perfect_model_is_read_as_the_clean_pages_are(pages, tmp_path):
    noisy, clean = (array[:2] for array in pages)
    finding = ask(scene_of(tmp_path, noisy, clean, clean), tmp_path)
    assert finding.metrics["character_error_rate"]["model"] == {"all": 0.0, "0": 0.0, "1": 0.0}
    assert len(finding.rows) == 6


@pytest.mark.slow
@needs_tesseract
@pytest.mark.skipif(not SCANS.is_file(), reason=f"needs {SCANS.name} of the shared data")
def test_a_coffee_stain_costs_characters_and_the_threshold_brings_most_of_them_back():
    data = np.load(SCANS)
    chosen = np.flatnonzero((data["page"] == 11) & (data["variant"] == 0))
    noisy, clean = data["noisy"][chosen] / np.float32(255), data["clean"][data["page"][chosen]] / np.float32(255)
    made = {"noisy": noisy, "threshold": documents.InkThreshold(0.16, 0.98).clean(noisy)}
    rates = documents.measure_error_rates(made, clean, np.array([0]))
    assert rates["noisy"]["all"] == rates["noisy"]["0"]
    assert 3 * rates["threshold"]["all"] < rates["noisy"]["all"]
