"""Whatever is wrong with a file, its reader says so in one error that names it; a fuzz test over every form."""

import dataclasses
import errno
import functools
import gzip
import io
import json
import os
import random
import struct
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from aeops.codec import container
from aeops.codec.container import ArchiveContent, ArchiveSource, pack_archive, unpack_archive
from aeops.errors import DataError
from aeops.kinds import folders
from aeops.kinds.decoding import DecodeError, decode_errors
from aeops.kinds.folders import list_files
from aeops.kinds.interface import load_kind
from aeops.kinds.samples import FitOptions, SampleSpec
from aeops.serving import arrow
from aeops.serving.arrow import read_arrow, write_arrow

image, series = load_kind("image"), load_kind("series")
SPEC = SampleSpec((1, 6, 8), (1, 6, 8), 0, 255)
MUTANTS = 150  # of each form
MAX_ROWS = 1000
PIXELS = np.random.default_rng(0).integers(0, 256, (6, 8), dtype=np.uint8)
IMAGE_ENDINGS = {"PNG": ".png", "JPEG": ".jpg", "WEBP": ".webp", "BMP": ".bmp", "TIFF": ".tif"}


def npy(values: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, values)
    return stream.getvalue()


def npy_with_header(header: str, version: int = 1) -> bytes:
    length_format = "<H" if version == 1 else "<I"
    return b"\x93NUMPY" + bytes([version, 0]) + struct.pack(length_format, len(header)) + header.encode("latin1") + bytes(48)


def npz() -> bytes:
    stream = io.BytesIO()
    np.savez(stream, samples=PIXELS)
    return stream.getvalue()


def picture(form: str) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 3
    stream = io.BytesIO()
    Image.fromarray(PIXELS).save(stream, form, exif=exif)
    return stream.getvalue()


def png_chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png_with(*chunks: bytes) -> bytes:
    """Put chunks with right checksums behind the header of a PNG."""
    content = picture("PNG")
    return content[:33] + b"".join(chunks) + content[33:]


def mutants(content: bytes, count: int = MUTANTS) -> Iterator[bytes]:
    """Yield a content with some bytes changed, cut out, doubled or cut off, the same each time."""
    draw = random.Random(zlib.crc32(content))
    for _ in range(count):
        changed = bytearray(content)
        for _ in range(draw.choice((1, 1, 2, 8))):
            place = draw.randrange(max(1, len(changed)))
            action = draw.randrange(4)
            if action == 0:
                changed[place : place + 1] = bytes([draw.choice((0, 255, draw.randrange(256)))])
            elif action == 1:
                del changed[place : place + draw.randrange(1, 9)]
            elif action == 2:
                changed[place:place] = changed[place : place + 8]
            else:
                changed = changed[: max(1, place)]
        yield bytes(changed)


def refusal(read: Callable[[], object], error_class: type[Exception] = DataError) -> str:
    """Return the message with which something is refused, empty where it is not; any other error is raised."""
    try:
        read()
    except error_class as error:
        return str(error)
    return ""


def require_read_or_named(content: bytes, file: Path) -> None:
    """Read a file as `ae score` and as the page do; each returns a sample or raises DataError, the first with the file's name."""
    file.write_bytes(content)
    message = refusal(lambda: image.read_file(file, SPEC))
    assert not message or str(file) in message
    media_type = "application/x-npy" if file.suffix == ".npy" else "image/any"
    page_message = refusal(lambda: image.fit_sample(content, media_type, SPEC, FitOptions()))
    assert "\n" not in message + page_message


# ---------------------------------------------------------------- fuzz


@pytest.mark.filterwarnings("ignore")  # decoders warn of what they put up with
@pytest.mark.parametrize("form", [*IMAGE_ENDINGS, "npy", "npy of texts", "npz"])
def test_no_mutant_of_a_file_ends_in_anything_but_a_sample_or_an_error_with_its_name(form: str, tmp_path: Path) -> None:
    if form in IMAGE_ENDINGS:
        content, ending = picture(form), IMAGE_ENDINGS[form]
    else:
        content, ending = {"npy": npy(PIXELS[None]), "npy of texts": npy(np.array(["a", "bc"])), "npz": npz()}[form], ".npy"
    for mutant in mutants(content):
        require_read_or_named(mutant, tmp_path / f"one{ending}")


