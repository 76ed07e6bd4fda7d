"""`ae embed` as a person types it, in this process."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from champion_helpers import make_champion
from data_project import EACH, Room, make_room
from PIL import Image
from shipped_digits import shipped_digits

from ae_models.corruptions import GreyCorruption
from aeops.bundle.detector import Detector
from aeops.cli import embed
from aeops.cli.main import build_parser
from aeops.data.dataset import read_index
from aeops.errors import AeError, DataError, UsageError
from aeops.project import Project
from aeops.registry.store import open_store


@pytest.fixture(autouse=True)
def in_the_project(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project.root)
    for name in ("MLFLOW_TRACKING_URI", "AE_HOME"):
        monkeypatch.delenv(name, raising=False)


def ae_embed(*arguments: object) -> None:
    given = build_parser().parse_args(["embed", *(str(argument) for argument in arguments)])
    assert given.run(given) == 0


def codes(table: pa.Table, size: int = 16) -> np.ndarray:
    return np.stack([table[f"code_{place}"].to_numpy() for place in range(size)], axis=1)


@pytest.mark.slow
def test_every_file_gets_its_rows_codes_and_scores(
    digits: np.ndarray, tmp_path: Path, linear_bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.save(tmp_path / "batch.npy", digits[:5])
    Image.fromarray(digits[5, 0]).save(tmp_path / "one.png")
    ae_embed("digits", tmp_path / "batch.npy", tmp_path / "one.png", "-o", tmp_path / "codes.parquet")
    table = pq.read_table(tmp_path / "codes.parquet")
    expected = Detector(linear_bundle).score(digits[:6], code=True)
    assert table.column_names == ["sample", *(f"code_{place}" for place in range(16)), "score", "flags"]
    assert table["sample"].to_pylist() == [*(f"batch.npy[{place}]" for place in range(5)), "one.png"]
    assert str(table.schema.field("code_0").type) == "float"
    np.testing.assert_allclose(codes(table), expected["code"], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(table["score"].to_numpy(), expected["score"], rtol=1e-5)
    assert "the codes of 6 samples by digits 1" in capsys.readouterr().out


def test_the_same_samples_give_the_same_bytes(digits: np.ndarray, tmp_path: Path) -> None:
    np.save(tmp_path / "batch.npy", digits[:5])
    for name in ("a.parquet", "b.parquet"):
        ae_embed("digits", tmp_path / "batch.npy", "-o", tmp_path / name)
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()


@pytest.fixture(scope="module")
def room(linear_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Room:
    """A project with an accepted dataset of real digits, and a champion of the recipe `mine`."""
    images, labels = shipped_digits()
    chosen = np.concatenate([np.flatnonzero(labels == label)[:EACH] for label in range(10)])
    with pytest.MonkeyPatch.context() as patch:
        for name in ("MLFLOW_TRACKING_URI", "AE_HOME"):
            patch.delenv(name, raising=False)
        made = make_room(tmp_path_factory.mktemp("room"), images[chosen, 0], labels[chosen])
        made.save()
        made.accept()
        store = open_store(made.project)
        run = store.start_run("mine", {}, {}, {"dataset": "mine", "content_sha256": "c" * 64})
        make_champion(store, "mine", store.register(run, "mine", linear_bundle, {}, "# mine"))
    return made


@pytest.mark.slow
def test_without_files_the_accepted_dataset_is_embedded_with_what_is_known_of_it(
    room: Room, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, linear_bundle: Path
) -> None:
    monkeypatch.chdir(room.root)
    ae_embed("mine", "-o", tmp_path / "codes.parquet")
    table, index = pq.read_table(tmp_path / "codes.parquet"), read_index(room.data)
    assert table.column_names[:3] == ["id", "label", "split"]
    assert table["id"].to_pylist() == index["id"].tolist()
    assert table["label"].to_pylist() == index["label"].tolist()
    assert set(table["split"].to_pylist()) == {"train", "validation", "calibration", "test"}
    expected = Detector(linear_bundle).score(room.images, code=True)["code"]
    np.testing.assert_allclose(codes(table), expected, rtol=1e-5, atol=1e-4)


def test_a_dataset_that_was_altered_after_it_was_accepted_is_refused(
    room: Room, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(room.root)
    shard = room.data / "shards" / "00000.npy"
    whole = shard.read_bytes()
    shard.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(DataError, match="does not match its receipt"):
        ae_embed("mine", "-o", tmp_path / "codes.parquet")
    shard.write_bytes(whole)


def test_what_cannot_be_embedded_is_refused_and_nothing_is_left(digits: np.ndarray, tmp_path: Path) -> None:
    np.save(tmp_path / "good.npy", digits[:3])
    np.save(tmp_path / "nan.npy", np.full((2, 28, 28), np.nan))
    (tmp_path / "there.parquet").write_bytes(b"mine")
    out = tmp_path / "codes.parquet"
    cases: list[tuple[list[object], type[AeError], str]] = [
        (["digits", tmp_path / "good.npy", "-o", tmp_path / "codes.csv"], UsageError, "expected a path that ends in .parquet"),
        (["digits", tmp_path / "good.npy", "-o", tmp_path / "there.parquet"], UsageError, "exists already"),
        (["digit", tmp_path / "good.npy", "-o", out], UsageError, "did you mean digits?"),
        (["digits", tmp_path / "absent.npy", "-o", out], UsageError, "no file"),
        (["digits", tmp_path / "nan.npy", "-o", out], DataError, "nan.npy: sample 0 holds missing values"),
        (["digits", tmp_path / "good.npy", tmp_path / "nan.npy", "-o", out], DataError, "nan.npy: sample 0 holds missing values"),
        (["digits", "-o", out], DataError, "no dataset in"),
    ]
    before = sorted(tmp_path.iterdir())
    for arguments, error, told in cases:
        with pytest.raises(error) as caught:
            ae_embed(*arguments)
        assert told in str(caught.value)
    assert sorted(tmp_path.iterdir()) == before


def test_grey_is_what_the_corruption_of_that_name_makes() -> None:
    colours = np.random.default_rng(0).integers(0, 256, (4, 3, 5, 5), np.uint8)
    colours[0] = 255
    wanted = GreyCorruption()(torch.from_numpy(colours.astype(np.float32) / 255)).numpy() * 255
    np.testing.assert_allclose(embed.convert_to_grey(colours, 0, 255), wanted, atol=1e-3)
    assert embed.convert_to_grey(colours, 0, 255).max() <= 255


@pytest.mark.slow
def test_embedding_loads_no_torch(digits: np.ndarray, tmp_path: Path) -> None:
    np.save(tmp_path / "batch.npy", digits[:5])
    code = (
        "import sys; from aeops.cli.main import main\n"
        f"assert main(['embed', 'digits', {str(tmp_path / 'batch.npy')!r}, '-o', {str(tmp_path / 'x.parquet')!r}]) == 0\n"
        "print(sorted({'torch', 'pytorch_lightning', 'matplotlib'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
