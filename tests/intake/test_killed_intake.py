"""kill -9 while a source is looked at and ingested leaves nothing half: what is there is whole, and the same command goes on."""

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from data_project import tree
from forked import Fork
from image_folders import textures, write_images
from intake_project import NewProject
from source_rows import articles_file, parts, readings, write_csv, write_parquet, write_sqlite

from aeops.stages.ingest import ingest

CHANGES = ("os.rename", "os.link", "os.mkdir", "os.remove", "os.rmdir", "os.truncate")
KILLS = (0.6, 1.0)  # of the changes of files that a whole intake makes; 1: before the last one
WRITING = os.O_WRONLY | os.O_RDWR


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None: ...


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """Serve a folder; yield its address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(QuietHandler, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def write_pictures(folder: Path) -> None:
    write_images(folder / "good", textures(110, 16), (".png", ".jpg"))


def write_arrays(path: Path) -> None:
    np.savez_compressed(path, X=textures(120, 12), y=np.array(["good"] * 120))


SOURCES: dict[str, Callable[[Path], None]] = {
    "pictures": write_pictures,
    "parts.csv": lambda path: write_csv(parts(), path),
    "parts.parquet": lambda path: write_parquet(parts(), path),
    "parts.sqlite": lambda path: write_sqlite(parts(), path),
    "series.csv": lambda path: write_csv(readings(), path),
    "news.jsonl": articles_file,
    "images.npz": write_arrays,
}
ADDRESSES = {"http": "parts.csv", "sqlite": "parts.sqlite"}


def take_in(project: NewProject, origin: str) -> None:
    """Propose a recipe and ingest by it, as `ae new` and the first step of `ae run` do."""
    code, _, errors = project.new("x", origin, "--yes", "--force")
    assert code == 0, errors
    ingest(project.recipe("x"), project.project, project.project.incoming("x"))


def take_in_and_die(project: NewProject, origin: str, log: Path, last: int | None) -> int:
    """Do so in a fork that is killed before the `last`-th change of a file of the project; return its exit code.

    Args:
        project: in which it works.
        origin: of the data.
        log: gets the number of changes so far.
        last: None: it is not killed.
    """
    root, count = str(project.root), 0

    def on_event(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal count
        path = arguments[0] if arguments else None
        is_write = event == "open" and isinstance(arguments[2], int) and bool(arguments[2] & WRITING)
        if not (is_write or event in CHANGES) or not isinstance(path, str | os.PathLike) or not str(path).startswith(root):
            return
        count += 1
        os.write(descriptor, f"{count}\n".encode())
        if count == last:
            os.kill(os.getpid(), signal.SIGKILL)

    def work() -> None:
        sys.addaudithook(on_event)
        take_in(project, origin)

    with log.open("wb", buffering=0) as file:
        descriptor = file.fileno()
        return Fork(work, cwd=project.root, env=dict(os.environ), stdout=file, stderr=file).wait()


def check_kills(project: NewProject, origin: str, tmp_path: Path, kill_step: int) -> None:
    """Kill an intake at several moments, each in the same project, and go on with it.

    Args:
        project: that it works in.
        origin: of the data.
        tmp_path: gets a log.
        kill_step: through the moments.
    """
    log = tmp_path / "changes.log"
    assert take_in_and_die(project, origin, log, None) == 0, log.read_text()
    whole, recipe = tree(project.root), project.project.recipe_file("x").read_text()
    changes = int(log.read_text().splitlines()[-1])
    assert changes >= 3
    for share in KILLS[::kill_step]:
        remove_intake(project)
        assert take_in_and_die(project, origin, log, max(1, round(share * changes))) == -signal.SIGKILL, log.read_text()
        file, incoming = project.project.recipe_file("x"), project.project.incoming("x")
        assert not file.exists() or file.read_text() == recipe
        if incoming.exists():
            assert set(tree(incoming)) == {name.split("incoming/x/")[1] for name in whole if "incoming/x/" in name}
        take_in(project, origin)
        found = tree(project.root)
        assert found.keys() == whole.keys()
        assert {name for name in whole if "/shards/" in name and found[name] != whole[name]} == set()


def remove_intake(project: NewProject) -> None:
    """Take away what an intake made, so that the next one makes all of it."""
    import shutil

    project.project.recipe_file("x").unlink()
    shutil.rmtree(project.project.home)


@pytest.mark.parametrize("source", SOURCES)
def test_what_is_there_after_a_kill_is_whole_and_the_same_command_goes_on(
    project: NewProject, tmp_path: Path, source: str, kill_step: int
) -> None:
    SOURCES[source](tmp_path / source)
    check_kills(project, str(tmp_path / source), tmp_path, kill_step)


@pytest.mark.parametrize("scheme", ADDRESSES)
def test_so_it_is_with_what_is_fetched_from_an_address(project: NewProject, tmp_path: Path, scheme: str, kill_step: int) -> None:
    file = ADDRESSES[scheme]
    (tmp_path / "served").mkdir()
    SOURCES[file](tmp_path / "served" / file)
    with served(tmp_path / "served") as address:
        origin = f"{address}/{file}" if scheme == "http" else f"sqlite:///{tmp_path / 'served' / file}"
        check_kills(project, origin, tmp_path, kill_step)
