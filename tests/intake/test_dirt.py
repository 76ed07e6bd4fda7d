"""Ten kinds of dirt in each source: what is bad is set aside or refused by its name and with its reason, and the rest goes on.

A recipe is proposed for clean data; then the data becomes dirty, and the source is read as a run reads it.
"""

import gzip
import io
import os
import re
import sqlite3
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import chdir, closing
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from image_folders import encoded, png_bomb, textures, write_images
from intake_project import NewProject, make_project
from PIL import Image
from source_rows import ROWS, article, articles_file, parts, readings, write_csv, write_parquet, write_sqlite

from aeops.data.sources import archive, table_files, texts
from aeops.data.sources.samples import SourceSamples
from aeops.errors import AeError, DataError
from aeops.kinds import pictures, unpacking
from aeops.kinds.table_rows import MISTYPED

LIMIT = 20_000  # bytes or cells that the tests allow, where a limit is of gigabytes


@dataclass(frozen=True)
class Dirt:
    """What is done to a clean source, and what has to become of it.

    Attributes:
        spoil: makes the source at a path dirty.
        set_aside: name -> how its reason begins; all others stay.
        refused: a pattern of the message that refuses the whole source.
        limits: (module, name) of constants that are lowered for the test.
        lost: samples that are gone with what is set aside.
    """

    spoil: Callable[[Path], None]
    set_aside: Mapping[str, str] = field(default_factory=dict)
    refused: str = ""
    limits: tuple[tuple[object, str], ...] = ()
    lost: int = 0


# ---------------------------------------------------------------- rows


WRITERS = {"csv": write_csv, "parquet": write_parquet, "sqlite": write_sqlite}


def cell(row: int, column: str, value: object) -> Callable[[Path], None]:
    """Return what puts another value into a cell, whatever the kind of file is."""

    def spoil(path: Path) -> None:
        frame = parts().astype(object)
        frame.loc[row, column] = value
        WRITERS[path.suffix[1:]](frame, path)

    return spoil


def shifted(path: Path) -> None:
    """Move the cells of a row by one column, as a separator in a text does."""
    frame = parts().astype(object)
    frame.loc[7, ["length", "colour", "made"]] = ["nut", "12.5", "red"]
    WRITERS[path.suffix[1:]](frame, path)


LARGEST_FILE = ((table_files, "MAX_FILE_BYTES"),)
ROW_DIRT = {
    "mixed types": Dirt(cell(5, "length", "fifty"), {"p0005": "length: 'fifty'"}),
    "shifted column": Dirt(shifted, {"p0007": "length: 'nut'; made: 'red'"}),
    "duplicate ids": Dirt(cell(11, "part_id", "p0012"), {"row 12 (p0012)": "its id stands again in a later row"}),
    "unknown label": Dirt(cell(8, "class", "unheard of"), {"row 9 (p0008)": "unknown label 'unheard of'"}),
    "clock": Dirt(cell(6, "made", "2026-02-30 25:00:00"), {"p0006": "made: '2026-02-30 25:00:00'"}),
    "no id": Dirt(cell(9, "part_id", ""), {"row 10": "no id"}),
}


def cut(share: float) -> Callable[[Path], None]:
    def spoil(path: Path) -> None:
        content = path.read_bytes()
        path.write_bytes(content[: int(len(content) * share)])

    return spoil


def become(content: bytes) -> Callable[[Path], None]:
    return lambda path: void(path.write_bytes(content))


def void(_: object) -> None: ...


def replace_bytes(old: bytes, new: bytes) -> Callable[[Path], None]:
    return lambda path: void(path.write_bytes(path.read_bytes().replace(old, new, 1)))


def add_bytes(content: bytes) -> Callable[[Path], None]:
    return lambda path: void(path.write_bytes(path.read_bytes() + content))


def line(number: int, text: str) -> Callable[[Path], None]:
    """Return what replaces a line of a text file, counted from 0, which is the header."""

    def spoil(path: Path) -> None:
        lines = path.read_text().splitlines()
        lines[number] = text
        path.write_text("\n".join([*lines, ""]))

    return spoil


