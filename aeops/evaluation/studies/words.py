"""Which words a model of texts represents alike: it learns them only from the words that share a sentence."""

import re
from collections import Counter
from pathlib import Path
from typing import cast

import numpy as np
from sklearn.preprocessing import normalize

from ae_models import tokens
from ae_models.names import names_not_in
from aeops.errors import DataError
from aeops.evaluation.studies.sentences import load_model, normalise_text
from aeops.evaluation.study import EvaluationContext, StudyResult
from aeops.recipe.studies import WordsStudy

WORD_PATTERN = re.compile(r"[a-z]{3,}")
MIN_WORD_COUNT = 20  # in the training texts: of rarer words little is learned


def run_words_study(spec: WordsStudy, context: EvaluationContext, figures: Path) -> StudyResult:
    """List the nearest other words of each requested word, by the cosine of token embeddings.

    Raises:
        DataError: a requested word is not one token, or too rare in the training texts.
    """
    token_ids = find_frequent_words(context)
    unknown_words = names_not_in(spec.words, token_ids)
    if unknown_words:
        raise DataError(
            f"evaluate.studies.words: expected words of one token that the training texts hold {MIN_WORD_COUNT} times or more, "
            f"such as {', '.join(list(token_ids)[:8])}, got {', '.join(unknown_words)}: "
            f"correct recipes/{context.recipe.name}.yaml"
        )
    after_training = _nearest_words(spec, token_ids, _token_embeddings(context, trained=True))
    before_training = _nearest_words(spec, token_ids, _token_embeddings(context, trained=False))
    rows = []
    for word in spec.words:
        rows.append([word, ", ".join(after_training[word]), ", ".join(before_training[word])])
    return StudyResult(
        title="Words that are alike",
        lead="The words whose embeddings are nearest to a word's, after training and before it: all that the model knows of a "
        "word is the words it occurs with.",
        head=["word", "nearest after training", "nearest before"],
        rows=rows,
        figures=[],
        metrics={"words": len(token_ids)},
        note=f"Cosine of the encoder's token embeddings, among the {len(token_ids):,} words that are one token and stand in the "
        f"training texts {MIN_WORD_COUNT} times or more; before: fresh weights from another seed.",
    )


def find_frequent_words(context: EvaluationContext) -> dict[str, int]:
    """Return the token id of each frequent word that is one token, the most frequent first."""
    word_counts: Counter[str] = Counter()
    for text in tokens.bytes_to_texts(context.data.train):
        word_counts.update(WORD_PATTERN.findall(normalise_text(text)))
    frequent_words = []
    for word, count in word_counts.most_common():
        if count >= MIN_WORD_COUNT:
            frequent_words.append(word)
    # As within a sentence: a blank belongs to the token after it.
    ids = context.detector.check(list(map(" {}".format, frequent_words))).model_input
    token_ids = {}
    for word, row in zip(frequent_words, ids, strict=True):
        if row[1] == tokens.END:
            token_ids[word] = int(row[0])
    return token_ids


def _token_embeddings(context: EvaluationContext, *, trained: bool) -> np.ndarray:
    """Return a vector for each token, (vocabulary, width)."""
    from ae_models.encoders import TokenEncoder  # here: it brings torch

    encode = cast(TokenEncoder, load_model(context, trained=trained).encode)
    embeddings: np.ndarray = encode.embeddings.weight.detach().numpy()
    return embeddings


def _nearest_words(spec: WordsStudy, token_ids: dict[str, int], vectors: np.ndarray) -> dict[str, list[str]]:
    """Return the words nearest to each requested word, without the word itself."""
    words = list(token_ids)
    unit_vectors = normalize(vectors[list(token_ids.values())])
    nearest_words = {}
    for word in spec.words:
        cosine = unit_vectors @ unit_vectors[words.index(word)]
        cosine[words.index(word)] = -np.inf
        order = np.argsort(-cosine, kind="stable")
        nearest_words[word] = [words[index] for index in order[: spec.neighbours]]
    return nearest_words
