"""What a person sees of a step: its line at the end, how far it is on a terminal, and a line now and then in a pipe."""

import io
import json
import time
from pathlib import Path

import pytest

from aeops.machine import step_report
from aeops.machine.progress import BatchFollower
from aeops.machine.step_report import StepReport, report_step, say_progress, say_result
from aeops.machine.terminal import VOLUME_VARIABLE


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def lines_of(stream: io.StringIO) -> list[str]:
    return stream.getvalue().splitlines()


def test_a_step_ends_with_its_seconds_and_what_came_of_it(capsys: pytest.CaptureFixture[str]) -> None:
    said = []
    with report_step("validate", "checks every sample", on_end=said.append):
        say_result("5,000 accepted, 3 set aside")
    first, last = capsys.readouterr().err.splitlines()
    assert first == "validate ..."
    assert last == "validate 0.0 s · 5,000 accepted, 3 set aside"
    assert said == [last]


def test_a_step_that_fails_has_no_last_line(capsys: pytest.CaptureFixture[str]) -> None:
    said = []
    with pytest.raises(ValueError, match="no"), report_step("train", "trains", on_end=said.append):
        raise ValueError("no")
    assert capsys.readouterr().err == "train ...\n"
    assert said == []
    say_result("nobody listens")  # outside of a step


def test_in_a_pipe_a_line_is_printed_now_and_then_and_says_what_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    report = StepReport("evaluate", "measures the model", expected_seconds=90, stream=stream, interval=0.05)
    report.start()
    deadline = time.monotonic() + 10
    while len(lines_of(stream)) < 3 and time.monotonic() < deadline:
        time.sleep(0.01)
    report.say_progress("epoch 3 of 50")
    report.end(is_done=True)
    first, second, *_ = lines_of(stream)
    assert first == "evaluate ..."
    assert second == "evaluate: measures the model · 0 s · about 1 min 30 s left"
    assert "\x1b" not in stream.getvalue()
    assert step_report.PIPE_SECONDS == 30


def test_on_a_terminal_one_line_is_drawn_again_no_wider_than_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    stream = Terminal()
    report = StepReport("train", "trains the autoencoder", stream=stream, interval=0.02)
    report.say_progress("epoch 3 of 50, batch 12 of 39, 5,600 samples/s, 2 min left")
    report.start()
    deadline = time.monotonic() + 10
    while step_report.CLEAR_LINE not in stream.getvalue() and time.monotonic() < deadline:
        time.sleep(0.01)
    report.end(is_done=True)
    drawn = stream.getvalue().split(step_report.CLEAR_LINE)
    assert drawn[0] == "train ...\n"
    assert drawn[1] == "  trains the autoencoder · epoch 3 of 5"
    assert len(drawn[1]) < 40
    assert drawn[-1].startswith("train 0.")


def test_a_step_that_takes_longer_than_the_last_time_says_so() -> None:
    report = StepReport("ingest", "reads the source", expected_seconds=0.0, stream=io.StringIO())
    assert report.status_line() == "  reads the source · 0 s · last time 0 s"


def test_a_quiet_command_says_nothing_of_its_steps(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv(VOLUME_VARIABLE, "quiet")
    with report_step("gate", "applies the rules"):
        say_progress("half")
        say_result("6 of 6 rules passed")
    assert capsys.readouterr().err == ""


# ---------------------------------------------------------------- the batches of a training


def place(file: Path, written_at: float, epoch: int, batch: int) -> None:
    values = {"epoch": epoch, "epochs": 4, "batch": batch, "batches": 10, "samples_per_second": 5600.0, "written_at": written_at}
    file.write_text(json.dumps(values), encoding="utf-8")


def test_a_training_shows_its_batches_and_the_time_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr("aeops.machine.progress.time.time", lambda: now)
    follower = BatchFollower(tmp_path / "batch.json")
    assert follower.describe() == ""
    place(tmp_path / "batch.json", 990.0, 4, 9)
    assert follower.describe() == "", "that is of an earlier training"
    place(tmp_path / "batch.json", 1001.0, 1, 4)
    assert follower.describe() == "epoch 1 of 4, batch 4 of 10, 5,600 samples/s"
    now = 1010.0
    place(tmp_path / "batch.json", 1010.0, 2, 4)
    assert follower.describe() == "epoch 2 of 4, batch 4 of 10, 5,600 samples/s, 26 s left"
    (tmp_path / "batch.json").write_text('{"epo', encoding="utf-8")
    assert follower.describe() == ""
