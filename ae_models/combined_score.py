"""Several scores together: the mean of standardised scores."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import compress
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from ae_models.bank_scores import BankScore, KnnScore, LocalHullScore, search_banks
from ae_models.ensemble_scores import DisagreementScore
from ae_models.factory import build_part
from ae_models.linear_scores import PcaResidualScore
from ae_models.model_output import ModelOutput
from ae_models.patch_scores import PatchBankScore
from ae_models.power import measure_separation
from ae_models.sample_sets import SampleArray
from ae_models.score_interface import Score
from ae_models.score_samples import ScoreSamples
from ae_models.scores import (
    AmbiguityScore,
    CodeResidualScore,
    DenoisingScore,
    NormalisedResidualScore,
    TokenSurpriseScore,
)
from ae_models.spec import CombinedScoreSpec, ScoreSpec, SingleScoreSpec

if TYPE_CHECKING:
    from ae_models.autoencoder import Autoencoder

__all__ = ["SCORES", "SINGLE_SCORES", "CombinedScore", "build_score", "choose_parts"]

SINGLE_SCORES: dict[str, type[Score]] = {
    "normalised-residual": NormalisedResidualScore,
    "code-residual": CodeResidualScore,
    "ambiguity": AmbiguityScore,
    "token-surprise": TokenSurpriseScore,
    "denoising": DenoisingScore,
    "disagreement": DisagreementScore,
    "knn": KnnScore,
    "local-hull": LocalHullScore,
    "patch-bank": PatchBankScore,
    "pca-residual": PcaResidualScore,
}

_CHOICE_MARGIN = 0.02  # of separation, by which a combination without a score has to be better
_LOW, _MIDDLE, _HIGH = 15.87, 50.0, 84.13  # percentiles: for a normal distribution one standard deviation about the median


class CombinedScore(Score):
    """Mean over the chosen parts of (s - median) / spread, both measured on the validation samples.

    With `networks_only_raise` it is at least that mean over the chosen parts that need no network, if there is one.

    The spread is half the distance from the 16th to the 84th percentile, and 1 for a part that gives all validation samples one
    score. A part that is not chosen is neither stored nor in the graph.

    Args:
        scores: settings of the parts.
        choose: "all", "by-power" or "networks-by-power".
        networks_only_raise: whether parts that need a network may only raise the score above the mean of the others.
    """

    median: Tensor
    spread: Tensor
    is_chosen: Tensor

    def __init__(self, scores: Sequence[SingleScoreSpec], choose: str, networks_only_raise: bool = False) -> None:
        super().__init__()
        self.specs = tuple(scores)
        self._without_network = tuple(compress(range(len(scores)), CombinedScoreSpec(self.specs).needs_no_network))
        self._floor_parts = self._without_network if networks_only_raise else ()
        self.parts = nn.ModuleList([build_part(SINGLE_SCORES, spec) for spec in scores])
        self.choose = choose
        self._powers: dict[tuple[int, ...], float] = {}
        for name in ("median", "spread"):
            self.register_buffer(name, torch.zeros(len(scores)))
        self.register_buffer("is_chosen", torch.ones(len(scores), dtype=torch.bool))

    def attach(self, autoencoder: "Autoencoder") -> None:
        for part in self._all_parts():
            part.attach(autoencoder)

    def forward(self, output: ModelOutput) -> Tensor:
        places = tuple(index for index, _ in self._chosen_parts())
        part_scores = self.part_scores(output)
        score = part_scores.mean(1)
        floor_columns = _floor_places(places, self._floor_parts)
        return torch.maximum(score, part_scores[:, floor_columns].mean(1)) if floor_columns else score

    def part_scores(self, output: ModelOutput) -> Tensor:
        chosen = self._chosen_parts()
        scores = _score_parts([part for _, part in chosen], output)
        standardised = []
        for (index, _), score in zip(chosen, scores, strict=True):
            standardised.append((score - self.median[index]) / self.spread[index])
        return torch.stack(standardised, 1)

    def part_names(self) -> tuple[str, ...]:
        return tuple(self.specs[index].kind for index, _ in self._chosen_parts())

    def nearest(self, output: ModelOutput) -> Tensor | None:
        bank = self._bank_part()
        return None if bank is None else bank.nearest(output)

    def bank_samples(self) -> SampleArray | None:
        bank = self._bank_part()
        return None if bank is None else bank.bank_samples()

    @property
    def has_pixel_map(self) -> bool:  # type: ignore[override]  # of the chosen parts
        return self._first_part("has_pixel_map") is not None

    def pixel_map(self, output: ModelOutput) -> Tensor | None:
        part = self._first_part("has_pixel_map")
        return None if part is None else part.pixel_map(output)

    @property
    def has_value_shares(self) -> bool:  # type: ignore[override]
        return self._first_part("has_value_shares") is not None

    def value_shares(self, output: ModelOutput) -> Tensor | None:
        """Return the mean over the chosen parts that say something of single numbers."""
        part_shares = []
        for _, part in self._chosen_parts():
            shares = part.value_shares(output) if part.has_value_shares else None
            if shares is not None:
                part_shares.append(shares)
        return torch.stack(part_shares).mean(0) if part_shares else None

    @property
    def has_token_surprise(self) -> bool:  # type: ignore[override]
        return self._first_part("has_token_surprise") is not None

    def token_surprise(self, output: ModelOutput) -> Tensor | None:
        part = self._first_part("has_token_surprise")
        return None if part is None else part.token_surprise(output)

    def learnt_facts(self) -> dict[str, Any]:
        parts = []
        chosen = dict(self._chosen_parts())
        for index, (spec, part) in enumerate(zip(self.specs, self._all_parts(), strict=True)):
            facts = {"kind": spec.kind, "chosen": index in chosen}
            if index in chosen:
                facts |= {"median": float(self.median[index]), "spread": float(self.spread[index])} | part.learnt_facts()
            if (index,) in self._powers:
                facts["power"] = self._powers[(index,)]
            parts.append(facts)
        if not self._powers:
            return {"parts": parts}
        return {"parts": parts, "power": self._powers[tuple(chosen)]}

    @torch.no_grad()
    def fit(self, samples: ScoreSamples) -> None:
        for part in self._all_parts():
            part.fit(samples)
        normal = self.standardise(samples.outputs("validation"))
        if self.choose != "all":
            faulty = {}
            for name, outputs in samples.faulty_outputs():
                faulty[name] = self._standardise(self._raw_scores(outputs))
            kept = self._without_network if self.choose == "networks-by-power" else ()
            chosen, self._powers = choose_parts(self._standardise(normal), faulty, kept, self._floor_parts)
            self.is_chosen = torch.zeros(len(self.parts), dtype=torch.bool)
            self.is_chosen[list(chosen)] = True
        for index, spec in enumerate(self.specs):
            if not self.is_chosen[index]:
                self.parts[index] = build_part(SINGLE_SCORES, spec)  # without what it learnt

    @torch.no_grad()
    def standardise(self, outputs: Iterator[ModelOutput]) -> npt.NDArray[np.float32]:
        """Measure median and spread of each part on normal samples, and return the scores of the parts, (n, parts)."""
        normal = self._raw_scores(outputs)
        low, middle, high = np.percentile(normal.astype(np.float64), (_LOW, _MIDDLE, _HIGH), axis=0)
        spread = (high - low) / 2
        self.median = torch.from_numpy(middle.astype(np.float32))
        self.spread = torch.from_numpy(np.where(spread > 0, spread, 1.0).astype(np.float32))
        return normal

    def _raw_scores(self, outputs: Iterator[ModelOutput]) -> npt.NDArray[np.float32]:
        """Return the score of each part, not standardised, (n, parts)."""
        batches = []
        for output in outputs:
            batches.append(torch.stack(_score_parts(self._all_parts(), output), 1))
        scores: npt.NDArray[np.float32] = torch.cat(batches).numpy()
        return scores

    def _standardise(self, scores: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        standardised: npt.NDArray[np.float32] = (scores - self.median.numpy()) / self.spread.numpy()
        return standardised

    def _all_parts(self) -> list[Score]:
        return [part for part in self.parts if isinstance(part, Score)]

    def _chosen_parts(self) -> list[tuple[int, Score]]:
        """Return the parts that go in, with their places among the settings."""
        is_chosen = self.is_chosen.tolist()  # constants of the graph
        return list(compress(enumerate(self._all_parts()), is_chosen))

    def _first_part(self, attribute: str) -> Score | None:
        """Return the first chosen part for which this is true: `has_pixel_map`, `has_value_shares` or `has_token_surprise`."""
        for _, part in self._chosen_parts():
            if getattr(part, attribute):
                return part
        return None

    def _bank_part(self) -> Score | None:
        """Return the first chosen part that compares inputs with a bank of samples."""
        for _, part in self._chosen_parts():
            if part.bank_samples() is not None:
                return part
        return None


def _score_parts(parts: Sequence[Score], output: ModelOutput) -> list[Tensor]:
    """Return the score of each part, (n,); parts that compare with the same bank share one search of it."""
    found, scores = search_banks(parts, output), []
    for part in parts:
        if isinstance(part, BankScore):
            scores.append(part.score_found(found[part.bank_settings], output.inputs))
        else:
            scores.append(part(output))
    return scores


def _floor_places(places: tuple[int, ...], floor: tuple[int, ...]) -> list[int]:
    """Return where the parts of the floor stand among the parts at these places."""
    return [column for column, place in enumerate(places) if place in floor]


def _combine_scores(scores: npt.NDArray[np.float32], floor_columns: list[int]) -> npt.NDArray[np.float32]:
    """Return the mean of the standardised scores (n, parts), at least that of the columns of the floor, if there are any."""
    mean: npt.NDArray[np.float32] = scores.mean(1)
    return np.maximum(mean, scores[:, floor_columns].mean(1)) if floor_columns else mean


def choose_parts(
    normal: npt.NDArray[np.float32],
    faulty: Mapping[str, npt.NDArray[np.float32]],
    kept: tuple[int, ...] = (),
    floor: tuple[int, ...] = (),
) -> tuple[tuple[int, ...], dict[tuple[int, ...], float]]:
    """Choose the scores that go in: of all, one after another leaves while the others find clearly more without it.

    Power is the mean over faults of their separation, the chance that a faulty sample scores higher than a normal one, which
    ranks detectors better than the share caught (docs/power.md). Clearly is by more than `_CHOICE_MARGIN`: faults stand for
    anomalies that nobody has seen, so a small lead on them says little, and a mean of different scores finds more kinds of them.
    Where some are kept, it goes the other way: to these, one after another of the others comes in that clearly adds to them.

    Args:
        normal: standardised scores of normal samples, (n, parts).
        faulty: standardised scores of samples with a fault, (m, parts), by the fault's name.
        kept: places of the scores that go in, whatever their power.
        floor: places of the scores below whose mean a combination does not fall.

    Returns:
        The places of the chosen scores, and the power of each combination that was compared, each score alone among them.
    """
    powers: dict[tuple[int, ...], float] = {}

    def power(places: tuple[int, ...]) -> float:
        if places not in powers:
            columns, floor_columns = list(places), _floor_places(places, floor)
            normal_scores, separations = _combine_scores(normal[:, columns], floor_columns), []
            for scores in faulty.values():
                separations.append(measure_separation(_combine_scores(scores[:, columns], floor_columns), normal_scores))
            powers[places] = float(np.mean(separations))
        return powers[places]

    everyone = tuple(range(normal.shape[1]))
    for place in everyone:
        power((place,))
    chosen = kept or everyone
    while kept and len(chosen) < len(everyone):
        best = max(_with_one_more(chosen, everyone), key=power)
        if power(best) <= power(chosen) + _CHOICE_MARGIN:
            break
        chosen = best
    while not kept and len(chosen) > 1:
        best = max(_with_one_less(chosen), key=power)
        if power(best) <= power(chosen) + _CHOICE_MARGIN:
            break
        chosen = best
    power(chosen)
    return chosen, powers


def _with_one_more(chosen: tuple[int, ...], everyone: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    """Yield the combinations with one score more, in the order of the scores."""
    for place in everyone:
        if place not in chosen:
            yield tuple(sorted((*chosen, place)))


def _with_one_less(chosen: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    """Yield the combinations with one score less: without the first, without the second and so on."""
    for index in range(len(chosen)):
        yield chosen[:index] + chosen[index + 1 :]


SCORES: dict[str, type[Score]] = {**SINGLE_SCORES, "combined": CombinedScore}


def build_score(spec: ScoreSpec, autoencoder: "Autoencoder") -> Score:
    """Return the score of a model, which has learnt nothing yet: `Score.fit` or `Score.load_arrays` comes next."""
    score = build_part(SCORES, spec)
    score.attach(autoencoder)
    return score
