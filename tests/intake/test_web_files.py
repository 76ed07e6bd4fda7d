"""Files of a web server: fetched again only where the server cannot say that they are as they were."""

import gzip
import json
from collections.abc import Iterator
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import unquote

import pytest
from local_receivers import served_by

from aeops.data.sources import remote
from aeops.data.sources.stored_files import TAGS_FILE
from aeops.errors import DataError, TransientError

NOW = 1_800_000_000.0  # of the server, seconds since 1970
CONTENT = b"a,b\n1,2\n3,4\n"


@pytest.fixture
def server() -> Iterator[SimpleNamespace]:
    """A web server of one file.

    `content`, `tag`, `modified` (seconds since 1970), `encoding` and `cut` (bytes that are missing) describe it, `is_conditional`
    whether it knows conditional requests; `sent` has the status and the path of each answer.
    """
    state = SimpleNamespace(content=CONTENT, tag="", modified=None, encoding="", cut=0, is_conditional=True, sent=[], address="")

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = unquote(self.path)
            if path == "/gone.csv":
                self._answer(404, path, b"")
            elif state.is_conditional and self._is_as_it_was():
                self._answer(304, path, b"")
            else:
                self._answer(200, path, state.content)

        def _is_as_it_was(self) -> bool:
            if "If-None-Match" in self.headers:
                return bool(self.headers["If-None-Match"] == state.tag)
            return state.modified is not None and self.headers["If-Modified-Since"] == formatdate(state.modified, usegmt=True)

        def _answer(self, status: int, path: str, content: bytes) -> None:
            state.sent.append((status, path))
            self.send_response_only(status)
            self.send_header("Date", formatdate(NOW, usegmt=True))
            if state.tag:
                self.send_header("ETag", state.tag)
            if state.modified is not None:
                self.send_header("Last-Modified", formatdate(state.modified, usegmt=True))
            if state.encoding and content:
                self.send_header("Content-Encoding", state.encoding)
            if status != 304:
                self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content[: len(content) - state.cut])

        def log_message(self, *_: object) -> None:
            pass

    with served_by(Handler) as state.address:
        yield state


def fetch(server: SimpleNamespace, home: Path, name: str = "rows.csv") -> Path:
    return remote.fetch_address(f"{server.address}/{name}", home)


def statuses(server: SimpleNamespace) -> list[int]:
    return [status for status, _ in server.sent]


def test_a_file_with_an_entity_tag_is_fetched_once_and_again_when_the_tag_changes(
    server: SimpleNamespace, tmp_path: Path
) -> None:
    server.tag = '"one"'
    inode = fetch(server, tmp_path).stat().st_ino
    copy = fetch(server, tmp_path)
    assert statuses(server) == [200, 304]
    assert (copy.read_bytes(), copy.stat().st_ino) == (CONTENT, inode)
    server.tag, server.content = '"two"', b"a,b\n5,6\n"
    assert fetch(server, tmp_path).read_bytes() == b"a,b\n5,6\n"
    assert fetch(server, tmp_path).read_bytes() == b"a,b\n5,6\n"
    assert statuses(server) == [200, 304, 200, 304]
    [record] = json.loads((copy.parent / TAGS_FILE).read_text()).values()
    assert record["tag"] == '"two"'


@pytest.mark.parametrize(("tag", "modified"), [('"one"', NOW - 3600), ("", None)])
def test_a_server_without_conditional_requests_sends_the_file_anew(
    server: SimpleNamespace, tmp_path: Path, tag: str, modified: float | None
) -> None:
    server.tag, server.modified, server.is_conditional = tag, modified, False
    fetch(server, tmp_path)
    server.content = b"a,b\n5,6\n"
    assert fetch(server, tmp_path).read_bytes() == b"a,b\n5,6\n"
    assert statuses(server) == [200, 200]


def test_a_copy_that_was_altered_is_not_relied_on(server: SimpleNamespace, tmp_path: Path) -> None:
    server.tag = '"one"'
    copy = fetch(server, tmp_path)
    copy.write_bytes(CONTENT[::-1])  # of the same size
    assert fetch(server, tmp_path).read_bytes() == CONTENT
    copy.unlink()
    assert fetch(server, tmp_path).read_bytes() == CONTENT
    (copy.parent / TAGS_FILE).write_text("{")
    assert fetch(server, tmp_path).read_bytes() == CONTENT
    assert statuses(server) == [200, 200, 200, 200]


def test_the_time_of_the_last_change_counts_once_it_is_a_minute_old(server: SimpleNamespace, tmp_path: Path) -> None:
    server.modified = NOW - 3
    fetch(server, tmp_path)
    server.content = b"a,b\n5,6\n"  # within the same second
    assert fetch(server, tmp_path).read_bytes() == b"a,b\n5,6\n"
    assert statuses(server) == [200, 200]
    server.modified = NOW - 60
    fetch(server, tmp_path)
    fetch(server, tmp_path)
    assert statuses(server) == [200, 200, 200, 304]
    server.modified, server.content = NOW - 70, CONTENT
    assert fetch(server, tmp_path).read_bytes() == CONTENT


def test_a_tag_that_two_contents_may_have_is_not_asked_about(server: SimpleNamespace, tmp_path: Path) -> None:
    server.tag = 'W/"one"'
    fetch(server, tmp_path)
    server.content = b"a,b\n5,6\n"
    assert fetch(server, tmp_path).read_bytes() == b"a,b\n5,6\n"


def test_half_an_answer_is_no_file_and_the_one_before_stays(server: SimpleNamespace, tmp_path: Path) -> None:
    server.tag = '"one"'
    copy = fetch(server, tmp_path)
    server.tag, server.content, server.cut = '"two"', b"a,b\n5,6\n", 3
    with pytest.raises(TransientError):
        fetch(server, tmp_path)
    assert copy.read_bytes() == CONTENT
    server.cut = 0
    assert fetch(server, tmp_path).read_bytes() == b"a,b\n5,6\n"


def test_a_missing_file_names_and_packed_content(server: SimpleNamespace, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nothing lies at this http:// address"):
        fetch(server, tmp_path, "gone.csv")
    assert fetch(server, tmp_path, "my rows (1).csv").name == "my rows (1).csv"
    assert server.sent[-1] == (200, "/my rows (1).csv")
    server.encoding, server.content = "gzip", gzip.compress(CONTENT)
    assert fetch(server, tmp_path).read_bytes() == CONTENT
    assert fetch(server, tmp_path, "rows.csv.gz").read_bytes() == server.content
