"""Write docs/http.md from the OpenAPI document of the scoring service: python docs/generate_http.py"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from aeops.serving.limits import RequestLimits
from aeops.serving.openapi import ERROR_DESCRIPTIONS, openapi_document

PAGE = Path(__file__).parent / "http.md"
INTRODUCTION = """# HTTP reference

Generated from the OpenAPI document of the scoring service by `python docs/generate_http.py`. A running service shows its own at
`/openapi.json` and, as a page with an example that can be sent, at `/docs`: there the schema of `inputs` is that of its model.
How to send what: [serving.md](serving.md).
"""


def build_page() -> str:
    """Return the page: each path with its bodies and answers, then the errors that all share."""
    document = openapi_document("NAME", None, RequestLimits())
    parts = [INTRODUCTION]
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            parts.append(operation_section(f"{method.upper()} {path}", operation))
    head = ["## Errors\n", 'Each is `{"error": "one line"}`.\n', "| status | when |", "| --- | --- |"]
    rows = [f"| {status} | {text} |" for status, text in ERROR_DESCRIPTIONS.items()]
    parts.append("\n".join([*head, *rows, ""]))
    return "\n".join(parts)


def operation_section(title: str, operation: dict[str, Any]) -> str:
    """Return what one path takes and answers."""
    lines = [f"## {title}\n", f"{operation['summary']}\n"]
    if parameters := operation.get("parameters"):
        names = ", ".join(f"`{parameter['name']}`" for parameter in parameters)
        lines.append(f"Query parameters, `true` or `false`: {names}.\n")
    if "requestBody" in operation:
        lines += contents("Body", operation["requestBody"]["content"])
    success = operation["responses"]["200"]
    lines += contents("Answer", success["content"])
    errors = ", ".join(status for status in operation["responses"] if status != "200")
    lines.append(f"Errors: {errors}.\n")
    return "\n".join(lines)


def contents(title: str, content: dict[str, Any]) -> list[str]:
    """Return the media types of a body or an answer, and the fields of its JSON."""
    lines = [f"{title}: {', '.join(f'`{media_type}`' for media_type in content)}.\n"]
    if rows := list(field_rows(content.get("application/json", {}).get("schema", {}))):
        lines += ["| field | type | |", "| --- | --- | --- |", *rows, ""]
    return lines


def field_rows(schema: dict[str, Any], prefix: str = "") -> Iterator[str]:
    """Yield a row of the table for each field of an object, those of inner objects and of the items of arrays included."""
    required = schema.get("required", [])
    for name, field in schema.get("properties", {}).items():
        inner, place = field, f"{prefix}{name}"
        if "items" in field:
            inner, place = field["items"], f"{place}[]"
        optional = "" if name in required else "optional"
        remarks = [text for text in (optional, field.get("description", "")) if text]
        yield f"| `{place}` | {type_text(inner)} | {'; '.join(remarks)} |"
        yield from field_rows(inner, f"{place}.")


def type_text(schema: dict[str, Any]) -> str:
    """Return the type of a field in words: `number or null`, or the texts that it may be."""
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    kinds = schema.get("type", "as the model says")
    return kinds if isinstance(kinds, str) else " or ".join(kinds)


if __name__ == "__main__":
    PAGE.write_text(build_page(), encoding="utf-8")
