"""How well do the default detectors find anomalies, beside others that are treated alike? `make bench-anomaly`.

    python benchmarks/anomaly_detection.py                                   # every protocol: hours on two cores
    python benchmarks/anomaly_detection.py --protocols digits --seeds 5      # one
    python benchmarks/anomaly_detection.py --tables-only                     # the record and the tables of PAGE, from the cells

- **digits**: recipes/digits.yaml with its own split. **digits-all**: the same, with each digit as the novelty in turn.
- **mnist-oc**: one digit of MNIST's training images is normal, all 10,000 test images are scored; **mnist-oc-deskewed**: the same
  images, sheared upright by their moments.
- **tiles**: benchmarks/anomaly_tiles.py, **nab**: benchmarks/anomaly_series.py, each with a record and a table of its own.
- **mnist-adversarial**: MNIST's 8 is normal. The mean of all of the recipe's scores, with members that are plain, adversarial
  autoencoders or GANomaly's.
- **adbench-clean**, **adbench-dirty**: the estimators of ae_models.sklearn beside PyOD on tables (benchmarks/anomaly_tables.py).

Of images, model, score and training are those of recipes/digits.yaml. How its score was chosen, and which test figures were seen
on the way, stands in docs/scores.md. A figure
of a trained detector is the mean over seeds with its standard deviation. PCA, kNN, local hulls and the isolation forest get the
same blur, energy, range and calibration as the model. A target is met where the 95 % interval over seeds lies on its right side.

Each cell (a task, a detector, a seed) is stored in the state folder as soon as it is measured, and not measured again.
"""

import argparse
import dataclasses
import gzip
import hashlib
import json
import statistics
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anomaly_series
import anomaly_tiles
import numpy as np
from anomaly_cells import Cell, figure_text, spread
from anomaly_tables import (
    CLEAN,
    TABLE_PROTOCOLS,
    list_table_tasks,
    measure_tables,
    read_table_cells,
    summarize_tables,
    summary_row,
    tables_section,
)
from benchmark_tools import RECORDS, ROOT, measurement_facts, mnist_digits, replace_section, save_record
from scipy.ndimage import affine_transform
from table_detectors import DETECTORS

from ae_models.fit import fit
from ae_models.spec import AdversarialCodeCriticSpec, CombinedScoreSpec, FitSpec, GanomalyCriticSpec, NoCriticSpec
from aeops.bundle.detector import Detector
from aeops.data.splits import draw_split
from aeops.data.statistics import sample_sha256
from aeops.evaluation.baselines import FittedBaselines, PcaBaseline, ResidualTreatment
from aeops.evaluation.detection import measure_ranking
from aeops.files import write_json
from aeops.machine.stored_json import read_json
from aeops.project import find_project
from aeops.recipe.reader import Recipe, read_recipe
from aeops.report.model_card import markdown_table

RECORD, PAGE, README = RECORDS / "anomaly.json", ROOT / "docs" / "detection.md", ROOT / "README.md"
BEGIN, END = "<!-- anomaly detection: written by `make bench-anomaly` -->", "<!-- anomaly detection: end -->"
MAX_ROWS = 20_000  # of a set of training samples, for every detector
NORMAL_CLASS = 8  # of mnist-adversarial
VALIDATION_SHARE, CALIBRATION_SHARE = 0.1, 0.2  # of one class of MNIST's training images
RATE = 0.01
PIXEL_RANGE = 255.0
SEEDS = 5
THREADS = 1  # of a training, so that protocols can be measured side by side, one on each core
CRITICS = {
    "plain": NoCriticSpec(),
    "aae": AdversarialCodeCriticSpec(widths=(128, 128), weight=0.01),
    "ganomaly": GanomalyCriticSpec(features=100, adversarial=0.02, encoder=0.02),
}


# ---------------------------------------------------------------- the tasks


@dataclass(frozen=True)
class Task:
    """Samples of one task, raw, (n, 1, 28, 28) uint8; all but `test` are normal.

    Attributes:
        protocol: its name.
        name: of the task within its protocol.
        is_novel: bool, of the test samples.
        variants: names of the trained detectors, each a key of CRITICS.
    """

    protocol: str
    name: str
    train: np.ndarray
    validation: np.ndarray
    calibration: np.ndarray
    test: np.ndarray
    is_novel: np.ndarray
    variants: tuple[str, ...] = ("plain",)


