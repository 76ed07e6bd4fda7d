"""Folders of small image files, as people have them, and with the kinds of dirt that they have."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

SIDE = 16


def write_images(folder: Path, images: np.ndarray, suffixes: tuple[str, ...] = (".png", ".jpg")) -> list[str]:
    """Write uint8 (n, h, w) as files of their numbers, suffix by suffix; return their names."""
    folder.mkdir(parents=True, exist_ok=True)
    names = []
    for number, image in enumerate(images):
        name = f"{number:04d}{suffixes[number % len(suffixes)]}"
        Image.fromarray(image).save(folder / name, quality=95)
        names.append(name)
    return names


def textures(count: int, side: int = SIDE, seed: int = 0) -> np.ndarray:
    """Return pictures of stripes with noise, uint8 (n, side, side), none equal to another."""
    draw = np.random.default_rng(seed)
    phase, tilt = draw.uniform(0, 6, (count, 1, 1)), draw.normal(0, 0.15, (count, 1, 1))
    rows, columns = np.mgrid[0:side, 0:side]
    values = 128 + 70 * np.sin(columns * 0.9 + rows * tilt + phase) + draw.normal(0, 8, (count, side, side))
    return np.clip(values, 0, 255).astype(np.uint8)


def png_bomb(width: int, height: int) -> bytes:
    """Return a PNG of a few kilobytes that says it has so many pixels, all black."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    pixels = zlib.compress(bytes(1000), 9)
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    """Return an image as the bytes of a file."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def dirt(folder: Path) -> dict[str, str]:
    """Write twelve files that cannot be samples of 8 bits and one page; return name -> a word of the reason."""
    image = Image.fromarray(textures(1)[0])
    png, tiff = encoded(image, "PNG"), encoded(image, "TIFF")
    files = {
        "truncated.png": png[: len(png) // 2],
        "truncated.tiff": tiff[: len(tiff) - 100],
        "empty.jpg": b"",
        "text.png": b"this is a letter, and no image",
        "named-wrong.png": encoded(image, "JPEG"),
        "bomb.png": png_bomb(30_000, 30_000),
        "larger-bomb.png": png_bomb(8_000, 6_000),
        "deep.png": encoded(Image.fromarray(textures(1)[0].astype(np.uint16) * 257), "PNG"),
        "real-numbers.tiff": encoded(Image.fromarray(textures(1)[0].astype(np.float32)), "TIFF"),
        "pages.tiff": encoded(image, "TIFF", save_all=True, append_images=[image]),
        "animated.webp": encoded(image.convert("RGB"), "WEBP", save_all=True, append_images=[Image.new("RGB", image.size)]),
        "noise.bmp": b"BM" + bytes(range(200)),
    }
    reasons = {
        "truncated.png": "cannot be read",
        "truncated.tiff": "cannot be read",
        "empty.jpg": "empty",
        "text.png": "no image",
        "named-wrong.png": "JPEG",
        "bomb.png": "pixels",
        "larger-bomb.png": "pixels",
        "deep.png": "8 bits",
        "real-numbers.tiff": "8 bits",
        "pages.tiff": "2 pages",
        "animated.webp": "2 pages or frames",
        "noise.bmp": "cannot be read",
    }
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return reasons
