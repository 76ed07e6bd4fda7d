"""Following a training through its progress file."""

import json
import os
import time
from pathlib import Path

from aeops.machine.progress import ProgressFollower, finished_rows


def write(file: Path, epochs: int, cut: str = "") -> None:
    file.write_text("".join(json.dumps({"epoch": n, "train_loss": 1 / n}) + "\n" for n in range(1, epochs + 1)) + cut)


def test_each_row_is_handed_out_once_and_a_half_written_one_waits(tmp_path: Path) -> None:
    file = tmp_path / "progress.jsonl"
    follower = ProgressFollower(file)
    assert follower.new_rows() == []
    write(file, 2, cut='{"epoch": 3, "tr')
    assert [row["epoch"] for row in follower.new_rows()] == [1, 2]
    write(file, 4)
    assert [row["epoch"] for row in follower.new_rows()] == [3, 4]
    assert follower.new_rows() == []


def test_what_an_earlier_training_left_is_passed_over_until_a_new_one_writes(tmp_path: Path) -> None:
    file = tmp_path / "progress.jsonl"
    write(file, 3)
    hour_ago = time.time() - 3600
    os.utime(file, (hour_ago, hour_ago))
    follower = ProgressFollower(file)
    assert follower.new_rows() == []
    write(file, 4)  # a training that resumes after epoch 3: its curve is whole
    assert [row["epoch"] for row in follower.new_rows()] == [1, 2, 3, 4]


def test_the_rows_of_a_training_that_is_not_run_again_come_from_its_history(tmp_path: Path) -> None:
    (tmp_path / "history.csv").write_text("epoch,step,train_loss\n1,40,0.5\n2,80,0.25\n")
    assert finished_rows(tmp_path / "history.csv") == [
        {"epoch": 1.0, "step": 40.0, "train_loss": 0.5},
        {"epoch": 2.0, "step": 80.0, "train_loss": 0.25},
    ]
