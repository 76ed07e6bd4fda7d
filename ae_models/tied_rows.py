"""Rows of a bank that are equally far from a sample: which of them are its nearest would be left to rounding errors.

Values on a grid, such as answers from 1 to 5, counts or readings of few digits, have many such rows. A hull of other rows is
another score, and an exported graph rounds otherwise than torch does. A little noise on the rows makes their distances differ.
"""

import numpy as np
import torch
from torch import Tensor

__all__ = ["count_ties", "separate_rows"]

_MOST_ROWS, _LEAST_ROWS = 1024, 16  # rows whose neighbours are compared
_NEIGHBOURS = 20
_COMPARED_VALUES = 2**27  # numbers that are subtracted for it, so that it takes less than a second
_EQUAL = 3e-7  # relative difference of squared distances, below which they are the same but for rounding
_TIES = 0.05  # share of the compared rows with a tie, from which rows are separated: few have one by chance
_NOISE = 0.05  # length of the noise beside the distance to the last of the compared neighbours


def separate_rows(bank: Tensor, seed: int) -> Tensor:
    """Return rows with normal noise where many of them are equally near, else the rows as they are.

    Args:
        bank: float32 (rows, numbers).
        seed: of the noise.

    Returns:
        float32 (rows, numbers).
    """
    compared, ties, distance = count_ties(bank)
    if ties <= _TIES * compared:
        return bank
    different, place_of = np.unique(bank.numpy(), axis=0, return_inverse=True)  # copies stay copies: any of them is as near
    noise = np.random.default_rng(seed).standard_normal(different.shape).astype(np.float32)
    separated = different + noise * (_NOISE * distance / bank.shape[1] ** 0.5)
    return torch.from_numpy(separated[place_of.reshape(-1)].astype(np.float32))


def count_ties(bank: Tensor) -> tuple[int, int, float]:
    """Return how many rows (rows, numbers) have different rows at one distance among their 20 nearest and the next one.

    Returns:
        How many rows were compared, how many of them have a tie, and the root mean square of their distances to the 20th
        neighbour.
    """
    rows = len(bank)
    neighbours = min(_NEIGHBOURS, rows - 2)
    if neighbours < 1:
        return 0, 0, 0.0
    compared = min(rows, _MOST_ROWS, max(_LEAST_ROWS, _COMPARED_VALUES // bank.numel()))
    ties, squares = 0, []
    for row in np.linspace(0, rows - 1, compared).astype(int).tolist():
        squared = (bank - bank[row]).square().sum(1)
        squared[row] = torch.inf
        values, places = squared.topk(neighbours + 1, largest=False)
        is_equal = values[1:] - values[:-1] <= _EQUAL * values[1:]
        is_other = (bank[places[1:]] != bank[places[:-1]]).any(1)
        ties += bool((is_equal & is_other).any())
        squares.append(float(values[-2]))
    return compared, ties, float(np.mean(squares)) ** 0.5