def list_tasks(protocol: str, recipe: Recipe) -> Iterator[Task]:
    """Yield the tasks of a protocol."""
    if protocol == "digits":
        yield digits_task(protocol, recipe, recipe.data.novelty[0])
    elif protocol == "digits-all":
        for digit in range(10):
            yield digits_task(protocol, recipe, digit)
    elif protocol == "mnist-adversarial":
        yield one_class_task(protocol, NORMAL_CLASS, deskewed=False, variants=tuple(CRITICS))
    else:
        for digit in range(10):
            yield one_class_task(protocol, digit, deskewed=protocol == "mnist-oc-deskewed")


IMAGE_PROTOCOLS = ("digits", "digits-all", "mnist-oc", "mnist-oc-deskewed", "mnist-adversarial")
PROTOCOLS = (*IMAGE_PROTOCOLS, *TABLE_PROTOCOLS)


def digits_task(protocol: str, recipe: Recipe, novelty: int) -> Task:
    """Return the digits as the recipe splits them; all samples of the novelty are test samples."""
    images, labels = mnist_digits()
    splits = np.array([draw_split(digest, recipe.data.dataset, recipe.data.split) for digest in sample_sha256(images)])
    is_novel = labels == novelty
    parts = {name: images[~is_novel & (splits == name)] for name in ("train", "validation", "calibration")}
    in_test = is_novel | (splits == "test")
    return Task(protocol, str(novelty), **parts, test=images[in_test], is_novel=is_novel[in_test])


def one_class_task(protocol: str, digit: int, *, deskewed: bool, variants: tuple[str, ...] = ("plain",)) -> Task:
    """Return MNIST with one normal digit."""
    train_images, train_labels = read_mnist("train")
    test_images, test_labels = read_mnist("t10k")
    normal = train_images[train_labels == digit]
    if deskewed:
        normal, test_images = deskew(normal), deskew(test_images)
    normal = normal[np.random.default_rng(0).permutation(len(normal))[:MAX_ROWS]]
    validation, calibration = int(VALIDATION_SHARE * len(normal)), int(CALIBRATION_SHARE * len(normal))
    parts = np.split(normal, [validation, validation + calibration])
    return Task(
        protocol,
        str(digit),
        train=parts[2],
        validation=parts[0],
        calibration=parts[1],
        test=test_images,
        is_novel=test_labels != digit,
        variants=variants,
    )


def read_mnist(part: str) -> tuple[np.ndarray, np.ndarray]:
    """Return images, uint8 (n, 1, 28, 28), and labels (n,) of MNIST's original files."""
    folder = find_project(ROOT).find_source("mnist")
    images = np.frombuffer(gzip.decompress((folder / f"{part}-images-idx3-ubyte.gz").read_bytes()), np.uint8, offset=16)
    labels = np.frombuffer(gzip.decompress((folder / f"{part}-labels-idx1-ubyte.gz").read_bytes()), np.uint8, offset=8)
    return images.reshape(-1, 1, 28, 28), labels


def deskew(images: np.ndarray) -> np.ndarray:
    """Return images sheared along their rows so that their ink stands upright, by their second moments."""
    upright = np.empty_like(images)
    rows, columns = np.mgrid[:28, :28]
    for index, [image] in enumerate(images):
        ink = image.astype(np.float64)
        total = max(ink.sum(), 1.0)
        row_mean, column_mean = (ink * rows).sum() / total, (ink * columns).sum() / total
        variance = (ink * (rows - row_mean) ** 2).sum() / total
        covariance = (ink * (rows - row_mean) * (columns - column_mean)).sum() / total
        slant = covariance / max(variance, 1e-9)
        matrix = np.array([[1.0, 0.0], [slant, 1.0]])
        offset = np.array([0.0, -slant * row_mean])
        upright[index, 0] = affine_transform(ink, matrix, offset, order=1).round().clip(0, 255)
    return upright


# ---------------------------------------------------------------- the cells


