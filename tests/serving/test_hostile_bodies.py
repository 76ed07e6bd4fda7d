"""Bodies of 20 MB that cost a server much more than a client, alone and eight at once: time, memory, and health meanwhile.

`pytest -m long -s tests/serving/test_hostile_bodies.py` prints the figures that docs/serving.md lists.
"""

import http.client
import io
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import orjson
import psutil
import pyarrow as pa
import pytest
from PIL import Image
from small_bundles import small_bundle, text_bundle

from aeops.kinds.npy_bytes import MEDIA_TYPE as NPY
from aeops.kinds.pictures import MAX_PIXELS, MAX_WEBP_PIXELS
from aeops.page.try_it import LARGEST_UPLOAD
from aeops.project import Project
from aeops.registry.store import open_store
from aeops.serving.arrow import MEDIA_TYPE as ARROW
from aeops.serving.arrow import write_arrow
from aeops.serving.limits import RequestLimits
from aeops.serving.npy import write_npy
from aeops.serving.request_bodies import JSON

MEGABYTE = 2**20
SIZE = 20 * MEGABYTE
SECONDS = 5.0  # for the answer to one body of at most 20 MB
HEALTH_SECONDS = 5.0  # for an answer of /healthz meanwhile
MEMORY = 500 * MEGABYTE  # in addition to what the idle server has
AT_ONCE = 8
SIDE = 28

pytestmark = [pytest.mark.long, pytest.mark.timeout(1800)]

SERVICE = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from running_service import running
from aeops.bundle.detector import Detector
from aeops.serving.limits import RequestLimits
with running(Detector(Path(sys.argv[2])), RequestLimits()) as started:
    print(started.port, flush=True)
    sys.stdin.read()
"""
PAGE = """
import sys
from pathlib import Path
import uvicorn
from aeops.page.app import build_page_app
from aeops.page.serve import open_page_listener, page_config
from aeops.project import Project
root = Path(sys.argv[2])
with open_page_listener("127.0.0.1", 0) as listener:
    print(listener.getsockname()[1], flush=True)
    uvicorn.Server(page_config(build_page_app(Project(root=root, home=root / ".ae")))).run(sockets=[listener])
