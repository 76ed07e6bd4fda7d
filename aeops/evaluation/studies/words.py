"""Which words a model of texts holds to be alike: nothing tells it but which words stand in one sentence."""

import re
from collections import Counter
from pathlib import Path
from typing import cast

import numpy as np
from sklearn.preprocessing import normalize

from ae_models import tokens
from aeops.errors import DataError
from aeops.evaluation.studies.sentences import load_model, normalise_text
from aeops.evaluation.study import EvaluationContext, StudyResult
from aeops.recipe.studies import WordsStudy

WORD = re.compile(r"[a-z]{3,}")
FREQUENT = 20  # times that a word stands in the training texts, at least: of rarer ones little is learned


def run_words_study(spec: WordsStudy, scene: EvaluationContext, figures: Path) -> StudyResult:
    """The nearest other words of each word asked for, by the cosine of token embeddings."""
    token_of = whole_words(scene)
    missing = [word for word in spec.words if word not in token_of]
    if missing:
        raise DataError(
            f"evaluate.studies.words: {', '.join(missing)} given; words of one token that the training texts hold {FREQUENT} "
            f"times or more are allowed, such as {', '.join(list(token_of)[:8])}: correct recipes/{scene.recipe.name}.yaml"
        )
    trained, untrained = (neighbours(spec, token_of, embeddings(scene, trained)) for trained in (True, False))
    return StudyResult(
        title="Words that are alike",
        lead="The words whose embeddings are nearest to a word's, after training and before it: what the model knows of a word "
        "is which others it was seen with.",
        head=["word", "nearest after training", "nearest before"],
        rows=[[word, ", ".join(trained[word]), ", ".join(untrained[word])] for word in spec.words],
        figures=[],
        metrics={"words": len(token_of)},
        note=f"Cosine of the encoder's token embeddings, among the {len(token_of):,} words that are one token and stand in the "
        f"training texts {FREQUENT} times or more; before: fresh weights from another seed.",
    )


def whole_words(scene: EvaluationContext) -> dict[str, int]:
    """The id of each frequent word that is one token, the most frequent first."""
    found = Counter(word for text in tokens.bytes_to_texts(scene.data.train) for word in WORD.findall(normalise_text(text)))
    frequent = [word for word, times in found.most_common() if times >= FREQUENT]
    ids = scene.detector.check([f" {word}" for word in frequent])  # as within a sentence: a blank belongs to the token after it
    return {word: int(row[0]) for word, row in zip(frequent, ids, strict=True) if row[1] == tokens.END}


def embeddings(scene: EvaluationContext, trained: bool) -> np.ndarray:
    """A vector for each token, (vocabulary, width)."""
    from ae_models.encoders import TokenEncoder  # here: it brings torch

    encode = cast(TokenEncoder, load_model(scene, trained).encode)
    found: np.ndarray = encode.embeddings.weight.detach().numpy()
    return found


def neighbours(spec: WordsStudy, token_of: dict[str, int], vectors: np.ndarray) -> dict[str, list[str]]:
    """The words nearest to each word asked for, itself left out."""
    words = list(token_of)
    each = normalize(vectors[list(token_of.values())])
    found = {}
    for word in spec.words:
        cosine = each @ each[words.index(word)]
        cosine[words.index(word)] = -np.inf
        found[word] = [words[place] for place in np.argsort(-cosine, kind="stable")[: spec.neighbours]]
    return found
