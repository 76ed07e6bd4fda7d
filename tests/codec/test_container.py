"""The .aez file: what it holds comes back, and a file with one wrong bit anywhere is refused."""

import dataclasses

import numpy as np
import pytest

from aeops.codec import container
from aeops.codec.container import BLOCK_SAMPLES, ArchiveContent, ArchiveSource, pack_archive, unpack_archive
from aeops.codec.images import image_names, require_image_shape, to_array_dtype
from aeops.errors import DataError

SMALL = ArchiveContent(
    recipe="mnist-codec",
    version="3",
    bundle="0123456789abcdef" * 2,
    shape=(1, 28, 28),
    sources=(ArchiveSource("one.png"), ArchiveSource("Zwei ä.JPG"), ArchiveSource("many.npy", 2)),
    blocks=(bytes(range(40)),),
)


def test_what_went_in_comes_out() -> None:
    large = dataclasses.replace(
        SMALL, sources=(ArchiveSource("x.npy", 2 * BLOCK_SAMPLES + 1),), blocks=(b"a" * 200_000, b"bbbb", b"cccc")
    )
    for archive in (SMALL, large):
        assert unpack_archive(pack_archive(archive), "x.aez") == archive
    assert large.block_sizes == [BLOCK_SAMPLES, BLOCK_SAMPLES, 1]


def test_the_head_of_a_file_is_small() -> None:
    one = dataclasses.replace(SMALL, sources=(ArchiveSource("one.png"),))
    assert len(pack_archive(one)) - one.coded_bytes < 85


def test_every_altered_bit_is_refused() -> None:
    content = pack_archive(SMALL)
    for place in range(len(content)):
        for bit in range(8):
            wrong = bytearray(content)
            wrong[place] ^= 1 << bit
            with pytest.raises(DataError, match=r"^x\.aez (is no|is damaged|has format|is cut short)"):
                unpack_archive(bytes(wrong), "x.aez")


def test_a_file_cut_anywhere_or_longer_is_refused() -> None:
    content = pack_archive(SMALL)
    for wrong in [content[:length] for length in range(len(content))] + [content + b"\0"]:
        with pytest.raises(DataError, match=r"^x\.aez is"):
            unpack_archive(wrong, "x.aez")
    with pytest.raises(DataError, match="bytes should follow its head"):
        unpack_archive(content[:-1], "x.aez")


def test_another_kind_of_file_and_a_format_of_the_future_are_told_apart() -> None:
    with pytest.raises(DataError, match=r"is no \.aez file"):
        unpack_archive(b"\x89PNG\r\n\x1a\n" + bytes(100), "x.aez")
    future = bytearray(pack_archive(SMALL))
    future[3] = 9
    with pytest.raises(DataError, match="format 9; 1 is known here"):
        unpack_archive(bytes(future), "x.aez")


@pytest.mark.parametrize("name", ["../up.png", "/etc/passwd", "a/b.png", "..\\up.png", "C:\\x.png", "..", ""])
def test_a_name_that_leads_elsewhere_is_refused(name: str) -> None:
    crafted = pack_archive(dataclasses.replace(SMALL, sources=(ArchiveSource(name),)))
    with pytest.raises(DataError, match="is refused: `ae compress` did not write it"):
        unpack_archive(crafted, "x.aez")


def test_blocks_that_do_not_fit_the_samples_are_refused() -> None:
    for sources in (
        (ArchiveSource("x.npy", BLOCK_SAMPLES + 1),),
        (ArchiveSource("x.npy", container.MAX_SAMPLES),),
        (ArchiveSource("x.npy", -1),),
    ):
        with pytest.raises(DataError, match=r"^x\.aez is (refused: `ae compress` did not write it|cut short)"):
            unpack_archive(pack_archive(dataclasses.replace(SMALL, sources=sources)), "x.aez")


def test_names_that_inflate_without_end_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(container, "MAX_NAMES_BYTES", 10)
    with pytest.raises(DataError, match="is refused"):
        unpack_archive(pack_archive(SMALL), "x.aez")


def test_the_bytes_are_those_of_the_first_release() -> None:
    """A file of format 1 stays readable for ever."""
    written = bytes.fromhex(
        "41455a018c010b6d6e6973742d636f64656301330123456789abcdef0123456789abcdef03011c1c3078da8b56cacf4bd52b"
        "c84b57d2518a2a4fcd5438bc44cf2bc05d49275a293731af522fafa05249c7283616000f410d172800010203040506070809"
        "0a0b0c0d0e0f101112131415161718191a1b1c1d1e1f20212223242526270f8a53438158c86949008a34923025b8"
    )
    assert unpack_archive(written, "x.aez") == SMALL


def test_every_sample_gets_a_png_of_its_own() -> None:
    assert image_names(SMALL.sources) == ["one.png", "Zwei ä.png", "many-0.png", "many-1.png"]
    assert image_names([ArchiveSource("x.npy", 11)])[::10] == ["x-00.png", "x-10.png"]
    with pytest.raises(DataError, match=r"is longer than 255 bytes: rename the file"):
        image_names([ArchiveSource(f"{'x' * 251}.npy", 2)])
    with pytest.raises(DataError, match=r"as images in one folder, got 2,000,000: give -o a name that ends in \.npy"):
        image_names([ArchiveSource("x.npy", 2_000_000)])
    with pytest.raises(DataError, match=r"1 names are taken twice, such as a\.png"):
        image_names([ArchiveSource("a.jpg"), ArchiveSource("a.png")])


def test_what_no_png_can_hold_is_sent_to_an_array() -> None:
    require_image_shape((3, 32, 32))
    for shape in ((2, 28, 28), (1, 96)):
        with pytest.raises(DataError, match=r"are no images: give -o a name that ends in \.npy"):
            require_image_shape(shape)


def test_an_array_has_bytes_where_the_range_is_that_of_bytes() -> None:
    raw = np.array([0.2, 254.6, 300.0, -3.0], np.float32)
    np.testing.assert_array_equal(to_array_dtype(raw, 0, 255), np.array([0, 255, 255, 0], np.uint8))
    np.testing.assert_array_equal(to_array_dtype(raw, 0, 1), raw)
