"""Every legal pair of parts, in some model that is built, trained a step, saved, exported and loaded again.

Models of small parts that `check_compatibility` objects to are left out, and a greedy choice of the others holds every pair of
parts that any legal model holds. Of those, `make test` trains some that hold every part, and `make test-long-models` all.
"""

import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from frozen_backbone import export_network
from torch import nn

from ae_models.autoencoder import Autoencoder
from ae_models.bundle import load_bundle
from ae_models.fit import fit
from ae_models.spec import (
    PART_SPECS,
    AdversarialCodeCriticSpec,
    AffineAugmentationSpec,
    AmbiguityScoreSpec,
    AutoencoderConfig,
    BceLossSpec,
    CodeResidualScoreSpec,
    ColumnSpec,
    CombinedScoreSpec,
    ContractiveBottleneckSpec,
    ConvDecoderSpec,
    ConvEncoderSpec,
    CrossEntropyLossSpec,
    DenoisingScoreSpec,
    DenseDecoderSpec,
    DenseEncoderSpec,
    DisagreementScoreSpec,
    FitSpec,
    FlipAugmentationSpec,
    GanomalyCriticSpec,
    GaussianCorruptionSpec,
    GreyCorruptionSpec,
    HuberLossSpec,
    IdentityBottleneckSpec,
    InputSpec,
    KnnScoreSpec,
    L1BottleneckSpec,
    L1LossSpec,
    LocalHullScoreSpec,
    MaskingCorruptionSpec,
    MemoryBottleneckSpec,
    MixedLossSpec,
    MseLossSpec,
    NoAugmentationSpec,
    NoCorruptionSpec,
    NoCriticSpec,
    NormalisedResidualScoreSpec,
    OnnxEncoderSpec,
    PatchBankScoreSpec,
    PcaResidualScoreSpec,
    QuantisedBottleneckSpec,
    SaltAndPepperCorruptionSpec,
    SsimLossSpec,
    TableEncoderSpec,
    TemporalDecoderSpec,
    TemporalEncoderSpec,
    TokenDecoderSpec,
    TokenEncoderSpec,
    TokenSurpriseScoreSpec,
    TopKBottleneckSpec,
    TrainSpec,
    VariationalBottleneckSpec,
    WordDeletionCorruptionSpec,
    check_compatibility,
    spec_to_dict,
    with_backbone,
)
from aeops.bundle.detector import Detector

ROWS = 24  # samples, all in one batch: one step an epoch
SIZE = 18  # numbers in a code: a multiple of the 9 positions of a 12 x 12 image halved twice, and of the 3 slots
DISCRETE_BOTTLENECKS = (
    "top-k",
    "vq",
)  # where two numbers are as good as equal, the last bit chooses, in torch another one than in ONNX
MODELS_PER_INPUT = 3000  # models drawn for each input
TABLE_COLUMNS = (
    ColumnSpec("amount", missing=True),
    ColumnSpec("country", "category", categories=tuple("abcdef")),
    ColumnSpec("member", "boolean"),
    ColumnSpec("age", "integer", headroom=1.0),
    ColumnSpec("plan", "category", missing=True, categories=("x", "y")),
)
SMALL: dict[str, tuple[Any, ...]] = {
    "input": (
        InputSpec("image", (3, 12, 12)),
        InputSpec("image", (3, 12, 12), given="corrupted"),
        InputSpec("image", (2, 12, 12), target_channels=1),
        InputSpec("series", (2, 21), low=-2, high=2),
        InputSpec("table", columns=TABLE_COLUMNS),
        InputSpec("table", columns=TABLE_COLUMNS, scaling="quantile", one_hot=4),
        InputSpec("text", (40,)),
    ),
    "corrupt": (
        NoCorruptionSpec(),
        GaussianCorruptionSpec(0.3),
        SaltAndPepperCorruptionSpec(0.2),
        MaskingCorruptionSpec(0.4, "blocks", 3),
        GreyCorruptionSpec(),
        WordDeletionCorruptionSpec(0.5),
    ),
    "encode": (
        ConvEncoderSpec((4, 6), blocks=1),
        ConvEncoderSpec((4, 6), map=True),
        DenseEncoderSpec((8,)),
        TemporalEncoderSpec((4, 6)),
        TokenEncoderSpec(300, 12, 8, 1, 2),
        OnnxEncoderSpec("backbone.onnx", width=4),
        TableEncoderSpec((8,), embedding=2),
    ),
    "bottleneck": (
        IdentityBottleneckSpec(SIZE),
        TopKBottleneckSpec(SIZE, 4),
        L1BottleneckSpec(SIZE),
        ContractiveBottleneckSpec(SIZE),
        VariationalBottleneckSpec(SIZE, free_bits=0.1),
        QuantisedBottleneckSpec(SIZE, slots=3, words=5),
        MemoryBottleneckSpec(SIZE, items=7),
    ),
    "decode": (
        ConvDecoderSpec((6, 4), blocks=1),
        ConvDecoderSpec((6, 4), map=True),
        DenseDecoderSpec((8,)),
        TemporalDecoderSpec((6, 4)),
        TokenDecoderSpec(8, 1, 2),
    ),
    "compare": (
        MseLossSpec(),
        L1LossSpec("sum"),
        HuberLossSpec(),
        BceLossSpec(positive=2.0),
        SsimLossSpec("sum"),
        CrossEntropyLossSpec(categories=4),
        CrossEntropyLossSpec("sum"),
        MixedLossSpec(),
    ),
    "critic": (NoCriticSpec(), AdversarialCodeCriticSpec((6,)), GanomalyCriticSpec(features=9)),
    "score": (
        NormalisedResidualScoreSpec(blur=1.0),
        NormalisedResidualScoreSpec(energy=0.0),
        CodeResidualScoreSpec(),
        AmbiguityScoreSpec(),
        TokenSurpriseScoreSpec(),
        DenoisingScoreSpec(draws=2),
        KnnScoreSpec(neighbours=3),
        LocalHullScoreSpec(neighbours=4, ridge=1.0),
        CombinedScoreSpec((KnnScoreSpec("code", neighbours=3), KnnScoreSpec("code", neighbours=4)), choose="by-power"),
        DisagreementScoreSpec(),
        PatchBankScoreSpec(rows=30),
        PcaResidualScoreSpec(components=3),
    ),
    "augment": (NoAugmentationSpec(), AffineAugmentationSpec(), FlipAugmentationSpec()),
}


