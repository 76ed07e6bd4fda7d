"""Names and first bytes of image files. Standard library only."""

import os.path
from itertools import chain

IMAGE_FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF")
SUFFIXES_OF_FORMATS = {
    "BMP": (".bmp",),
    "JPEG": (".jpeg", ".jpg"),
    "PNG": (".png",),
    "TIFF": (".tif", ".tiff"),
    "WEBP": (".webp",),
}
IMAGE_SUFFIXES = tuple(chain.from_iterable(SUFFIXES_OF_FORMATS.values()))
_FIRST_BYTES = ((b"\x89PNG\r\n\x1a\n", "PNG"), (b"\xff\xd8\xff", "JPEG"), (b"BM", "BMP"), (b"II*\0", "TIFF"), (b"MM\0*", "TIFF"))


def format_of_content(content: bytes) -> str | None:
    """Return the format that a file's first bytes are of; None where they are of no image that is read here.

    >>> format_of_content(b"GIF89a"), format_of_content(b"BM6")
    (None, 'BMP')
    """
    for start, name in _FIRST_BYTES:
        if content.startswith(start):
            return name
    return "WEBP" if content[:4] == b"RIFF" and content[8:12] == b"WEBP" else None


def name_problem(name: str, content: bytes) -> str | None:
    """Return why a file is not what its name says; None where it is.

    >>> name_problem("shoe.png", b"BM6")
    'its content is BMP, and its name says .png: rename it'
    """
    if not content:
        return "it is empty"
    found = format_of_content(content)
    if found is None:
        return f"no image: its content is none of {', '.join(IMAGE_FORMATS)}"
    if not name.lower().endswith(SUFFIXES_OF_FORMATS[found]):
        return f"its content is {found}, and its name says {os.path.splitext(name)[1].lower()}: rename it"
    return None
