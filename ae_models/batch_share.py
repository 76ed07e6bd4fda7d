"""The share of a batch that one of several training workers works on, and what its parts need of the whole batch.

A batch is that of all workers together. What is drawn at random is drawn for the whole batch by each worker, from the same seed,
and cut to its own rows, so that a sample's noise does not depend on the number of workers; what is not a mean over samples is
summed over the workers. Without a share, which is the rule, each of these functions is the plain operation on the rows it gets.

A part that draws by itself, with torch's own functions, still trains the same bits each time, but repeats its numbers in every
share.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = [
    "BatchShare",
    "add_workers",
    "count_in_share",
    "current_share",
    "draw_like",
    "draw_rows",
    "mean_over_batch",
    "share_of_worker",
    "sum_over_workers",
    "use_share",
]


@dataclass(frozen=True)
class BatchShare:
    """The consecutive rows of a batch that belong to one worker.

    A worker without rows, of a batch that is smaller than the number of workers, computes one that is not its own and counts
    for nothing: every worker takes part in every exchange.

    Attributes:
        first: its first row in the batch.
        count: its rows; 0 where it has none.
        total: rows of the batch.
        workers: that share the batch.
    """

    first: int
    count: int
    total: int
    workers: int

    @property
    def computed(self) -> slice:
        """The rows of the batch that the worker computes: its own, or any one where it has none."""
        start = min(self.first, self.total - 1)
        return slice(start, start + max(1, self.count))

    @property
    def weight(self) -> float:
        """What its mean counts among the workers' means, whose average is then the mean over the batch."""
        return self.count * self.workers / self.total


_current: list[BatchShare] = []  # one at most


def current_share() -> BatchShare | None:
    """Return the share that this process works on; None where the rows it has are the whole batch."""
    return _current[-1] if _current else None


@contextmanager
def use_share(share: BatchShare | None) -> Iterator[None]:
    """Let the functions of this module mean a share; None: the rows are the whole batch."""
    before = list(_current)
    _current[:] = [] if share is None else [share]
    try:
        yield
    finally:
        _current[:] = before


def share_of_worker(total: int, worker: int, workers: int) -> BatchShare:
    """Return the share of a worker, counted from 0, of a batch of `total` rows: as `torch.tensor_split` cuts it.

    >>> [share_of_worker(7, worker, 3).computed for worker in range(3)]
    [slice(0, 3, None), slice(3, 5, None), slice(5, 7, None)]
    >>> share_of_worker(1, 1, 2)
    BatchShare(first=1, count=0, total=1, workers=2)
    """
    size, rest = divmod(total, workers)
    return BatchShare(worker * size + min(worker, rest), size + (worker < rest), total, workers)


def draw_rows(rows: int, draw: Callable[[int], Tensor], axis: int = 0) -> Tensor:
    """Return random numbers for `rows` samples.

    Args:
        rows: that are at hand.
        draw: makes random numbers for so many samples, from torch's global generator.
        axis: along which they lie.
    """
    share = current_share()
    if share is None:
        return draw(rows)
    return draw(share.total).narrow(axis, share.computed.start, rows)


def draw_like(x: Tensor, fill: Callable[[Tensor], Tensor]) -> Tensor:
    """Return random numbers of the shape, type and memory order of x (n, ...).

    Args:
        x: its samples along the first axis.
        fill: fills a tensor with them in place, from torch's global generator, such as `torch.Tensor.normal_`.
    """
    like = torch.empty_like(x)

    def draw(rows: int) -> Tensor:
        if rows == len(x):
            return fill(like)
        strides = (like[0].numel(), *like.stride()[1:])  # samples one after another, whatever the order within one
        return fill(torch.empty_strided((rows, *x.shape[1:]), strides, dtype=x.dtype, device=x.device))

    return draw_rows(len(x), draw)


def sum_over_workers(x: Tensor) -> Tensor:
    """Return the sum of the workers' tensors of one shape, without a gradient; x itself where there is one worker."""
    share = current_share()
    if share is None:
        return x
    return add_workers(x.detach())


def add_workers(x: Tensor) -> Tensor:
    """Return the sum of the workers' tensors of one shape, the same bits in each of them, whatever else they exchange.

    The sum of two numbers has no order. With more, the usual exchange adds them in an order that depends on their place and on
    the worker; here each worker adds a part of the numbers, in the order of the workers, and hands it to the others.
    """
    count = torch.distributed.get_world_size()
    if count == 2:
        total = x.clone().contiguous()
        torch.distributed.all_reduce(total)
        return total
    numbers = x.flatten()
    length = -(-numbers.numel() // count)
    sent = numbers.new_zeros(count * length)
    sent[: numbers.numel()] = numbers
    received = torch.empty_like(sent)  # this worker's part of the numbers, as each worker has it
    torch.distributed.all_to_all_single(received, sent)
    first, *others = received.view(count, length)
    part = first.clone()
    for other in others:
        part += other
    torch.distributed.all_gather_single(sent, part)
    return sent[: numbers.numel()].view(x.shape)


def mean_over_batch(rows: Tensor) -> Tensor:
    """Return the mean over all samples of a batch; its gradient goes to the samples at hand.

    For what is no mean itself, such as a sum of clamped means. Weighted and averaged as the loss is, the gradient is that of the
    mean over the batch.

    Args:
        rows: of the samples at hand, (n, ...).
    """
    share = current_share()
    mean = rows.mean(0)
    if share is None:
        return mean
    batch_mean = sum_over_workers(rows[: share.count].sum(0)) / share.total
    return mean + (batch_mean - mean).detach()


def count_in_share(counts: Tensor) -> Tensor:
    """Return how many things (such as tokens in use) stand in the samples at hand, if all workers had as many in a sample.

    A sum over samples, divided by it, is the mean over the things of the whole batch once it is weighted like the loss.

    Args:
        counts: of each sample at hand, (n,), whole numbers.
    """
    share = current_share()
    if share is None:
        return counts.sum()
    return sum_over_workers(counts[: share.count].sum()) * max(1, share.count) / share.total