def arrow_seeds() -> list[tuple[bytes, int | None]]:
    texts = write_arrow({"texts": ["a", "b", "longer than the others"]})
    return [(write_arrow({"samples": PIXELS}), 8), (texts, None)]


def test_no_mutant_of_an_arrow_stream_raises_anything_but_a_decode_error() -> None:
    for content, sample_size in arrow_seeds():
        assert len(read_arrow(content, sample_size, MAX_ROWS)) > 0
        for mutant in mutants(content):
            assert "\n" not in refusal(functools.partial(read_arrow, mutant, sample_size, MAX_ROWS), DecodeError)


def test_no_mutant_of_json_raises_anything_but_a_data_error() -> None:
    for value in ([[0, 1.5], [2, 3]], {"inputs": [1, 2, 3, 4]}, "a text", [1e308, -(10**300), None, True]):
        for mutant in mutants(json.dumps(value).encode()):
            for kind, shape in ((series, (2, 2)), (load_kind("text"), (8,))):
                read = functools.partial(
                    kind.fit_sample, mutant, "application/json", SampleSpec(shape, shape, 0, 255), FitOptions()
                )
                assert "\n" not in refusal(read)


# ---------------------------------------------------------------- .npy


@pytest.mark.parametrize(
    "header",
    [
        "{'descr': '|u1', 'fortran_order': False, 'shape': (1, 6, 8)",  # not closed
        "(" * 900,  # deeper than Python parses
        "{'descr': '|u1', 'fortran_order': False, 'shape': (-1, 6, 8)}",
        "{'descr': '|u1', 'fortran_order': False, 'shape': (-6, -8)}",
        "{'descr': '|u1', 'fortran_order': False, 'shape': (99999999999999999999999, 0)}",
        "{'descr': '|u1', 'fortran_order': False, 'shape': (4611686018427387904, 0, 4611686018427387904)}",
        "{'descr': '|u1', 'fortran_order': False, 'shape': (1e300,)}",
        "{'descr': '|O', 'fortran_order': False, 'shape': (1,)}",
        "{'descr': '|V0', 'fortran_order': False, 'shape': (1,)}",
        "{'descr': [('a', '|u1'), ('a', '|u1')], 'fortran_order': False, 'shape': (1,)}",
        "{'descr': ('|u1', (99999999999,)), 'fortran_order': False, 'shape': (1,)}",
        "{'descr': 'nonsense', 'fortran_order': False, 'shape': (1,)}",
        "{'descr': '|u1', 'fortran_order': 7, 'shape': (1,)}",
        "[1, 2]",
        "{'a': 1L}",
        "\0\0\0",
        "",
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_a_header_that_no_array_has_is_refused(header: str, tmp_path: Path) -> None:
    for version in (1, 2, 3, 9):
        content = npy_with_header(header, version)
        file = tmp_path / "one.npy"
        file.write_bytes(content)
        with pytest.raises(DataError, match=r"one\.npy cannot be read as \.npy \(.*numpy\.save"):
            series.read_file(file, SPEC)
        with pytest.raises(DataError, match=r"the file cannot be read as \.npy"):
            series.fit_sample(content, "application/x-npy", SPEC, FitOptions())


def test_an_npz_named_npy_is_told_apart_also_when_it_is_cut(tmp_path: Path) -> None:
    for content in (npz(), npz()[:60], b"PK"):
        (tmp_path / "one.npy").write_bytes(content)
        with pytest.raises(DataError, match=r"it is an \.npz file of named arrays"):
            image.read_file(tmp_path / "one.npy", SPEC)


def test_a_map_gives_what_numpy_gives(tmp_path: Path) -> None:
    for values in (PIXELS, PIXELS.T, np.zeros((0, 6, 8)), PIXELS.astype(">f4"), np.float64(3)):
        np.save(tmp_path / "one.npy", values)
        read = image.read_file(tmp_path / "one.npy", SPEC).values
        np.testing.assert_array_equal(read, np.load(tmp_path / "one.npy"))
        assert read.dtype == np.asarray(values).dtype


# ---------------------------------------------------------------- images


@pytest.mark.parametrize(
    "chunk",
    [
        *(png_chunk(kind, b"\0") for kind in (b"cHRM", b"pHYs", b"fcTL", b"acTL", b"iCCP", b"sRGB", b"tRNS", b"eXIf", b"iTXt")),
        png_chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(64 * 2**20), 9)),  # a bomb
        png_chunk(b"tEXt", b""),
        png_chunk(b"IHDR", b"\0" * 13),
        *(png_chunk(b"iCCP", b"a\0" + bytes([method]) + b"\0") for method in (0, 1)),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_a_png_with_a_damaged_chunk_is_read_or_refused_by_name(chunk: bytes, tmp_path: Path) -> None:
    require_read_or_named(png_with(chunk), tmp_path / "one.png")


def test_a_file_that_is_too_large_for_an_image_is_refused_before_it_is_read(tmp_path: Path) -> None:
    with (tmp_path / "huge.png").open("wb") as stream:
        stream.truncate(2**40)  # sparse
    with pytest.raises(DataError, match=r"huge\.png has 1,099,511,627,776 bytes, expected at most"):
        image.read_file(tmp_path / "huge.png", SPEC)


@pytest.mark.parametrize("form", ["TIFF", "PNG", "WEBP"])
def test_pages_and_frames_are_refused_instead_of_left_out(form: str, tmp_path: Path) -> None:
    first, second = Image.fromarray(PIXELS), Image.fromarray(255 - PIXELS)
    first.save(tmp_path / f"two.{form.lower()}", form, save_all=True, append_images=[second])
    with pytest.raises(DataError, match="expected one image, got 2 pages or frames"):
        image.read_file(tmp_path / f"two.{form.lower()}", SPEC)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "one.npy").write_bytes(npy(PIXELS))
    (tmp_path / "one.npy").chmod(0)
    with pytest.raises(DataError, match=r"one\.npy cannot be read \(Permission denied\)"):
        image.read_file(tmp_path / "one.npy", SPEC)


# ---------------------------------------------------------------- folders


def save_png(path: Path, value: int = 7) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (8, 6), value).save(path)


