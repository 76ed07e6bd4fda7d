"""Power without labels: the share of injected faults that a detector catches at its rate of false alarms.

    detectors = {"model": threshold_detector(score_function, threshold)}
    power = measure_power(detectors, normals, spec)["model"]
    power.mean, power.interval(groups)        # one number, with its 95 % interval
    power.mean_separation                     # the same question without a threshold

A cell is a fault at a strength. Its share is #caught / #faulty; a sample that the fault left as it was is not counted. The mean
power is the mean over faults of the mean over their strengths: docs/power.md has the formulas, and how well it ranks detectors.
numpy only.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ae_models.fault_interface import Fault
from ae_models.faults import find_changed, inject, standard_faults
from ae_models.intervals import clopper_pearson, mean_interval
from ae_models.sample_sets import SampleArray
from ae_models.spec import InputSpec
from ae_models.threshold_laws import conformal_rank

__all__ = [
    "FAULT_SEED",
    "DetectFunction",
    "Detection",
    "Power",
    "PowerCell",
    "conformal_threshold",
    "measure_power",
    "threshold_detector",
]

FAULT_SEED = 271_828_183  # of the injected faults: the same samples get the same faults for every detector, today and later

_SampleValues = npt.NDArray[np.float64]


class Detection(NamedTuple):
    """The result of a detector on n samples.

    Attributes:
        scores: (n,), higher is more anomalous.
        is_caught: bool (n,): flagged as an anomaly.
    """

    scores: npt.NDArray[np.floating]
    is_caught: npt.NDArray[np.bool_]


DetectFunction = Callable[[SampleArray], Detection]  # of clean raw samples (n, *input_spec.shape)


def threshold_detector(score_function: Callable[[SampleArray], npt.NDArray[np.floating]], threshold: float) -> DetectFunction:
    """Return the detector that flags what scores above a threshold; a score that is NaN flags nothing."""

    def detect(samples: SampleArray) -> Detection:
        scores = np.asarray(score_function(samples))
        return Detection(scores, scores > threshold)

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
        """Return the mean share over the strengths of each fault; None where the fault changed no sample."""
        return self._mean_by_fault({(cell.fault, cell.strength): cell.share for cell in self.cells})

    @property
    def mean_separation(self) -> float | None:
        """The same mean of the separations: in [0, 1], of use where there is no threshold yet."""
        separations = {(cell.fault, cell.strength): cell.separation for cell in self.cells}
        return _mean_of_defined(self._mean_by_fault(separations).values())

    def interval(self, groups: npt.NDArray[np.generic]) -> tuple[float, float] | None:
        """Return the 95 % interval of the mean power; None below two groups, or where no cell is defined.

        Args:
            groups: the group of each normal sample, (n,): samples of one group belong together.
        """
        if self.mean is None:
            return None
        return mean_interval(self.by_sample, groups)

    def _mean_by_fault(self, values: Mapping[tuple[str, float], float | None]) -> dict[str, float | None]:
        by_fault: dict[str, list[float | None]] = {}
        for (fault, _), value in values.items():
            by_fault.setdefault(fault, []).append(value)
        return {fault: _mean_of_defined(fault_values) for fault, fault_values in by_fault.items()}


def measure_power(
    detectors: Mapping[str, DetectFunction],
    normals: SampleArray,
    input_spec: InputSpec,
    faults: Sequence[Fault] | None = None,
    rng_seed: int = FAULT_SEED,
) -> dict[str, Power]:
    """Inject each fault at each strength into each normal sample, and count what each detector catches.

    Args:
        detectors: by name; each gets the same faulty samples.
        normals: clean raw samples that no detector has seen, (n, *input_spec.shape). One faulty version of all of them is in
            memory at a time.
        input_spec: the section input of the recipe.
        faults: those of the kind's standard ones that are injected; None for all.
        rng_seed: of the faults.

    Raises:
        SampleError: samples that are not valid.
    """
    if faults is None:
        faults = standard_faults(input_spec.kind)
    clean_scores = {name: detect(normals).scores for name, detect in detectors.items()}
    cells: dict[str, list[PowerCell]] = {name: [] for name in detectors}
    residuals: dict[str, list[tuple[PowerCell, _SampleValues]]] = {name: [] for name in detectors}
    for fault in faults:
        for strength in fault.strengths:
            damaged = inject(fault, strength, normals, rng_seed, input_spec)
            is_faulty = find_changed(normals, damaged)
            for name, detect in detectors.items():
                detection = detect(damaged)
                cell = _measure_cell(fault.name, strength, detection, is_faulty, clean_scores[name])
                cells[name].append(cell)
                residuals[name].append((cell, _cell_residuals(cell, detection.is_caught, is_faulty)))
    powers = {}
    for name in detectors:
        powers[name] = Power(tuple(cells[name]), _combine_residuals(residuals[name], len(normals)))
    return powers


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
        separation = _separation(detection.scores[is_faulty], clean_scores)
    return PowerCell(fault, strength, int(is_faulty.sum()), caught, separation)


def _separation(faulty_scores: npt.NDArray[np.floating], clean_scores: npt.NDArray[np.floating]) -> float:
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
    residuals: _SampleValues = (is_caught - share) * is_faulty * (len(is_faulty) / cell.faulty)
    return residuals


def _combine_residuals(residuals: Sequence[tuple[PowerCell, _SampleValues]], count: int) -> _SampleValues:
    """Return what each sample adds to the mean power, (n,)."""
    strengths_by_fault: dict[str, int] = {}
    for cell, _ in residuals:
        if cell.share is not None:
            strengths_by_fault[cell.fault] = strengths_by_fault.get(cell.fault, 0) + 1
    if not strengths_by_fault:
        return np.full(count, np.nan)
    by_sample = np.zeros(count)
    for cell, cell_residuals in residuals:
        if cell.share is not None:
            weight = 1 / (len(strengths_by_fault) * strengths_by_fault[cell.fault])
            by_sample += weight * (cell.share + cell_residuals)
    return by_sample


def _mean_of_defined(values: Iterable[float | None]) -> float | None:
    """Return the mean of the values that are not None; None where there are none."""
    defined = [value for value in values if value is not None]
    if not defined:
        return None
    return sum(defined) / len(defined)
