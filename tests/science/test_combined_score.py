"""The combined score: standardised on validation samples, chosen by power, exported, and stored."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch

from ae_models.autoencoder import Autoencoder
from ae_models.bank_scores import BankScore, FoundRows
from ae_models.bundle import load_bundle
from ae_models.calibration import calibrate, calibrate_scorer
from ae_models.combined_score import CombinedScore, build_score, choose_parts
from ae_models.errors import SpecError
from ae_models.export import export_onnx
from ae_models.model_output import ModelOutput
from ae_models.sample_sets import ArraySampleSet, SampleRoles
from ae_models.score_samples import ScoreSamples
from ae_models.spec import (
    CombinedScoreSpec,
    DenoisingScoreSpec,
    FitSpec,
    GaussianCorruptionSpec,
    InputSpec,
    KnnScoreSpec,
    LocalHullScoreSpec,
    NormalisedResidualScoreSpec,
)
from ae_models.threshold_samples import ThresholdSamples, require_sample_counts

INPUT = InputSpec("image", (1, 28, 28), 0, 255)
RESIDUAL = NormalisedResidualScoreSpec(energy=0.5, blur=1.0)
HULL = LocalHullScoreSpec(energy=0.5, blur=1.0)
KNN = KnnScoreSpec(energy=0.5, blur=1.0)


def score_samples(autoencoder: Autoencoder, digits: np.ndarray) -> ScoreSamples:
    return ScoreSamples(autoencoder, INPUT, ArraySampleSet(digits[:320]), ArraySampleSet(digits[320:384]), seed=3)


@pytest.fixture(scope="module")
def autoencoder(spec: FitSpec) -> Autoencoder:
    torch.manual_seed(0)
    return Autoencoder(spec.model, spec.input).eval()


@torch.no_grad()
def test_scores_with_the_same_bank_share_one_search(
    autoencoder: Autoencoder, digits: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    samples = score_samples(autoencoder, digits)
    combined = CombinedScore((HULL, KNN, dataclasses.replace(KNN, rows=100)), choose="all")
    combined.fit(samples)
    [output] = samples.outputs("validation")
    alone = []
    for place, part in enumerate(combined.parts):
        alone.append((part(output) - combined.median[place]) / combined.spread[place])
    searched: list[int] = []
    search = BankScore.search

    def counted(score: BankScore, output: ModelOutput, count: int) -> list[FoundRows]:
        searched.append(count)
        return search(score, output, count)

    monkeypatch.setattr(BankScore, "search", counted)
    np.testing.assert_allclose(combined.part_scores(output).numpy(), torch.stack(alone, 1).numpy(), rtol=1e-6)
    assert sorted(searched) == [KNN.neighbours, max(HULL.neighbours, KNN.neighbours)]


@torch.no_grad()
def test_it_is_the_mean_of_the_standardised_scores(autoencoder: Autoencoder, digits: np.ndarray) -> None:
    samples = score_samples(autoencoder, digits)
    combined = CombinedScore((RESIDUAL, HULL), choose="all")
    combined.fit(samples)
    expected = []
    for single in (RESIDUAL, HULL):
        score = build_score(single, autoencoder)
        score.fit(samples)
        values = np.concatenate([score(output).numpy() for output in samples.outputs("validation")]).astype(np.float64)
        low, middle, high = np.percentile(values, [15.87, 50, 84.13])
        expected.append((values - middle) / ((high - low) / 2))
    [output] = samples.outputs("validation")
    np.testing.assert_allclose(combined(output).numpy(), np.mean(expected, axis=0), atol=1e-5)
    np.testing.assert_allclose(combined.part_scores(output).numpy(), np.transpose(expected), atol=1e-5)
    assert combined.part_names() == ("normalised-residual", "local-hull")


@torch.no_grad()
def test_networks_that_only_raise_never_lower_the_score_below_the_banks(autoencoder: Autoencoder, digits: np.ndarray) -> None:
    samples = score_samples(autoencoder, digits)
    combined = CombinedScore((HULL, RESIDUAL, KNN), choose="all", networks_only_raise=True)
    combined.fit(samples)
    [output] = samples.outputs("validation")
    parts, scores = combined.part_scores(output).numpy(), combined(output).numpy()
    of_banks = parts[:, [0, 2]].mean(1)
    np.testing.assert_allclose(scores, np.maximum(parts.mean(1), of_banks), atol=1e-6)
    assert (scores > of_banks + 0.01).any(), "the network raises no score"
    assert (parts.mean(1) < of_banks - 0.01).any(), "the network would lower no score"


def test_power_is_that_of_the_score_that_networks_only_raise() -> None:
    random = np.random.default_rng(5)
    normal = random.normal(size=(400, 2)).astype(np.float32)
    shift = np.float32([3, -3])  # the network rebuilds these faults better than normal samples
    faulty = {"simple": random.normal(size=(400, 2)).astype(np.float32) + shift}
    lowered, raised = (choose_parts(normal, faulty, kept=(0, 1), floor=floor)[1][(0, 1)] for floor in ((), (0,)))
    assert lowered < 0.6
    assert raised > 0.9


@pytest.mark.parametrize("scores", [(RESIDUAL, DenoisingScoreSpec()), (HULL, KNN)])
def test_networks_only_raise_needs_scores_with_and_without_a_network(scores: tuple[Any, ...]) -> None:
    [message] = CombinedScoreSpec(scores, networks_only_raise=True).validation_errors()
    assert message.startswith("networks_only_raise is set, expected a score that needs no network")
    assert CombinedScoreSpec((RESIDUAL, HULL), networks_only_raise=True).validation_errors() == []


@torch.no_grad()
def test_a_part_that_is_constant_on_validation_samples_changes_no_ranking(autoencoder: Autoencoder, digits: np.ndarray) -> None:
    equal = ArraySampleSet(np.repeat(digits[:1], 30, axis=0))
    samples = ScoreSamples(autoencoder, INPUT, equal, equal, seed=0)
    combined = CombinedScore((RESIDUAL, KNN), choose="all")
    combined.fit(samples)
    assert combined.spread.tolist() == [1.0, 1.0]
    [output] = samples.run(ArraySampleSet(digits[:9]))
    assert torch.isfinite(combined(output)).all()


def test_a_score_that_hides_faults_is_left_out() -> None:
    generator = np.random.default_rng(0)
    normal = generator.normal(size=(400, 3)).astype(np.float32)
    shift = np.array([2.0, 2.0, 0.0], np.float32)  # the third score is blind, and two that see part of it see more together
    faulty = {"a": generator.normal(size=(400, 3)).astype(np.float32) + shift}
    chosen, powers = choose_parts(normal, faulty)
    assert chosen == (0, 1)
    assert powers[(0, 1)] > powers[(0,)] > powers[(2,)]
    assert powers[(0, 1)] > powers[(0, 1, 2)] + 0.02


def test_a_small_lead_on_faults_leaves_no_score_out() -> None:
    generator = np.random.default_rng(0)
    normal = generator.normal(size=(400, 2)).astype(np.float32)
    faulty = {"a": generator.normal(size=(400, 2)).astype(np.float32) + np.array([2.0, 1.2], np.float32)}
    chosen, powers = choose_parts(normal, faulty)
    assert powers[(0,)] < powers[(0, 1)] + 0.02
    assert chosen == (0, 1)


def test_of_blind_scores_one_is_left_at_least() -> None:
    normal = np.random.default_rng(0).normal(size=(100, 2)).astype(np.float32)
    assert choose_parts(normal, {"a": normal})[0]


@pytest.fixture(scope="module")
def calibrated(spec: FitSpec, fitted: Any, digits: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle whose score chooses among three by power."""
    combined = CombinedScoreSpec((RESIDUAL, HULL, KNN), choose="by-power", networks_only_raise=True)
    roles = SampleRoles(*(ArraySampleSet(part) for part in (digits[:320], digits[320:384], digits[384:])))
    folder = tmp_path_factory.mktemp("combined")
    for name in ("bundle", "again"):
        calibrate(dataclasses.replace(spec, score=combined), fitted.history, roles, content_sha256="0" * 64, bundle=folder / name)
    return folder / "bundle"


