"""Do patches of frozen features find the novelty of the digits? `python benchmarks/patch_features.py`

One model of recipes/digits.yaml with its own split and training: its reconstructions are scored, and the patches of its own last
map. Beside it the patches of a frozen network that reads the nine normal digits: a small one, trained here on the training
samples with their labels, once a seed, and exported to ONNX. It has seen no sample of the novelty. The score `patch-bank` has its
defaults; nothing was chosen by looking at a test label. Means over seeds with their standard deviations; docs/features.md
quotes the record.
"""

import argparse
import dataclasses
import statistics
import tempfile
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from benchmark_tools import RECORDS, ROOT, measurement_facts, mnist_digits, replace_section, save_record
from torch import nn
from torch.nn import functional as F

from ae_models.calibration import calibrate
from ae_models.sample_sets import ArraySampleSet, SampleRoles
from ae_models.spec import FitSpec, NormalisedResidualScoreSpec, OnnxEncoderSpec, PatchBankScoreSpec, ScoreSpec
from ae_models.training import train_weights
from aeops.bundle.detector import Detector
from aeops.data.splits import draw_split
from aeops.data.statistics import sample_sha256
from aeops.evaluation.detection import measure_ranking
from aeops.machine.stored_json import read_json
from aeops.project import find_project
from aeops.recipe.reader import Recipe, read_recipe
from aeops.report.model_card import markdown_table

RECORD, DOCS = RECORDS / "patch_features.json", ROOT / "docs" / "features.md"
BEGIN, END = "<!-- patches: written by `python benchmarks/patch_features.py` -->", "<!-- patches: end -->"
RATE = 0.01  # of false alarms that the threshold promises
CONTENT = "0" * 64
BACKBONE_STEPS, BACKBONE_BATCH, BACKBONE_RATE = 600, 64, 0.003
RESIDUAL = NormalisedResidualScoreSpec(energy=0.5, blur=1.0)
SCORES: dict[str, dict[str, ScoreSpec]] = {  # encoder -> score by its name in the table
    "conv": {"reconstruction": RESIDUAL, "patches of the trained encoder": PatchBankScoreSpec()},
    "onnx": {"patches of a frozen network": PatchBankScoreSpec()},
}


@dataclass(frozen=True)
class DigitSamples:
    """The digits by the recipe's splits, uint8 (n, 1, 28, 28): the novelty is all in `test`."""

    roles: SampleRoles
    train_labels: np.ndarray
    test: np.ndarray
    is_novel: np.ndarray


def split_digits(recipe: Recipe, share: float) -> DigitSamples:
    """Return a share of the digits as the recipe splits them."""
    images, labels = mnist_digits()
    drawn = np.sort(np.random.default_rng(0).permutation(len(images))[: round(share * len(images))])
    images, labels = images[drawn], labels[drawn]
    splits = np.array([draw_split(digest, recipe.data.dataset, recipe.data.split) for digest in sample_sha256(images)])
    is_novel = np.isin(labels, recipe.data.novelty)
    parts = {name: ArraySampleSet(images[~is_novel & (splits == name)]) for name in ("train", "validation", "calibration")}
    in_test = is_novel | (splits == "test")
    return DigitSamples(SampleRoles(**parts), labels[~is_novel & (splits == "train")], images[in_test], is_novel[in_test])


def train_backbone(samples: DigitSamples, seed: int, steps: int, file: Path) -> None:
    """Train a small classifier of the normal digits and write it as ONNX."""
    torch.manual_seed(seed)
    classes = np.unique(samples.train_labels)
    images = torch.from_numpy(np.concatenate(list(samples.roles.train.blocks()))).float() / 255
    targets = torch.from_numpy(np.searchsorted(classes, samples.train_labels))
    layers: list[nn.Module] = []
    for in_channels, out_channels, stride in ((1, 16, 1), (16, 32, 2), (32, 64, 2)):
        layers += [nn.Conv2d(in_channels, out_channels, 3, stride, 1), nn.BatchNorm2d(out_channels), nn.ReLU()]
    network = nn.Sequential(*layers, nn.Flatten(), nn.Linear(64 * 7 * 7, len(classes)))
    optimizer = torch.optim.Adam(network.parameters(), BACKBONE_RATE)
    for _ in range(steps):
        batch = torch.randint(len(images), (BACKBONE_BATCH,))
        optimizer.zero_grad()
        F.cross_entropy(network(images[batch]), targets[batch]).backward()
        optimizer.step()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        axes = {"image": {0: "n"}, "output": {0: "n"}}
        torch.onnx.export(
            network.eval(),
            (images[:2],),
            str(file),
            dynamo=False,
            opset_version=18,
            input_names=["image"],
            output_names=["output"],
            dynamic_axes=axes,
        )


