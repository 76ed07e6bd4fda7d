"""Scores that compare a sample with its nearest normal samples. Each sample's work is a fixed number of steps in the graph."""

from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from ae_models.blur import gaussian_kernel
from ae_models.errors import SpecError
from ae_models.model_output import ModelOutput
from ae_models.orientations import OrientationHistograms
from ae_models.sample_sets import SampleArray
from ae_models.score_interface import ENERGY_FLOOR, Score, log_energy, to_shares, to_vectors
from ae_models.score_samples import ScoreSamples
from ae_models.tangents import tangent_vectors
from ae_models.tied_rows import separate_rows

if TYPE_CHECKING:
    from ae_models.autoencoder import Autoencoder

__all__ = [
    "BankScore",
    "FoundRows",
    "KnnScore",
    "LocalHullScore",
    "choose_k_centres",
    "search_banks",
    "solve_by_conjugate_gradients",
]

_K_CENTRE_CANDIDATES = 20_000  # rows among which k-centre chooses: its time grows with their number times the bank's
# Relative: a direction in which codes vary less than this share of the mean is not stretched to the length of the others.
_LEAST_VARIANCE = 1e-4
_ROUNDING_VARIANCE = 1e-8  # of a code that does not depend on the sample: its last bits are no difference
_SOLVER_STEPS = 12  # of conjugate gradients: with a ridge of 0.05 or more the residual's logarithm is right to 1e-3
_SEARCHED_VALUES = 2**20  # products of samples and bank rows in memory at once: more of them leave the cache
_LEAST_SEARCHED = 64  # samples at once, so that the bank is not read too often
_TINY = 1e-20  # keeps a division by the squared norm of a zero vector finite


class FoundRows(NamedTuple):
    """What a search in a bank found, in one of its views.

    Attributes:
        compared: the samples' vectors as the bank has them, (n, numbers).
        nearest: places of their nearest rows, (n, count), nearest first.
    """

    compared: Tensor
    nearest: Tensor


