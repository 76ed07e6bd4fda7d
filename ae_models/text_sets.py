"""Sets of texts: the tokenizer that is learned from one, and each of them as token ids."""

import numpy as np

from ae_models import tokens
from ae_models.sample_sets import ArraySampleSet, SampleArray, SampleSet

__all__ = ["encode_text_set", "train_tokenizer_on"]


def train_tokenizer_on(texts: SampleSet, vocabulary: int) -> str:
    """Return the JSON of a tokenizer that is trained on texts as bytes, (n, bytes)."""
    return tokens.tokenizer_to_json(tokens.train_tokenizer(_read_all(texts), vocabulary))


def encode_text_set(tokenizer: str, texts: SampleSet, length: int) -> SampleSet:
    """Return texts as token ids, (n, length).

    Args:
        tokenizer: its JSON.
        texts: as bytes, (n, bytes).
        length: ids a text.
    """
    return ArraySampleSet(tokens.encode_texts(tokens.tokenizer_from_json(tokenizer), _read_all(texts), length))


def _read_all(samples: SampleSet) -> SampleArray:
    return np.concatenate(list(samples.blocks()))