CSV_DIRT = ROW_DIRT | {
    "truncated": Dirt(cut(0.99), {"row 119": "4 cells, expected 5"}, lost=1),
    "wrong mode": Dirt(become(b"PAR1" + bytes(500) + b"PAR1"), refused="parts.csv"),
    "huge": Dirt(add_bytes(b"x" * LIMIT), refused="parts.csv has .* bytes, expected at most", limits=LARGEST_FILE),
    "huge cell": Dirt(add_bytes(b"p9," + b"x" * 200_000 + b",red,2026-01-01,good\n"), {"p9": "length: 'xxx"}),
    "bad encoding": Dirt(replace_bytes(b"red", b"r\xe4d"), refused="parts.csv"),
    "an open quotation mark": Dirt(
        line(60, 'p0059,"1'), {"row 60": "2 cells over 61 lines (is a quotation mark left open?), expected 5"}, lost=60
    ),
    "more cells": Dirt(add_bytes(b"p9,1,red,2026-01-01,good,1,2\n"), {"row 121": "7 cells, expected 5"}),
}


def parquet_of(table: pa.Table, **options: object) -> Callable[[Path], None]:
    return lambda path: pq.write_table(table, path, **options)


def bad_text(path: Path) -> None:
    """Write a category that is bytes and no UTF-8."""
    table = pa.Table.from_pandas(parts(), preserve_index=False)
    colours = [b"r\xe4d", *[b"red"] * (ROWS - 1)]
    pq.write_table(table.set_column(2, "colour", pa.array(colours, pa.binary())), path)


PARQUET_DIRT = ROW_DIRT | {
    "truncated": Dirt(cut(0.9), refused="parts.parquet.*is it whole"),
    "wrong mode": Dirt(become(b"part_id,length\np1,2\n"), refused="parts.parquet"),
    "huge": Dirt(add_bytes(b"x" * LIMIT), refused="parts.parquet has .* bytes", limits=LARGEST_FILE),
    "bomb": Dirt(
        parquet_of(pa.table({"part_id": pa.nulls(50_000, pa.string())})),
        refused="parts.parquet: it holds 50,000 rows",
        limits=((unpacking, "MAX_CELLS"),),
    ),
    "bad encoding": Dirt(bad_text, {"p0000": "colour: "}),
    "a column is gone": Dirt(parquet_of(pa.table({"part_id": ["p1"]})), refused="column class|columns? length"),
}


