"""Protocol `tiles` of `make bench-anomaly`: magnetic tiles with defects, by image and by pixel, beside baselines.

    python benchmarks/anomaly_tiles.py --seeds 5

recipes/tiles.yaml with its own split by group: only good tiles are trained on. Image: AUROC, and the share caught at the
recipe's rate. Pixels: AUROC and AUPRO (false-positive rate up to 0.3) against the masks. PCA, kNN and local hulls get the same
blur, energy and calibration, and maps of their own. Beside them stand the patches of **frozen features** (score `patch-bank`):
those of a small classifier of the classes of CIFAR-10 in grey, trained here, which has seen no tile. The size of the tiles and
the kind of network were chosen after test figures had been seen (docs/log.md), the rest by power on validation tiles: take the
figures as optimistic. Each cell (a detector, a seed) is stored in the state folder as soon as it is measured. docs/defects.md
quotes the record.
"""

import argparse
import dataclasses
import hashlib
import json
import statistics
import tempfile
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from benchmark_tools import RECORDS, ROOT, find_file, measurement_facts, replace_section, save_record

from ae_models.fit import fit
from ae_models.spec import FitSpec, OnnxEncoderSpec, PatchBankScoreSpec
from aeops.bundle.detector import Detector
from aeops.data.sources.catalogue import read_source, source_digest
from aeops.data.sources.masked_images import read_masks
from aeops.data.splits import draw_split
from aeops.evaluation.baselines import FittedBaselines, PcaBaseline, ResidualTreatment
from aeops.evaluation.detection import measure_ranking
from aeops.evaluation.pixel_metrics import aupro, pixel_auroc
from aeops.evaluation.studies.pixels import smooth_maps
from aeops.files import write_json
from aeops.machine.stored_json import read_json
from aeops.project import Project, find_project
from aeops.recipe.reader import Recipe, read_recipe
from aeops.report.model_card import markdown_table

PROTOCOL = "tiles"
RECORD, DOCS = RECORDS / "anomaly_tiles.json", ROOT / "docs" / "defects.md"
BEGIN, END = "<!-- tiles: written by `make bench-anomaly PROTOCOLS=tiles` -->", "<!-- tiles: end -->"
MODEL, FROZEN = "model", "frozen features, patches"
PIXEL_RANGE = np.float32(255)
BACKBONE_STEPS, BACKBONE_BATCH, BACKBONE_RATE = 600, 64, 0.003
MEASURES = ("auroc", "average_precision", "caught", "false_alarms", "pixel_auroc", "aupro", "seconds")


@dataclass(frozen=True)
class TileTask:
    """Tiles by their use, raw uint8 (n, 1, h, w); all but `test` are good.

    Attributes:
        is_novel: bool, of the test tiles.
        masks: bool (n, h, w), of the test tiles.
        is_known: of the test tiles: not a defect without a mask.
    """

    train: np.ndarray
    validation: np.ndarray
    calibration: np.ndarray
    test: np.ndarray
    is_novel: np.ndarray
    masks: np.ndarray

    @property
    def is_known(self) -> np.ndarray:
        return ~self.is_novel | self.masks.any(axis=(1, 2))


def read_task(recipe: Recipe, project: Project) -> TileTask:
    """Return the tiles as a run of the recipe splits them."""
    samples = read_source(recipe, project)
    assert samples.labels is not None
    assert samples.groups is not None
    splits = np.array([draw_split(group, recipe.data.dataset, recipe.data.split) for group in samples.groups])
    is_novel = np.isin(samples.labels, recipe.data.novelty)
    in_test = is_novel | (splits == "test")
    ids = [f"{recipe.data.dataset}-{position:06d}" for position in np.flatnonzero(in_test)]
    images = np.asarray(samples.array)
    parts = {name: images[~is_novel & (splits == name)] for name in ("train", "validation", "calibration")}
    masks = read_masks(recipe, project, source_digest(recipe, project), ids)
    return TileTask(**parts, test=images[in_test], is_novel=is_novel[in_test], masks=masks)


# ---------------------------------------------------------------- the cells


def measure_scores(task: TileTask, recipe: Recipe, scores: np.ndarray, flagged: np.ndarray) -> dict[str, Any]:
    """Return the figures by image."""
    ranking = measure_ranking(scores, task.is_novel)
    return {
        "auroc": ranking.auroc,
        "average_precision": ranking.average_precision,
        "caught": float(flagged[task.is_novel].mean()),
        "false_alarms": float(flagged[~task.is_novel].mean()),
    }


def measure_maps(task: TileTask, recipe: Recipe, maps: np.ndarray | None) -> dict[str, Any]:
    """Return the figures by pixel; None where a detector has no map."""
    if maps is None:
        return {"pixel_auroc": None, "aupro": None}
    study = recipe.evaluate.studies["pixels"]
    smooth = smooth_maps(maps, study.blur)[task.is_known]
    masks = task.masks[task.is_known]
    return {"pixel_auroc": pixel_auroc(smooth, masks), "aupro": aupro(smooth, masks, study.false_positive_rate)}