def measure_seed(spec: FitSpec, samples: DigitSamples, seed: int, backbone_steps: int) -> dict[str, dict[str, float]]:
    """Return the figures of each detector with one seed."""
    figures = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        backbone = folder / "backbone.onnx"
        train_backbone(samples, seed, backbone_steps, backbone)
        for encoder, scores in SCORES.items():
            model = spec.model
            if encoder == "onnx":
                model = dataclasses.replace(model, encode=OnnxEncoderSpec("backbone.onnx"))
            encoded = dataclasses.replace(spec, model=model, train=dataclasses.replace(spec.train, seed=seed, members=1))
            if encoder == "onnx":  # nothing of the reconstruction is measured
                encoded = dataclasses.replace(encoded, train=dataclasses.replace(encoded.train, epochs=1))
            training = folder / encoder
            train_weights(
                encoded.weights,
                samples.roles.train,
                samples.roles.validation,
                checkpoints=folder / f"{encoder}-checkpoints",
                content_sha256=CONTENT,
                recipe="benchmark",
                training=training,
                progress_bar=False,
                backbone=backbone,
            )
            for detector, score in scores.items():
                scored = dataclasses.replace(encoded, score=score)
                figures[detector] = measure_score(scored, training, samples, folder / "bundle")
    return figures


def measure_score(spec: FitSpec, training: Path, samples: DigitSamples, bundle: Path) -> dict[str, float]:
    """Calibrate a score of trained weights, and measure it on the test samples."""
    threshold = dataclasses.replace(spec.threshold, false_alarm_rate=RATE)
    start_time = time.monotonic()
    calibrate(dataclasses.replace(spec, threshold=threshold), training, samples.roles, content_sha256=CONTENT, bundle=bundle)
    seconds = time.monotonic() - start_time
    outputs = Detector(bundle).score(samples.test)
    return {
        "auroc": measure_ranking(outputs["score"], samples.is_novel).auroc,
        "caught": float(outputs["is_anomaly"][samples.is_novel].mean()),
        "false_alarms": float(outputs["is_anomaly"][~samples.is_novel].mean()),
        "seconds_to_calibrate": seconds,
        "model_megabytes": (bundle / "model.onnx").stat().st_size / 1e6,
    }


def results_table(record: Mapping[str, Any] | None) -> str:
    """Return the section of docs/features.md."""
    if record is None:
        return "Not measured yet: `python benchmarks/patch_features.py` measures it."
    rows = []
    for detector in record["seeds"][0]:
        of_seeds = [seed[detector] for seed in record["seeds"]]
        cells = [detector]
        for measure, form in (("auroc", "{:.3f}"), ("caught", "{:.1%}"), ("false_alarms", "{:.1%}")):
            values = [figures[measure] for figures in of_seeds]
            deviation = statistics.stdev(values) if len(values) > 1 else 0.0
            cells.append(f"{form.format(statistics.fmean(values))} ± {form.format(deviation)}")
        cells.append(f"{statistics.fmean(figures['model_megabytes'] for figures in of_seeds):.1f}")
        rows.append(cells)
    head = ["detector of `digits`, novelty 5", "AUROC", "caught at 1 %", "false alarms", "model.onnx, MB"]
    return f"{markdown_table(head, rows)}\n\nMeans over {len(record['seeds'])} seeds, with their standard deviations."


def update_features_page(text: str, record: Mapping[str, Any] | None) -> str:
    """Return docs/features.md with the section that quotes the record."""
    return replace_section(text, BEGIN, END, results_table(record), DOCS.name)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Patches of trained and of frozen features on the digits.")
    parser.add_argument("--seeds", type=int, default=5, help="[%(default)s]")
    parser.add_argument("--share", type=float, default=1.0, help="of the digits [%(default)s]")
    parser.add_argument("--epochs", type=int, help="of the recipe's model [the recipe's]")
    parser.add_argument("--backbone-steps", type=int, default=BACKBONE_STEPS, help="of the frozen network [%(default)s]")
    parser.add_argument("--out", type=Path, default=RECORD, help="JSON to write [%(default)s]")
    args = parser.parse_args(arguments)
    recipe = read_recipe(ROOT / "recipes" / "digits.yaml")
    spec = recipe.fit
    if args.epochs is not None:
        spec = dataclasses.replace(spec, train=dataclasses.replace(spec.train, epochs=args.epochs))
    samples = split_digits(recipe, args.share)
    record = measurement_facts(find_project(ROOT), "python benchmarks/patch_features.py") | {"seeds": []}
    for seed in range(args.seeds):
        record["seeds"].append(measure_seed(spec, samples, seed, args.backbone_steps))
        print(f"seed {seed}:", record["seeds"][-1], flush=True)
    save_record(args.out, record)
    if args.out == RECORD:
        DOCS.write_text(update_features_page(DOCS.read_text(encoding="utf-8"), read_json(RECORD)), encoding="utf-8")


if __name__ == "__main__":
    main()
