"""Every legal pair of parts, in some sentence that is built, trained a step, saved, exported and loaded again.

Of sentences of small parts those that `misfits` objects to are left out, and a greedy choice of the others holds every pair
of parts that any legal sentence holds.
"""

import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ae_models import bundle
from ae_models.autoencoder import Autoencoder
from ae_models.fit import fit
from ae_models.spec import (
    PARTS,
    AdversarialCodeCritic,
    AffineAugment,
    AmbiguityScore,
    BceCompare,
    CodeResidualScore,
    ContractiveBottleneck,
    ConvDecode,
    ConvEncode,
    CrossEntropyCompare,
    DenseDecode,
    DenseEncode,
    FitSpec,
    FlipAugment,
    GanomalyCritic,
    GaussianCorruption,
    GreyCorruption,
    HuberCompare,
    IdentityBottleneck,
    InputSpec,
    L1Bottleneck,
    L1Compare,
    MaskingCorruption,
    MemoryBottleneck,
    MseCompare,
    NoAugment,
    NoCorruption,
    NoCritic,
    NormalisedResidualScore,
    QuantisedBottleneck,
    SaltAndPepperCorruption,
    Sentence,
    SsimCompare,
    TemporalDecode,
    TemporalEncode,
    TokensDecode,
    TokensEncode,
    TokenSurpriseScore,
    TopKBottleneck,
    VariationalBottleneck,
    WordDeletionCorruption,
    misfits,
    plain,
)
from aeops.bundle.detector import Detector

ROWS = 24  # samples, all in one batch: one step an epoch
SIZE = 18  # numbers in a code: a multiple of the 9 places of a 12 x 12 image halved twice, and of the 3 slots
CHOOSING = ("top-k", "vq")  # where two numbers are as good as equal, the last bit chooses, in torch another one than in ONNX
DRAWN = 3000  # sentences drawn for each input
SMALL: dict[str, tuple[Any, ...]] = {
    "input": (
        InputSpec("image", (3, 12, 12)),
        InputSpec("image", (3, 12, 12), given="corrupted"),
        InputSpec("image", (2, 12, 12), target_channels=1),
        InputSpec("series", (2, 21), low=-2, high=2),
        InputSpec("text", (40,)),
    ),
    "corrupt": (
        NoCorruption(),
        GaussianCorruption(0.3),
        SaltAndPepperCorruption(0.2),
        MaskingCorruption(0.4, "blocks", 3),
        GreyCorruption(),
        WordDeletionCorruption(0.5),
    ),
    "encode": (
        ConvEncode((4, 6), blocks=1),
        ConvEncode((4, 6), map=True),
        DenseEncode((8,)),
        TemporalEncode((4, 6)),
        TokensEncode(300, 12, 8, 1, 2),
    ),
    "bottleneck": (
        IdentityBottleneck(SIZE),
        TopKBottleneck(SIZE, 4),
        L1Bottleneck(SIZE),
        ContractiveBottleneck(SIZE),
        VariationalBottleneck(SIZE, free_bits=0.1),
        QuantisedBottleneck(SIZE, slots=3, words=5),
        MemoryBottleneck(SIZE, items=7),
    ),
    "decode": (
        ConvDecode((6, 4), blocks=1),
        ConvDecode((6, 4), map=True),
        DenseDecode((8,)),
        TemporalDecode((6, 4)),
        TokensDecode(8, 1, 2),
    ),
    "compare": (
        MseCompare(),
        L1Compare("sum"),
        HuberCompare(),
        BceCompare(positive=2.0),
        SsimCompare("sum"),
        CrossEntropyCompare(categories=4),
        CrossEntropyCompare("sum"),
    ),
    "critic": (NoCritic(), AdversarialCodeCritic((6,)), GanomalyCritic(features=9)),
    "score": (NormalisedResidualScore(blur=1.0), CodeResidualScore(), AmbiguityScore(), TokenSurpriseScore()),
    "augment": (NoAugment(), AffineAugment(), FlipAugment()),
}


def legal_sentences() -> Iterator[tuple[Any, ...]]:
    """Sentences of parts that take the input's kind, drawn at random: of each input so many that the rarest legal pair of
    parts, one in some two hundred, is missed with a chance of about e^-20. Listing all 66,000 takes a minute."""
    random = np.random.default_rng(0)
    for source in SMALL["input"]:
        fitting = [[part for part in SMALL[word] if source.kind in part.takes] for word in list(SMALL)[1:]]
        drawn = [random.integers(0, len(parts), DRAWN) for parts in fitting]
        for places in zip(*drawn, strict=True):
            *words, score, augment = (parts[place] for parts, place in zip(fitting, places, strict=True))
            if next(misfits(Sentence(*words), source, score, augment), None) is None:
                yield (source, *words, score, augment)


