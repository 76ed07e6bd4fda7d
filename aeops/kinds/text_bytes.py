"""Text out of bytes that people send."""

from aeops.errors import DataError


def decode_utf8(content: bytes, description: str = "the text") -> str:
    """Return UTF-8 as a string, without a byte order mark; raise DataError where it is none."""
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise DataError(f"{description}, line {line}: no UTF-8: convert it, as with iconv -t UTF-8") from error
