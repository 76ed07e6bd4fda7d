"""`ae compress` and `ae decompress` as a person types them, in this process, with a real registered model."""

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from aeops.bundle.detector import Detector
from aeops.bundle.signing import new_keys
from aeops.cli.main import build_parser
from aeops.codec.container import unpack_archive
from aeops.errors import AeError, DataError, UsageError
from aeops.project import Project
from aeops.registry import promotion
from aeops.registry.signatures import sign_version
from aeops.registry.store import open_store


@pytest.fixture(autouse=True)
def in_a_folder_of_the_project(project: Project, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(project.root)
    for name in ("MLFLOW_TRACKING_URI", "AE_HOME"):
        monkeypatch.delenv(name, raising=False)


def ae(*arguments: object) -> None:
    given = build_parser().parse_args([str(argument) for argument in arguments])
    assert given.run(given) == 0


@pytest.fixture(scope="session")
def codec(codec_bundle: Path) -> Detector:
    return Detector(codec_bundle)


@pytest.mark.slow
def test_an_array_comes_back_as_the_model_makes_it(digits: np.ndarray, codec: Detector, tmp_path: Path) -> None:
    np.save(tmp_path / "digits.npy", digits[1500:])
    ae("compress", tmp_path / "digits.npy", "-o", tmp_path / "x.aez")
    ae("decompress", tmp_path / "x.aez", "-o", tmp_path / "back.npy")
    expected = codec.score(digits[1500:], reconstruction=True)["reconstruction"]
    back = np.load(tmp_path / "back.npy")
    assert back.dtype == np.uint8
    np.testing.assert_allclose(back, expected, atol=0.51)


def test_images_come_back_under_their_names(digits: np.ndarray, codec: Detector, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    for name, digit in (("b.png", digits[1501]), ("a.png", digits[1500])):
        Image.fromarray(digit[0]).save(folder / name)
    np.save(tmp_path / "more.npy", digits[1502:1504, 0])
    ae("compress", folder, tmp_path / "more.npy", "-o", tmp_path / "x.aez")
    ae("decompress", tmp_path / "x.aez")
    expected = codec.score(digits[1500:1504], reconstruction=True)["reconstruction"]
    for name, image in zip(("a", "b", "more-0", "more-1"), expected, strict=True):
        np.testing.assert_allclose(np.asarray(Image.open(tmp_path / "x" / f"{name}.png")), image[0], atol=0.51)
    assert len(list((tmp_path / "x").iterdir())) == 4


def test_the_words_in_the_file_are_the_models_own(digits: np.ndarray, codec: Detector, tmp_path: Path) -> None:
    """Bytes near the entropy of its words, and far from the arrays'."""
    np.save(tmp_path / "digits.npy", digits[1500:])
    ae("compress", tmp_path / "digits.npy", "-o", tmp_path / "x.aez")
    archive = unpack_archive((tmp_path / "x.aez").read_bytes(), "x.aez")
    assert (archive.recipe, archive.version, archive.sample_count) == ("tiny-codec", "1", 500)
    assert codec.sha256.startswith(archive.bundle)
    words, counts = codec.score(digits[1500:], code=True)["code"], codec.word_counts
    assert counts is not None
    shares = (counts + 0.5) / (counts + 0.5).sum(axis=1, keepdims=True)
    needed = -np.log2(shares[np.arange(8), words]).sum() / 8
    assert needed < archive.coded_bytes < needed + 12
    assert (tmp_path / "x.aez").stat().st_size < archive.coded_bytes + 90


def test_the_same_samples_give_the_same_bytes(digits: np.ndarray, tmp_path: Path) -> None:
    np.save(tmp_path / "digits.npy", digits[1500:1600])
    for name in ("x.aez", "y.aez"):
        ae("compress", tmp_path / "digits.npy", "-o", tmp_path / name, "--recipe", "tiny-codec", "--version", "1")
    assert (tmp_path / "x.aez").read_bytes() == (tmp_path / "y.aez").read_bytes()


def test_a_person_is_told_bytes_and_model(digits: np.ndarray, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.save(tmp_path / "digits.npy", digits[1500:1600])
    ae("compress", tmp_path / "digits.npy", "-o", tmp_path / "x.aez")
    size = (tmp_path / "x.aez").stat().st_size
    told = capsys.readouterr().out
    for words in (
        "100 samples",
        "tiny-codec 1",
        f"{size:,} bytes in all",
        f"{size / 100:.1f} a sample",
        "78,400 bytes as arrays",
    ):
        assert words in told, words
    ae("decompress", tmp_path / "x.aez")
    assert "100 samples as tiny-codec 1" in capsys.readouterr().out


@pytest.mark.slow
def test_what_cannot_be_compressed_is_refused_and_nothing_is_left(digits: np.ndarray, tmp_path: Path) -> None:
    np.save(tmp_path / "digits.npy", digits[:4])
    np.save(tmp_path / "wide.npy", np.zeros((2, 28, 30), np.uint8))
    np.save(tmp_path / "high.npy", np.full((2, 28, 28), 300))
    Image.fromarray(digits[0, 0]).save(tmp_path / "digits-0.png")
    (tmp_path / "there.aez").write_bytes(b"mine")
    out, file = tmp_path / "x.aez", tmp_path / "digits.npy"
    cases: list[tuple[list[object], type[AeError], str]] = [
        ([file, "-o", tmp_path / "x.png"], UsageError, "expected a path that ends in .aez"),
        ([file, "-o", tmp_path / "there.aez"], UsageError, "exists already"),
        ([file, "-o", tmp_path / "no" / "x.aez"], UsageError, "no folder"),
        ([tmp_path / "absent.npy", "-o", out], UsageError, "no file"),
        ([tmp_path / "wide.npy", "-o", out], DataError, "wide.npy: expected one sample of shape"),
        ([file, tmp_path / "high.npy", "-o", out], DataError, "high.npy: sample 0 holds values outside the range"),
        ([file, file, "-o", out], DataError, "4 names are taken twice, such as digits-0.png"),
        ([file, tmp_path / "digits-0.png", "-o", out], DataError, "1 names are taken twice, such as digits-0.png"),
        ([file, "-o", out, "--recipe", "digits"], UsageError, "digits has no champion"),
        ([file, "-o", out, "--version", "7"], UsageError, "no version '7' of tiny-codec"),
    ]
    before = sorted(tmp_path.iterdir())
    for arguments, error, told in cases:
        with pytest.raises(error) as caught:
            ae("compress", *arguments)
        assert told in str(caught.value)
    assert sorted(tmp_path.iterdir()) == before
    assert (tmp_path / "there.aez").read_bytes() == b"mine"


def test_a_model_whose_codes_are_numbers_is_refused_by_its_bottleneck() -> None:
    from aeops.codec.archive import require_quantised

    plain = Detector(Path(__file__).parents[1] / "fixtures" / "bundle-format-1")
    with pytest.raises(UsageError, match=r"digits has the bottleneck identity, whose codes are real numbers: .* vq is needed"):
        require_quantised(plain, "digits")


def test_what_cannot_be_opened_is_refused_and_nothing_is_left(digits: np.ndarray, tmp_path: Path) -> None:
    np.save(tmp_path / "digits.npy", digits[:4])
    ae("compress", tmp_path / "digits.npy", "-o", tmp_path / "x.aez")
    content = (tmp_path / "x.aez").read_bytes()
    (tmp_path / "cut.aez").write_bytes(content[:-1])
    (tmp_path / "photo.aez").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(100))
    before = sorted(tmp_path.iterdir())
    cases: list[tuple[list[object], type[AeError], str]] = [
        ([tmp_path / "absent.aez"], UsageError, "no file"),
        ([tmp_path / "cut.aez"], DataError, "cut.aez is damaged"),
        ([tmp_path / "photo.aez"], DataError, "photo.aez is no .aez file"),
        ([tmp_path / "x.aez", "-o", tmp_path / "digits.npy"], UsageError, "exists already"),
        ([tmp_path / "x.aez", "-o", tmp_path], UsageError, "exists already"),
    ]
    for arguments, error, told in cases:
        with pytest.raises(error) as caught:
            ae("decompress", *arguments)
        assert told in str(caught.value)
    assert sorted(tmp_path.iterdir()) == before


@pytest.fixture
def elsewhere(project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """Another checkout with a registry of its own, still empty; it is the current folder."""
    root = tmp_path / "elsewhere"
    shutil.copytree(project.recipes, root / "recipes")
    shutil.copy(project.root / "dvc.yaml", root)
    monkeypatch.chdir(root)
    return Project(root=root, home=root / ".ae")


@pytest.fixture
def compressed(digits: np.ndarray, tmp_path: Path) -> Path:
    np.save(tmp_path / "digits.npy", digits[1500:1504])
    ae("compress", tmp_path / "digits.npy", "-o", tmp_path / "x.aez")
    return tmp_path / "x.aez"


def test_a_registry_without_the_model_is_told_which_is_needed(compressed: Path, elsewhere: Project, tmp_path: Path) -> None:
    with pytest.raises(
        UsageError, match=r"tiny-codec 1 with the bundle [0-9a-f]{32}; sqlite.* has none: set MLFLOW_TRACKING_URI"
    ):
        ae("decompress", compressed)
    with pytest.raises(UsageError, match=r"no recipe whose bottleneck is vq has a champion .* make one with `ae run tiny-codec`"):
        ae("compress", tmp_path / "digits.npy", "-o", tmp_path / "y.aez")


@pytest.mark.slow
def test_the_very_bundle_opens_a_file_whatever_its_number_and_whoever_is_champion(
    compressed: Path,
    elsewhere: Project,
    codec_bundle: Path,
    later_bundle: Path,
    register: Callable[[Project, Path, str], str],
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    digits: np.ndarray,
    codec: Detector,
) -> None:
    assert register(elsewhere, later_bundle, "tiny-codec") == "1"
    with pytest.raises(UsageError, match=r"needs tiny-codec 1 with .* has tiny-codec 1, of other bundles"):
        ae("decompress", compressed)
    assert register(elsewhere, codec_bundle, "tiny-codec") == "2"
    promotion.rollback(open_store(elsewhere), "tiny-codec", "1", who="a test", why="the older of two")
    capsys.readouterr()
    ae("decompress", compressed, "-o", tmp_path / "back.npy")
    assert "4 samples as tiny-codec 2" in capsys.readouterr().out
    expected = codec.score(digits[1500:1504], reconstruction=True)["reconstruction"]
    np.testing.assert_allclose(np.load(tmp_path / "back.npy"), expected, atol=0.51)


@pytest.mark.slow
def test_of_several_codecs_one_must_be_chosen(
    elsewhere: Project, codec_bundle: Path, register: Callable[[Project, Path, str], str], tmp_path: Path, digits: np.ndarray
) -> None:
    text = elsewhere.recipe_file("tiny-codec").read_text(encoding="utf-8")
    elsewhere.recipe_file("other").write_text(text.replace("recipe: tiny-codec", "recipe: other"), encoding="utf-8")
    for name in ("tiny-codec", "other"):
        register(elsewhere, codec_bundle, name)
    np.save(tmp_path / "digits.npy", digits[:4])
    with pytest.raises(UsageError, match="expected --recipe with one of other, tiny-codec, got none"):
        ae("compress", tmp_path / "digits.npy", "-o", tmp_path / "x.aez")
    ae("compress", tmp_path / "digits.npy", "-o", tmp_path / "x.aez", "--recipe", "other")


def test_the_codes_that_embed_writes_are_words(digits: np.ndarray, codec: Detector, tmp_path: Path) -> None:
    np.save(tmp_path / "digits.npy", digits[1500:1510])
    ae("embed", "tiny-codec", tmp_path / "digits.npy", "-o", tmp_path / "codes.parquet")
    table = pq.read_table(tmp_path / "codes.parquet")
    assert table.column_names == ["sample", *(f"word_{slot}" for slot in range(8)), "score", "flags"]
    assert str(table.schema.field("word_0").type) == "int32"
    words = np.stack([table[f"word_{slot}"].to_numpy() for slot in range(8)], axis=1)
    np.testing.assert_array_equal(words, codec.score(digits[1500:1510], code=True)["code"])


@pytest.mark.slow
def test_neither_verb_loads_torch(digits: np.ndarray, tmp_path: Path) -> None:
    np.save(tmp_path / "digits.npy", digits[:4])
    code = (
        "import sys; from aeops.cli.main import main\n"
        f"assert main(['compress', {str(tmp_path / 'digits.npy')!r}, '-o', {str(tmp_path / 'x.aez')!r}]) == 0\n"
        f"assert main(['decompress', {str(tmp_path / 'x.aez')!r}]) == 0\n"
        "print(sorted({'torch', 'pytorch_lightning', 'matplotlib'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.slow
def test_an_unsigned_codec_neither_compresses_nor_opens(
    elsewhere: Project, codec_bundle: Path, register: Callable[[Project, Path, str], str], tmp_path: Path, digits: np.ndarray
) -> None:
    new_keys(elsewhere.root / "keys" / "ours")
    register(elsewhere, codec_bundle, "tiny-codec")
    np.save(tmp_path / "digits.npy", digits[:4])
    ae("compress", tmp_path / "digits.npy", "-o", tmp_path / "x.aez", "--recipe", "tiny-codec")
    with elsewhere.recipe_file("tiny-codec").open("a", encoding="utf-8") as recipe:
        recipe.write("signature: {require_signature: true, public_key: keys/ours.pub}\n")
    refused = r"tiny-codec 1 is refused: it is not signed; .* `ae sign tiny-codec 1 --key PRIVATE\.pem`"
    with pytest.raises(DataError, match=refused):
        ae("compress", tmp_path / "digits.npy", "-o", tmp_path / "y.aez", "--recipe", "tiny-codec")
    with pytest.raises(DataError, match=refused):
        ae("decompress", tmp_path / "x.aez", "-o", tmp_path / "back.npy")
    assert not (tmp_path / "back.npy").exists()
    sign_version(open_store(elsewhere), "tiny-codec", "1", elsewhere.root / "keys" / "ours.pem")
    ae("decompress", tmp_path / "x.aez", "-o", tmp_path / "back.npy")
