"""The .aez file: the coded words of a set of samples, and what it takes to read them again. Standard library only.

    "AEZ"            and one byte, the format's number
    number           of all bytes that follow
    text, text       the recipe, and the registered version of its model
    16 bytes         the head of that bundle's SHA-256: the very model that opens the words
    number, numbers  the axes of a sample, and its size along each
    bytes            the files that the samples came from: JSON, deflated
    bytes ...        the coded words, BLOCK samples at a time
    16 bytes         the head of the SHA-256 of all bytes before

A number is 7 bits a byte, lowest first, the top bit set on all bytes but the last (LEB128); a text or a run of bytes
follows its length. A format once written stays readable for ever.
"""

import hashlib
import json
import zlib
from dataclasses import dataclass
from pathlib import PurePosixPath, PureWindowsPath

from aeops.errors import DataError

MAGIC = b"AEZ"
FORMAT = 1
BLOCK = 4096  # samples coded together, and so in memory at once as images: part of format 1
DIGEST_BYTES = 16
LARGEST_NAMES = 64 * 2**20  # bytes that the names may inflate to: a hostile file must not fill the memory


@dataclass(frozen=True)
class Source:
    """A file that was compressed.

    Attributes:
        name: without its folder.
        samples: how many an array held; None: an image, which is one.
    """

    name: str
    samples: int | None = None


@dataclass(frozen=True)
class Archive:
    """What an .aez file says.

    Attributes:
        recipe, version: the model's name and version in the registry that it came from.
        bundle: the first 32 hexadecimal digits of its bundle's SHA-256.
        shape: of one sample as it was given.
        sources: where the samples came from, in order.
        blocks: the coded words of BLOCK samples each, of the last ones fewer.
    """

    recipe: str
    version: str
    bundle: str
    shape: tuple[int, ...]
    sources: tuple[Source, ...]
    blocks: tuple[bytes, ...]

    @property
    def samples(self) -> int:
        return sum(1 if source.samples is None else source.samples for source in self.sources)

    @property
    def coded_bytes(self) -> int:
        return sum(map(len, self.blocks))

    @property
    def block_sizes(self) -> list[int]:
        """Samples in each block."""
        return [min(BLOCK, self.samples - BLOCK * place) for place in range(len(self.blocks))]


# ---------------------------------------------------------------- writing


def packed(archive: Archive) -> bytes:
    """The archive as the bytes of a file."""
    body = b"".join(
        [
            run(archive.recipe.encode()),
            run(archive.version.encode()),
            bytes.fromhex(archive.bundle),
            b"".join(map(number, (len(archive.shape), *archive.shape))),
            run(packed_sources(archive.sources)),
            *map(run, archive.blocks),
        ]
    )
    content = MAGIC + bytes([FORMAT]) + number(len(body) + DIGEST_BYTES) + body
    return content + digest(content)


def packed_sources(sources: tuple[Source, ...]) -> bytes:
    """As JSON: an image as its name, an array as [name, samples]."""
    plain = [source.name if source.samples is None else [source.name, source.samples] for source in sources]
    return zlib.compress(json.dumps(plain, ensure_ascii=False, separators=(",", ":")).encode(), 9)


def number(value: int) -> bytes:
    head = []
    while value > 0x7F:
        head.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*head, value])


def run(content: bytes) -> bytes:
    return number(len(content)) + content


def digest(content: bytes) -> bytes:
    return hashlib.sha256(content).digest()[:DIGEST_BYTES]


# ---------------------------------------------------------------- reading


def unpacked(content: bytes, name: str) -> Archive:
    """The archive that a file's bytes hold; `name` is the file's, for messages.

    Raises:
        DataError: another kind of file, a format of the future, or a file that is cut short or altered anywhere.
    """
    if content[: len(MAGIC)] != MAGIC:
        raise DataError(f"{name} is no .aez file: one that `ae compress` wrote is allowed")
    cursor = Cursor(content, name)
    cursor.take(len(MAGIC))
    found = cursor.take(1)[0]
    if found != FORMAT:
        raise DataError(f"{name} has format {found}; {FORMAT} is known here: a newer version of this project wrote it; update")
    follow = cursor.number()
    if follow != cursor.left:
        raise DataError(f"{name} is damaged: {follow} bytes should follow its head and {cursor.left} do; get it again")
    if content[-DIGEST_BYTES:] != digest(content[:-DIGEST_BYTES]):
        raise DataError(f"{name} is damaged: its bytes do not have the sum that was written with them; get it again")
    try:
        return read_body(cursor)
    except (ValueError, TypeError, zlib.error) as error:
        raise DataError(f"{name} is refused: `ae compress` did not write it ({error})") from error


def read_body(cursor: "Cursor") -> Archive:
    """What lies between a file's head and its sum; raises ValueError and the like for what nobody wrote by accident."""
    recipe, version = cursor.run().decode(), cursor.run().decode()
    bundle = cursor.take(DIGEST_BYTES).hex()
    shape = tuple(cursor.number() for _ in range(cursor.number()))
    sources = unpacked_sources(cursor.run())
    blocks = []
    while cursor.left > DIGEST_BYTES:
        blocks.append(cursor.run())
    archive = Archive(recipe, version, bundle, shape, sources, tuple(blocks))
    if len(blocks) != -(-archive.samples // BLOCK):
        raise ValueError(f"it has {len(blocks)} blocks for {archive.samples} samples")
    return archive


def unpacked_sources(content: bytes) -> tuple[Source, ...]:
    inflated = zlib.decompressobj().decompress(content, LARGEST_NAMES)
    plain = [entry if isinstance(entry, list) else [entry, None] for entry in json.loads(inflated)]
    return tuple(unpacked_source(name, samples) for name, samples in plain)


def unpacked_source(name: str, samples: int | None) -> Source:
    """Raises ValueError for a name that would be written elsewhere than in the folder that was asked for."""
    if any(name != path(name).name for path in (PurePosixPath, PureWindowsPath)) or name in ("", ".."):
        raise ValueError(f"{name!r} is no plain file name")
    if samples is not None and samples < 1:
        raise ValueError(f"{name} has {samples} samples")
    return Source(name, samples)


class Cursor:
    """Reads a file's bytes from front to back."""

    def __init__(self, content: bytes, name: str) -> None:
        self.content, self.name, self.place = content, name, 0

    @property
    def left(self) -> int:
        return len(self.content) - self.place

    def take(self, count: int) -> bytes:
        if count > self.left:
            raise DataError(f"{self.name} is cut short: {count} bytes should follow byte {self.place} and {self.left} do")
        self.place += count
        return self.content[self.place - count : self.place]

    def number(self) -> int:
        value, shift = 0, 0
        while True:
            byte = self.take(1)[0]
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    def run(self) -> bytes:
        return self.take(self.number())