"""


@dataclass(frozen=True)
class Body:
    content: bytes
    media_type: str = JSON


@dataclass(frozen=True)
class Measurement:
    """What a server did for one body, sent `count` times at once.

    Attributes:
        seconds: until the last answer.
        cpu_seconds: of the server's process; on an idle machine the answers take no longer.
        memory: most bytes in addition to those before.
        health_seconds: the slowest answer of /healthz.
    """

    count: int
    statuses: tuple[int, ...]
    seconds: float
    cpu_seconds: float
    memory: int
    health_seconds: float

    def __str__(self) -> str:
        memory, statuses = self.memory / MEGABYTE, ",".join(map(str, sorted(set(self.statuses))))
        times = f"{self.seconds:.1f} s, CPU {self.cpu_seconds:.1f} s"
        return f"{self.count} at once: {statuses}, {times}, {memory:.0f} MB, health {self.health_seconds:.2f} s"


class RunningServer:
    """A server in a process of its own, whose memory is measured from outside."""

    def __init__(self, pid: int, port: int) -> None:
        self.process_folder, self.port = Path(f"/proc/{pid}"), port
        self.process = psutil.Process(pid)

    def status_bytes(self, name: str) -> int:
        for line in (self.process_folder / "status").read_text(encoding="ascii").splitlines():
            if line.startswith(f"{name}:"):
                return int(line.split()[1]) * 1024
        raise AssertionError(f"no {name} of this process")

    def request(self, method: str, path: str, body: Body | None = None) -> int:
        client = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        headers = {} if body is None else {"content-type": body.media_type}
        client.request(method, path, None if body is None else body.content, headers)
        with client.getresponse() as response:
            response.read()
            return response.status

    def measure(self, path: str, body: Body, count: int) -> Measurement:
        (self.process_folder / "clear_refs").write_text("5", encoding="ascii")  # the highest memory starts anew
        memory_before, cpu_before = self.status_bytes("VmRSS"), self.process.cpu_times()
        statuses: list[int] = []
        threads = [threading.Thread(target=lambda: statuses.append(self.request("POST", path, body))) for _ in range(count)]
        started, health_seconds = time.monotonic(), 0.0
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            asked = time.monotonic()
            assert self.request("GET", "/healthz") == 200
            health_seconds = max(health_seconds, time.monotonic() - asked)
            threads[-1].join(0.02)
        for thread in threads:
            thread.join()
        seconds = time.monotonic() - started
        assert len(statuses) == count
        memory, cpu = self.status_bytes("VmHWM") - memory_before, self.process.cpu_times()
        cpu_seconds = cpu.user + cpu.system - cpu_before.user - cpu_before.system
        return Measurement(count, tuple(statuses), seconds, cpu_seconds, memory, health_seconds)


@contextmanager
def running_server(program: str, folder: Path) -> Iterator[RunningServer]:
    command = [sys.executable, "-c", program, str(Path(__file__).parents[1]), str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        server = RunningServer(process.pid, int(process.stdout.readline()))
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            try:
                server.request("GET", "/healthz")
                break
            except OSError:
                time.sleep(0.1)
        try:
            yield server
        finally:
            process.terminate()


def check(server: RunningServer, path: str, name: str, body: Body) -> None:
    """Send a body once, then several times at once, and hold the server to its limits."""
    for count in (1, AT_ONCE):
        measured = server.measure(path, body, count)
        print(f"{path} {name}, {len(body.content) / MEGABYTE:.0f} MB, {measured}", flush=True)
        assert all(status < 500 or status == 503 for status in measured.statuses), measured
        assert min(measured.seconds, measured.cpu_seconds) < SECONDS, measured
        assert measured.memory < MEMORY, measured
        assert measured.health_seconds < HEALTH_SECONDS, measured


def filled(piece: bytes, start: bytes = b'{"inputs": [', end: bytes = b"]}", size: int = SIZE) -> Body:
    """A body of one piece, again and again."""
    return Body(start + (piece * ((size - 64) // len(piece))).rstrip(b",") + end)


def nested(value: bytes, separator: bytes = b",") -> bytes:
    """One image of SIDE x SIDE whose values are all the same, as JSON."""
    row = b"[" + separator.join([value] * SIDE) + b"]"
    return b"[[" + b",".join([row] * SIDE) + b"]],"


def texts_up_to_the_limit(piece: str, piece_bytes: int) -> Body:
    """Texts of the greatest length, of one piece, as many as are allowed.

    Args:
        piece_bytes: as the tokenizer reads it.
    """
    pieces = (RequestLimits().all_text_bytes - 1) // piece_bytes
    pieces_per_text = LONG_TEXT // len(piece)
    texts = [piece * pieces_per_text] * (pieces // pieces_per_text) + [piece * (pieces % pieces_per_text) + "b"]
    return Body(orjson.dumps({"inputs": texts}))


def arrow_texts(texts: list[str]) -> Body:
    return Body(write_arrow({"text": texts}), ARROW)


def arrow_images(values: np.ndarray) -> Body:
    return Body(write_arrow({"sample": values}), ARROW)


def many_columns() -> Body:
    schema = pa.schema([(f"c{index}", pa.int8()) for index in range(200_000)])
    output = pa.BufferOutputStream()
    with pa.ipc.new_stream(output, schema):
        pass
    return Body(bytes(output.getvalue())[:SIZE], ARROW)


def much_metadata() -> Body:
    column = pa.FixedSizeListArray.from_arrays(pa.array(np.zeros(SIDE * SIDE, np.uint8)), SIDE * SIDE)
    schema = pa.schema([("sample", column.type)], metadata={f"key{index}": "v" * 8 for index in range(300_000)})
    output = pa.BufferOutputStream()
    with pa.ipc.new_stream(output, schema) as stream:
        stream.write_batch(pa.record_batch([column], schema=schema))
    return Body(bytes(output.getvalue()), ARROW)


def many_batches() -> Body:
    column = pa.FixedSizeListArray.from_arrays(pa.array(np.zeros(SIDE * SIDE, np.uint8)), SIDE * SIDE)
    batch = pa.record_batch([column], names=["sample"])
    output = pa.BufferOutputStream()
    with pa.ipc.new_stream(output, batch.schema) as stream:
        for _ in range(SIZE // 1100):
            stream.write_batch(batch)
    return Body(bytes(output.getvalue()), ARROW)


MAX_SAMPLES = RequestLimits().samples
IMAGES = np.random.default_rng(0).integers(0, 256, (SIZE // SIDE**2 - 1, 1, SIDE, SIDE), dtype=np.uint8)[:MAX_SAMPLES]
OF_IMAGES: dict[str, Callable[[], Body]] = {
    "lists": lambda: filled(b"[[],[],"),
    "deep lists": lambda: filled(b"[", end=b""),
    "deep objects": lambda: filled(b'{"a":', end=b""),
    "objects": lambda: filled(b'{"a":1},'),
    "short strings": lambda: filled(b'"a",'),
    "small numbers": lambda: filled(b"1,"),
    "one long number": lambda: filled(b"1"),
    "one long fraction": lambda: filled(b"7", start=b'{"inputs": [0.'),
    "long numbers": lambda: filled(nested(b"0." + b"7" * 25_000)),
    "real numbers": lambda: filled(nested(b"0.12345678901234567")),
    "images of zeros": lambda: filled(nested(b"0")),
    "as many numbers as allowed": lambda: Body(orjson.dumps({"inputs": np.full((1275, 1, SIDE, SIDE), 999).tolist()})),
    "images of large whole numbers": lambda: filled(nested(b"999")),
    "images of very large whole numbers": lambda: filled(nested(b"12345678901234567890123")),
    "images of null": lambda: filled(nested(b"null")),
    "images of true": lambda: filled(nested(b"true")),
    "white space": lambda: filled(b" "),
    "images that end too soon": lambda: Body(filled(nested(b"0")).content[:-3]),
    "npy of images": lambda: Body(write_npy(IMAGES), NPY),
    "npy of real numbers": lambda: Body(write_npy(IMAGES[: SIZE // 8 // SIDE**2 - 1].astype(np.float64)), NPY),
    "npy of real numbers, transposed": lambda: Body(
        write_npy(np.asfortranarray(IMAGES[: SIZE // 8 // SIDE**2 - 1].astype(np.float64))), NPY
    ),
    "npy of infinities": lambda: Body(write_npy(np.full((SIZE // 2 // SIDE**2 - 1, 1, SIDE, SIDE), np.inf, np.float16)), NPY),
    "npy of texts": lambda: Body(write_npy(np.full(SIZE // 4 - 64, "a")), NPY),
    "Arrow of images": lambda: arrow_images(IMAGES),
    "Arrow of many batches": many_batches,
    "Arrow of many columns": many_columns,
    "Arrow with much metadata": much_metadata,
}
LONG_TEXT = 65_536
OF_TEXTS: dict[str, Callable[[], Body]] = {
    "lists": lambda: filled(b"[[],[],"),
    "deep objects": lambda: filled(b'{"a":', end=b""),
    "short texts": lambda: filled(b'"",'),
    "as many texts as allowed": lambda: Body(orjson.dumps({"inputs": ["a b c d " * 150] * MAX_SAMPLES})),
    "long words": lambda: Body(orjson.dumps({"inputs": ["a" * (LONG_TEXT - 1)] * (SIZE // LONG_TEXT)})),
    "long texts of many words": lambda: Body(orjson.dumps({"inputs": ["a b " * (LONG_TEXT // 4)] * (SIZE // LONG_TEXT - 1)})),
    "long texts of spaces": lambda: Body(orjson.dumps({"inputs": [" " * LONG_TEXT] * (SIZE // LONG_TEXT - 1)})),
    "ligatures that grow": lambda: Body(orjson.dumps({"inputs": ["ﷺ" * LONG_TEXT] * (SIZE // LONG_TEXT // 3 - 1)})),
    "accents": lambda: Body(
        orjson.dumps({"inputs": ["a" + "\u0315\u0300" * (LONG_TEXT // 2 - 1)] * (SIZE // LONG_TEXT // 2 - 1)})
    ),
    "escapes": lambda: filled(b"\\u0061" * 60_000 + b'","', start=b'{"inputs": ["', end=b'"]}'),
    "words up to the limit": lambda: texts_up_to_the_limit("a", 1),
    "spaces up to the limit": lambda: texts_up_to_the_limit(" ", 1),
    "ligatures up to the limit": lambda: texts_up_to_the_limit("ﷺ", 33),
    "accents up to the limit": lambda: texts_up_to_the_limit("\u0315\u0300", 4),
    "one endless text": lambda: filled(b"a", start=b'{"inputs": ["', end=b'"]}'),
    "quotes": lambda: filled(b'\\"', start=b'{"inputs": ["', end=b'"]}'),
    "a text that does not end": lambda: filled(b"\\\\", start=b'{"inputs": ["', end=b""),
    "npy of bytes": lambda: Body(write_npy(np.full((SIZE // LONG_TEXT - 1, LONG_TEXT), 97, np.uint8)), NPY),
    "npy of one wide row": lambda: Body(write_npy(np.full((1, SIZE - 256), 97, np.uint8)), NPY),
    "Arrow of texts": lambda: arrow_texts(["a" * LONG_TEXT] * (SIZE // LONG_TEXT - 1)),
    "Arrow of empty texts": lambda: arrow_texts([""] * (SIZE // 8)),
}


@pytest.fixture(scope="module")
def image_service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    with running_server(SERVICE, small_bundle(tmp_path_factory.mktemp("images") / "bundle", side=SIDE)) as server:
        yield server


@pytest.fixture(scope="module")
def text_service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    with running_server(SERVICE, text_bundle(tmp_path_factory.mktemp("texts") / "bundle")) as server:
        yield server


@pytest.mark.parametrize("name", OF_IMAGES)
def test_a_service_of_images_answers_20_mb_in_time(image_service: RunningServer, name: str) -> None:
    check(image_service, "/score", name, OF_IMAGES[name]())


@pytest.mark.parametrize("path", ["/explain", "/reconstruct", "/embed", "/score?reconstruction=true&code=true"])
@pytest.mark.parametrize("count", [RequestLimits().explained_samples, RequestLimits().answer_values // SIDE**2, MAX_SAMPLES])
def test_every_path_answers_as_many_images_as_allowed(image_service: RunningServer, path: str, count: int) -> None:
    check(image_service, path, f"npy of {count} images", Body(write_npy(IMAGES[:count]), NPY))


@pytest.mark.parametrize("name", OF_TEXTS)
def test_a_service_of_texts_answers_20_mb_in_time(text_service: RunningServer, name: str) -> None:
    check(text_service, "/score", name, OF_TEXTS[name]())


@pytest.mark.parametrize("path", ["/explain", "/reconstruct", "/embed", "/score?reconstruction=true&code=true"])
@pytest.mark.parametrize("count", [RequestLimits().explained_samples, MAX_SAMPLES])
def test_every_path_answers_as_many_texts_as_allowed(text_service: RunningServer, path: str, count: int) -> None:
    check(text_service, path, f"{count} texts", Body(orjson.dumps({"inputs": ["b c d e"] * count})))


# ---------------------------------------------------------------- the page's form


def picture(mode: str, image_format: str, pixels: int = MAX_PIXELS, **options: object) -> Body:
    """An image of one colour with as many pixels as allowed, which takes little space in its file."""
    content = io.BytesIO()
    width = 8000
    Image.new(mode, (width, pixels // width)).save(content, image_format, **options)
    return Body(content.getvalue(), f"image/{image_format.lower()}")


def noise() -> Body:
    content = io.BytesIO()
    side = int((LARGEST_UPLOAD / 3) ** 0.5) - 8
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8)).save(content, "PNG")
    return Body(content.getvalue(), "image/png")


UPLOADS: dict[str, Callable[[], Body]] = {
    "more than allowed": lambda: Body(b"1," * (SIZE // 2), "text/plain"),
    "lists": lambda: filled(b"[[],[],", size=LARGEST_UPLOAD),
    "deep lists": lambda: filled(b"[", size=199_000),
    "deep objects": lambda: filled(b'{"a":', size=900_000),
    "short strings": lambda: filled(b'"a",', size=LARGEST_UPLOAD),
    "small numbers": lambda: filled(b"1,", size=LARGEST_UPLOAD),
    "a row of numbers": lambda: Body(b"1 " * (LARGEST_UPLOAD // 2 - 8), "text/plain"),
    "a row of words": lambda: Body(b"a;" * (LARGEST_UPLOAD // 2 - 8), "text/plain"),
    "one long number": lambda: filled(b"1", size=LARGEST_UPLOAD),
    "real numbers": lambda: filled(b"0.12345678901234567,", size=LARGEST_UPLOAD),
    "images of zeros": lambda: filled(nested(b"0"), size=LARGEST_UPLOAD),
    "npy of images": lambda: Body(write_npy(IMAGES[: LARGEST_UPLOAD // SIDE**2 - 1]), NPY),
    "PNG of colours": lambda: picture("RGB", "PNG"),
    "PNG with transparency": lambda: picture("RGBA", "PNG"),
    "PNG of a palette": lambda: picture("P", "PNG", transparency=0),
    "JPEG": lambda: picture("RGB", "JPEG"),
    "JPEG of four inks": lambda: picture("CMYK", "JPEG"),
    "JPEG, progressive": lambda: picture("RGB", "JPEG", progressive=True),
    "WebP": lambda: picture("RGBA", "WEBP", MAX_WEBP_PIXELS),
    "TIFF": lambda: picture("RGB", "TIFF", compression="tiff_deflate"),
    "PNG of noise": noise,
}


@pytest.fixture(scope="module")
def page(project: Project) -> Iterator[RunningServer]:
    open_store(project).download_bundle("digits", "1")
    with running_server(PAGE, project.root) as server:
        yield server


@pytest.mark.parametrize("name", UPLOADS)
def test_the_page_answers_an_upload_in_time(page: RunningServer, name: str) -> None:
    check(page, "/try/digits", name, UPLOADS[name]())