def cell_file(folder: Path, task: Task, detector: str, settings: Mapping[str, Any]) -> Path:
    """Return the file of a cell: named by its settings and its samples, so that other ones are other cells."""
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    for samples in (task.train, task.validation, task.calibration, task.test):
        digest.update(samples.tobytes())
    return folder / f"{task.protocol}-{task.name}-{detector}-{digest.hexdigest()[:16]}.json"


def measure_task(task: Task, recipe: Recipe, seeds: int, folder: Path) -> None:
    """Measure the cells of a task that the folder lacks, each stored as soon as it is measured."""
    treatment = ResidualTreatment.of_score(recipe.fit.score)
    file = cell_file(folder, task, "baselines", dataclasses.asdict(treatment) | baseline_settings(recipe))
    if not file.is_file():
        write_json(file, [dataclasses.asdict(cell) for cell in measure_baselines(task, recipe, treatment)])
        print(file.stem, flush=True)
    for variant in task.variants:
        for seed in range(seeds):
            spec = variant_spec(recipe.fit, task, variant, seed)
            file = cell_file(folder, task, variant, spec.to_dict())
            if not file.is_file():
                cell = measure_model(task, variant, spec)
                write_json(file, [dataclasses.asdict(cell)])
                print(file.stem, f"AUROC {cell.auroc:.4f}, caught {cell.caught:.1%}, {cell.seconds:.0f} s", flush=True)


def baseline_settings(recipe: Recipe) -> dict[str, Any]:
    return {"pca_components": recipe.evaluate.pca_components, "neighbours": recipe.evaluate.neighbours, "rate": RATE}


def variant_spec(spec: FitSpec, task: Task, variant: str, seed: int) -> FitSpec:
    """Return the recipe's settings with another critic and seed, and one thread: other bits of the same method.

    Members take the seeds after it, so groups do not overlap. Where variants are compared, all scores go in: without those
    that need a network all variants would be one.
    """
    model = dataclasses.replace(spec.model, critic=CRITICS[variant])
    train = dataclasses.replace(spec.train, seed=seed * spec.train.members, threads=THREADS)
    score = spec.score
    if len(task.variants) > 1:
        assert isinstance(score, CombinedScoreSpec), "the recipe combines scores"
        score = dataclasses.replace(score, choose="all", networks_only_raise=False)
    return dataclasses.replace(spec, model=model, score=score, train=train)


def measure_baselines(task: Task, recipe: Recipe, treatment: ResidualTreatment) -> list[Cell]:
    """Measure the detectors that need no training of a network; the threshold of each is that of the same calibration samples."""
    start_time = time.monotonic()
    train, calibration, test = (samples / np.float32(PIXEL_RANGE) for samples in (task.train, task.calibration, task.test))
    assert recipe.evaluate.pca_components is not None
    assert recipe.evaluate.neighbours is not None
    pca = PcaBaseline.fit(train.reshape(len(train), -1), recipe.evaluate.pca_components)
    baselines = FittedBaselines(train, recipe.evaluate.neighbours, treatment, pca)
    calibration_scores = baselines.score(calibration)
    fitted_time = time.monotonic()
    test_scores = baselines.score(test)
    milliseconds = 1000 * (time.monotonic() - fitted_time) / len(test)
    cells = []
    for name, scores in test_scores.items():
        threshold = conformal_threshold(calibration_scores[name])
        figures = measure_scores(task, scores, scores > threshold)
        # The seconds are those of all together.
        cells.append(Cell(task.protocol, task.name, name, None, *figures, fitted_time - start_time, milliseconds))
    return cells


def conformal_threshold(scores: np.ndarray) -> float:
    """Return the ceil((m + 1)(1 - rate))-th smallest of m calibration scores."""
    rank = int(np.ceil((len(scores) + 1) * (1 - RATE)))
    return float(np.sort(scores)[min(rank, len(scores)) - 1])


