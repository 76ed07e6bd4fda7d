"""Power without labels: the share of injected faults that a detector catches at its rate of false alarms.

    detect = threshold_detectors(score_function, {"residual": 1.2, "hull": 0.7})
    powers = measure_power(detect, normals, spec)
    powers["hull"].mean, powers["hull"].interval(groups)     # one number, with its 95 % interval
    powers["hull"].mean_separation                           # the same question without a threshold

A cell is a fault at a strength. Its share is #caught / #faulty; a sample that the fault left as it was is not counted. The mean
power is the mean over faults of the mean over their strengths: docs/power.md has the formulas, and how well it ranks detectors.
numpy only.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ae_models.fault_interface import Fault
from ae_models.faults import find_changed, inject, standard_faults
from ae_models.intervals import clopper_pearson, mean_interval
from ae_models.mappings import map_values
from ae_models.sample_sets import SampleArray
from ae_models.spec import InputSpec
from ae_models.threshold_laws import conformal_rank

__all__ = [
    "FAULT_SEED",
    "DetectFunction",
    "Detection",
    "Power",
    "PowerCell",
    "ScoreFunction",
    "conformal_threshold",
    "measure_power",
    "measure_separation",
    "threshold_detectors",
]

FAULT_SEED = 271_828_183  # of the injected faults: the same samples get the same faults for every detector, today and later

_BLOCK_VALUES = 2**24  # of the faulty samples that are in memory at a time
_SampleValues = npt.NDArray[np.float64]


class Detection(NamedTuple):
    """The result of a detector on n samples.

    Attributes:
        scores: (n,), higher is more anomalous.
        is_caught: bool (n,): flagged as an anomaly.
    """

    scores: npt.NDArray[np.floating]
    is_caught: npt.NDArray[np.bool_]


# Both take clean raw samples (n, *input_spec.shape) and answer by the name of a detector, the same names each time.
ScoreFunction = Callable[[SampleArray], Mapping[str, npt.NDArray[np.floating]]]
DetectFunction = Callable[[SampleArray], Mapping[str, Detection]]


def threshold_detectors(score_function: ScoreFunction, thresholds: Mapping[str, float]) -> DetectFunction:
    """Return the detectors that flag what scores above their thresholds; a score that is NaN flags nothing."""

    def detect(samples: SampleArray) -> Mapping[str, Detection]:
        detections = {}
        for name, scores in score_function(samples).items():
            detections[name] = Detection(scores, scores > thresholds[name])
        return detections

    return detect


def conformal_threshold(calibration_scores: npt.NDArray[np.floating], rate: float) -> float:
    """Return the split-conformal threshold of a score: the ceil((m + 1)(1 - rate))-th smallest of m calibration scores.

    Where there are too few scores for the rate, it is the largest of them, so the rate is 1 / (m + 1) instead.
    """
    rank = min(conformal_rank(len(calibration_scores), rate), len(calibration_scores))
    return float(np.sort(calibration_scores)[rank - 1])


@dataclass(frozen=True)
class PowerCell:
    """One detector on one fault at one strength.

    Attributes:
        fault: name of the fault.
        strength: in the fault's unit.
        faulty: number of samples that the fault changed.
        caught: how many of these were flagged.
        separation: chance that a faulty sample scores higher than a normal one, ties counted half; None without a faulty one.
    """

    fault: str
    strength: float
    faulty: int
    caught: int
    separation: float | None

    @property
    def share(self) -> float | None:
        """Share of the faulty samples that were flagged; None where the fault changed no sample."""
        if self.faulty == 0:
            return None
        return self.caught / self.faulty

    @property
    def interval(self) -> tuple[float, float] | None:
        """The 95 % interval of the share; None where the fault changed no sample."""
        if self.faulty == 0:
            return None
        return clopper_pearson(self.caught, self.faulty)


@dataclass(frozen=True)
class Power:
    """The power of one detector.

    Attributes:
        cells: one a fault and strength, in the order of the faults.
        by_sample: (n,): what each normal sample adds to the mean power. Its mean is the mean power; where a fault changed every
            sample, it is the share of its faulty versions that were caught, by the same weights. NaN where no cell is defined.
    """

    cells: tuple[PowerCell, ...]
    by_sample: _SampleValues

    @property
    def mean(self) -> float | None:
        """The mean over faults of the mean share over their strengths; None where no fault changed a sample."""
        return _mean_of_defined(self.by_fault.values())

    @property
    def by_fault(self) -> dict[str, float | None]:
        """The mean share over the strengths of each fault; None where the fault changed no sample."""
        return self._mean_by_fault(attrgetter("share"))

    @property
    def mean_separation(self) -> float | None:
        """The same mean of the separations: in [0, 1], of use where there is no threshold yet."""
        return _mean_of_defined(self.separation_by_fault.values())

    @property
    def separation_by_fault(self) -> dict[str, float | None]:
        """The mean separation over the strengths of each fault; None where the fault changed no sample."""
        return self._mean_by_fault(attrgetter("separation"))

    def interval(self, groups: npt.NDArray[np.generic]) -> tuple[float, float] | None:
        """Return the 95 % interval of the mean power; None below two groups, or where no cell is defined.

        Args:
            groups: the group of each normal sample, (n,): samples of one group belong together.
        """
        if self.mean is None:
            return None
        return mean_interval(self.by_sample, groups)

    def _mean_by_fault(self, value_of: Callable[[PowerCell], float | None]) -> dict[str, float | None]:
        values_by_fault: defaultdict[str, list[float | None]] = defaultdict(list)
        for cell in self.cells:
            values_by_fault[cell.fault].append(value_of(cell))
        return map_values(_mean_of_defined, values_by_fault)


def measure_power(
    detect: DetectFunction,
    normals: SampleArray,
    input_spec: InputSpec,
    faults: Sequence[Fault] | None = None,
    rng_seed: int = FAULT_SEED,
) -> dict[str, Power]:
    """Inject each fault at each strength into each normal sample, and count what each detector catches.

    Args:
        detect: the detectors; all of them get the same faulty samples.
        normals: clean raw samples that no detector has seen, (n, *input_spec.shape). The faulty versions of some of them by one
            fault, at each of its strengths, are in memory at a time.
        input_spec: the section input of the recipe.
        faults: those of the kind's standard ones that are injected; None for all.
        rng_seed: of the faults.

    Returns:
        The power of each detector by its name.

    Raises:
        SampleError: samples that are not valid.
    """
    if faults is None:
        faults = standard_faults(input_spec.kind)
    clean = detect(normals)
    cells: defaultdict[str, list[PowerCell]] = defaultdict(list)
    residuals: defaultdict[str, list[_SampleValues]] = defaultdict(list)
    for fault in faults:
        for strength, faulty in _detect_faulty(detect, fault, normals, rng_seed, input_spec).items():
            is_faulty = faulty.is_faulty
            for name, detection in faulty.detections.items():
                cell = _measure_cell(fault.name, strength, detection, is_faulty, clean[name].scores)
                cells[name].append(cell)
                residuals[name].append(_cell_residuals(cell, detection.is_caught, is_faulty))
    powers = {}
    for name in clean:
        powers[name] = Power(tuple(cells[name]), _combine_residuals(cells[name], residuals[name]))
    return powers


class _FaultySamples(NamedTuple):
    """The n normal samples with one fault at one strength.

    Attributes:
        is_faulty: bool (n,): whether the fault changed a sample.
        detections: of each detector by its name.
    """

    is_faulty: npt.NDArray[np.bool_]
    detections: Mapping[str, Detection]


def _detect_faulty(
    detect: DetectFunction, fault: Fault, normals: SampleArray, rng_seed: int, input_spec: InputSpec
) -> dict[float, _FaultySamples]:
    """Return what the detectors say of the samples with a fault, by its strengths, with some samples in memory at a time."""
    block_rows = max(1, _BLOCK_VALUES // (len(fault.strengths) * max(1, math.prod(normals.shape[1:]))))
    blocks: defaultdict[float, list[_FaultySamples]] = defaultdict(list)
    for start in range(0, len(normals), block_rows):
        rows = range(start, min(len(normals), start + block_rows))
        damaged = [inject(fault, strength, normals, rng_seed, input_spec, rows) for strength in fault.strengths]
        all_strengths = detect(np.concatenate(damaged))  # at once: a call takes some detectors as long as many samples do
        for index, strength in enumerate(fault.strengths):
            places = slice(index * len(rows), (index + 1) * len(rows))
            detections = {}
            for name, detection in all_strengths.items():
                detections[name] = Detection(detection.scores[places], detection.is_caught[places])
            is_faulty = find_changed(normals[rows.start : rows.stop], damaged[index])
            blocks[strength].append(_FaultySamples(is_faulty, detections))
    return map_values(_join_faulty, blocks)


def _join_faulty(blocks: Sequence[_FaultySamples]) -> _FaultySamples:
    detections = {}
    for name in blocks[0].detections:
        parts = [block.detections[name] for block in blocks]
        scores = np.concatenate([part.scores for part in parts])
        detections[name] = Detection(scores, np.concatenate([part.is_caught for part in parts]))
    return _FaultySamples(np.concatenate([block.is_faulty for block in blocks]), detections)


def _measure_cell(
    fault: str,
    strength: float,
    detection: Detection,
    is_faulty: npt.NDArray[np.bool_],
    clean_scores: npt.NDArray[np.floating],
) -> PowerCell:
    caught = int((detection.is_caught & is_faulty).sum())
    separation = None
    if is_faulty.any():
        separation = measure_separation(detection.scores[is_faulty], clean_scores)
    return PowerCell(fault, strength, int(is_faulty.sum()), caught, separation)


def measure_separation(faulty_scores: npt.NDArray[np.floating], clean_scores: npt.NDArray[np.floating]) -> float:
    """Return the chance that a faulty sample scores higher than a clean one, ties counted half; NaN scores lowest."""
    faulty = np.nan_to_num(faulty_scores, nan=-np.inf, posinf=np.inf, neginf=-np.inf)
    clean = np.sort(np.nan_to_num(clean_scores, nan=-np.inf, posinf=np.inf, neginf=-np.inf))
    below, not_above = np.searchsorted(clean, faulty, "left"), np.searchsorted(clean, faulty, "right")
    return float((below + not_above).mean() / (2 * len(clean)))


def _cell_residuals(cell: PowerCell, is_caught: npt.NDArray[np.bool_], is_faulty: npt.NDArray[np.bool_]) -> _SampleValues:
    """Return how far each sample is from the cell's share, (n,), scaled by n / #faulty, so that their mean is 0.

    These are the terms of a ratio of two totals over samples (Cochran 1977, Sampling Techniques, section 2.11).
    """
    share = cell.share
    if share is None:
        return np.zeros(len(is_faulty))
    return np.asarray((is_caught - share) * is_faulty * (len(is_faulty) / cell.faulty), np.float64)


def _combine_residuals(cells: Sequence[PowerCell], residuals: Sequence[_SampleValues]) -> _SampleValues:
    """Return what each sample adds to the mean power, (n,)."""
    defined_cells = Counter(cell.fault for cell in cells if cell.share is not None)
    if not defined_cells:
        return np.full_like(residuals[0], np.nan)
    by_sample = np.zeros_like(residuals[0])
    for cell, cell_residuals in zip(cells, residuals, strict=True):
        if cell.share is not None:
            by_sample += (cell.share + cell_residuals) / (len(defined_cells) * defined_cells[cell.fault])
    return by_sample


def _mean_of_defined(values: Iterable[float | None]) -> float | None:
    """Return the mean of the values that are not None; None where there are none."""
    defined = [value for value in values if value is not None]
    if not defined:
        return None
    return sum(defined) / len(defined)
