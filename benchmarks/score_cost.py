"""Cost of each kind of score: milliseconds a sample and size of the file. `python benchmarks/score_cost.py`

Each score is calibrated on the digits of recipes/digits.yaml for its network, exported, and run by onnxruntime on one thread:
256 samples in batches of 64, and one at a time. The cost does not depend on the weights, so nothing is trained. Medians over
turns; docs/scores.md quotes the record.
"""

import argparse
import dataclasses
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from benchmark_tools import RECORDS, ROOT, measurement_facts, replace_section, save_record, shuffled_digits

from ae_models.calibration import calibrate_scorer
from ae_models.combined_score import build_score
from ae_models.ensemble import build_autoencoder
from ae_models.export import export_onnx
from ae_models.onnx_outputs import keep_outputs
from ae_models.sample_sets import ArraySampleSet
from ae_models.score_samples import ScoreSamples
from ae_models.spec import (
    CombinedScoreSpec,
    DenoisingScoreSpec,
    DisagreementScoreSpec,
    FitSpec,
    GaussianCorruptionSpec,
    KnnScoreSpec,
    LocalHullScoreSpec,
    NormalisedResidualScoreSpec,
    PatchBankScoreSpec,
    ScoreSpec,
)
from ae_models.training_environment import deterministic_threads
from aeops.bundle.detector import RECORDED_NAMES
from aeops.machine.stored_json import read_json
from aeops.project import find_project
from aeops.recipe.reader import read_recipe
from aeops.report.model_card import markdown_table

RECORD, DOCS = RECORDS / "score_cost.json", ROOT / "docs" / "scores.md"
BEGIN, END = "<!-- costs: written by `python benchmarks/score_cost.py` -->", "<!-- costs: end -->"
BATCH = 64
TIMED_SAMPLES = 256
CALIBRATION_SAMPLES = 300
RESIDUAL = NormalisedResidualScoreSpec(energy=0.5, blur=1.0)
INPUTS = {"energy": 0.5, "blur": 1.0}


def list_scores(bank: int) -> dict[str, tuple[ScoreSpec, int]]:
    """Return each measured score and its number of members, by a name for the table."""
    hull = LocalHullScoreSpec(rows=bank, **INPUTS)
    moved_hull = LocalHullScoreSpec(rows=bank, tangents=True, **INPUTS)
    edge_hull = LocalHullScoreSpec(space="orientations", rows=bank, blur=0.7, pool=4)
    moved_edge_hull = dataclasses.replace(edge_hull, tangents=True)
    disagreement = DisagreementScoreSpec(**INPUTS)
    return {
        "normalised-residual": (RESIDUAL, 1),
        "denoising, 4 draws": (DenoisingScoreSpec(draws=4, **INPUTS), 1),
        f"knn of inputs, {bank:,} rows": (KnnScoreSpec(rows=bank, **INPUTS), 1),
        f"knn of codes, {bank:,} rows": (KnnScoreSpec(space="code", rows=bank), 1),
        f"local-hull of inputs, {bank:,} rows": (hull, 1),
        f"local-hull of inputs, {bank:,} rows, with tangents": (moved_hull, 1),
        f"local-hull of edges, {bank:,} rows": (edge_hull, 1),
        f"local-hull of edges, {bank:,} rows, with tangents": (moved_edge_hull, 1),
        f"local-hull of codes, {bank:,} rows": (LocalHullScoreSpec(space="code", rows=bank), 1),
        f"patch-bank, {bank:,} rows": (PatchBankScoreSpec(rows=bank, coreset="random"), 1),
        "normalised-residual, 4 members": (RESIDUAL, 4),
        "disagreement, 4 members": (disagreement, 4),
        "both hulls with tangents": (CombinedScoreSpec((moved_hull, moved_edge_hull)), 2),
        "residual + disagreement + both hulls, 2 members": (
            CombinedScoreSpec((RESIDUAL, disagreement, moved_hull, moved_edge_hull)),
            2,
        ),
    }