def measure_model(task: Task, variant: str, spec: FitSpec) -> Cell:
    """Train, calibrate, export and score a detector, as a run does."""
    start_time = time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        fit(
            dataclasses.replace(spec, threshold=dataclasses.replace(spec.threshold, false_alarm_rate=RATE)),
            task.train,
            task.validation,
            task.calibration,
            checkpoints=folder / "checkpoints",
            content_sha256="0" * 64,
            recipe="benchmark",
            bundle=folder / "bundle",
            history=folder / "training",
            progress_bar=False,
        )
        seconds = time.monotonic() - start_time
        detector = Detector(folder / "bundle")
        start_time = time.monotonic()
        outputs = detector.score(task.test)
        milliseconds = 1000 * (time.monotonic() - start_time) / len(task.test)
        facts = detector.bundle.get("score_facts", {})
        parts = tuple(part["kind"] for part in facts.get("parts", []) if part["chosen"])
        model_bytes = (folder / "bundle" / "model.onnx").stat().st_size
    figures = measure_scores(task, outputs["score"], outputs["is_anomaly"])
    return Cell(task.protocol, task.name, variant, spec.train.seed, *figures, seconds, milliseconds, model_bytes, parts)


def measure_scores(task: Task, scores: np.ndarray, is_caught: np.ndarray) -> tuple[float, float, float, float]:
    """Return AUROC, average precision, the share of the novelty that is caught, and that of normal samples."""
    ranking = measure_ranking(scores, task.is_novel)
    caught, false_alarms = float(is_caught[task.is_novel].mean()), float(is_caught[~task.is_novel].mean())
    return ranking.auroc, ranking.average_precision, caught, false_alarms


# ---------------------------------------------------------------- the record and the table


def read_cells(folder: Path, recipe: Recipe, protocols: Sequence[str], seeds: int) -> list[Cell]:
    """Return the stored cells of today's settings."""
    cells = []
    for protocol in protocols:
        for task in list_tasks(protocol, recipe):
            treatment = ResidualTreatment.of_score(recipe.fit.score)
            files = [cell_file(folder, task, "baselines", dataclasses.asdict(treatment) | baseline_settings(recipe))]
            for variant in task.variants:
                for seed in range(seeds):
                    files.append(cell_file(folder, task, variant, variant_spec(recipe.fit, task, variant, seed).to_dict()))
            for file in filter(Path.is_file, files):
                cells += [Cell(**document) for document in json.loads(file.read_text(encoding="utf-8"))]
    return cells


def summarize_cells(cells: Sequence[Cell]) -> dict[str, Any]:
    """Return protocol -> detector -> its figures: each task's mean over seeds, and the mean over tasks of each seed."""
    protocols: dict[str, Any] = {}
    for protocol in dict.fromkeys(cell.protocol for cell in cells):
        detectors = {}
        of_protocol = [cell for cell in cells if cell.protocol == protocol]
        for detector in dict.fromkeys(cell.detector for cell in of_protocol):
            detectors[detector] = summarize_detector([cell for cell in of_protocol if cell.detector == detector])
        protocols[protocol] = detectors
    return protocols


def summarize_detector(cells: Sequence[Cell]) -> dict[str, Any]:
    """Return the figures of one detector in one protocol; a seed counts where all tasks have it."""
    tasks = sorted({cell.task for cell in cells})
    by_seed: dict[int | None, list[Cell]] = {}
    for cell in cells:
        by_seed.setdefault(cell.seed, []).append(cell)
    whole = [of_seed for of_seed in by_seed.values() if len(of_seed) == len(tasks)]
    summary: dict[str, Any] = {"tasks": tasks, "seeds": len(whole)}
    for measure in ("auroc", "average_precision", "caught", "false_alarms", "seconds", "milliseconds"):
        means = [statistics.fmean(getattr(cell, measure) for cell in of_seed) for of_seed in whole]
        summary[measure] = spread(means)
    summary["by_task"] = {task: spread([cell.auroc for cell in cells if cell.task == task]) for task in tasks}
    sizes = [cell.model_bytes for cell in cells if cell.model_bytes is not None]
    if sizes:
        summary["model_bytes"] = max(sizes)
        summary["parts"] = count_parts(cells)
    return summary


def count_parts(cells: Sequence[Cell]) -> dict[str, int]:
    """Return how often each combination of scores was chosen."""
    counts: dict[str, int] = {}
    for cell in cells:
        name = " + ".join(cell.parts)
        counts[name] = counts.get(name, 0) + 1
    return counts


TARGETS = {  # protocol -> measure -> at least
    "digits": {"auroc": 0.97, "caught": 0.40},
    "mnist-oc": {"auroc": 0.990},
    "mnist-oc-deskewed": {"auroc": 0.992},
}