def bad_text_of_sqlite(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("update parts set colour = cast(x'72e464' as text) where part_id = 'p0003'")


SQLITE_DIRT = ROW_DIRT | {
    "truncated": Dirt(cut(0.5), refused="parts.sqlite"),
    "wrong mode": Dirt(become(b"part_id,length\np1,2\n" * 100), refused="parts.sqlite"),
    "huge": Dirt(add_bytes(b"x" * LIMIT), refused="parts.sqlite has .* bytes", limits=LARGEST_FILE),
    "bad encoding": Dirt(bad_text_of_sqlite, refused="parts.sqlite.*Could not decode to UTF-8 column 'colour'"),
}


# ---------------------------------------------------------------- readings over time


def swapped(path: Path) -> None:
    lines = path.read_text().splitlines()
    lines[100], lines[101] = lines[101], lines[100]
    path.write_text("\n".join(lines))


SERIES_DIRT = {
    "truncated": Dirt(cut(0.9995), {f"row {len(readings())}": "2 cells, expected 3"}),
    "wrong mode": Dirt(become(b"PAR1" + bytes(500) + b"PAR1"), refused="series.csv"),
    "shifted column": Dirt(line(50, "2026-01-01 00:49:00,1,2,normal"), {"row 50": "4 cells, expected 3"}),
    "mixed types": Dirt(line(50, "2026-01-01 00:49:00,n.a.,normal"), {"2026-01-01T00:49:00Z": "current: 'n.a.'"}),
    "bad encoding": Dirt(replace_bytes(b"normal", b"norm\xe4l"), refused="series.csv.*UnicodeDecodeError"),
    "duplicate ids": Dirt(line(50, "2026-01-01 00:48:00,0.5,normal")),
    "clock backwards": Dirt(swapped),
    "a time that is none": Dirt(line(50, "yesterday,0.5,normal"), {"row 50": "column time: expected a time stamp"}),
    "a time far away": Dirt(line(50, "9026-01-01 00:48:00,0.5,normal"), refused="series.csv.*steps"),
    "unknown label": Dirt(line(50, "2026-01-01 00:49:00,0.5,odd"), refused="series.csv .state.: expected the labels .* got odd"),
}


# ---------------------------------------------------------------- texts


def added(content: bytes) -> Callable[[Path], None]:
    return add_bytes(b"\n" + content)


JSONL_DIRT = {
    "truncated": Dirt(cut(0.999), {f"line {ROWS}": "no JSON: "}),
    "wrong mode": Dirt(added(b"[1, 2]"), {"line 121": "no object with the key body"}),
    "huge": Dirt(
        added(article(500, body="x" * 3 * LIMIT) + b"\n" + article(501)),
        {"line 121": "no text: the line has more than 20,000 bytes"},
        limits=((texts, "MAX_LINE_BYTES"),),
    ),
    "shifted column": Dirt(
        added(article(500).replace(b'"body"', b'"title"')), {"line 121 (u500)": "no object with the key body"}
    ),
    "mixed types": Dirt(added(article(500, body=["a", "b"])), {"line 121 (u500)": 'no text: body holds ["a", "b"]'}),
    "bad encoding": Dirt(added(article(500).replace(b"team", b"te\xe4m")), {"line 121": "no UTF-8: byte "}),
    "duplicate ids": Dirt(added(article(0, body="another one, which is long enough")), {"line 1 (u0)": "its id stands again"}),
    "unknown label": Dirt(added(article(500, topic="weather")), {"line 121 (u500)": "unknown label 'weather'"}),
    "no label": Dirt(added(article(500, topic=None)), {"line 121 (u500)": "no label"}),
    "empty": Dirt(added(article(500, body="  ")), {"line 121 (u500)": "no text: it is empty"}),
    "deep": Dirt(added(b"[" * 100_000), {"line 121": "no JSON: "}),
}


# ---------------------------------------------------------------- arrays


def digits() -> np.ndarray:
    return textures(ROWS, 12)


def save_npz(samples: np.ndarray, labels: np.ndarray | None = None) -> Callable[[Path], None]:
    """Return what writes other samples or labels to the archive."""
    if labels is None:
        labels = np.where(np.arange(len(samples)) % 10, "good", "bad")
    return lambda path: np.savez_compressed(path, X=samples, y=labels)


def wrong_sum(path: Path) -> None:
    """Change a byte of the packed values, so that the sum of the archive is another one."""
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 255
    path.write_bytes(bytes(content))


def npy_header(shape: tuple[int, ...]) -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": "|u1", "fortran_order": False, "shape": shape})
    return buffer.getvalue()


def lying_archive(path: Path) -> None:
    """Write an archive whose array says that it holds far more than is there."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("X.npy", npy_header((10**12, 12, 12)) + bytes(144 * ROWS))
        buffer = io.BytesIO()
        np.save(buffer, np.array(["good"] * ROWS))
        archive.writestr("y.npy", buffer.getvalue())


BLACK = np.zeros((ROWS * 20, 12, 12), np.uint8)
NPZ_DIRT = {
    "truncated": Dirt(cut(0.9), refused="images.npz"),
    "damaged": Dirt(wrong_sum, refused="images.npz: X: not readable"),
    "wrong mode": Dirt(save_npz(np.stack([digits()] * 3, axis=3)), refused="images.npz: X: expected shape"),
    "huge": Dirt(lying_archive, refused="images.npz"),
    "bomb": Dirt(
        save_npz(np.zeros((ROWS * 20, 12, 12), np.uint8)),
        refused="images.npz.*unpacks to more",
        limits=((archive, "MAX_STREAMED_BYTES"),),
    ),
    "shifted column": Dirt(save_npz(digits()[:, :, 1:]), refused="images.npz: X: expected shape"),
    "mixed types": Dirt(save_npz(digits().astype(object)), refused="images.npz: X: .*objects"),
    "bad encoding": Dirt(save_npz(digits(), np.array([b"g\xe4d"] * ROWS)), refused="images.npz: y"),
    "fewer labels": Dirt(save_npz(digits(), np.array(["good"] * (ROWS - 1))), refused="images.npz: y"),
    "unknown label": Dirt(
        save_npz(digits(), np.array([*["good"] * (ROWS - 1), "odd"])),
        refused="images.npz: y: .* got odd",
    ),
}


# ---------------------------------------------------------------- images


def file(name: str, content: bytes) -> Callable[[Path], None]:
    """Return what adds a file to a folder."""

    def spoil(folder: Path) -> None:
        path = Path(os.fsdecode(os.fsencode(folder) + b"/" + os.fsencode(name)))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)

    return spoil


def large_file(folder: Path) -> None:
    with (folder / "good" / "large.png").open("wb") as stream:
        stream.write(PNG)
        stream.truncate(pictures.MAX_IMAGE_BYTES + 1)


def linked(folder: Path) -> None:
    (folder / "good" / "link.png").symlink_to(folder / "good" / "0000.png")
    (folder / "all").symlink_to(folder)


PNG = encoded(Image.fromarray(textures(1)[0]), "PNG")
DEEP = Image.fromarray(textures(1)[0].astype(np.uint16) * 257)
IMAGE_DIRT = {
    "truncated": Dirt(file("good/cut.png", PNG[:100]), {"good/cut.png": "cannot be read"}),
    "wrong mode": Dirt(
        file("good/deep.png", encoded(Image.fromarray(textures(1)[0].astype(np.uint16) * 257), "PNG")),
        {"good/deep.png": "expected 8 bits"},
    ),
    "huge": Dirt(large_file, {"good/large.png": "it has 268,435,457 bytes, expected at most 268,435,456"}),
    "bomb": Dirt(
        file("good/bomb.png", png_bomb(30_000, 30_000)),
        {"good/bomb.png": "has more than 178,956,970 pixels; 40,000,000 are allowed"},
    ),
    "shifted column": Dirt(file("good/wide.png", encoded(Image.new("L", (17, 16)), "PNG")), {"good/wide.png": "expected"}),
    "mixed types": Dirt(file("good/photo.jpg", PNG), {"good/photo.jpg": "PNG"}),
    "bad encoding": Dirt(file("good/caf\udce9.png", PNG), {"good/caf\udce9.png": "its name has characters"}),
    "unknown label": Dirt(file("odd/1.png", PNG), {"odd/1.png": "unknown label 'odd'"}),
    "links": Dirt(linked, {"good/link.png": "a link", "all": "a link"}),
    "no label": Dirt(file("1.png", PNG), {"1.png": "no label"}),
}


# ---------------------------------------------------------------- the tests


def write_images_of_parts(folder: Path) -> None:
    write_images(folder / "good", textures(ROWS, 16), (".png",))
    write_images(folder / "bad", textures(20, 16, seed=1), (".png",))


CLEAN: dict[str, Callable[[Path], None]] = {
    "parts.csv": lambda path: write_csv(parts(), path),
    "parts.parquet": lambda path: write_parquet(parts(), path),
    "parts.sqlite": lambda path: write_sqlite(parts(), path),
    "series.csv": lambda path: write_csv(readings(), path),
    "news.jsonl": articles_file,
    "images.npz": save_npz(digits()),
    "pictures": write_images_of_parts,
}
DIRT = {
    "parts.csv": CSV_DIRT,
    "parts.parquet": PARQUET_DIRT,
    "parts.sqlite": SQLITE_DIRT,
    "series.csv": SERIES_DIRT,
    "news.jsonl": JSONL_DIRT,
    "images.npz": NPZ_DIRT,
    "pictures": IMAGE_DIRT,
}
CASES = [(source, kind) for source, kinds in DIRT.items() for kind in kinds]


def mistyped_rows(samples: SourceSamples) -> dict[str, str]:
    """Return id -> the cells of rows and steps that are not of their column's type, which validation sets aside."""
    names = samples.array.dtype.names
    if names is None or samples.ids is None:
        return {}
    marks = samples.array[:][MISTYPED] if MISTYPED in names else samples.statistics["mistyped"]
    found = {}
    for sample, cells in zip(samples.ids, marks.tolist(), strict=True):
        if cells:
            found[str(sample)] = cells.decode() if isinstance(cells, bytes) else cells
    return found


@pytest.fixture(scope="module")
def proposed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], tuple[str, int]]]:
    """Return what makes a recipe for a clean source, once each: its text with `SOURCE` for the path, and the samples it reads."""
    with pytest.MonkeyPatch.context() as patch:
        project = make_project(tmp_path_factory.mktemp("clean") / "project", patch)

        @cache
        def propose(source: str) -> tuple[str, int]:
            path = project.root.parent / source
            CLEAN[source](path)
            with chdir(project.root):
                code, _, errors = project.new("x", path, "--yes", "--force")
            assert code == 0, errors
            text = project.project.recipe_file("x").read_text()
            return text.replace(str(path), "SOURCE"), len(project.samples("x").array)

        yield propose