def legal_models() -> Iterator[tuple[Any, ...]]:
    """Models of parts that support the input's kind, drawn at random: of each input so many that the rarest legal pair of
    parts, one in some two hundred, is missed with a chance of about e^-20. Listing all 66,000 takes a minute."""
    random = np.random.default_rng(0)
    for input_spec in SMALL["input"]:
        fitting = [
            [part for part in SMALL[part_name] if input_spec.kind in part.supported_inputs] for part_name in list(SMALL)[1:]
        ]
        drawn = [random.integers(0, len(parts), MODELS_PER_INPUT) for parts in fitting]
        for indices in zip(*drawn, strict=True):
            *model_parts, score, augment = (parts[index] for parts, index in zip(fitting, indices, strict=True))
            train = TrainSpec(augment=augment, members=members_for(score))
            if next(check_compatibility(AutoencoderConfig(*model_parts), input_spec, score, train), None) is None:
                yield (input_spec, *model_parts, score, augment)


def members_for(score: Any) -> int:
    return 2 if isinstance(score, DisagreementScoreSpec) else 1


def pairs(choice: tuple[Any, ...]) -> set[frozenset[tuple[str, Any]]]:
    return {frozenset(pair) for pair in itertools.combinations(zip(SMALL, choice, strict=True), 2)}


def cover(models: list[tuple[Any, ...]], together: int) -> list[tuple[Any, ...]]:
    """Some of the models that hold every set of so many parts together that any of them holds: each next one holds the most
    that are missing."""
    number = {part: i for i, part in enumerate((part_name, part) for part_name in SMALL for part in SMALL[part_name])}
    parts = np.array([[number[pair] for pair in zip(SMALL, choice, strict=True)] for choice in models])
    sets = np.array(list(itertools.combinations(range(len(SMALL)), together)))
    covered = parts[:, sets] @ len(number) ** np.arange(together)  # each model's sets as numbers
    missing = np.zeros(len(number) ** together, bool)
    missing[covered] = True
    chosen = []
    while missing.any():
        best = int(np.argmax(missing[covered].sum(axis=1)))
        chosen.append(models[best])
        missing[covered[best]] = False
    return chosen


LEGAL = list(legal_models())
COVER = cover(LEGAL, together=2)
QUICK = cover(COVER, together=1)


def fit_spec(choice: tuple[Any, ...]) -> FitSpec:
    sections: dict[str, Any] = {key: spec_to_dict(part) for key, part in zip(SMALL, choice, strict=True)}
    train = {
        "epochs": 1,
        "batch": ROWS,
        "learning_rate": 0.01,
        "seed": 2,
        "members": members_for(choice[list(SMALL).index("score")]),
        "threads": 1,
        "accelerator": "cpu",
        "augment": sections.pop("augment"),
    }
    raw_spec = {"input": sections.pop("input"), "score": sections.pop("score"), "train": train, "model": sections}
    return FitSpec.from_dict(raw_spec | {"threshold": {"kind": "split-conformal", "false_alarm_rate": 0.2}}, "pair")