def test_one_damaged_image_of_a_folder_is_set_aside_and_the_others_are_read(tmp_path: Path) -> None:
    for name in ("a.png", "sub/deeper/b.png", "sub/c.tiff", ".hidden/d.png", ".e.png"):
        save_png(tmp_path / name)
    (tmp_path / "cut.png").write_bytes(picture("PNG")[:50])
    (tmp_path / "sub" / "notes.txt").write_text("no image")
    samples = image.read_file(tmp_path, SPEC)
    assert list(samples.names) == ["a.png", "sub/c.tiff", "sub/deeper/b.png"]
    assert samples.values.shape == (3, 1, 6, 8)
    assert list(samples.refused) == ["cut.png"]
    assert "cut.png cannot be read as an image" in samples.refused["cut.png"]
    assert samples.skipped == 1


def test_a_folder_with_nothing_but_damaged_images_says_why(tmp_path: Path) -> None:
    (tmp_path / "cut.png").write_bytes(picture("PNG")[:50])
    with pytest.raises(DataError, match=r"no image in .* that can be read: .*cut\.png cannot be read as an image"):
        image.read_file(tmp_path, SPEC)


def test_links_to_folders_are_followed_once_and_circles_are_told(tmp_path: Path) -> None:
    save_png(tmp_path / "elsewhere" / "a.png")
    inbox = tmp_path / "inbox"
    save_png(inbox / "real" / "b.png")
    (inbox / "another").symlink_to(inbox / "real")
    (inbox / "far").symlink_to(tmp_path / "elsewhere")
    (inbox / "real" / "up").symlink_to(inbox)
    (inbox / "nowhere.png").symlink_to(tmp_path / "absent")
    os.mkfifo(inbox / "pipe.png")
    listing = list_files(inbox)
    assert [path.relative_to(inbox).as_posix() for path in listing.files] == ["far/a.png", "real/b.png"]
    assert listing.problems == {
        "another": "a link to the folder real, which is listed already",
        "real/up": "a link to the folder ., which is listed already",
        "nowhere.png": "no regular file, or a link to none",
        "pipe.png": "no regular file, or a link to none",
    }