@pytest.mark.parametrize(("source", "kind"), CASES, ids=[f"{source}-{kind}" for source, kind in CASES])
def test_what_is_bad_is_named_with_its_reason_and_the_rest_goes_on(
    proposed: Callable[[str], tuple[str, int]],
    project: NewProject,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    source: str,
    kind: str,
) -> None:
    dirt, path = DIRT[source][kind], tmp_path / source
    text, before = proposed(source)
    project.project.recipe_file("x").write_text(text.replace("SOURCE", str(path)))
    CLEAN[source](path)
    dirt.spoil(path)
    for module, name in dirt.limits:
        monkeypatch.setattr(module, name, LIMIT)
    if dirt.refused:
        with pytest.raises(AeError, match=re.compile(dirt.refused, re.DOTALL)) as refused:
            project.samples("x")
        assert source in str(refused.value)
        return
    samples = project.samples("x")
    found = dict(samples.set_aside) | mistyped_rows(samples)
    assert found.keys() == dirt.set_aside.keys(), found
    for name, reason in dirt.set_aside.items():
        assert reason in found[name]
    assert len(samples.array) >= before - len(dirt.set_aside) - dirt.lost


def gzip_file(content: bytes) -> Callable[[Path], None]:
    return lambda path: void(path.write_bytes(gzip.compress(content)))


