"""`ae new` on addresses: a web server, an SQLite database by its URL, and what may not stand in a recipe."""

import re
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import fsspec
import numpy as np
import pandas as pd
import pytest
import sqlalchemy as sa
from checkout import ROOT
from fsspec.registry import _registry
from intake_project import NewProject

from aeops.data.sources import remote, stored_files
from aeops.data.sources.catalogue import source_digest
from aeops.errors import DataError, TransientError
from aeops.kinds import unpacking
from aeops.recipe.addresses import address_errors


def rows(count: int = 300) -> pd.DataFrame:
    draw = np.random.default_rng(0)
    kinds = draw.choice(["x", "y"], count)
    return pd.DataFrame({"a": draw.normal(size=count), "kind": kinds, "b": draw.integers(0, 9, count)})


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None: ...


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """Serve a folder; yield its address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(QuietHandler, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def test_a_file_of_a_web_server_is_read_and_its_change_is_seen(project: NewProject, tmp_path: Path) -> None:
    rows().to_csv(tmp_path / "rows.csv", index=False)
    with served(tmp_path) as address:
        code, _, errors = project.new("rows", f"{address}/rows.csv", "--yes")
        assert (code, errors) == (0, "")
        assert project.keys("rows")["data"]["source"]["path"] == f"{address}/rows.csv"
        assert len(project.samples("rows").array) == 300
        digest = source_digest(project.recipe("rows"), project.project)
        rows(301).to_csv(tmp_path / "rows.csv", index=False)
        assert source_digest(project.recipe("rows"), project.project) != digest
        with pytest.raises(DataError, match=r"nothing lies at this http:// address"):
            remote.fetch_address(f"{address}/nowhere.csv", project.project.home)
    with pytest.raises(TransientError, match=r"the http:// address could not be read"):
        project.samples("rows")


def test_rows_of_a_database_by_its_url_are_read_whatever_their_order(project: NewProject, tmp_path: Path) -> None:
    address = f"sqlite:///{tmp_path / 'shop.db'}"
    engine = sa.create_engine(address)
    rows().to_sql("sold", engine, index=False)
    code, printed, errors = project.new("sold", address, "--yes")
    assert (code, errors) == (0, "")
    assert "300 rows of 3 columns" in printed
    assert project.keys("sold")["data"]["source"] == {"kind": "table", "path": address, "table": "sold"}
    digest = source_digest(project.recipe("sold"), project.project)
    rows()[::-1].to_sql("sold", engine, index=False, if_exists="replace")
    assert source_digest(project.recipe("sold"), project.project) == digest
    rows().to_sql("other", engine, index=False)
    code, _, errors = project.new("both", address, "--yes")
    assert code == 2
    assert "holds other, sold: say which by --table NAME" in errors
    query = "select a, b from sold where kind = 'x'"
    assert project.new("x", address, "--yes", "--query", query)[0] == 0
    assert project.keys("x")["data"]["source"]["query"] == query
    assert len(project.samples("x").array) == (rows()["kind"] == "x").sum()
    engine.dispose()


def test_a_query_without_end_and_texts_that_are_none_are_refused_and_no_fault_of_the_server(
    project: NewProject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = f"sqlite:///{tmp_path / 'shop.db'}"
    engine = sa.create_engine(address)
    rows().to_sql("sold", engine, index=False)
    monkeypatch.setattr(unpacking, "MAX_ROW_CELLS", 100_000)
    query = "with recursive n(i) as (select 1 union all select i + 1 from n) select i, i * 2 as j from n"
    for origin in (address, str(tmp_path / "shop.db")):
        code, _, errors = project.new("x", origin, "--yes", "--query", query)
        assert code == 3
        assert "the query returns more than 100,000 cells" in errors
    with engine.begin() as connection:
        connection.execute(sa.text("update sold set kind = cast(x'72e464' as text) where rowid = 5"))
    engine.dispose()
    code, _, errors = project.new("x", address, "--yes")
    assert code == 3
    assert "the rows cannot be read: Could not decode to UTF-8 column 'kind'" in errors


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("https://me:secret@host/x.csv", "without a password"),
        ("postgresql+pg8000://me:secret@host/db", "without a password"),
        ("https://host/x.csv?sig=secret", "without \\? and #"),
        ("s3:///x.csv", "with a host or a bucket"),
        ("ftp://host/x.csv", "expected an address that begins with s3, gs, http, https"),
    ],
)
def test_an_address_with_a_secret_is_refused_and_not_repeated(project: NewProject, address: str, message: str) -> None:
    code, printed, errors = project.new("x", address, "--yes")
    assert code == 2
    assert "secret" not in printed + errors
    [reason] = address_errors(address)
    assert re.search(message, reason)


@pytest.mark.parametrize(("scheme", "package"), [("gs", "gcsfs"), ("s3", "s3fs")])
def test_a_store_whose_library_is_missing_names_the_package_and_the_release_that_fits(
    project: NewProject, monkeypatch: pytest.MonkeyPatch, scheme: str, package: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)  # as where it is not installed
    monkeypatch.delitem(_registry, scheme, raising=False)  # fsspec remembers what a test before this one used
    code, _, errors = project.new("x", f"{scheme}://bucket/folder", "--yes")
    assert code == 2
    assert f"{scheme}:// needs the package {package}: type pip install {package}=={version('fsspec')}\n" in errors


def test_google_storage_is_not_in_the_lock_and_the_message_says_what_to_install(project: NewProject) -> None:
    locked = (ROOT / "requirements.lock").read_text()
    assert f"\nfsspec=={version('fsspec')}" in locked
    assert "\ngcsfs==" not in locked, "then a test can read a bucket of it"
    if find_spec("gcsfs") is None:
        code, _, errors = project.new("x", "gs://bucket/folder", "--yes")
        assert (code, "type pip install gcsfs==" in errors) == (2, True)


def test_all_files_of_a_store_are_fetched_and_none_outside_of_its_folder(tmp_path: Path) -> None:
    store = fsspec.filesystem("memory")
    for name in ("/bucket/data/a.csv", "/bucket/data/deep/b.csv", "/bucket/other/c.csv"):
        store.pipe_file(name, b"a,b\n1,2\n")
    folder = remote.fetch_address("memory://bucket/data", tmp_path)
    assert sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.csv")) == ["a.csv", "deep/b.csv"]
    with pytest.raises(DataError, match="outside of the folder"):
        stored_files.relative_name("bucket/data/../other/c.csv", "bucket/data")