@pytest.mark.slow
def test_the_same_samples_give_the_same_bundle(calibrated: Path) -> None:
    again = calibrated.with_name("again")
    assert (calibrated / "SHA256SUMS").read_text() == (again / "SHA256SUMS").read_text()


def test_the_choice_stands_in_the_bundle_with_its_power(calibrated: Path) -> None:
    facts = json.loads((calibrated / "bundle.json").read_text())["score_facts"]
    assert [part["kind"] for part in facts["parts"]] == ["normalised-residual", "local-hull", "knn"]
    chosen = [part for part in facts["parts"] if part["chosen"]]
    assert chosen
    assert all(0 <= part["power"] <= facts["power"] + 0.05 <= 1.05 for part in facts["parts"])
    assert all(part["spread"] > 0 for part in chosen)


def test_the_graph_answers_as_the_loaded_bundle_and_names_what_spoke(calibrated: Path, digits: np.ndarray) -> None:
    loaded = load_bundle(calibrated)
    session = onnxruntime.InferenceSession(str(calibrated / "model.onnx"), providers=["CPUExecutionProvider"])
    raw = digits[:66].astype(np.float32)  # no calibration samples: one of them is the threshold, where a rounding decides
    outputs = dict(zip([output.name for output in session.get_outputs()], session.run(None, {"input": raw}), strict=True))
    expected = dict(zip(loaded.scorer.output_names, loaded.scorer(torch.from_numpy(raw)), strict=True))
    assert outputs.keys() == expected.keys()
    for name in outputs.keys() - {"p_value"}:  # a rank, which a rounding may change by one
        values = outputs[name]
        np.testing.assert_allclose(values, expected[name].detach().numpy(), atol=1e-3)
    is_bank = np.array([name != "normalised-residual" for name in loaded.scorer.score.part_names()])
    floor = outputs["part_scores"][:, is_bank].mean(1)
    np.testing.assert_allclose(np.maximum(outputs["part_scores"].mean(1), floor), outputs["score"], atol=1e-5)


