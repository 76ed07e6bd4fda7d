"""What a decision of the gate rests on: the holdout by its hash, and the document that the ledger's line names by its own.

Light on import, so that a flow may ask.
"""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from aeops.errors import DataError
from aeops.files import file_sha256


def holdout_sha256(prepared: Path) -> str:
    """What names the test samples on which models are compared: SHA-256 over them and the id, label and novelty of each.

    Args:
        prepared: the stage prepare's folder.

    Raises:
        DataError: there are no test samples in it.
    """
    import pandas as pd

    missing = [name for name in ("test.npy", "test.parquet") if not (prepared / name).is_file()]
    if missing:
        raise DataError(f"{prepared} lacks {', '.join(missing)}: prepare the samples first, with dvc repro prepare@RECIPE")
    table = pd.read_parquet(prepared / "test.parquet", columns=["id", "label", "novelty"])
    labels = [None if pd.isna(label) else int(label) for label in table["label"]]
    rows = zip(table["id"].tolist(), labels, table["novelty"].tolist(), strict=True)
    total = hashlib.sha256(f"{file_sha256(prepared / 'test.npy')}\n".encode())
    for row in rows:
        total.update(f"{json.dumps(row)}\n".encode())
    return total.hexdigest()


def write_evidence(place: Path, verdict: dict[str, Any], comparison: dict[str, Any]) -> dict[str, str]:
    """Writes the evidence document, whole and on the disk before this returns.

    Args:
        place: the file, `evidence.json` among the recipe's reports.
        verdict: verdict.json, of the rules that the bundle alone decides.
        comparison: comparison.json, of the rules against the champion.

    Returns:
        What a line of the ledger says of it: `sha256` of the file's bytes, `bundle_sha256`, `holdout_sha256`, `verdict`.
    """
    document = json.dumps({"gate": verdict, "comparison": comparison}, indent=2, allow_nan=False) + "\n"
    place.parent.mkdir(parents=True, exist_ok=True)
    aside = place.with_name(f".{place.name}.aside")
    with aside.open("w", encoding="utf-8") as file:
        file.write(document)
        file.flush()
        os.fsync(file.fileno())
    os.replace(aside, place)
    folder = os.open(place.parent, os.O_RDONLY)
    try:
        os.fsync(folder)  # the rename, too
    finally:
        os.close(folder)
    return {
        "sha256": hashlib.sha256(document.encode()).hexdigest(),
        "bundle_sha256": comparison["challenger"]["bundle_sha256"],
        "holdout_sha256": comparison["holdout"]["sha256"],
        "verdict": comparison["verdict"],
    }
