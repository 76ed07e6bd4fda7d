"""A score by the patches of an image: their distances to a bank of normal patches (PatchCore, Roth et al. 2022)."""

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ae_models.bank_scores import choose_k_centres
from ae_models.blur import blur_axes, gaussian_kernel
from ae_models.errors import SpecError
from ae_models.model_output import ModelOutput
from ae_models.score_interface import Score
from ae_models.score_samples import ScoreSamples

__all__ = ["PatchBankScore"]

_CANDIDATES = 20_000  # patches among which the bank is chosen: the time of k-centre grows with their number times the bank's
_PROJECTED_NUMBERS = 128  # numbers a patch by which rows are chosen; more are projected at random, which nearly keeps distances
_POSITIONS_AT_ONCE = 64  # of a map, compared with the bank at once: their distances to all of its rows are in memory
_ROWS_AT_ONCE = 1024  # of the bank, compared with all of its rows
_DISTANCE_FLOOR = 1e-6  # keeps the logarithm of a distance finite, where every patch stands in the bank


class PatchBankScore(Score):
    """log of w s, with the largest distance s of a patch p of the image to its nearest row m of the bank, and a weight w.

    A patch is a position of the encoder's last map, averaged with its neighbours (3 x 3; fewer at the border). With the b rows
    m_1 to m_b of the bank that are nearest to m, m among them, w = 1 - exp ||p - m|| / sum_i exp ||p - m_i|| (equation 7): a
    patch whose nearest row is itself far from the other rows counts for more. Of an ensemble the first member's map is read.

    Buffers: `centre` (c,), the mean row; `bank` (rows, c), less the centre; `half_norms` (rows,), half their squared norms;
    `bank_neighbours` (rows, b), the places of the rows nearest to each row, itself first.

    Args:
        rows: of the bank, at most.
        coreset: "random" or "k-centre", both among 20,000 patches drawn at random where there are more.
        neighbours: b; with 1 the weight is left out.
        blur: standard deviation of the Gaussian blur of `pixel_map`, in pixels.
    """

    has_pixel_map = True
    centre: Tensor
    bank: Tensor
    half_norms: Tensor
    bank_neighbours: Tensor
    kernel: Tensor

    def __init__(self, rows: int, coreset: str, neighbours: int, blur: float) -> None:
        super().__init__()
        self.rows, self.coreset, self.neighbours = rows, coreset, neighbours
        self.register_buffer("kernel", gaussian_kernel(blur), persistent=False)
        for name in ("centre", "bank", "half_norms", "bank_neighbours"):
            self.register_buffer(name, torch.zeros(0))

    def forward(self, output: ModelOutput) -> Tensor:
        patches = self._patches(output).flatten(1, 2)
        nearest_rows, distances = self._nearest(patches)
        largest, position = distances.max(1)
        if self.neighbours > 1:
            largest = largest * self._weights(patches, nearest_rows, position)
        return torch.log(largest + _DISTANCE_FLOOR)

    def pixel_map(self, output: ModelOutput) -> Tensor:
        """Return the distance of each patch to its nearest row as an image, (n, h, w): interpolated bilinearly, and blurred."""
        patches = self._patches(output)
        _, distances = self._nearest(patches.flatten(1, 2))
        distance_map = distances.view(-1, 1, *patches.shape[1:3])
        image = F.interpolate(distance_map, list(output.inputs.shape[2:]), mode="bilinear", align_corners=False)
        reach = len(self.kernel) // 2
        return blur_axes(F.pad(image, [reach] * 4, mode="replicate"), self.kernel, 0).squeeze(1)

    def learnt_facts(self) -> dict[str, Any]:
        return {"bank_rows": len(self.bank)}

    @torch.no_grad()
    def fit(self, samples: ScoreSamples) -> None:
        patches = self._draw_patches(samples)
        if samples.trim:
            patches = patches[torch.from_numpy(samples.find_typical(_project(patches, np.random.default_rng(samples.seed))))]
        if len(patches) < self.neighbours:
            found = f"{len(patches)}, the patches of {samples.rows('train')} training samples"
            raise SpecError([f"score.neighbours: expected at most {found}, got {self.neighbours}"])
        if len(patches) > self.rows:
            patches = patches[self._choose_rows(patches, samples.seed)]
        self.centre = patches.mean(0)
        self.bank = patches - self.centre
        self.half_norms = self.bank.square().sum(1) / 2
        self.bank_neighbours = _nearest_rows_of_rows(self.bank, self.half_norms, self.neighbours)

    def _draw_patches(self, samples: ScoreSamples) -> Tensor:
        """Return patches of the training samples, (k, c), in their order: all, or as many candidates, each as likely."""
        generator = np.random.default_rng(samples.seed)
        patches, keys = torch.zeros(0), np.zeros(0)
        for output in samples.outputs("train"):
            batch_patches = self._patches(output).flatten(0, 2)
            patches = torch.cat([patches, batch_patches]) if len(patches) else batch_patches
            keys = np.concatenate([keys, generator.random(len(batch_patches))])
            if len(keys) > _CANDIDATES:  # the patches with the smallest keys are a random choice, of any number of batches
                chosen = np.sort(np.argsort(keys, kind="stable")[:_CANDIDATES])
                patches, keys = patches[chosen], keys[chosen]
        return patches

    def _choose_rows(self, patches: Tensor, seed: int) -> Tensor:
        """Return the places of the bank's rows among patches, in the patches' order."""
        generator = np.random.default_rng(seed)
        if self.coreset == "random":
            places = generator.permutation(len(patches))[: self.rows]
        else:
            places = choose_k_centres(_project(patches, generator), self.rows)
        return torch.from_numpy(np.sort(places))

    def _patches(self, output: ModelOutput) -> Tensor:
        """Return the features of each position, averaged over its neighbours, (n, h, w, c)."""
        assert output.features is not None, "score patch-bank needs an encoder with maps"
        averages = F.avg_pool2d(output.features, 3, stride=1, padding=1, count_include_pad=False)
        return averages.permute(0, 2, 3, 1)

    def _nearest(self, patches: Tensor) -> tuple[Tensor, Tensor]:
        """Return the nearest row of the bank for patches (n, positions, c), and the distance to it, both (n, positions).

        Of rows that are about equally near, within a thousandth of the patch's norm, another than the nearest may be taken.
        """
        places, distances = [], []
        centred_patches = patches - self.centre
        for first in range(0, patches.shape[1], _POSITIONS_AT_ONCE):
            block = centred_patches[:, first : first + _POSITIONS_AT_ONCE]
            # p.m - |m|^2 / 2 falls as the distance grows. The distance itself is of differences, as products lose the digits of
            # small ones. As a product of two matrices, so that the graph holds the bank once.
            closeness = F.linear(block.flatten(0, 1), self.bank, -self.half_norms)
            block_places = closeness.argmax(1).view(-1, block.shape[1])
            places.append(block_places)
            distances.append((block - self.bank[block_places]).square().sum(2).sqrt())
        return torch.cat(places, 1), torch.cat(distances, 1)

    def _weights(self, patches: Tensor, nearest_rows: Tensor, position: Tensor) -> Tensor:
        """Return w for the patch at one position of each image, (n,)."""
        index = position.view(-1, 1, 1).expand(-1, 1, patches.shape[2])
        patch = patches.gather(1, index) - self.centre
        row = nearest_rows.gather(1, position.unsqueeze(1)).squeeze(1)
        distances = (patch - self.bank[self.bank_neighbours[row]]).square().sum(2).sqrt()
        return 1 - distances.softmax(1)[:, 0]


def _project(patches: Tensor, generator: np.random.Generator) -> Tensor:
    """Return patches (k, c) with so few numbers that they are compared quickly, (k, 128 or fewer)."""
    if patches.shape[1] <= _PROJECTED_NUMBERS:
        return patches
    projection = generator.standard_normal((patches.shape[1], _PROJECTED_NUMBERS)) / np.sqrt(_PROJECTED_NUMBERS)
    return patches @ torch.from_numpy(projection.astype(np.float32))


def _nearest_rows_of_rows(bank: Tensor, half_norms: Tensor, count: int) -> Tensor:
    """Return the places of the nearest rows of each row of a bank (rows, c), itself first, (rows, count) int64."""
    neighbours = []
    for places in torch.split(torch.arange(len(bank)), _ROWS_AT_ONCE):
        closeness = F.linear(bank[places], bank, -half_norms)
        closeness[torch.arange(len(places)), places] = torch.inf  # first, also among equal rows
        neighbours.append(closeness.topk(count, dim=1).indices)
    return torch.cat(neighbours)