@torch.no_grad()
def test_the_denoising_score_is_the_formula_in_numpy_and_one_for_a_sample(spec: FitSpec, digits: np.ndarray) -> None:
    model = dataclasses.replace(spec.model, corrupt=GaussianCorruptionSpec(0.3))
    torch.manual_seed(0)
    autoencoder = Autoencoder(model, spec.input).eval()
    score = build_score(DenoisingScoreSpec(draws=3, energy=0.0), autoencoder)
    score.fit(score_samples(autoencoder, digits))
    noises = score.stored_arrays()["noises"]
    assert noises.shape == (3, 1, 28, 28)
    assert noises.std() == pytest.approx(0.3, rel=0.1)
    x = torch.from_numpy(digits[:6] / np.float32(255))
    energies = []
    for noise in noises:
        reconstruction, _ = autoencoder((x + torch.from_numpy(noise)).clamp(0, 1))
        energies.append(((reconstruction - x) ** 2).sum((1, 2, 3)).numpy())
    together, alone = (score(autoencoder.run(part)).numpy() for part in (x, x[:1]))
    np.testing.assert_allclose(together, np.log(np.mean(energies, axis=0) + 1e-6), rtol=1e-5)
    np.testing.assert_allclose(alone, together[:1], rtol=1e-5)