def samples(input_spec: InputSpec) -> np.ndarray:
    random = np.random.default_rng(0)
    if input_spec.kind == "text":
        words = np.array(["the", "cat", "sat", "on", "a", "mat", "and", "ran"])
        texts = [" ".join(random.choice(words, random.integers(1, 7))).encode()[: input_spec.shape[0]] for _ in range(ROWS)]
        return np.stack([np.frombuffer(text.ljust(input_spec.shape[0], b"\0"), np.uint8) for text in texts])
    if input_spec.kind == "table":
        columns = [random.lognormal(size=ROWS), random.integers(0, 6, ROWS), random.integers(0, 2, ROWS)]
        rows = np.stack([*columns, random.integers(18, 90, ROWS), random.integers(0, 2, ROWS)], 1)
        rows[::5, 0], rows[::4, 4] = np.nan, np.nan
        return rows
    values = random.random((ROWS, *input_spec.shape)) * (input_spec.high - input_spec.low) + input_spec.low
    return values.astype(np.uint8 if input_spec.low == 0 else np.float32)


def name(choice: tuple[Any, ...]) -> str:
    return "-".join(part.kind for part in choice)


def test_every_kind_of_every_part_stands_in_some_legal_model() -> None:
    covered = {
        (part_name, part.kind) for choice in LEGAL for part_name, part in zip(SMALL, choice, strict=True) if part_name != "input"
    }
    part_names = set(SMALL) - {"input"}
    assert covered == {(part_name, kind) for part_name in part_names for kind in PART_SPECS[part_name]}
    assert set().union(*map(pairs, COVER)) == set().union(*map(pairs, LEGAL))
    assert {part for choice in QUICK for part in zip(SMALL, choice, strict=True)} == {
        part for choice in LEGAL for part in zip(SMALL, choice, strict=True)
    }


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A frozen network of three channels, for every image of these models."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), nn.ReLU(), nn.Conv2d(4, 6, 3, 1, 1), nn.ReLU())
    return export_network(network, tmp_path_factory.mktemp("backbone") / "network.onnx", (3, 12, 12))


@pytest.mark.parametrize(
    "choice", [pytest.param(choice, id=name(choice), marks=[] if choice in QUICK else pytest.mark.long) for choice in COVER]
)
def test_a_model_trains_a_step_and_answers_the_same_after_saving(choice: tuple[Any, ...], backbone: Path, tmp_path: Path) -> None:
    spec, inputs = fit_spec(choice), samples(choice[0])
    folders = {"bundle": tmp_path / "bundle", "history": tmp_path / "history", "checkpoints": tmp_path / "checkpoints"}
    samples_of_roles = (inputs, inputs[:8], inputs)
    fit(spec, *samples_of_roles, content_sha256="0" * 64, recipe="pair", progress_bar=False, backbone=backbone, **folders)

    torch.manual_seed(spec.train.seed)
    fresh = Autoencoder(with_backbone(spec.model, backbone), spec.input).state_dict()
    loaded = load_bundle(tmp_path / "bundle").scorer
    trained = loaded.autoencoder.state_dict()
    assert all(torch.isfinite(value).all() for name, value in trained.items() if "preprocessing" not in name)
    for part_name in ("encode", "decode"):
        assert any(not torch.equal(fresh[key], trained[key]) for key in fresh if key.startswith(part_name)), (
            f"{part_name} did not learn"
        )

    detector = Detector(tmp_path / "bundle")
    served = inputs[:, : detector.shape[0]] if spec.input.kind == "image" else inputs
    outputs = detector.score(served, reconstruction=True, code=True)
    differences = np.abs(outputs["score"] - scores_by_torch(loaded, detector, served))
    if spec.model.bottleneck.kind in DISCRETE_BOTTLENECKS:
        assert (differences < 1e-4).mean() > 0.9
    else:
        # A combined score divides by the spread of normal scores, which one step leaves small.
        largest = 1e-3 if isinstance(spec.score, CombinedScoreSpec) else 1e-4
        assert differences.max() < largest
        assert json.loads((tmp_path / "bundle" / "bundle.json").read_text())["export"]["max_difference"] < largest
    decoded = detector.decode(outputs["code"])
    if spec.input.kind == "text":
        assert decoded.tolist() == outputs["reconstruction"].tolist()
    else:
        assert outputs["reconstruction"].shape == (ROWS, *detector.output_shape)
        np.testing.assert_allclose(decoded, outputs["reconstruction"], atol=1e-3 * (spec.input.high - spec.input.low))


def scores_by_torch(loaded: Any, detector: Detector, served: np.ndarray) -> np.ndarray:
    with torch.inference_mode():
        return loaded(torch.from_numpy(detector.check(served).model_input))[0].numpy()