class BankScore(Score):
    """A score by the nearest rows of a bank of normal samples.

    Buffers: `bank` (views, rows, numbers), its rows as they are compared, with a little noise where many are equally near (see
    `ae_models.tied_rows`); `half_norms` (views, rows), half their squared norms; `mean` (views, numbers) and `whitening` (views,
    numbers, numbers), of codes; `samples`, the raw rows. There is one view of an input, and one of each member's code.
    """

    bank: Tensor
    half_norms: Tensor
    mean: Tensor
    whitening: Tensor
    samples: Tensor
    kernel: Tensor

    def __init__(
        self, space: str, blur: float, energy: float, pool: int, rows: int, coreset: str, neighbours: int, level: float = 0.0
    ) -> None:
        super().__init__()
        self.space, self.energy, self.pool, self.rows, self.coreset = space, energy, pool, rows, coreset
        self.neighbours, self.level = neighbours, level
        self.blur = blur
        self.histograms: OrientationHistograms | None = None  # of space orientations, once the score is attached
        self.left_out = 0  # nearest rows that do not count: 1 while rows of the bank itself are scored
        self.register_buffer("kernel", gaussian_kernel(blur), persistent=False)
        for name in ("bank", "half_norms", "mean", "whitening", "samples"):
            self.register_buffer(name, torch.zeros(0))

    def attach(self, autoencoder: "Autoencoder") -> None:
        if self.space == "orientations":
            self.histograms = OrientationHistograms(autoencoder.input_shape, self.blur, self.pool)

    @property
    def _attached_histograms(self) -> OrientationHistograms:
        assert self.histograms is not None, "a score of orientations is attached to its model before it is used"
        return self.histograms

    @property
    def bank_settings(self) -> Hashable:
        """What decides the bank's rows: scores that have learnt of the same samples with the same ones have the same bank."""
        return self.space, self.blur, self.pool, self.level, self.rows, self.coreset

    @property
    def searched_rows(self) -> int:
        """How many nearest rows of each sample the score needs."""
        return self.neighbours + self.left_out

    def forward(self, output: ModelOutput) -> Tensor:
        return self.score_found(self.search(output, self.searched_rows), output.inputs)

    def search(self, output: ModelOutput, count: int) -> list[FoundRows]:
        """Return the nearest rows of a batch, so many of each sample, by view."""
        found = []
        for view, vectors in enumerate(self._views(output)):
            compared = self._as_compared(vectors, view)
            found.append(FoundRows(compared, self._nearest_rows(compared, view, count)))
        return found

    def score_found(self, found: Sequence[FoundRows], inputs: Tensor) -> Tensor:
        """Return the scores of a batch (n, *input_shape) whose nearest rows are known, `searched_rows` or more: (n,)."""
        scores = []
        for view, (compared, nearest) in enumerate(found):
            neighbours = self.bank[view][nearest[:, self.left_out : self.searched_rows]]
            scores.append(torch.log(self.squared_distance(compared, neighbours, inputs) + ENERGY_FLOOR))
            if self.energy:
                # Of what is compared: with the energy of the input before its blur, digits are ranked worse.
                scores[-1] = scores[-1] - self.energy * log_energy(compared)
        return torch.stack(scores).mean(0)

    def residual(self, vectors: Tensor, neighbours: Tensor, inputs: Tensor) -> Tensor:
        """Return the vectors (n, numbers) less what is nearest of their nearest rows (n, k, numbers): (n, numbers).

        The vectors are those of the inputs (n, *input_shape).
        """
        raise NotImplementedError

    def squared_distance(self, vectors: Tensor, neighbours: Tensor, inputs: Tensor) -> Tensor:
        """Return the squared length of the residual, (n,)."""
        return self.residual(vectors, neighbours, inputs).square().sum(1)

    @property
    def has_value_shares(self) -> bool:  # type: ignore[override]  # of distances between inputs alone
        return self.space == "input"

    def value_shares(self, output: ModelOutput) -> Tensor | None:
        return to_shares(self._residual_of_inputs(output)) if self.has_value_shares else None

    @property
    def has_pixel_map(self) -> bool:  # type: ignore[override]  # of histograms, each of which has a place
        return self.space == "orientations"

    def pixel_map(self, output: ModelOutput) -> Tensor | None:
        """Return the squared residual of the histograms' cells as an image, (n, h, w), interpolated bilinearly."""
        if not self.has_pixel_map:
            return None
        return self._attached_histograms.to_map(self._residual_of_inputs(output).square())

    def _residual_of_inputs(self, output: ModelOutput) -> Tensor:
        [vectors] = self._views(output)
        neighbours = self.bank[0][self._nearest_rows(vectors, 0, self.neighbours)]
        return self.residual(vectors, neighbours, output.inputs)

    def nearest(self, output: ModelOutput) -> Tensor:
        first_view = self._views(output)[0]
        return self._nearest_rows(self._as_compared(first_view, 0), 0, 1)[:, 0]

    def bank_samples(self) -> SampleArray | None:
        samples: SampleArray = self.samples.numpy()
        return samples

    def learnt_facts(self) -> dict[str, Any]:
        return {"bank_rows": self.bank.shape[1]}

    @torch.no_grad()
    def fit(self, samples: ScoreSamples) -> None:
        order = np.random.default_rng(samples.seed).permutation(samples.rows("train"))
        if samples.trim:
            order = self._leave_out_untypical(samples, order)
        available = len(order)
        if available < self.neighbours:
            left = f"{available}, the number of training samples{' that train.trim leaves' if samples.trim else ''}"
            raise SpecError([f"score.neighbours: expected at most {left}, got {self.neighbours}"])
        chosen = np.sort(order[: self.rows])
        if self.coreset == "k-centre" and available > self.rows:
            candidates = np.sort(order[:_K_CENTRE_CANDIDATES])
            chosen = np.sort(candidates[choose_k_centres(self._first_view(samples, candidates), self.rows)])
        views = self._all_views(samples, chosen)
        if self.space == "code":
            every_view = self._all_views(samples, np.sort(order[:_K_CENTRE_CANDIDATES]))
            self.mean = torch.stack([view.mean(0) for view in every_view])
            self.whitening = torch.stack(list(map(_whitening, every_view)))
        compared = [self._as_compared(vectors, view) for view, vectors in enumerate(views)]
        self.bank = torch.stack([separate_rows(rows, samples.seed) for rows in compared])
        self.half_norms = self.bank.square().sum(2) / 2
        self.samples = torch.from_numpy(samples.raw_inputs("train", chosen))

    def _leave_out_untypical(self, samples: ScoreSamples, order: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Return the places of training samples without those that look least like the others, in their order."""
        candidates = order[: max(self.rows, _K_CENTRE_CANDIDATES)]
        return candidates[samples.find_typical(self._first_view(samples, candidates))]

    def _first_view(self, samples: ScoreSamples, indices: npt.NDArray[np.int64]) -> Tensor:
        """Return the vectors by which training samples are chosen, (rows, numbers): of an ensemble's codes the first member's."""
        vectors = self._all_views(samples, indices)[0]
        if self.space == "code":
            vectors = (vectors - vectors.mean(0)) @ _whitening(vectors)
        return vectors

    def _all_views(self, samples: ScoreSamples, indices: npt.NDArray[np.int64]) -> list[Tensor]:
        """Return the vectors of training samples, (rows, numbers), one tensor a view."""
        if self.space != "code":
            return [torch.cat(list(map(self._input_view, samples.inputs("train", indices))))]
        batches = map(self._views, samples.outputs("train", indices))
        return list(map(torch.cat, zip(*batches, strict=True)))

    def _views(self, output: ModelOutput) -> tuple[Tensor, ...]:
        """Return the vectors of a batch, (n, numbers), before whitening."""
        if self.space == "code":
            return tuple(member.latent.flatten(1) for member in output.members or (output,))
        return (self._input_view(output.inputs),)

    def _input_view(self, inputs: Tensor) -> Tensor:
        if self.space == "orientations":
            vectors: Tensor = self._attached_histograms(inputs)
            return vectors
        return to_vectors(inputs, self.kernel, self.pool, self.level)

    def _as_compared(self, vectors: Tensor, view: int) -> Tensor:
        if self.space == "code":
            return (vectors - self.mean[view]) @ self.whitening[view]
        return vectors

    def _nearest_rows(self, vectors: Tensor, view: int, count: int) -> Tensor:
        """Return the places of the nearest rows, (n, count), nearest first."""
        # x.b - |b|^2 / 2 falls as the distance grows.
        bank, half_norms = self.bank[view], self.half_norms[view]
        if torch.jit.is_tracing():  # type: ignore[attr-defined,no-untyped-call]
            # As one product with a bias, so that the graph holds the bank once.
            closeness = F.linear(vectors, bank, -half_norms)
            return closeness.topk(count, dim=1).indices
        nearest = []
        for block in torch.split(vectors, max(_LEAST_SEARCHED, _SEARCHED_VALUES // len(bank))):
            closeness = block @ bank.T
            closeness -= half_norms
            nearest.append(closeness.topk(count, dim=1).indices)
        return torch.cat(nearest)


def search_banks(scores: Sequence[Score], output: ModelOutput) -> dict[Hashable, list[FoundRows]]:
    """Search each bank once for all scores that compare with it; return what was found by the settings of the bank.

    Args:
        scores: of one combination, so that they have learnt of the same samples; those without a bank are passed over.
        output: of a batch.
    """
    by_settings: dict[Hashable, list[BankScore]] = {}
    for score in scores:
        if isinstance(score, BankScore):
            by_settings.setdefault(score.bank_settings, []).append(score)
    found = {}
    for settings, alike in by_settings.items():
        count = max(score.searched_rows for score in alike)
        found[settings] = alike[0].search(output, count)
    return found


class KnnScore(BankScore):
    """log d^2 - energy log ||x||^2, with the distance d to the k-th nearest row of the bank (Ramaswamy et al. 2000).

    x is the blurred and pooled input, less a share of its level; its histograms of gradient orientations; or the code.

    Args:
        distance: "kth", or "mean": the mean distance to the k nearest rows (Angiulli and Pizzuti 2002).
        space: "input", "orientations" or "code".
        blur, energy, pool, level: as the spec says.
        rows: of the bank, at most.
        coreset: "random" or "k-centre".
        neighbours: k.
    """

    def __init__(self, distance: str = "kth", **settings: Any) -> None:
        super().__init__(**settings)
        self.distance = distance

    def squared_distance(self, vectors: Tensor, neighbours: Tensor, inputs: Tensor) -> Tensor:
        # Of differences, as the products that found the rows have lost the digits of small distances.
        squared = (neighbours - vectors.unsqueeze(1)).square().sum(2)
        return squared.amax(1) if self.distance == "kth" else squared.sqrt().mean(1).square()

    def residual(self, vectors: Tensor, neighbours: Tensor, inputs: Tensor) -> Tensor:
        return vectors - neighbours[:, 0]


class LocalHullScore(BankScore):
    """log ||r||^2 - energy log ||x||^2, with the residual r of x on the ridge-regularised affine hull of the nearest rows.

    With the mean m of the k rows and the matrix C of their differences to m, scaled so that its rows have a mean energy of one,
    r = (x - m) - C^T a, and a solves (C C^T + ridge I) a = C (x - m). With tangents C also has the six of x and the six of m (of
    orientations those of x alone), each group scaled likewise: how they change when moved a little (Simard et al. 1993).

    Args:
        ridge: relative to the mean energy of the directions.
        tangents: of images: whether small affine moves count as no difference.
        space, blur, energy, pool, level, rows, coreset, neighbours: as of `KnnScore`.
    """

    def __init__(self, ridge: float, tangents: bool = False, **settings: Any) -> None:
        super().__init__(**settings)
        self.ridge, self.tangents = ridge, tangents
        self._shape: tuple[int, ...] = ()

    def attach(self, autoencoder: "Autoencoder") -> None:
        super().attach(autoencoder)
        channels, *sides = autoencoder.input_shape
        self._shape = (channels, *(side // self.pool for side in sides))

    def residual(self, vectors: Tensor, neighbours: Tensor, inputs: Tensor) -> Tensor:
        # From the nearest one on, so that the mean of copies is that row, without a rounding error that would be a direction.
        nearest = neighbours[:, :1]
        centre = (nearest + (neighbours - nearest).mean(1, keepdim=True))[:, 0]
        groups = [neighbours - centre.unsqueeze(1)]
        if self.tangents:
            groups += self._tangents(vectors, centre, inputs)
        directions = torch.cat(list(map(_scale_to_mean_energy_one, groups)), 1)
        offset = (vectors - centre).unsqueeze(1)
        gram = directions @ directions.transpose(1, 2)
        weights = solve_by_conjugate_gradients(gram, self.ridge, directions @ offset.transpose(1, 2), _SOLVER_STEPS)
        residual: Tensor = offset - weights.transpose(1, 2) @ directions
        return residual[:, 0]

    def _tangents(self, vectors: Tensor, centre: Tensor, inputs: Tensor) -> list[Tensor]:
        if self.space == "orientations":  # the mean of histograms is that of no image
            return [self._attached_histograms.tangents(inputs)]
        return [tangent_vectors(x.reshape(-1, *self._shape)) for x in (vectors, centre)]


def _scale_to_mean_energy_one(directions: Tensor) -> Tensor:
    """Return directions (n, k, numbers) of which the mean squared length over k is one; zeros stay zeros."""
    energy = directions.square().sum(2).mean(1)
    scaled: Tensor = directions * torch.rsqrt(energy + _TINY)[:, None, None]
    return scaled


def solve_by_conjugate_gradients(matrix: Tensor, ridge: float, right_side: Tensor, steps: int) -> Tensor:
    """Return x with (matrix + ridge I) x = right_side, approximately: a fixed number of steps, which a graph can hold.

    Hestenes and Stiefel 1952. After at most k steps it is exact but for rounding.

    Args:
        matrix: (n, k, k), symmetric and positive semidefinite.
        ridge: above zero.
        right_side: (n, k, 1).
        steps: number of steps.
    """
    solution = torch.zeros_like(right_side)
    residual = direction = right_side
    squared_norm = residual.square().sum(1, keepdim=True)
    for _ in range(min(steps, matrix.shape[1])):
        image = matrix @ direction + ridge * direction
        length = squared_norm / ((direction * image).sum(1, keepdim=True) + _TINY)
        solution = solution + length * direction
        residual = residual - length * image
        next_squared_norm = residual.square().sum(1, keepdim=True)
        direction = residual + next_squared_norm / (squared_norm + _TINY) * direction
        squared_norm = next_squared_norm
    return solution


def choose_k_centres(vectors: Tensor, count: int) -> npt.NDArray[np.int64]:
    """Return the places of rows that cover all rows: each next one is the farthest from those chosen before.

    Sener and Savarese 2018, algorithm 1; the first one is the row nearest to the mean.

    Args:
        vectors: (n, numbers), with n >= count.
        count: number of rows to choose.

    Returns:
        (count,) in the order of the choice.
    """
    chosen = np.empty(count, np.int64)
    chosen[0] = int((vectors - vectors.mean(0)).square().sum(1).argmin())
    distance = torch.full((len(vectors),), torch.inf)
    for place in range(1, count):
        newest = vectors[chosen[place - 1]]
        distance = torch.minimum(distance, (vectors - newest).square().sum(1))
        distance[chosen[place - 1]] = -1.0  # not again, also where all other rows are equal to chosen ones
        chosen[place] = int(distance.argmax())
    return chosen


def _whitening(vectors: Tensor) -> Tensor:
    """Return the matrix that makes vectors (n, numbers) less their mean uncorrelated, with variance one."""
    centred = (vectors - vectors.mean(0)).double()
    covariance = centred.T @ centred / max(1, len(vectors) - 1)
    variances, directions = torch.linalg.eigh(covariance)
    floor = (_LEAST_VARIANCE * variances.mean()).clamp(min=_ROUNDING_VARIANCE)
    whitening: Tensor = (directions * variances.clamp(min=floor).rsqrt()).float()
    return whitening
