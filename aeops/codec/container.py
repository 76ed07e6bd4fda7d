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
from dataclasses import dataclass
from pathlib import PurePosixPath, PureWindowsPath

from aeops.errors import DataError

MAGIC_BYTES = b"AEZ"
AEZ_FORMAT = 1
BLOCK_SAMPLES = 4096  # coded together, and so in memory at once as images: part of format 1
DIGEST_BYTES = 16
MAX_NAMES_BYTES = 64 * 2**20  # that the names may inflate to: a hostile file must not fill the memory


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
        return sum(source.sample_count for source in self.sources)

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
    """Return the archive as the bytes of a file."""
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
        return _read_body(reader)
    except (ValueError, TypeError, zlib.error) as error:
        raise DataError(f"{name} is refused: `ae compress` did not write it ({error})") from error


def _read_body(reader: "ByteReader") -> ArchiveContent:
    """Return the archive between a file's head and its checksum.

    Raises:
        ValueError, TypeError, zlib.error: the checksum is right and the content is not: somebody made the file by hand.
    """
    recipe, version = reader.read_bytes().decode(), reader.read_bytes().decode()
    bundle = reader.read(DIGEST_BYTES).hex()
    shape = tuple(reader.read_number() for _ in range(reader.read_number()))
    sources = _unpack_sources(reader.read_bytes())
    blocks = []
    while reader.remaining > DIGEST_BYTES:
        blocks.append(reader.read_bytes())
    archive = ArchiveContent(recipe, version, bundle, shape, sources, tuple(blocks))
    if len(blocks) != -(-archive.sample_count // BLOCK_SAMPLES):
        raise ValueError(f"it has {len(blocks)} blocks for {archive.sample_count} samples")
    return archive


def _unpack_sources(content: bytes) -> tuple[ArchiveSource, ...]:
    json_bytes = zlib.decompressobj().decompress(content, MAX_NAMES_BYTES)
    sources = []
    for entry in json.loads(json_bytes):
        name, samples = entry if isinstance(entry, list) else (entry, None)
        sources.append(_check_source(name, samples))
    return tuple(sources)


def _check_source(name: str, samples: int | None) -> ArchiveSource:
    """Return a source whose name stays in the folder that it is written to.

    Raises:
        ValueError: it does not, or the number of samples is not positive.
    """
    if name in ("", "..") or name != PurePosixPath(name).name or name != PureWindowsPath(name).name:
        raise ValueError(f"{name!r} is no plain file name")
    if samples is not None and samples < 1:
        raise ValueError(f"{name} has {samples} samples")
    return ArchiveSource(name, samples)


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
        """Return the next LEB128 number."""
        value, shift = 0, 0
        while True:
            byte = self.read(1)[0]
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    def read_bytes(self) -> bytes:
        """Return the next bytes that follow their length."""
        return self.read(self.read_number())
