"""Section `score`: several scores together."""

from dataclasses import dataclass
from typing import ClassVar

from ae_models.spec.autoencoder import AutoencoderConfig
from ae_models.spec.bank_scores import KnnScoreSpec, LocalHullScoreSpec
from ae_models.spec.ensemble_scores import DisagreementScoreSpec
from ae_models.spec.fields import bounded_field
from ae_models.spec.inputs import INPUT_KINDS, InputSpec
from ae_models.spec.linear_scores import PcaResidualScoreSpec
from ae_models.spec.messages import join_choices
from ae_models.spec.patch_scores import PatchBankScoreSpec
from ae_models.spec.scores import (
    AmbiguityScoreSpec,
    CodeResidualScoreSpec,
    DenoisingScoreSpec,
    NormalisedResidualScoreSpec,
    TokenSurpriseScoreSpec,
)
from ae_models.spec.training import TrainSpec

__all__ = ["CombinedScoreSpec", "ScoreSpec", "SingleScoreSpec", "score_row_errors", "single_scores"]

SingleScoreSpec = (
    NormalisedResidualScoreSpec
    | CodeResidualScoreSpec
    | AmbiguityScoreSpec
    | TokenSurpriseScoreSpec
    | DenoisingScoreSpec
    | DisagreementScoreSpec
    | KnnScoreSpec
    | LocalHullScoreSpec
    | PatchBankScoreSpec
    | PcaResidualScoreSpec
)


@dataclass(frozen=True)
class CombinedScoreSpec:
    """Mean of scores, each less its median and divided by its spread (84th less 16th percentile) on the validation samples.

    With `choose: by-power` each calibration leaves out scores without which the others find clearly more of the faults that are
    injected into validation samples. With `networks-by-power` the scores that need no network stay, and others come in where they
    find clearly more together with them. No label is read for it, and no calibration or test sample.

    With `networks_only_raise` the score is at least the mean of those of its parts that need no network. A network may rebuild
    what it has never seen, above all what is simpler than its training samples; its parts then lie low, and say nothing.
    """

    kind: ClassVar[str] = "combined"
    supported_inputs: ClassVar[tuple[str, ...]] = INPUT_KINDS
    scores: tuple[SingleScoreSpec, ...] = ()  # two or more, none twice with the same settings
    # Which of them go in: all, or those that help; networks-by-power leaves those without a network in and asks about the others.
    choose: str = bounded_field("all", one_of=("all", "by-power", "networks-by-power"))
    # Whether parts that need a network may only raise the score above the mean of the parts that need none.
    networks_only_raise: bool = bounded_field(False, omit_default=True)

    @property
    def needs_no_network(self) -> tuple[bool, ...]:
        """Whether each score compares inputs with what it has learnt of others, and so owes nothing to the network."""
        return tuple(map(_needs_no_network, self.scores))

    def validation_errors(self) -> list[str]:
        messages = []
        if len(self.scores) < 2:
            messages.append(f"expected 2 scores or more, got {len(self.scores)}: name a single score itself")
        if self.choose == "networks-by-power" and not any(self.needs_no_network):
            messages.append(
                "choose is networks-by-power, expected pca-residual, or knn or local-hull without space code, among the scores"
            )
        if self.networks_only_raise and len(set(self.needs_no_network)) < 2:
            messages.append(
                "networks_only_raise is set, expected a score that needs no network (pca-residual, or knn or local-hull "
                "without space code) and one that needs one"
            )
        repeated = sorted({score.kind for score in self.scores if self.scores.count(score) > 1})
        if repeated:
            messages.append(f"{join_choices(repeated)} stands twice with the same settings: leave one out")
        return messages

    def compatibility_errors(self, model: AutoencoderConfig, input_spec: InputSpec, train: TrainSpec) -> list[str]:
        messages = []
        for index, score in enumerate(self.scores):
            if input_spec.kind not in score.supported_inputs:
                messages.append(f"scores[{index}]: {score.kind} is not for input.kind {input_spec.kind}")
                continue
            for message in score.compatibility_errors(model, input_spec, train):
                messages.append(f"scores[{index}]: {message}")
        return messages


def _needs_no_network(score: SingleScoreSpec) -> bool:
    is_bank_of_inputs = isinstance(score, KnnScoreSpec | LocalHullScoreSpec) and score.space != "code"
    return is_bank_of_inputs or isinstance(score, PcaResidualScoreSpec)


ScoreSpec = SingleScoreSpec | CombinedScoreSpec


def single_scores(score: ScoreSpec) -> dict[str, SingleScoreSpec]:
    """Return the scores that a section `score` names, by their paths: itself, or the parts of a combined one.

    >>> list(single_scores(CombinedScoreSpec((KnnScoreSpec(), LocalHullScoreSpec()))))
    ['score.scores[0]', 'score.scores[1]']
    """
    if isinstance(score, CombinedScoreSpec):
        return {f"score.scores[{index}]": part for index, part in enumerate(score.scores)}
    return {"score": score}


def score_row_errors(score: ScoreSpec, train_rows: int) -> list[str]:
    """Return a message for each score that needs more training samples than there are."""
    messages = []
    for path, single in single_scores(score).items():
        if isinstance(single, KnnScoreSpec | LocalHullScoreSpec) and single.neighbours > train_rows:
            what = f"at most {train_rows}, the number of training samples"
            messages.append(f"{path}.neighbours: expected {what}, got {single.neighbours}")
    return messages
