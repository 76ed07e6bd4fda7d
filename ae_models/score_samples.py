"""Normal samples that a score learns from. Calibration and test samples are none of them."""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch

from ae_models.data_loading import EVALUATION_SEED, iterate_batches, seed_generators
from ae_models.faults import find_changed, inject, standard_faults
from ae_models.model_output import ModelOutput
from ae_models.sample_sets import ArraySampleSet, SampleArray, SampleSet
from ae_models.spec import InputSpec
from ae_models.typical_samples import find_typical

if TYPE_CHECKING:
    from ae_models.autoencoder import Autoencoder

__all__ = ["ScoreSamples"]

_FAULT_ROWS = 150  # validation samples that get each fault at each strength, so that a choice takes seconds


class ScoreSamples:
    """The training and validation samples of a fit, raw and as the model sees them.

    Args:
        autoencoder: in evaluation mode, on the CPU.
        input_spec: of a sample.
        train: raw samples, (n, *input.shape).
        validation: the same.
        seed: of everything that is drawn.
        as_model_reads: turns raw samples into those of the model: texts into token ids.
        trim: share of the training samples that are not learnt from, in [0, 0.5]: `train.trim`.
    """

    def __init__(
        self,
        autoencoder: "Autoencoder",
        input_spec: InputSpec,
        train: SampleSet,
        validation: SampleSet,
        seed: int,
        as_model_reads: Callable[[SampleSet], SampleSet] = lambda samples: samples,
        trim: float = 0.0,
    ) -> None:
        self.seed, self.trim = seed, trim
        self._autoencoder, self._input_spec, self._as_model_reads = autoencoder, input_spec, as_model_reads
        self._sets = {"train": train, "validation": validation}

    def rows(self, role: str) -> int:
        """Return the number of samples of a role, "train" or "validation"."""
        return self._sets[role].shape[0]

    def raw_inputs(self, role: str, indices: npt.NDArray[np.int64]) -> SampleArray:
        """Return raw samples of a role without their target channels, (rows, ...)."""
        clean, _ = self._autoencoder.split_target(torch.from_numpy(self._sets[role].take(indices)))
        inputs: SampleArray = clean.numpy()
        return inputs

    def outputs(self, role: str, indices: npt.NDArray[np.int64] | None = None) -> Iterator[ModelOutput]:
        """Yield what the model computes of the samples of a role, all of them or those at these indices, batch by batch."""
        yield from self.run(self._chosen(role, indices))

    def inputs(self, role: str, indices: npt.NDArray[np.int64] | None = None) -> Iterator[torch.Tensor]:
        """Yield the inputs that `outputs` has, without running the network."""
        yield from self._served_inputs(self._chosen(role, indices))

    def _chosen(self, role: str, indices: npt.NDArray[np.int64] | None) -> SampleSet:
        samples = self._sets[role]
        if indices is None:
            return samples
        return ArraySampleSet(samples.take(indices))

    def find_typical(self, vectors: torch.Tensor) -> npt.NDArray[np.bool_]:
        """Return which of these vectors of training samples to learn from, bool (n,): all but the share `trim`.

        Each score calls it with what it compares, (n, numbers): an anomaly may stand out there and nowhere else.
        """
        return find_typical(vectors, self.trim, self.seed)

    def faulty_outputs(self) -> Iterator[tuple[str, Iterator[ModelOutput]]]:
        """Yield what the model computes of validation samples with a standard fault, by the fault's name and strength.

        Samples that a fault leaves as they were are left out, and so is a fault that changes none.
        """
        validation = self._sets["validation"]
        rows = np.random.default_rng(self.seed).permutation(validation.shape[0])[:_FAULT_ROWS]
        normal = validation.take(np.sort(rows))
        for fault in standard_faults(self._input_spec.kind):
            for strength in fault.strengths[1:-1]:  # the strongest is caught by every score, the weakest by none
                damaged = inject(fault, strength, normal, self.seed, self._input_spec)
                is_faulty = find_changed(normal, damaged)
                if is_faulty.any():
                    yield f"{fault.name} {strength:g}", self.run(ArraySampleSet(damaged[is_faulty]))

    @torch.no_grad()
    def run(self, samples: SampleSet) -> Iterator[ModelOutput]:
        """Yield what the model computes of raw samples, batch by batch; what is served corrupted is, the same way each time."""
        yield from map(self._autoencoder.run, self._served_inputs(samples))

    def _served_inputs(self, samples: SampleSet) -> Iterator[torch.Tensor]:
        seed_generators(torch.device("cpu"), EVALUATION_SEED)
        for raw in iterate_batches(self._as_model_reads(samples)):
            clean, _ = self._autoencoder.split_target(self._autoencoder.normalise(raw))
            yield self._autoencoder.serving_input(clean)
