"""Normal samples that a score learns from. Calibration and test samples are none of them."""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch

from ae_models.data_loading import EVALUATION_SEED, iterate_batches, seed_generators
from ae_models.model_output import ModelOutput
from ae_models.sample_sets import ArraySampleSet, SampleArray, SampleSet

if TYPE_CHECKING:
    from ae_models.autoencoder import Autoencoder

__all__ = ["ScoreSamples"]


class ScoreSamples:
    """The training and validation samples of a fit, raw and as the model sees them.

    Args:
        autoencoder: in evaluation mode, on the CPU.
        train: raw samples, (n, *input.shape).
        validation: the same.
        seed: of everything that is drawn.
        as_model_reads: turns raw samples into those of the model: texts into token ids.
    """

    def __init__(
        self,
        autoencoder: "Autoencoder",
        train: SampleSet,
        validation: SampleSet,
        seed: int,
        as_model_reads: Callable[[SampleSet], SampleSet] = lambda samples: samples,
    ) -> None:
        self.seed = seed
        self._autoencoder, self._as_model_reads = autoencoder, as_model_reads
        self._sets = {"train": train, "validation": validation}

    def rows(self, role: str) -> int:
        """Return the number of samples of a role, "train" or "validation"."""
        return self._sets[role].shape[0]

    def raw(self, role: str, indices: npt.NDArray[np.int64]) -> SampleArray:
        """Return raw samples of a role, (rows, *input.shape)."""
        return self._sets[role].take(indices)

    def outputs(self, role: str, indices: npt.NDArray[np.int64] | None = None) -> Iterator[ModelOutput]:
        """Yield what the model computes of the samples of a role, all of them or those at these indices, batch by batch."""
        samples = self._sets[role]
        if indices is not None:
            samples = ArraySampleSet(samples.take(indices))
        yield from self.run(samples)

    @torch.no_grad()
    def run(self, samples: SampleSet) -> Iterator[ModelOutput]:
        """Yield what the model computes of raw samples, batch by batch; what is served corrupted is, the same way each time."""
        seed_generators(torch.device("cpu"), EVALUATION_SEED)
        for raw in iterate_batches(self._as_model_reads(samples)):
            clean, _ = self._autoencoder.split_target(self._autoencoder.normalise(raw))
            yield self._autoencoder.run(self._autoencoder.serving_input(clean))
