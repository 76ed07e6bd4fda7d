"""IDX files are read whole or refused in one line, their test part is the test set, and only what was asked for is fetched."""

import gzip
import hashlib
import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from data_project import Room, shared_data, tree

from aeops.data.dataset import read_index
from aeops.data.sources.catalogue import source_digest
from aeops.errors import AeError, DataError, TransientError, UsageError
from aeops.machine.stored_json import read_json
from aeops.stages.prepare import prepare

TRAIN = 480  # of the room's 600 digits, shuffled; the others are the test part
IMAGES, LABELS = "train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"


def idx_bytes(values: np.ndarray) -> bytes:
    sizes = b"".join(size.to_bytes(4, "big") for size in values.shape)
    return bytes([0, 0, 8, values.ndim]) + sizes + values.astype(np.uint8).tobytes()


def lay_idx(room: Room, folder: Path, zipped: bool = True) -> Path:
    """The room's digits as four IDX files."""
    folder.mkdir(parents=True, exist_ok=True)
    order = np.random.default_rng(0).permutation(len(room.images))
    for part, rows in (("train", order[:TRAIN]), ("t10k", order[TRAIN:])):
        for name, values in ((f"{part}-images-idx3-ubyte", room.images[rows]), (f"{part}-labels-idx1-ubyte", room.labels[rows])):
            if zipped:
                (folder / f"{name}.gz").write_bytes(gzip.compress(idx_bytes(values), mtime=0))
            else:
                (folder / name).write_bytes(idx_bytes(values))
    return folder


def name_idx(room: Room, **source: object) -> None:
    """Lets the recipe read IDX files, its own test part being the test set."""
    split = {"validation": 0.1, "calibration": 0.2}
    room.edit(data={"source": {"kind": "idx", "folder": "digits-idx"} | source, "split": split})


@pytest.fixture
def idx(room: Room) -> Room:
    """A room whose project holds the four files."""
    lay_idx(room, room.root / "digits-idx")
    name_idx(room)
    return room


def test_the_whole_of_mnist_is_read_with_its_own_test_part(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AE_SOURCES", str(shared_data("mnist").parent))
    name_idx(room, folder="mnist")
    samples = room.samples()
    assert samples.array.shape == (70000, 1, 28, 28)
    counts = {part: np.bincount(samples.labels[samples.splits == part]).tolist() for part in ("train", "test")}
    assert counts["train"] == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]  # as the set's publisher counts
    assert counts["test"] == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    with gzip.open(shared_data("mnist") / "t10k-images-idx3-ubyte.gz") as packed:
        packed.seek(16 + 9999 * 784)
        assert samples.array[-1].tobytes() == packed.read()


def test_files_with_and_without_gz_give_the_same_shards_in_the_files_order(idx: Room) -> None:
    idx.ingest()
    shards = tree(idx.incoming / "shards")
    for place in (idx.root / "digits-idx").iterdir():
        place.unlink()
    lay_idx(idx, idx.root / "digits-idx", zipped=False)
    idx.ingest()
    assert tree(idx.incoming / "shards") == shards
    order = np.random.default_rng(0).permutation(600)
    np.testing.assert_array_equal(idx.samples().array[:, 0], idx.images[order])
    np.testing.assert_array_equal(idx.samples().labels, idx.labels[order])


def test_the_sources_test_part_is_the_test_split_and_the_rest_is_drawn(idx: Room) -> None:
    idx.ingest()
    index = read_index(idx.incoming)
    assert (index["split"][TRAIN:] == "test").all()
    drawn = index["split"][:TRAIN].value_counts()
    assert set(drawn.index) == {"train", "calibration", "validation"}
    assert abs(drawn["calibration"] / TRAIN - 0.2) < 0.06


def test_a_recipe_with_a_share_for_test_draws_it_from_all_samples(idx: Room) -> None:
    idx.edit(data={"split": {"validation": 0.1, "calibration": 0.2, "test": 0.2}})
    idx.ingest()
    index = read_index(idx.incoming)
    assert 0 < (index["split"][:TRAIN] == "test").sum() < TRAIN
    assert (index["split"][TRAIN:] != "test").any()


