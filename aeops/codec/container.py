"""Read and write the .aez file: the coded indices of a set of samples, and what decoding needs. Standard library only.

    "AEZ"            and one byte, the format's number
    number           of all bytes that follow
    text, text       the recipe, and the registered version of its model
    16 bytes         the head of that bundle's SHA-256: the very model that decodes the indices
    number, numbers  the axes of a sample, and its size along each
    bytes            the files that the samples came from: JSON, deflated
    bytes ...        the coded indices, BLOCK_SAMPLES samples at a time
    16 bytes         the head of the SHA-256 of all bytes before

A number is 7 bits a byte, lowest first, the top bit set on all bytes but the last (LEB128); a text or bytes follow their
length. A format once written stays readable for ever.
"""

import hashlib
import json
import zlib
from collections.abc import Iterable
from dataclasses import dataclass

from aeops.errors import DataError
from aeops.kinds.decoding import DecodeError, decode_errors
from aeops.project import is_recipe_name

MAGIC_BYTES = b"AEZ"
AEZ_FORMAT = 1
BLOCK_SAMPLES = 4096  # coded together, and so in memory at once as images: part of format 1
DIGEST_BYTES = 16
# A hostile file must fill neither the memory nor the disk, nor keep a reader busy.
MAX_NAMES_BYTES = 16 * 2**20  # that the names may inflate to
MAX_SOURCES = 2**20  # files in one archive
MAX_SAMPLES = 2**26  # in one archive
MAX_AXES = 8  # of a sample
MAX_NUMBER_BYTES = 9  # of a LEB128 number: 63 bits
MAX_FILE_NAME_BYTES = 255  # that a file system takes
MIN_BLOCK_BYTES = 4  # the CRC-32 of its indices


@dataclass(frozen=True)
class ArchiveSource:
    """A file that was compressed.

    Attributes:
        name: without its folder.
        samples: how many an array held; None: an image, which is one.
    """

    name: str
    samples: int | None = None

    @property
    def sample_count(self) -> int:
        """Number of samples."""
        if self.samples is None:
            return 1
        return self.samples


def count_samples(sources: Iterable[ArchiveSource]) -> int:
    """Return the number of samples of all sources."""
    return sum(source.sample_count for source in sources)


@dataclass(frozen=True)
class ArchiveContent:
    """The content of an .aez file.

    Attributes:
        recipe: name of the model in the registry that it came from.
        version: its version there.
        bundle: the first 32 hexadecimal digits of its bundle's SHA-256.
        shape: of one input sample.
        sources: the files that the samples came from, in order.
        blocks: the coded indices of BLOCK_SAMPLES samples each, of the last ones fewer.
    """

    recipe: str
    version: str
    bundle: str
    shape: tuple[int, ...]
    sources: tuple[ArchiveSource, ...]
    blocks: tuple[bytes, ...]

    @property
    def sample_count(self) -> int:
        """Number of samples of all sources."""
        return count_samples(self.sources)

    @property
    def coded_bytes(self) -> int:
        """Total size of the blocks."""
        return sum(map(len, self.blocks))

    @property
    def block_sizes(self) -> list[int]:
        """Number of samples in each block."""
        return [min(BLOCK_SAMPLES, self.sample_count - BLOCK_SAMPLES * index) for index in range(len(self.blocks))]


# ---------------------------------------------------------------- writing


def pack_archive(archive: ArchiveContent) -> bytes:
    """Return the archive as the bytes of a file.

    Raises:
        DataError: it has more samples or sources than a reader accepts.
    """
    if archive.sample_count > MAX_SAMPLES or len(archive.sources) > MAX_SOURCES:
        raise DataError(
            f"expected at most {MAX_SAMPLES:,} samples of {MAX_SOURCES:,} files in one archive, got {archive.sample_count:,} of "
            f"{len(archive.sources):,}: make several archives"
        )
    body = _pack_bytes(archive.recipe.encode()) + _pack_bytes(archive.version.encode()) + bytes.fromhex(archive.bundle)
    for value in (len(archive.shape), *archive.shape):
        body += _pack_number(value)
    body += _pack_bytes(_pack_sources(archive.sources))
    body += b"".join(map(_pack_bytes, archive.blocks))
    content = MAGIC_BYTES + bytes([AEZ_FORMAT]) + _pack_number(len(body) + DIGEST_BYTES) + body
    return content + _digest_head(content)


def _pack_sources(sources: tuple[ArchiveSource, ...]) -> bytes:
    """Return the sources as deflated JSON: an image as its name, an array as [name, samples]."""
    entries: list[str | list[str | int]] = []
    for source in sources:
        if source.samples is None:
            entries.append(source.name)
        else:
            entries.append([source.name, source.samples])
    return zlib.compress(json.dumps(entries, ensure_ascii=False, separators=(",", ":")).encode(), 9)


def _pack_number(value: int) -> bytes:
    digits = []
    while value > 0x7F:
        digits.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*digits, value])


def _pack_bytes(content: bytes) -> bytes:
    return _pack_number(len(content)) + content


def _digest_head(content: bytes) -> bytes:
    return hashlib.sha256(content).digest()[:DIGEST_BYTES]


# ---------------------------------------------------------------- reading