RIVALS = {"digits-all": ("knn", "local_hull_10", "local_hull_20")}  # protocol -> baselines above which the AUROC has to be


def find_target(protocol: str, measure: str, detectors: Mapping[str, Any]) -> float | None:
    """Return what a measure has to reach: a number, or the best of the protocol's rivals; None where nothing is asked for."""
    if measure == "auroc" and protocol in RIVALS:
        return max(detectors[name]["auroc"]["mean"] for name in RIVALS[protocol])
    return TARGETS.get(protocol, {}).get(measure)


def verdict(target: float | None, figures: Mapping[str, float | None]) -> str:
    """Return whether a target is met; nothing where there is none."""
    if target is None or figures["mean"] is None:
        return ""
    if figures["low"] is None:
        return f" (target {target:.4g}: one seed decides nothing)"
    if figures["low"] >= target:
        return f" (**target {target:.4g} met**)"
    if figures["high"] is not None and figures["high"] < target:
        return f" (target {target:.4g} missed)"
    return f" (target {target:.4g} within the interval: not met)"


def table_section(record: Mapping[str, Any] | None) -> str:
    """Return the section of the page that quotes the record."""
    if record is None:
        return "Not measured yet: `make bench-anomaly`."
    sections = []
    if record["protocols"]:
        sections.append(images_section(record["protocols"]))
    if "tables" in record:
        sections.append(tables_section(record["tables"]["protocols"]))
    return "\n\n".join(sections)


def images_section(protocols: Mapping[str, Any]) -> str:
    """Return the table of the protocols about images."""
    rows = []
    for protocol, detectors in protocols.items():
        best = best_detector(detectors)
        for detector, summary in detectors.items():
            is_ours = "model_bytes" in summary
            verdicts = {}
            for measure in ("auroc", "caught"):
                target = find_target(protocol, measure, detectors)
                verdicts[measure] = verdict(target, summary[measure]) if is_ours else ""
            name = f"**{detector}**" if detector == best else detector
            rows.append(
                [
                    protocol,
                    name,
                    str(summary["seeds"]) if summary.get("model_bytes") else "-",
                    figure_text(summary["auroc"]) + verdicts["auroc"],
                    figure_text(summary["caught"], percent=True) + verdicts["caught"],
                    f"{summary['seconds']['mean']:.0f} s",
                ]
            )
    return markdown_table(["protocol", "detector", "seeds", "AUROC", "caught at 1 %", "to train"], rows)


def summary_section(record: Mapping[str, Any] | None) -> str:
    """Return the section of the README: of each protocol our best detector beside the best of the others."""
    if record is None:
        return "Not measured yet: `make bench-anomaly`."
    rows = []
    for protocol, detectors in record["protocols"].items():
        ours = best_detector({name: summary for name, summary in detectors.items() if "model_bytes" in summary})
        other = best_detector({name: summary for name, summary in detectors.items() if "model_bytes" not in summary})
        verdicts = {}
        for measure in ("auroc", "caught"):
            verdicts[measure] = verdict(find_target(protocol, measure, detectors), detectors[ours][measure])
        name = protocol if ours == "plain" else f"{protocol}, {ours}"
        auroc = figure_text(detectors[ours]["auroc"]) + verdicts["auroc"]
        caught = figure_text(detectors[ours]["caught"], percent=True) + verdicts["caught"]
        rows.append([name, auroc, caught, f"{other} {figure_text(detectors[other]['auroc'])}"])
    if CLEAN in record.get("tables", {}).get("protocols", {}):
        rows.append(summary_row(record["tables"]["protocols"]))
    return markdown_table(["protocol", "AUROC", "caught", "the best beside it"], rows)


def best_detector(detectors: Mapping[str, Any]) -> str:
    """Return the name of the detector with the highest mean AUROC."""
    return max(detectors, key=lambda name: detectors[name]["auroc"]["mean"] or 0.0)


def update_readme(text: str, record: Mapping[str, Any] | None) -> str:
    """Return README.md with the section that quotes the record."""
    return replace_section(text, BEGIN, END, summary_section(record), README.name)


