"""The part of a model that kinds of data need: how it scores samples."""

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import numpy as np

    from aeops.kinds.samples import SampleSpec


class SampleScorer(Protocol):
    """A model that scores samples; `aeops.bundle.detector.Detector` is one."""

    spec: "SampleSpec"
    bundle: dict[str, Any]

    def score(self, samples: Any, reconstruction: bool = False, code: bool = False) -> "dict[str, np.ndarray]":
        """Return score, p_value, is_anomaly and flags of each sample, (n,) each, and what else was asked for."""