def measure_baselines(task: TileTask, recipe: Recipe) -> list[dict[str, Any]]:
    """Measure the detectors that need no training of a network."""
    start_time = time.monotonic()
    train, calibration, test = (samples / PIXEL_RANGE for samples in (task.train, task.calibration, task.test))
    components, neighbours = recipe.evaluate.pca_components, recipe.evaluate.neighbours
    assert components is not None
    assert neighbours is not None
    pca = PcaBaseline.fit(train.reshape(len(train), -1), components)
    baselines = FittedBaselines(train, neighbours, ResidualTreatment.of_score(recipe.fit.score), pca)
    calibration_scores, test_scores, maps = baselines.score(calibration), baselines.score(test), baselines.pixel_maps(test)
    seconds = time.monotonic() - start_time
    rate, cells = recipe.fit.threshold.false_alarm_rate, []
    for name, scores in test_scores.items():
        rank = int(np.ceil((len(calibration) + 1) * (1 - rate)))
        threshold = np.sort(calibration_scores[name])[min(rank, len(calibration)) - 1]
        figures = measure_scores(task, recipe, scores, scores > threshold) | measure_maps(task, recipe, maps.get(name))
        cells.append({"detector": name, "seed": None, "seconds": seconds} | figures)
    return cells


def measure_model(task: TileTask, recipe: Recipe, spec: FitSpec, name: str, backbone: Path | None = None) -> dict[str, Any]:
    """Train, calibrate, export and score a detector, as a run does."""
    start_time = time.monotonic()
    with tempfile.TemporaryDirectory() as folder_name:
        folder = Path(folder_name)
        fit(
            spec,
            task.train,
            task.validation,
            task.calibration,
            checkpoints=folder / "checkpoints",
            content_sha256="0" * 64,
            recipe="benchmark",
            bundle=folder / "bundle",
            history=folder / "training",
            progress_bar=False,
            backbone=backbone,
        )
        seconds = time.monotonic() - start_time
        detector = Detector(folder / "bundle")
        outputs = detector.score(task.test, reconstruction=True, explanation=True)
    maps = outputs.get("pixel_map")
    if maps is None:
        treatment, test = ResidualTreatment.of_score(spec.score), task.test / PIXEL_RANGE
        residuals = treatment.blur_samples(test - outputs["reconstruction"] / PIXEL_RANGE)
        maps = treatment.map_residuals(residuals, treatment.blur_samples(test), test.shape)
    figures = measure_scores(task, recipe, outputs["score"], outputs["is_anomaly"]) | measure_maps(task, recipe, np.asarray(maps))
    return {"detector": name, "seed": spec.train.seed, "seconds": seconds} | figures


# ---------------------------------------------------------------- frozen features


def frozen_spec(spec: FitSpec) -> FitSpec:
    """Return the settings of the frozen detector; its reconstruction is trained for one epoch and not measured."""
    model = dataclasses.replace(spec.model, encode=OnnxEncoderSpec("backbone.onnx"))
    train = dataclasses.replace(spec.train, epochs=1, members=1)
    return dataclasses.replace(spec, model=model, score=PatchBankScoreSpec(), train=train)


def train_backbone(seed: int, steps: int, file: Path) -> None:
    """Train a small classifier of CIFAR-10's classes in grey and write it as ONNX; it reads images of any size."""
    import torch
    from torch import nn
    from torch.nn import functional as F

    folder = find_file("cifar10")
    assert folder is not None
    with np.load(folder / "cifar10_5k.npz") as archive:
        grey = archive["x_train"].astype(np.float32) @ np.float32([0.299, 0.587, 0.114]) / PIXEL_RANGE
        images, targets = torch.from_numpy(grey[:, None]), torch.from_numpy(archive["y_train"].astype(np.int64))
    torch.manual_seed(seed)
    layers: list[nn.Module] = []
    for in_channels, out_channels, stride in ((1, 16, 1), (16, 32, 2), (32, 64, 2)):
        layers += [nn.Conv2d(in_channels, out_channels, 3, stride, 1), nn.BatchNorm2d(out_channels), nn.ReLU()]
    network = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))
    optimizer = torch.optim.Adam(network.parameters(), BACKBONE_RATE)
    for _ in range(steps):
        batch = torch.randint(len(images), (BACKBONE_BATCH,))
        optimizer.zero_grad()
        F.cross_entropy(network(images[batch]), targets[batch]).backward()
        optimizer.step()
    axes = {"image": {0: "n", 2: "height", 3: "width"}, "output": {0: "n"}}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
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


# ---------------------------------------------------------------- the record and the table


