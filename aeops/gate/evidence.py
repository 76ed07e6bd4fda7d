"""Name and write what a decision of the gate rests on: the hash of the test samples, and the evidence document.

Light on import: flows use it.
"""

import hashlib
import json
from pathlib import Path

from aeops.errors import DataError
from aeops.files import atomic_write, data_sha256, file_sha256
from aeops.gate.documents import ComparisonDocument, EvidenceDocument, VerdictDocument
from aeops.machine.stored_json import read_json


def holdout_sha256(prepared: Path) -> str:
    """Return the SHA-256 that names the test samples: over them and the id, label and novelty of each.

    Args:
        prepared: the stage prepare's folder.

    Raises:
        DataError: the folder holds no test samples.
    """
    import pandas as pd

    missing_files = [name for name in ("test.npy", "test.parquet") if not (prepared / name).is_file()]
    if missing_files:
        raise DataError(f"{prepared} lacks {', '.join(missing_files)}: prepare the samples first, with dvc repro prepare@RECIPE")
    table = pd.read_parquet(prepared / "test.parquet", columns=["id", "label", "novelty"])
    total = hashlib.sha256(f"{file_sha256(prepared / 'test.npy')}\n".encode())
    for sample_id, label, novelty in zip(table["id"].tolist(), table["label"], table["novelty"].tolist(), strict=True):
        row = (sample_id, None if pd.isna(label) else int(label), novelty)
        total.update(f"{json.dumps(row)}\n".encode())
    return total.hexdigest()


def read_verdict(path: Path) -> VerdictDocument:
    """Return what a verdict.json holds."""
    verdict: VerdictDocument = read_json(path, "recipe", "verdict", "rules")
    return verdict


def read_comparison(path: Path) -> ComparisonDocument:
    """Return what a comparison.json holds."""
    comparison: ComparisonDocument = read_json(path, "recipe", "verdict", "rules")
    return comparison


def read_evidence(path: Path) -> EvidenceDocument:
    """Return the evidence document that `write_evidence` wrote."""
    evidence: EvidenceDocument = read_json(path, "gate", "comparison")
    return evidence


def write_evidence(path: Path, verdict: VerdictDocument, comparison: ComparisonDocument) -> dict[str, str]:
    """Write the evidence document; it is on the disk before this returns.

    Args:
        path: the file, `evidence.json` among the recipe's reports.
        verdict: verdict.json, of the rules that the bundle alone decides.
        comparison: comparison.json, of the rules against the champion.

    Returns:
        What the ledger says of it: `sha256` of the file's bytes, `bundle_sha256`, `holdout_sha256` and `verdict`.
    """
    evidence: EvidenceDocument = {"gate": verdict, "comparison": comparison}
    text = json.dumps(evidence, indent=2, allow_nan=False) + "\n"
    atomic_write(path, text)
    return {
        "sha256": data_sha256(text),
        "bundle_sha256": comparison["challenger"]["bundle_sha256"],
        "holdout_sha256": comparison["holdout"]["sha256"],
        "verdict": comparison["verdict"],
    }
