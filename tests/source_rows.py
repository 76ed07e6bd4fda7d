"""Small sources of own data: rows of parts in several kinds of file, readings over time, and articles."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
import pandas as pd

ROWS = 120


def parts() -> pd.DataFrame:
    """Return rows of parts with an id, a label, a number, a category and a date."""
    draw = np.random.default_rng(0)
    hours = pd.to_timedelta(draw.integers(0, 9000, ROWS), unit="h")
    return pd.DataFrame(
        {
            "part_id": [f"p{number:04d}" for number in range(ROWS)],
            "length": draw.normal(50, 2, ROWS),
            "colour": draw.choice(["red", "green", "blue"], ROWS),
            "made": (pd.Timestamp("2026-01-01") + hours).strftime("%Y-%m-%d %H:%M:%S"),
            "class": np.where(np.arange(ROWS) % 10 == 0, "bad", "good"),
        }
    )


def write_csv(frame: pd.DataFrame, path: Path) -> None:
    frame.to_csv(path, index=False)


def write_parquet(frame: pd.DataFrame, path: Path) -> None:
    """Write rows; a column with a text among its numbers is one of texts, as a tool that exports it makes it."""
    for name in frame.columns:
        if frame[name].dtype == object and name != "part_id":
            frame[name] = frame[name].map(lambda cell: cell if cell is None else str(cell))
    frame.to_parquet(path, index=False)


def write_sqlite(frame: pd.DataFrame, path: Path) -> None:
    path.unlink(missing_ok=True)
    with closing(sqlite3.connect(path)) as connection:
        frame.to_sql("parts", connection, index=False)


def readings() -> pd.DataFrame:
    draw = np.random.default_rng(0)
    times = pd.Timestamp("2026-01-01") + pd.to_timedelta(np.arange(600) * 60, unit="s")
    values = np.sin(np.arange(600) / 20) + draw.normal(0, 0.05, 600)
    state = np.where(np.arange(600) < 570, "normal", "fault")
    return pd.DataFrame({"time": times.strftime("%Y-%m-%d %H:%M:%S"), "current": values.round(4), "state": state})


WORDS = ["the", "team", "won", "the", "match", "after", "a", "late", "goal", "in", "the", "second", "half"]


def article(number: int, **changes: object) -> bytes:
    words = np.random.default_rng(number).permutation(WORDS)
    topic = "sport" if number % 3 else "money"
    return json.dumps({"url": f"u{number}", "body": f"{' '.join(words)} {number}", "topic": topic} | changes).encode()


def articles_file(path: Path) -> None:
    """Write articles as JSON lines."""
    path.write_bytes(b"\n".join(map(article, range(ROWS))))