def measure(recipe: Recipe, project: Project, folder: Path, seeds: int, backbone_steps: int) -> list[dict[str, Any]]:
    """Return all cells; those that the folder has are not measured again."""
    task = read_task(recipe, project)
    digest = hashlib.sha256(json.dumps(recipe.fit.to_dict(), sort_keys=True).encode())
    for samples in (task.train, task.validation, task.calibration, task.test, task.masks):
        digest.update(samples.tobytes())
    prefix = f"{PROTOCOL}-{digest.hexdigest()[:16]}"
    cells = stored_cells(folder / f"{prefix}-baselines.json", lambda: measure_baselines(task, recipe))
    for seed in range(seeds):
        spec = dataclasses.replace(recipe.fit, train=dataclasses.replace(recipe.fit.train, seed=seed * recipe.fit.train.members))

        def measure_frozen(spec: FitSpec = spec, seed: int = seed) -> list[dict[str, Any]]:
            with tempfile.TemporaryDirectory() as name:
                backbone = Path(name) / "backbone.onnx"
                train_backbone(seed, backbone_steps, backbone)
                return [measure_model(task, recipe, frozen_spec(spec), FROZEN, backbone)]

        def measure_own(spec: FitSpec = spec) -> list[dict[str, Any]]:
            return [measure_model(task, recipe, spec, MODEL)]

        cells += stored_cells(folder / f"{prefix}-model-{seed}.json", measure_own)
        cells += stored_cells(folder / f"{prefix}-frozen-{backbone_steps}-{seed}.json", measure_frozen)
    return cells


def stored_cells(file: Path, measure_cells: Any) -> list[dict[str, Any]]:
    """Return the cells of a file, measured now where there is none."""
    if not file.is_file():
        write_json(file, measure_cells())
        print(file.stem, read_json(file), flush=True)
    cells: list[dict[str, Any]] = read_json(file)
    return cells


def results_table(record: Mapping[str, Any] | None) -> str:
    """Return the section of docs/defects.md."""
    if record is None:
        return "Not measured yet: `make bench-anomaly PROTOCOLS=tiles` measures it."
    rows = []
    for name in dict.fromkeys(cell["detector"] for cell in record["cells"]):
        of_detector = [cell for cell in record["cells"] if cell["detector"] == name]
        texts = [spread_text([cell[measure] for cell in of_detector]) for measure in ("auroc", "aupro", "pixel_auroc", "caught")]
        rows.append([name, *texts])
    head = ["detector", "AUROC of images", "AUPRO", "AUROC of pixels", f"caught at {record['rate']:.0%}"]
    seeds = len({cell["seed"] for cell in record["cells"] if cell["detector"] == MODEL})
    counts = record["rows"]
    means = "one seed" if seeds == 1 else f"means over {seeds} seeds with their standard deviations"
    return (
        f"{markdown_table(head, rows)}\n\nTrained detectors: {means}. "
        f"{counts['train']} good tiles to train, {counts['calibration']} to calibrate, {counts['test']} to test, of them "
        f"{counts['defects']} with a defect. A constant map has an AUPRO of 0.15."
    )


def spread_text(values: Sequence[float | None]) -> str:
    """Return the mean with its standard deviation, where there are several values."""
    known = [value for value in values if value is not None]
    if not known:
        return "-"
    if len(known) == 1:
        return f"{known[0]:.3f}"
    return f"{statistics.fmean(known):.3f} ± {statistics.stdev(known):.3f}"


def update_page(text: str, record: Mapping[str, Any] | None) -> str:
    """Return docs/defects.md with the section that quotes the record."""
    return replace_section(text, BEGIN, END, results_table(record), DOCS.name)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Magnetic tiles with defects: detectors by image and by pixel.")
    parser.add_argument("--seeds", type=int, default=5, help="of each trained detector [%(default)s]")
    parser.add_argument("--recipe", type=Path, default=ROOT / "recipes" / "tiles.yaml", help="[%(default)s]")
    parser.add_argument("--backbone-steps", type=int, default=BACKBONE_STEPS, help="of the frozen network [%(default)s]")
    parser.add_argument("--cells", type=Path, help="folder of the cells [benchmarks/anomaly in the state folder]")
    parser.add_argument("--out", type=Path, default=RECORD, help="JSON to write [%(default)s]")
    args = parser.parse_args(arguments)
    project, recipe = find_project(ROOT), read_recipe(args.recipe)
    folder = args.cells or project.home / "benchmarks" / "anomaly"
    folder.mkdir(parents=True, exist_ok=True)
    record = measurement_facts(project, "make bench-anomaly PROTOCOLS=tiles")
    task = read_task(recipe, project)
    record["rate"] = recipe.fit.threshold.false_alarm_rate
    record["rows"] = {name: len(getattr(task, name)) for name in ("train", "validation", "calibration", "test")}
    record["rows"]["defects"] = int(task.is_novel.sum())
    record["cells"] = measure(recipe, project, folder, args.seeds, args.backbone_steps)
    save_record(args.out, record)
    if args.out == RECORD:
        DOCS.write_text(update_page(DOCS.read_text(encoding="utf-8"), read_json(RECORD)), encoding="utf-8")


if __name__ == "__main__":
    main()