@dataclasses.dataclass(frozen=True)
class ScoreCost:
    """Cost of one score.

    Attributes:
        batch_milliseconds: a sample, in batches of 64.
        single_milliseconds: a sample by itself.
        model_bytes: size of model.onnx.
    """

    batch_milliseconds: float
    single_milliseconds: float
    model_bytes: int


def measure_cost(spec: FitSpec, score_spec: ScoreSpec, members: int, digits: np.ndarray, turns: int) -> ScoreCost:
    """Export a score with a network that nobody trained, and time it."""
    corrupt = GaussianCorruptionSpec(0.3) if isinstance(score_spec, DenoisingScoreSpec) else spec.model.corrupt
    model = dataclasses.replace(spec.model, corrupt=corrupt)
    network = build_autoencoder(model, spec.input, members, seed=0).eval()
    calibration, train = digits[:CALIBRATION_SAMPLES], digits[CALIBRATION_SAMPLES:]
    score = build_score(score_spec, network)
    score.fit(ScoreSamples(network, spec.input, ArraySampleSet(train), ArraySampleSet(calibration), seed=0))
    scorer = calibrate_scorer(spec.threshold, network, score, calibration)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.onnx"
        export_onnx(scorer, file, Path(folder) / "decoder.onnx", calibration[:8])
        score_alone = keep_outputs(file.read_bytes(), RECORDED_NAMES)  # as a service runs it
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        session = onnxruntime.InferenceSession(score_alone, options, providers=["CPUExecutionProvider"])
        samples = digits[:TIMED_SAMPLES].astype(np.float32)
        return ScoreCost(
            statistics.median(time_batches(session, samples, BATCH) for _ in range(turns)),
            statistics.median(time_batches(session, samples, 1) for _ in range(turns)),
            file.stat().st_size,
        )


def time_batches(session: onnxruntime.InferenceSession, samples: np.ndarray, rows: int) -> float:
    """Return the milliseconds a sample to score them, so many at a time."""
    start_time = time.perf_counter()
    for start in range(0, len(samples), rows):
        session.run(RECORDED_NAMES, {"input": samples[start : start + rows]})
    return 1000 * (time.perf_counter() - start_time) / len(samples)


def cost_table(record: Mapping[str, Any] | None) -> str:
    """Return the section of docs/scores.md."""
    if record is None:
        return "Not measured yet: `python benchmarks/score_cost.py` measures it."
    rows = []
    for name, cost in record["scores"].items():
        batch, single = f"{cost['batch_milliseconds']:.3f}", f"{cost['single_milliseconds']:.2f}"
        rows.append([name, batch, single, f"{cost['model_bytes'] / 1e6:.1f}"])
    return markdown_table(["score", "ms a sample, in batches of 64", "ms alone", "model.onnx, MB"], rows)


def update_scores_page(text: str, record: Mapping[str, Any] | None) -> str:
    """Return docs/scores.md with the section that quotes the record."""
    return replace_section(text, BEGIN, END, cost_table(record), DOCS.name)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Milliseconds a sample and size of the file of each kind of score.")
    parser.add_argument("--bank", type=int, default=1000, help="rows of a bank [%(default)s]")
    parser.add_argument("--turns", type=int, default=5, help="[%(default)s]")
    parser.add_argument("--out", type=Path, default=RECORD, help="JSON to write [%(default)s]")
    args = parser.parse_args(arguments)
    spec = read_recipe(ROOT / "recipes" / "digits.yaml").fit
    digits = shuffled_digits()[: args.bank + 2 * CALIBRATION_SAMPLES]
    record = measurement_facts(find_project(ROOT), "python benchmarks/score_cost.py") | {"scores": {}}
    with deterministic_threads(1):
        for name, (score_spec, members) in list_scores(args.bank).items():
            cost = measure_cost(spec, score_spec, members, digits, args.turns)
            record["scores"][name] = dataclasses.asdict(cost)
            print(name, cost, flush=True)
    save_record(args.out, record)
    if args.out == RECORD:
        DOCS.write_text(update_scores_page(DOCS.read_text(encoding="utf-8"), read_json(RECORD)), encoding="utf-8")


if __name__ == "__main__":
    main()