def unpack_archive(content: bytes, name: str) -> ArchiveContent:
    """Return the archive in the bytes of a file.

    Args:
        content: the bytes.
        name: of the file, for messages.

    Raises:
        DataError: another kind of file, a later format, or a file that is cut short or altered anywhere.
    """
    if content[: len(MAGIC_BYTES)] != MAGIC_BYTES:
        raise DataError(f"{name} is no .aez file; expected one that `ae compress` wrote")
    reader = ByteReader(content, name)
    reader.read(len(MAGIC_BYTES))
    file_format = reader.read(1)[0]
    if file_format != AEZ_FORMAT:
        raise DataError(
            f"{name} has format {file_format}; {AEZ_FORMAT} is known here: a newer version of this project wrote it; update"
        )
    expected_bytes = reader.read_number()
    if expected_bytes != reader.remaining:
        raise DataError(
            f"{name} is damaged: {expected_bytes} bytes should follow its head and {reader.remaining} do; get it again"
        )
    if content[-DIGEST_BYTES:] != _digest_head(content[:-DIGEST_BYTES]):
        raise DataError(f"{name} is damaged: its bytes do not have the checksum that was written with them; get it again")
    try:
        with decode_errors():
            return _read_body(reader)
    except DecodeError as error:
        raise DataError(f"{name} is refused: `ae compress` did not write it ({error})") from error


def _read_body(reader: "ByteReader") -> ArchiveContent:
    """Return the archive between a file's head and its checksum.

    Raises:
        Exception: the checksum is right and the content is not: somebody made the file by hand.
    """
    recipe, version = reader.read_bytes().decode(), reader.read_bytes().decode()
    if not is_recipe_name(recipe) or not (version.isascii() and version.isdigit()):
        raise DecodeError(f"it names the version {version[:40]!r} of the recipe {recipe[:40]!r}")
    bundle = reader.read(DIGEST_BYTES).hex()
    axes = reader.read_number()
    if axes > MAX_AXES:
        raise DecodeError(f"its samples have {axes} axes")
    shape = tuple(reader.read_number() for _ in range(axes))
    sources = _unpack_sources(reader.read_bytes())
    sample_count = count_samples(sources)
    if sample_count > MAX_SAMPLES:
        raise DecodeError(f"it claims {sample_count} samples; at most {MAX_SAMPLES} are allowed")
    blocks: list[bytes] = []
    for _ in range(-(-sample_count // BLOCK_SAMPLES)):
        block = reader.read_bytes()
        if len(block) < MIN_BLOCK_BYTES:
            raise DecodeError(f"block {len(blocks)} has {len(block)} bytes, expected {MIN_BLOCK_BYTES} or more")
        blocks.append(block)
    if reader.remaining != DIGEST_BYTES:
        raise DecodeError(f"{reader.remaining - DIGEST_BYTES} bytes follow the {len(blocks)} blocks of {sample_count} samples")
    return ArchiveContent(recipe, version, bundle, shape, sources, tuple(blocks))


def _unpack_sources(content: bytes) -> tuple[ArchiveSource, ...]:
    json_bytes = zlib.decompressobj().decompress(content, MAX_NAMES_BYTES)
    entries = json.loads(json_bytes)
    if not isinstance(entries, list) or len(entries) > MAX_SOURCES:
        raise DecodeError(f"expected a list of at most {MAX_SOURCES} files")
    sources = []
    for entry in entries:
        name, samples = entry if isinstance(entry, list) else (entry, None)
        sources.append(_check_source(name, samples))
    return tuple(sources)


def _check_source(name: object, samples: object) -> ArchiveSource:
    """Return a source whose name stays in the folder that it is written to.

    Raises:
        DecodeError: it does not, or the number of samples is not positive.
    """
    if not isinstance(name, str) or not _is_file_name(name):
        raise DecodeError(f"{str(name)[:80]!r} is no plain file name")
    if samples is None:
        return ArchiveSource(name)
    if type(samples) is not int or samples < 1:
        raise DecodeError(f"{name} has {str(samples)[:40]} samples")
    return ArchiveSource(name, samples)


def _is_file_name(name: str) -> bool:
    """Return whether a name is one of a file in a folder, on Linux and on Windows."""
    if name in ("", ".", "..") or name[1:2] == ":" or any(character in "/\\\0" for character in name):
        return False
    return len(name.encode()) <= MAX_FILE_NAME_BYTES


class ByteReader:
    """Read a file's bytes from front to back."""

    def __init__(self, content: bytes, name: str) -> None:
        self.content, self.name, self.offset = content, name, 0

    @property
    def remaining(self) -> int:
        """Number of bytes that are not read yet."""
        return len(self.content) - self.offset

    def read(self, count: int) -> bytes:
        """Return the next bytes.

        Raises:
            DataError: there are fewer.
        """
        if count > self.remaining:
            raise DataError(f"{self.name} is cut short: {count} bytes should follow byte {self.offset} and {self.remaining} do")
        self.offset += count
        return self.content[self.offset - count : self.offset]

    def read_number(self) -> int:
        """Return the next LEB128 number.

        Raises:
            DataError: it has more bytes than any number in an archive.
        """
        value = 0
        for position in range(MAX_NUMBER_BYTES):
            byte = self.read(1)[0]
            value |= (byte & 0x7F) << 7 * position
            if byte < 0x80:
                return value
        raise DataError(
            f"{self.name} is damaged: the number before byte {self.offset} has more than {MAX_NUMBER_BYTES} bytes; get it again"
        )

    def read_bytes(self) -> bytes:
        """Return the next bytes that follow their length."""
        return self.read(self.read_number())
