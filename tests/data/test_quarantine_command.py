"""`ae quarantine`: what the last validation set aside, in the terminal and as JSON."""

import json

import numpy as np
import pandas as pd
import pytest
from data_project import Room

from aeops.cli.main import main
from aeops.data.dataset_validation import DatasetValidation
from aeops.data.quarantine_rows import read_set_aside_rows
from aeops.data.set_aside import REPLACED

pytestmark = pytest.mark.xdist_group("great expectations")  # it takes seconds to import


def typed(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = main(["quarantine", "mine", *arguments])
    printed = capsys.readouterr()
    return code, printed.out, printed.err


@pytest.mark.slow
def test_samples_are_listed_by_reason_until_the_source_is_mended(
    room: Room, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(room.root)
    code, _, errors = typed(capsys)
    assert code == 2
    assert "nothing was validated yet: type `ae run mine`" in errors
    images, labels = room.images.copy(), room.labels.copy()
    room.images = room.images.astype(np.float32)
    room.images[3], room.labels[250] = 0, 77
    room.save()
    room.accept()
    code, printed, errors = typed(capsys)
    assert (code, errors) == (0, "")
    assert "mine: 2 samples are set aside" in printed
    assert "mine-000003" in printed
    assert "mine-000250" in printed
    found = json.loads(typed(capsys, "--json", "--reason", "label")[1])
    assert (found["count"], found["reasons"]) == (1, {"label": 1})
    assert [(sample["id"], sample["label"]) for sample in found["samples"]] == [("mine-000250", "77")]
    assert "the first 1 samples" in typed(capsys, "--rows", "1")[1]
    assert typed(capsys, "--rows", "-1")[0] == 2
    [rows] = room.project.quarantine("mine").glob("*/rows.parquet")
    whole = rows.read_bytes()
    rows.write_bytes(whole[:50])
    code, _, errors = typed(capsys)
    assert code == 3
    assert "rows.parquet in the state folder is damaged" in errors
    rows.write_bytes(whole)

    room.images, room.labels = images, labels
    room.save()
    room.accept()
    assert "mine: nothing is set aside" in typed(capsys)[1]


def test_rows_that_later_ones_correct_are_listed_and_do_not_count_in_the_budget() -> None:
    replaced = {f"row {number}": REPLACED for number in range(40)}
    corrected = DatasetValidation(pd.DataFrame(), {}, 3, [], [], [], None, set_aside=replaced)
    assert (corrected.bad_count, corrected.fault_count, corrected.over_budget) == (40, 0, False)
    faulty = replaced | {f"row {number}": "3 cells, expected 4" for number in range(50, 54)}
    assert DatasetValidation(pd.DataFrame(), {}, 3, [], [], [], None, set_aside=faulty).over_budget


def test_labels_are_named_beside_samples_that_have_none(room: Room) -> None:
    folder = room.project.home / "quarantine"
    folder.mkdir(parents=True)
    table = pd.DataFrame({"id": ["a", "row 7"], "sha256": ["0" * 64, None], "label": [1.0, None], "values": ["", ""]})
    table["reasons"] = [["size: range"], ["3 cells, expected 4"]]
    table.to_parquet(folder / "rows.parquet")
    rows = read_set_aside_rows(room.project, folder, ["ok", "broken"])
    assert [row.label for row in rows] == ["broken", None]