def test_a_test_set_of_the_sources_own_holds_no_novelty_from_elsewhere(idx: Room) -> None:
    idx.edit(data={"novelty": [4]})
    idx.accept_unjudged()
    out = idx.root / "prepared"
    prepare(idx.recipe, idx.data, out)
    table = pd.read_parquet(out / "test.parquet")
    assert len(table) == 600 - TRAIN
    assert set(table["id"]) == {f"mine-{number:06d}" for number in range(TRAIN, 600)}
    assert (
        table["novelty"].sum()
        == (idx.samples().labels[TRAIN:] == 4).sum()
        == read_json(out / "prepared.json")["rows"]["test_novelty"]
    )
    assert not (np.load(out / "train_labels.npy") == 4).any()


# ---------------------------------------------------------------- what is refused


def cut_gzip(folder: Path) -> None:
    (folder / IMAGES).write_bytes((folder / IMAGES).read_bytes()[:-2000])


def cut_values(folder: Path) -> None:
    whole = gzip.decompress((folder / IMAGES).read_bytes())
    (folder / IMAGES).write_bytes(gzip.compress(whole[:-1]))


def add_values(folder: Path) -> None:
    whole = gzip.decompress((folder / IMAGES).read_bytes())
    (folder / IMAGES).write_bytes(gzip.compress(whole + b"x"))


def float_type(folder: Path) -> None:
    whole = gzip.decompress((folder / IMAGES).read_bytes())
    (folder / IMAGES).write_bytes(gzip.compress(b"\0\0\x0d" + whole[3:]))


def write(name: str, content: bytes) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_bytes(content) and None