def pairs(choice: tuple[Any, ...]) -> set[frozenset[tuple[str, Any]]]:
    return {frozenset(pair) for pair in itertools.combinations(zip(SMALL, choice, strict=True), 2)}


def cover(sentences: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """Some of the sentences that hold every pair that any of them holds: each next one holds the most that are missing."""
    number = {part: i for i, part in enumerate((word, part) for word in SMALL for part in SMALL[word])}
    parts = np.array([[number[pair] for pair in zip(SMALL, choice, strict=True)] for choice in sentences])
    first, second = np.triu_indices(len(SMALL), 1)
    held = parts[:, first] * len(number) + parts[:, second]  # each sentence's pairs as numbers
    missing = np.zeros(len(number) ** 2, bool)
    missing[held] = True
    chosen = []
    while missing.any():
        best = int(np.argmax(missing[held].sum(axis=1)))
        chosen.append(sentences[best])
        missing[held[best]] = False
    return chosen


LEGAL = list(legal_sentences())
COVER = cover(LEGAL)


def fit_spec(choice: tuple[Any, ...]) -> FitSpec:
    sections: dict[str, Any] = {key: plain(part) for key, part in zip(SMALL, choice, strict=True)}
    train = {
        "epochs": 1,
        "batch": ROWS,
        "learning_rate": 0.01,
        "seed": 2,
        "threads": 1,
        "accelerator": "cpu",
        "augment": sections.pop("augment"),
    }
    given = {"input": sections.pop("input"), "score": sections.pop("score"), "train": train, "model": sections}
    return FitSpec.from_plain(given | {"threshold": {"kind": "split-conformal", "false_alarm_rate": 0.2}}, "pair")


def samples(source: InputSpec) -> np.ndarray:
    random = np.random.default_rng(0)
    if source.kind == "text":
        words = np.array(["the", "cat", "sat", "on", "a", "mat", "and", "ran"])
        texts = [" ".join(random.choice(words, random.integers(1, 7))).encode()[: source.shape[0]] for _ in range(ROWS)]
        return np.stack([np.frombuffer(text.ljust(source.shape[0], b"\0"), np.uint8) for text in texts])
    values = random.random((ROWS, *source.shape)) * (source.high - source.low) + source.low
    return values.astype(np.uint8 if source.low == 0 else np.float32)


def name(choice: tuple[Any, ...]) -> str:
    return "-".join(part.kind for part in choice)


def test_every_part_of_every_word_stands_in_some_legal_sentence() -> None:
    held = {(word, part.kind) for choice in LEGAL for word, part in zip(SMALL, choice, strict=True) if word != "input"}
    words = set(SMALL) - {"input"}
    assert held == {(word, kind) for word in words for kind in PARTS[word]}
    assert set().union(*map(pairs, COVER)) == set().union(*map(pairs, LEGAL))


@pytest.mark.parametrize("choice", COVER, ids=name)
def test_a_sentence_trains_a_step_and_answers_the_same_after_saving(choice: tuple[Any, ...], tmp_path: Path) -> None:
    spec, given = fit_spec(choice), samples(choice[0])
    made = {"bundle": tmp_path / "bundle", "history": tmp_path / "history", "checkpoints": tmp_path / "checkpoints"}
    fit(spec, given, given[:8], given, content_sha256="0" * 64, recipe="pair", progress_bar=False, **made)

    torch.manual_seed(spec.train.seed)
    fresh = Autoencoder(spec.model, spec.input).state_dict()
    loaded = bundle.load(tmp_path / "bundle").scorer
    trained = loaded.autoencoder.state_dict()
    assert all(torch.isfinite(value).all() for value in trained.values())
    for word in ("encode", "decode"):
        assert any(not torch.equal(fresh[key], trained[key]) for key in fresh if key.startswith(word)), f"{word} did not learn"

    detector = Detector(tmp_path / "bundle")
    served = given[:, : detector.shape[0]] if spec.input.kind == "image" else given
    said = detector.score(served, reconstruction=True, code=True)
    apart = np.abs(said["score"] - scores_by_torch(loaded, detector, served))
    if spec.model.bottleneck.kind in CHOOSING:
        assert (apart < 1e-4).mean() > 0.9
    else:
        assert apart.max() < 1e-4
        assert json.loads((tmp_path / "history" / "export.json").read_text())["max_difference"] < 1e-4
    opened = detector.decode(said["code"])
    if spec.input.kind == "text":
        assert opened.tolist() == said["reconstruction"].tolist()
    else:
        assert said["reconstruction"].shape == (ROWS, *detector.made_shape)
        np.testing.assert_allclose(opened, said["reconstruction"], atol=1e-3 * (spec.input.high - spec.input.low))


def scores_by_torch(loaded: Any, detector: Detector, served: np.ndarray) -> np.ndarray:
    with torch.inference_mode():
        return loaded(torch.from_numpy(detector.check(served)))[0].numpy()