def test_each_bank_without_enough_training_samples_is_named_before_a_training(spec: FitSpec) -> None:
    combined = CombinedScoreSpec((RESIDUAL, HULL, KNN))
    few, enough = ArraySampleSet(np.zeros((3, 1, 28, 28))), ArraySampleSet(np.zeros((256, 1, 28, 28)))
    with pytest.raises(SpecError) as refusal:
        require_sample_counts(dataclasses.replace(spec, score=combined), SampleRoles(few, enough, few), ThresholdSamples())
    assert refusal.value.mistakes[:2] == [
        "score.scores[1].neighbours: expected at most 3, the number of training samples, got 20",
        "score.scores[2].neighbours: expected at most 3, the number of training samples, got 5",
    ]
    assert "threshold" in refusal.value.mistakes[2]


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        ([{"kind": "knn"}], "expected 2 scores or more, got 1: name a single score itself"),
        ([{"kind": "knn"}, {"kind": "knn"}], "knn stands twice with the same settings"),
        ([{"kind": "knn"}, {"kind": "token-surprise"}], "scores[1]: token-surprise is not for input.kind image"),
        ([{"kind": "knn"}, {"kind": "code-residual"}], "scores[1]: code-residual needs the second code"),
        ([{"kind": "knn"}, {"kind": "combined"}], "scores[1].kind: expected"),
        ([{"kind": "knn"}, {"kind": "local-hull", "ridge": 0}], "scores[1].ridge: expected 0.05 to 10, got 0"),
    ],
)
def test_parts_that_do_not_go_together_are_refused(scores: list[dict[str, Any]], message: str, spec: FitSpec) -> None:
    sections = spec.to_dict() | {"score": {"kind": "combined", "scores": scores}}
    with pytest.raises(SpecError) as refusal:
        FitSpec.from_dict(sections, "spec.json")
    assert message in str(refusal.value)


def test_the_denoising_score_in_a_graph_takes_any_number_of_samples(spec: FitSpec, digits: np.ndarray, tmp_path: Path) -> None:
    model = dataclasses.replace(spec.model, corrupt=GaussianCorruptionSpec(0.3))
    torch.manual_seed(0)
    autoencoder = Autoencoder(model, spec.input).eval()
    score = build_score(DenoisingScoreSpec(draws=2, blur=1.0), autoencoder)
    score.fit(score_samples(autoencoder, digits))
    scorer = calibrate_scorer(spec.threshold, autoencoder, score, digits[384:])
    export_onnx(scorer, tmp_path / "model.onnx", tmp_path / "decoder.onnx", digits[:8])
    session = onnxruntime.InferenceSession(str(tmp_path / "model.onnx"), providers=["CPUExecutionProvider"])
    for rows in (1, 3):
        raw = digits[:rows].astype(np.float32)
        (scores,) = session.run(["score"], {"input": raw})
        np.testing.assert_allclose(scores, scorer(torch.from_numpy(raw))[0].detach().numpy(), atol=1e-4)


def test_a_score_of_the_network_comes_in_only_where_it_adds_clearly_to_those_that_are_kept() -> None:
    random = np.random.default_rng(3)
    normal = random.normal(size=(400, 3)).astype(np.float32)
    blind = {"fault": random.normal(size=(400, 3)).astype(np.float32) + np.float32([0, 2, 0])}
    assert choose_parts(normal, blind, kept=(0, 1))[0] == (0, 1)
    seeing = {"fault": random.normal(size=(400, 3)).astype(np.float32) + np.float32([0, 0, 4])}
    assert choose_parts(normal, seeing, kept=(0, 1))[0] == (0, 1, 2)
    chosen, powers = choose_parts(normal, seeing, kept=(0,))
    assert chosen == (0, 2)
    assert {(0,), (1,), (2,)} <= powers.keys()


def test_networks_by_power_needs_a_score_without_a_network() -> None:
    spec = CombinedScoreSpec((NormalisedResidualScoreSpec(), KnnScoreSpec("code")), "networks-by-power")
    assert any(
        "expected pca-residual, or knn or local-hull without space code," in message for message in spec.validation_errors()
    )