def test_links_that_fan_out_are_listed_once_each(tmp_path: Path) -> None:
    for number in range(12):
        (tmp_path / f"folder{number}").mkdir()
        for side in "ab":
            (tmp_path / f"folder{number}" / side).symlink_to(tmp_path / f"folder{number + 1}")
    save_png(tmp_path / "folder12" / "one.png")
    assert len(list_files(tmp_path).files) == 1


def test_a_link_to_a_folder_that_holds_this_one_is_not_followed(tmp_path: Path) -> None:
    inbox = tmp_path / "home" / "inbox"
    save_png(inbox / "one.png")
    (inbox / "everything").symlink_to("/")
    (inbox / "home").symlink_to(tmp_path / "home")
    listing = list_files(inbox)
    assert [path.name for path in listing.files] == ["one.png"]
    assert listing.problems == {
        "everything": "a link to /, which holds this folder; remove the link",
        "home": f"a link to {tmp_path / 'home'}, which holds this folder; remove the link",
    }


def test_a_link_to_too_many_files_lists_none_of_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folders, "MAX_LINKED_FILES", 3)
    for number in range(4):
        save_png(tmp_path / "large" / f"part{number // 2}" / f"{number}.png")
        save_png(tmp_path / "inbox" / f"{number}.png")  # as many as there are in the folder itself
    (tmp_path / "inbox" / "all").symlink_to(tmp_path / "large")
    (tmp_path / "inbox" / "some").symlink_to(tmp_path / "large" / "part0")
    listing = list_files(tmp_path / "inbox")
    names = [path.relative_to(tmp_path / "inbox").as_posix() for path in listing.files]
    assert names == ["0.png", "1.png", "2.png", "3.png", "some/0.png", "some/1.png"]
    assert listing.problems == {"all": "more than 3 files lie behind this link; link to a smaller folder"}


# ---------------------------------------------------------------- archives


ARCHIVE = ArchiveContent(
    recipe="codec", version="3", bundle="0" * 32, shape=(1, 6, 8), sources=(ArchiveSource("x.npy", 5),), blocks=(b"12345678",)
)


def sealed(body: bytes) -> bytes:
    """Return an archive with this body and the right length and checksum."""
    content = container.MAGIC_BYTES + bytes([container.AEZ_FORMAT])
    content += container._pack_number(len(body) + container.DIGEST_BYTES) + body
    return content + container._digest_head(content)


def test_no_mutant_of_an_archive_is_read_even_with_the_right_checksum() -> None:
    content = pack_archive(ARCHIVE)
    for mutant in mutants(content):
        if mutant != content:
            with pytest.raises(DataError, match=r"^x\.aez "):
                unpack_archive(mutant, "x.aez")
    body = content[5:-16]  # between the head and the checksum
    assert unpack_archive(sealed(body), "x.aez") == ARCHIVE
    for mutant in mutants(body):
        message = refusal(functools.partial(unpack_archive, sealed(mutant), "x.aez"))
        assert not message or message.startswith("x.aez ")