SPOILED: dict[str, tuple[Callable[[Path], None], list[str]]] = {
    "a gzip file cut short": (cut_gzip, [IMAGES, "truncated or no gzip file"]),
    "fewer values than the header says": (
        cut_values,
        [IMAGES, "expected 376320 values, 480 x 28 x 28 as its header says, got 376319 values: truncated"],
    ),
    "more values than the header says": (add_values, [IMAGES, "expected 376320 values", "got more"]),
    "values of another type": (float_type, [IMAGES, "expected 00000803 at its start", "got 00000d03"]),
    "no gzip file": (write(IMAGES, b"GIF89a" * 99), [IMAGES, "truncated or no gzip file"]),
    "another file": (write(IMAGES, gzip.compress(b"GIF89a" * 99)), ["expected 00000803 at its start", "got 47494638"]),
    "an empty file": (write(IMAGES, gzip.compress(b"")), ["got nothing"]),
    "a header cut short": (write(LABELS, gzip.compress(b"\0\0\x08\x01\0\0")), [LABELS, "truncated within its header"]),
    "labels where images should be": (
        lambda folder: (folder / IMAGES).write_bytes((folder / LABELS).read_bytes()) and None,
        ["expected 00000803 at its start", "got 00000801"],
    ),
    "too few labels": (
        write(LABELS, gzip.compress(idx_bytes(np.zeros(TRAIN - 1)))),
        [LABELS, "expected 480 labels, one for each sample of train-images-idx3-ubyte.gz, got 479"],
    ),
    "images of another size": (
        write(IMAGES, gzip.compress(idx_bytes(np.zeros((TRAIN, 14, 28))))),
        ["got (480, 14, 28)", "input.shape"],
    ),
    "a missing file": (
        lambda folder: (folder / LABELS).unlink(),
        ["no folder holds the four IDX files", "digits-idx lacks train-labels-idx1-ubyte", "data.source.folder"],
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("fault", SPOILED)
def test_spoiled_files_are_refused_in_one_line_and_nothing_is_written(idx: Room, fault: str) -> None:
    spoil, facts = SPOILED[fault]
    spoil(idx.root / "digits-idx")
    before = tree(idx.root)
    with pytest.raises(DataError) as caught:
        idx.ingest()
    message = str(caught.value)
    assert "\n" not in message
    assert all(fact in message for fact in [*facts, "type ae run mine"]), message
    assert tree(idx.root) == before


def test_a_file_with_another_sum_than_the_recipe_gives_is_refused(idx: Room) -> None:
    name_idx(idx, sha256={IMAGES: "0" * 64})
    with pytest.raises(DataError, match=rf"{IMAGES}: expected SHA-256 000000000000\.\.\. .*, got [0-9a-f]{{12}}\.\.\."):
        idx.ingest()


# ---------------------------------------------------------------- fetching


class Quiet(SimpleHTTPRequestHandler):
    """Writes nothing to the terminal."""

    def log_message(self, *_: object) -> None:
        pass


class Short(Quiet):
    """Says that it sends more than it does."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "1000")
        self.end_headers()
        self.wfile.write(b"x" * 10)


def serve(handler: Callable[..., SimpleHTTPRequestHandler]) -> Iterator[str]:
    """The address of a server on the loopback, which ends with the test."""
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join(timeout=10)


@pytest.fixture
def files(room: Room) -> Path:
    """The four files where no project looks for them."""
    return lay_idx(room, room.root.with_name("elsewhere"))


@pytest.fixture
def server(files: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    yield from serve(partial(Quiet, directory=str(files)))


def sums(files: Path) -> dict[str, str]:
    return {place.name: hashlib.sha256(place.read_bytes()).hexdigest() for place in sorted(files.iterdir())}


def test_files_that_no_folder_holds_are_fetched_once_and_are_those_that_were_served(room: Room, files: Path, server: str) -> None:
    name_idx(room, url=server, sha256=sums(files))
    room.ingest()
    assert tree(room.project.home / "sources" / "digits-idx") == tree(files)
    digest = source_digest(room.recipe, room.project)
    for place in files.iterdir():
        place.unlink()
    room.ingest()
    assert source_digest(room.recipe, room.project) == digest


def refuse_fetching(room: Room, kind: type[AeError], *facts: str) -> None:
    with pytest.raises(kind) as caught:
        room.ingest()
    assert all(fact in str(caught.value) for fact in [*facts, "type ae run mine"]), caught.value
    assert "\n" not in str(caught.value)
    assert tree(room.project.home) == {}


def test_a_served_file_with_another_sum_is_refused_and_none_is_kept(room: Room, files: Path, server: str) -> None:
    name_idx(room, url=server, sha256=sums(files) | {LABELS: "0" * 64})
    refuse_fetching(room, DataError, f"{server}/{LABELS}", "expected SHA-256 000000000000...")


def test_a_file_that_the_server_lacks_is_told_and_none_is_kept(room: Room, files: Path, server: str) -> None:
    name_idx(room, url=server, sha256=sums(files))
    (files / LABELS).unlink()
    refuse_fetching(room, DataError, f"{server}/{LABELS}", "404", "correct data.source.url", "or put the files in")


def test_an_answer_that_ends_too_early_is_told(room: Room, files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    for address in serve(Short):
        name_idx(room, url=address, sha256=sums(files))
        refuse_fetching(room, TransientError, "ended after 10 of 1000 bytes")


def test_a_server_that_does_not_answer_is_told(room: Room, files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    (address,) = serve(Quiet)  # it has ended: nobody listens there
    name_idx(room, url=address, sha256=sums(files))
    refuse_fetching(room, TransientError, "could not be fetched", "refused")


SUMS = {f"{name}.gz": "0" * 64 for name in ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte")}
SUMS |= {"t10k-labels-idx1-ubyte": "0" * 64}


@pytest.mark.parametrize(
    ("source", "facts"),
    [
        ({"url": "https://host/mnist"}, ["sha256 must name each of train-images-idx3-ubyte"]),
        ({"url": "file:///etc", "sha256": SUMS}, ["url: expected http://... or https://..., got 'file:///etc'"]),
        ({"url": "https://host", "sha256": SUMS, "folder": "../mnist"}, ["no leading / and no .."]),
        (
            {"sha256": {"images": "0" * 64, LABELS: 0}},
            ["with or without .gz, got images", f"sha256 of {LABELS}: expected 64 digits"],
        ),
    ],
)
def test_a_source_that_contradicts_itself_is_refused(room: Room, source: dict[str, object], facts: list[str]) -> None:
    name_idx(room, **source)
    with pytest.raises(UsageError) as caught:
        room.recipe  # noqa: B018
    assert all(fact in str(caught.value) for fact in facts), caught.value
