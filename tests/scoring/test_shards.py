"""A large file in shards: the scores of one process, each row recorded once, whoever is killed."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from aeops.bundle.detector import Detector
from aeops.cli.main import main
from aeops.errors import DataError, UsageError
from aeops.predictions import prediction_store
from aeops.project import Project
from aeops.recipe.run_place import HERE, RunPlace
from aeops.scoring import shards
from aeops.scoring.score_shard import ShardRequest, file_stamp, score_shard
from aeops.scoring.shards import ShardedFile, plan_shards, scored_shards

ROWS = 2500  # three blocks of the model
REFUSED, UNLIKE = 300, 301  # rows of the file


@pytest.fixture
def file(digits: np.ndarray, tmp_path: Path) -> Path:
    samples = np.resize(digits, (ROWS, *digits.shape[1:])).astype(np.float32)
    samples[REFUSED] = np.nan
    samples[UNLIKE] = 255 - samples[UNLIKE]
    np.save(tmp_path / "many.npy", samples)
    return tmp_path / "many.npy"


@pytest.fixture
def state(project: Project, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    monkeypatch.chdir(project.root)
    monkeypatch.setenv("AE_HOME", str(project.home))
    forget_scores(project)  # other tests of this project record some
    yield project
    forget_scores(project)


def forget_scores(project: Project) -> None:
    for name in ("predictions", "scoring"):
        shutil.rmtree(project.home / name, ignore_errors=True)


@pytest.fixture
def plan(state: Project, linear_bundle: Path, file: Path) -> ShardedFile:
    detector = Detector(linear_bundle)
    planned = plan_shards(state, "digits", detector, file, detector.read_file(file), requested=3)
    assert planned is not None
    return planned


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, object]:
    assert main(["score", "digits", *arguments, "--json"]) == 0
    document: dict[str, object] = json.loads(capsys.readouterr().out)
    return document


def without_ids(document: dict[str, object]) -> dict[str, object]:
    rows = [{name: value for name, value in row.items() if name != "id"} for row in document["samples"]]  # type: ignore[attr-defined]
    return document | {"samples": rows}


@pytest.mark.slow
def test_shards_by_processes_print_what_one_process_prints_and_record_each_row_once(
    state: Project, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole, sharded = printed(capsys, str(file)), printed(capsys, str(file), "--shards", "2")
    assert without_ids(sharded) == without_ids(whole)
    table = prediction_store.read_predictions(state, "digits")
    assert table.num_rows == 2 * ROWS
    ids = [row["id"] for row in sharded["samples"]]  # type: ignore[attr-defined]
    assert set(ids) < set(table["id"].to_pylist())
    assert not list((state.home / "scoring").rglob("*.npz"))


def test_shards_end_where_the_blocks_of_the_model_do(plan: ShardedFile) -> None:
    block = plan.detector.data_kind.rows_at_once(28 * 28)
    requests = plan.requests()
    assert [request.first for request in requests] == list(range(0, ROWS, plan.rows))
    assert [request.last for request in requests] == [*(request.first for request in requests[1:]), ROWS]
    assert plan.rows % block == 0
    whole = plan.detector.score(np.load(plan.path), code=True)
    for request in requests:
        score_shard(request)
        part = np.load(request.out)
        for name, values in whole.items():
            np.testing.assert_array_equal(part[name], values[request.first : request.last])


@pytest.mark.slow
def test_a_killed_command_goes_on_with_what_is_missing_and_records_by_the_same_name(plan: ShardedFile, state: Project) -> None:
    class Killed(Exception):
        pass

    [first, *_] = plan.requests()
    score_shard(first)
    written = first.out.stat().st_mtime_ns
    with pytest.raises(Killed), scored_shards(state, RunPlace(HERE), plan) as (_, call):
        raise Killed  # before its rows are printed
    results = sorted(plan.folder.glob("*.npz"))
    assert len(results) == len(plan.requests())
    assert first.out.stat().st_mtime_ns == written
    times = [path.stat().st_mtime_ns for path in results]
    with scored_shards(state, RunPlace(HERE), plan) as (scores, again):
        assert [path.stat().st_mtime_ns for path in results] == times
        assert again == call
        assert len(scores["score"]) == ROWS
    assert not plan.folder.exists()


def test_a_shard_that_is_scored_twice_at_once_is_there_as_a_whole(plan: ShardedFile) -> None:
    [request, *_] = plan.requests()
    score_shard(request)
    content = request.out.read_bytes()
    other_try = request.out.with_name(f"{request.out.stem}-0123456789abcdef.npz")
    other_try.write_bytes(b"half of")  # of a process that was killed in it
    score_shard(request)
    assert request.out.read_bytes() == content


def test_another_model_another_content_and_other_rows_have_other_shards(
    plan: ShardedFile, state: Project, file: Path, tmp_path: Path
) -> None:
    detector = plan.detector
    samples = np.load(file)
    samples[0] += 1
    np.save(tmp_path / "other.npy", samples)
    changed = tmp_path / "other.npy"
    other = plan_shards(state, "digits", detector, changed, detector.read_file(changed), requested=3)
    fewer = plan_shards(state, "digits", detector, file, detector.read_file(file), requested=1)
    assert other is not None
    assert fewer is not None
    assert len({plan.folder, other.folder, fewer.folder}) == 3


def test_a_small_file_is_scored_at_once_and_a_large_one_in_shards(
    state: Project, linear_bundle: Path, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    detector = Detector(linear_bundle)
    samples = detector.read_file(file)
    assert plan_shards(state, "digits", detector, file, samples, requested=None) is None
    monkeypatch.setattr(shards, "SHARD_SAMPLES", 1024)
    large = plan_shards(state, "digits", detector, file, samples, requested=None)
    assert large is not None
    assert len(large.requests()) == 3


def test_a_small_file_that_is_sent_away_is_one_shard(plan: ShardedFile, state: Project, file: Path) -> None:
    samples = plan.detector.read_file(file)
    sent = plan_shards(state, "digits", plan.detector, file, samples, requested=None, is_sent_away=True)
    assert sent is not None
    assert [(request.first, request.last) for request in sent.requests()] == [(0, ROWS)]


def test_what_cannot_be_sharded_is_refused(
    state: Project, linear_bundle: Path, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    detector = Detector(linear_bundle)
    single = file.with_name("one.npy")
    np.save(single, np.load(file)[0])
    with pytest.raises(UsageError, match=r"--on: expected a \.npy file with two or more samples, got .*one\.npy"):
        plan_shards(state, "digits", detector, single, detector.read_file(single), requested=None, is_sent_away=True)
    with pytest.raises(UsageError, match=r"--shards: expected 1 or more, of a \.npy file with two or more samples, got 2 of"):
        plan_shards(state, "digits", detector, single, detector.read_file(single), requested=2)
    for words, message in (
        (["--inbox", "--shards", "2"], "--inbox: expected neither --shards nor --on"),
        ([str(file), "--explain", "--shards", "2"], "--explain: expected neither --shards nor --on"),
        ([str(file), "--on", "there"], "--on: expected here, ray:local or ray://HOST:PORT, got 'there'"),
    ):
        assert main(["score", "digits", *words]) == UsageError.exit_code
        assert message in capsys.readouterr().err


def test_a_file_that_changes_and_results_that_are_damaged_are_refused(plan: ShardedFile, state: Project) -> None:
    [request, *_] = plan.requests()
    with pytest.raises(DataError, match="was written to while it was scored"):
        score_shard(ShardRequest(**vars(request) | {"stamp": "0-0"}))
    assert request.stamp == file_stamp(plan.path)
    for one in plan.requests():
        score_shard(one)
    request.out.write_bytes(request.out.read_bytes()[:-100])
    with (
        pytest.raises(DataError, match=r"is damaged .* and was removed: type the same command again"),
        scored_shards(state, RunPlace(HERE), plan),
    ):
        pass
    assert not request.out.exists()
