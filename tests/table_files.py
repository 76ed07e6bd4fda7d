"""Files of rows as machines write them: a German export with every oddity, and the kinds of dirt that rows have."""

from pathlib import Path

import numpy as np

ROWS = 400
COLUMNS = ["Kennung", "Zeit", "Druck", "Menge", "Ort", "Zustand", "Fehlerart", "Version", "Bemerkung"]


def german_number(value: float) -> str:
    """Return 1234.5 as 1.234,50."""
    return f"{value:,.2f}".replace(",", "_").replace(".", ",").replace("_", ".")


def export_rows(count: int = ROWS) -> list[list[str]]:
    """Return the rows of the export, without its header."""
    draw = np.random.default_rng(0)
    rows = []
    for number in range(count):
        is_bad = number % 20 == 19
        pressure = "-999,00" if number % 41 == 0 else german_number(draw.normal(1350 if is_bad else 1200, 30))
        amount = "?" if number % 31 == 0 else str(draw.integers(1, 40))
        time = f"{number * 11 % 28 + 1:02d}.{number * 5 % 12 + 1:02d}.2026 08:{draw.integers(0, 60):02d}"
        state, kind = ("defekt", "Riß") if is_bad else ("gut", "keine")
        note = f"Text der Zeile {number}: {'lang ' * 30}"
        rows.append([f"K{number:05d}", time, pressure, amount, ("Köln", "Bonn", "Aachen")[number % 3], state, kind, "1", note])
    return rows


def write_export(file: Path, rows: list[list[str]] | None = None, encoding: str = "cp1252") -> Path:
    """Write the export with two lines above its header and one behind its rows."""
    lines = ["Export der Anlage 7;;", "erstellt am 3.4.2026"]
    lines += [";".join(row) for row in [COLUMNS, *(rows or export_rows())]]
    lines.append("Summe;;")
    file.write_bytes("\r\n".join(lines).encode(encoding))
    return file
