"""Thresholds: from the scores of calibration samples to a threshold, and what it promises about false alarms. No torch.

What other packages need to know about a kind stands behind `ae_models.threshold_interface.ThresholdMethod`; what a bundle holds
of one is read by `read_threshold`:

    threshold = read_threshold(bundle_document["threshold"])
    threshold.promised_rate, threshold.value
    low, high = threshold.plausible_rates(alarms=13, normals=1000)

docs/thresholds.md says which kind to choose, and has the references of each formula.
"""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import numpy.typing as npt

from ae_models.conformal_thresholds import CONFORMAL_THRESHOLDS
from ae_models.factory import build_part
from ae_models.mappings import select_keys
from ae_models.names import names_in, names_of
from ae_models.own_parts import with_own_parts
from ae_models.spec import PART_SPECS, SpecReader, ThresholdSpec
from ae_models.threshold_interface import (
    CALIBRATION_SCORES,
    STORED_PREFIX,
    CalibratedThreshold,
    StoredThreshold,
    ThresholdMethod,
)
from ae_models.unpromised_thresholds import UNPROMISED_THRESHOLDS

__all__ = ["THRESHOLDS", "load_threshold", "read_threshold", "threshold_method", "threshold_spec"]


def threshold_method(section: Mapping[str, Any]) -> ThresholdMethod:
    """Return the method of a `threshold` section, of a recipe or of a bundle.json.

    Raises:
        SpecError: a kind or a setting that this version does not know.

    >>> threshold_method({"kind": "split-conformal", "false_alarm_rate": 0.05, "value": 1.3, "rank": 95}).requested_rate
    0.05
    """
    return build_part(THRESHOLDS, threshold_spec(section))


def threshold_spec(section: Mapping[str, Any]) -> ThresholdSpec:
    """Return the spec in a `threshold` section, without what its calibration added.

    Raises:
        SpecError: a kind or a setting that this version does not know.
    """
    reader = SpecReader("threshold")
    spec: ThresholdSpec = reader.read_kind(PART_SPECS["threshold"], _spec_keys(section), "threshold")
    reader.finish()
    return spec


def read_threshold(section: Mapping[str, Any]) -> StoredThreshold:
    """Return the threshold in the `threshold` section of a bundle.json.

    Raises:
        SpecError: a kind or a setting that this version does not know.
    """
    return StoredThreshold(
        threshold_method(section), float(section["value"]), section.get("calibration_rows"), _calibration_details(section)
    )


def load_threshold(section: Mapping[str, Any], arrays: Mapping[str, npt.NDArray[Any]]) -> CalibratedThreshold:
    """Return the threshold of a bundle.

    Args:
        section: `threshold` of its bundle.json.
        arrays: of its scorer.safetensors; those of others than the threshold are left out.
    """
    extra_arrays = {}
    for name in sorted(arrays):
        if name.startswith(STORED_PREFIX):
            extra_arrays[name.removeprefix(STORED_PREFIX)] = arrays[name]
    details = _calibration_details(section)
    return CalibratedThreshold(threshold_method(section), section["value"], arrays[CALIBRATION_SCORES], details, extra_arrays)


def _calibration_details(section: Mapping[str, Any]) -> dict[str, Any]:
    details = dict(section)
    for key in (*_spec_keys(section), "value", "calibration_rows"):
        details.pop(key, None)
    return details


def _spec_keys(section: Mapping[str, Any]) -> dict[str, Any]:
    kind = section["kind"]
    specs = PART_SPECS["threshold"] if kind in PART_SPECS["threshold"] else with_own_parts(PART_SPECS["threshold"])
    spec_class: Any = specs.get(kind)
    if spec_class is None:
        return dict(section)
    names = ["kind", *names_of(fields(spec_class))]
    return select_keys(section, names_in(names, section))


THRESHOLDS: dict[str, type[ThresholdMethod]] = CONFORMAL_THRESHOLDS | UNPROMISED_THRESHOLDS