def hostile_archives() -> dict[str, Callable[[], bytes]]:
    head = container._pack_bytes(b"codec") + container._pack_bytes(b"3") + bytes(16)
    one_axis = container._pack_number(1) + container._pack_number(96)

    def with_sources(json_text: str, blocks: bytes) -> bytes:
        return sealed(head + one_axis + container._pack_bytes(zlib.compress(json_text.encode())) + blocks)

    return {
        "a number without end": lambda: container.MAGIC_BYTES + b"\x01" + b"\xff" * (2 * 2**20),
        "axes without end": lambda: sealed(head + container._pack_number(2**40) + b"\x01" * 1000),
        "a million empty blocks": lambda: with_sources('[["x.npy",4096000000]]', bytes(1_000_000)),
        "blocks of four bytes": lambda: with_sources('[["x.npy",4096000000]]', (b"\x04" + bytes(4)) * 1_000_000),
        "a million names": lambda: with_sources(
            json.dumps([f"{number}.png" for number in range(container.MAX_SOURCES + 1)]), b""
        ),
        "deep JSON": lambda: with_sources("[" * 100_000, b""),
        "half a sample": lambda: with_sources('[["x.npy",1.5]]', b"\x04" + bytes(4)),
        "infinitely many samples": lambda: with_sources('[["x.npy",1e999]]', b"\x04" + bytes(4)),
        "true samples": lambda: with_sources('[["x.npy",true]]', b"\x04" + bytes(4)),
        "a name with a zero": lambda: with_sources('["a\\u0000.png"]', b"\x04" + bytes(4)),
        "a long name": lambda: with_sources(json.dumps(["ä" * 200]), b"\x04" + bytes(4)),
        "another recipe's folder": lambda: sealed(
            container._pack_bytes(b"../codec") + container._pack_bytes(b"3") + bytes(16) + one_axis
        ),
    }


@pytest.mark.parametrize("name", hostile_archives())
def test_a_hostile_archive_is_refused_within_seconds(name: str) -> None:
    content = hostile_archives()[name]()
    start_time = time.process_time()
    with pytest.raises(DataError, match=r"^x\.aez is (damaged|refused)"):
        unpack_archive(content, "x.aez")
    assert time.process_time() - start_time < 3.0


def test_what_no_reader_takes_is_not_written() -> None:
    with pytest.raises(DataError, match=r"at most 67,108,864 samples .* make several archives"):
        pack_archive(dataclasses.replace(ARCHIVE, sources=(ArchiveSource("x.npy", 2**27),)))


def test_arrow_bombs_are_refused_before_they_are_unpacked() -> None:
    stream = io.BytesIO()
    with pa.ipc.new_stream(stream, pa.schema([("a", pa.string())]), options=pa.ipc.IpcWriteOptions(compression="zstd")) as writer:
        writer.write_batch(pa.record_batch({"a": pa.array(["x" * 10_000_000])}))
    with pytest.raises(DecodeError, match="expected no compression"):
        read_arrow(stream.getvalue(), None, MAX_ROWS)


@pytest.mark.parametrize("number", [errno.EIO, errno.EACCES, errno.EMFILE, errno.ENOMEM])
def test_what_the_system_refuses_is_not_said_of_the_bytes(number: int) -> None:
    with pytest.raises(OSError, match=os.strerror(number)), decode_errors():
        raise OSError(number, os.strerror(number))


@pytest.mark.parametrize("error", [gzip.BadGzipFile("no gzip"), OSError(errno.EINVAL, "a seek before the beginning")])
def test_an_oserror_that_damaged_bytes_cause_is_said_of_them(error: OSError) -> None:
    with pytest.raises(DecodeError, match=type(error).__name__), decode_errors():
        raise error


@pytest.mark.parametrize(("name", "mistake"), [("flatten_columns", NameError), ("pa", AttributeError)])
def test_a_mistake_of_this_package_is_not_said_of_the_bytes(
    name: str, mistake: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    body = write_arrow({"sample": np.zeros((1, 48), np.float32)})
    if mistake is NameError:
        monkeypatch.delattr(arrow, name)
    else:
        monkeypatch.setattr(arrow, name, object())
    with pytest.raises(mistake):
        read_arrow(body, 48, MAX_ROWS)


def test_a_mistake_of_a_decoder_is_said_of_the_bytes() -> None:
    with pytest.raises(DecodeError, match="AttributeError"), decode_errors():
        json.loads(json.dumps({}), object_pairs_hook=lambda pairs: pairs.items())