SMALL_FILES_OF_MANY_BYTES: dict[str, Callable[[Path], None]] = {
    "parts.csv.gz": gzip_file(parts().to_csv(index=False).encode()),
    "series.csv.gz": gzip_file(readings().to_csv(index=False).encode()),
    "news.jsonl.gz": gzip_file(b"\n".join(map(article, range(ROWS)))),
    "rows.npz": lambda path: np.savez_compressed(path, X=np.arange(3000.0).reshape(-1, 5) % 97),
    "parts.zip": lambda path: zip_file(path, parts().to_csv(index=False)),
}


def zip_file(path: Path, text: str) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("parts.csv", text)


@pytest.mark.parametrize("name", SMALL_FILES_OF_MANY_BYTES)
def test_what_unpacks_to_more_than_is_allowed_is_refused_by_look_and_by_run(
    project: NewProject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    path = tmp_path / name
    SMALL_FILES_OF_MANY_BYTES[name](path)
    assert project.new("x", path, "--yes")[0] == 0
    monkeypatch.setattr(unpacking, "MAX_UNPACKED_BYTES", 3_000)
    code, _, errors = project.new("y", path, "--yes")
    assert code == 3
    message = f"{name}.*unpacks to more than 3,000 bytes"
    assert re.search(message, errors)
    with pytest.raises(DataError, match=message):
        project.samples("x")