def update_page(text: str, record: Mapping[str, Any] | None) -> str:
    """Return docs/detection.md with the section that quotes the record."""
    return replace_section(text, BEGIN, END, table_section(record), PAGE.name)


# ---------------------------------------------------------------- the program


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="How well the default detectors find anomalies, beside others treated alike.")
    own_records = (anomaly_tiles.PROTOCOL, anomaly_series.PROTOCOL)
    all_protocols = (*PROTOCOLS, *own_records)
    parser.add_argument("--protocols", nargs="+", choices=all_protocols, default=all_protocols, help="[all]")
    parser.add_argument("--tasks", nargs="+", metavar="NAME", help="of the protocols, such as a digit [all]")
    parser.add_argument("--seeds", type=int, default=SEEDS, help=f"of each trained detector [{SEEDS}]")
    parser.add_argument("--recipe", type=Path, default=ROOT / "recipes" / "digits.yaml", help="of the detector [%(default)s]")
    parser.add_argument("--cells", type=Path, help="folder of the cells [benchmarks/anomaly in the state folder]")
    parser.add_argument("--out", type=Path, default=RECORD, help="JSON to write [%(default)s]")
    parser.add_argument(
        "--tables-only", action="store_true", help="only write record, docs/detection.md and README, from the cells"
    )
    parser.add_argument("--detectors", nargs="+", choices=DETECTORS, default=list(DETECTORS), help="of tables [all]")
    parser.add_argument("--minutes", type=float, help="after which no further cell of a table is begun [no limit]")
    args = parser.parse_args(arguments)
    project = find_project(ROOT)
    folder = args.cells or project.home / "benchmarks" / "anomaly"
    folder.mkdir(parents=True, exist_ok=True)
    if anomaly_tiles.PROTOCOL in args.protocols and not args.tables_only:
        anomaly_tiles.main(["--seeds", str(args.seeds), "--cells", str(folder)])
    if anomaly_series.PROTOCOL in args.protocols and not args.tables_only:
        minutes = [] if args.minutes is None else ["--minutes", str(args.minutes)]
        anomaly_series.main(["--cells", str(folder), *minutes])
    if set(args.protocols) <= set(own_records):
        return
    record = read_json(args.out) if args.out.is_file() else {"protocols": {}}
    if protocols := [name for name in args.protocols if name in IMAGE_PROTOCOLS]:
        summary = run_image_protocols(args, protocols, folder)
        record |= measurement_facts(project, "make bench-anomaly")
        record["protocols"] |= summary
    if protocols := [name for name in args.protocols if name in TABLE_PROTOCOLS]:
        summary = run_table_protocols(args, protocols, folder)
        record["tables"] = measurement_facts(project, "make bench-anomaly") | {"protocols": summary}
    save_record(args.out, record)
    if args.out == RECORD:
        PAGE.write_text(update_page(PAGE.read_text(encoding="utf-8"), record), encoding="utf-8")
        README.write_text(update_readme(README.read_text(encoding="utf-8"), record), encoding="utf-8")


def run_image_protocols(args: argparse.Namespace, protocols: Sequence[str], folder: Path) -> dict[str, Any]:
    """Measure what the folder lacks, and return the figures of the record."""
    recipe = read_recipe(args.recipe)
    for protocol in protocols if not args.tables_only else ():
        for task in list_tasks(protocol, recipe):
            if args.tasks is None or task.name in args.tasks:
                measure_task(task, recipe, args.seeds, folder)
    return summarize_cells(read_cells(folder, recipe, protocols, args.seeds))


def run_table_protocols(args: argparse.Namespace, protocols: Sequence[str], folder: Path) -> dict[str, Any]:
    """Measure what the folder lacks, and return the figures of the record: those of all table protocols with a cell."""
    for protocol in protocols if not args.tables_only else ():
        tasks = [task for task in list_table_tasks(protocol) if args.tasks is None or task.name in args.tasks]
        measure_tables(tasks, args.detectors, range(args.seeds), folder, args.minutes and 60 * args.minutes)
    every_task = [task for protocol in TABLE_PROTOCOLS for task in list_table_tasks(protocol)]
    return summarize_tables(list(read_table_cells(folder, every_task, range(args.seeds))))


if __name__ == "__main__":
    main()
