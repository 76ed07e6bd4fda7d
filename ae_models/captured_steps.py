"""Training steps as CUDA graphs: what a step starts on the device is recorded once and then replayed.

A step of a small network is some hundred kernels of a few microseconds, and starting them one by one takes the host longer than
the device needs for the work. A replayed graph starts all of them at once, and computes the same bits.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ae_models.errors import TrainingError

__all__ = ["CapturedSteps"]

_WARM_UP_STEPS = 3  # in which libraries choose their kernels and make room for their work, which a capture does not allow


class CapturedSteps:
    """The steps of each member of a model, a graph for each member and size of its batch.

    A graph reads its samples' indices, the learning rate and the random seed from where they lay when it was captured: indices
    are copied there, and the generator's seed is what it is at each replay.

    Args:
        step: takes a step of the optimiser for one member: its index, and the indices of its samples, (batch,).
        changed: every parameter and buffer that a step may change.
        optimizer: of the parameters.
    """

    def __init__(self, step: Callable[[int, Tensor], None], changed: Sequence[Tensor], optimizer: torch.optim.Optimizer) -> None:
        self._step, self._changed, self._optimizer = step, changed, optimizer
        self._graphs: dict[tuple[int, int], tuple[torch.cuda.CUDAGraph, Tensor]] = {}

    def capture(self, member: int, indices: Tensor) -> None:
        """Capture a step of a member on batches of this size; the weights and the optimiser stay as they are.

        Raises:
            TrainingError: a part of the model cannot be captured.
        """
        own_indices = indices.clone()  # at an address that stays
        graph = torch.cuda.CUDAGraph()
        try:
            self._warm_up(member, own_indices)
            with torch.cuda.graph(graph):
                self._step(member, own_indices)
        except RuntimeError as error:
            raise TrainingError(
                f"a training step cannot be captured as a CUDA graph: {error}. Expected parts that ask the device for no value "
                "and make no tensor on the CPU while they train; to train without graphs, set train.capture: never in the recipe"
            ) from error
        self._graphs[member, len(indices)] = graph, own_indices

    def replay(self, member: int, indices: Tensor) -> None:
        """Take a captured step of a member with other samples."""
        graph, own_indices = self._graphs[member, len(indices)]
        own_indices.copy_(indices)
        graph.replay()

    def _warm_up(self, member: int, indices: Tensor) -> None:
        """Take some steps beside the training, and put back what they changed."""
        weights = [tensor.detach().clone() for tensor in self._changed]
        state = {
            parameter: {name: value.clone() for name, value in values.items()}
            for parameter, values in self._optimizer.state.items()
        }
        beside = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        beside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(beside):
            for _ in range(_WARM_UP_STEPS):
                self._step(member, indices)
        torch.cuda.current_stream().wait_stream(beside)
        with torch.no_grad():
            for tensor, before in zip(self._changed, weights, strict=True):
                tensor.copy_(before)
            self._put_back(state)

    def _put_back(self, state: dict[Tensor, dict[str, Tensor]]) -> None:
        """Put the optimiser's state back where it lies; what a parameter had not yet is zero, as before its first step."""
        for parameter, values in self._optimizer.state.items():
            for name, value in values.items():
                if parameter in state:
                    value.copy_(state[parameter][name])
                else:
                    value.zero_()
