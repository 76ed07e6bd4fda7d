"""Uses of sentence codes: similarity of two sentences, their topic, and the choice of sentences for a summary.

Every figure stands beside the same network untrained, with its tokenizer and its token weights: those need no training, and
much of what such codes can do comes from them.
"""

import csv
import gzip
import io
import re
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from rouge_score.rouge_scorer import RougeScorer
from scipy.stats import spearmanr
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.preprocessing import normalize
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from ae_models import tokens
from ae_models.names import names_not_in
from aeops.data.sources.sentence_split import join_lines, split_sentences
from aeops.drawing.words import format_number, format_share
from aeops.errors import DataError
from aeops.evaluation.study import EvaluationContext, StudyResult
from aeops.files import data_sha256
from aeops.recipe.sources import text_name
from aeops.recipe.studies import SentencesStudy

if TYPE_CHECKING:
    from ae_models.autoencoder import Autoencoder

COVARIANCE_RIDGE = 1e-3  # of the mean variance, added to every direction's before whitening: the smallest are noise
ROUGE_KINDS = ("rouge1", "rouge2", "rougeL")  # Lin 2004
ROUGE_WORD = re.compile(r"[a-z0-9]+")  # as rouge_score counts them, so that a budget of words is one of what is compared
FIRST_SENTENCES = "first"  # a summary that is the document's beginning: no vectors at all
# Which of its two forms the model is held to, settled in advance: whitening helps where single words decide, and hides topics,
# which live in the few directions that vary most. A baseline counts in its better form.
MODEL_IS_WHITENED = {"spearman": True, "topics": False, "rouge1": True}
METHOD_TITLES = {
    "model": "model",
    "untrained": "the same, untrained",
    "tfidf": "TF-IDF of words",
    "tfidf_tokens": "TF-IDF of the same tokens",
    "tfidf_svd": "TF-IDF of words, SVD",
    FIRST_SENTENCES: "first sentences",
}

SentenceVectors = Any  # (n, d): an array, or a sparse matrix where there is a column for each word
Vectorizer = Callable[[list[str]], SentenceVectors]
Measures = dict[str, dict[str, Any]]  # kind of measure -> name of a vectorizer, or of a count -> value


def run_sentences_study(spec: SentencesStudy, context: EvaluationContext, figures: Path) -> StudyResult:
    """Measure the codes on pairs of sentences and on the test documents, beside their baselines.

    Raises:
        DataError: a table that cannot be used, or documents of which none is among the test texts.
    """
    pairs = _read_csv_table(context, "pairs", spec.pairs, spec.pairs_sha256, ("sentence1", "sentence2", "score"))
    columns = ("document", "summary", "category")
    rows = _read_csv_table(context, "documents", spec.documents, spec.documents_sha256, columns)
    documents = _test_documents(context, spec.documents, rows)
    train_texts = list(tokens.bytes_to_texts(context.data.train))
    with threadpool_limits(1, "blas"):
        vectorizers = {**_code_vectorizers(context, train_texts), **_tfidf_vectorizers(context, train_texts)}
        measures: Measures = {
            "spearman": measure_similarity(pairs, vectorizers, set(map(normalise_text, train_texts))),
            "topics": measure_topics(documents, vectorizers, spec.neighbours),
            **_measure_summaries(documents, vectorizers, spec),
        }
    return _sentences_result(spec, measures, _gains_over_baselines(measures), len(documents))


# ---------------------------------------------------------------- the data


@dataclass(frozen=True)
class LabelledDocument:
    """A test document: its sentences without the headline, its reference summary, its category."""

    sentences: list[str]
    summary: str
    category: str


def _read_csv_table(
    context: EvaluationContext, key: str, path: str, sha256: str, columns: tuple[str, ...]
) -> list[dict[str, str]]:
    """Return the rows of a CSV file (or .csv.gz) that a setting of the study names.

    Raises:
        DataError: it does not exist, has another SHA-256 than the recipe says, or lacks a column.
    """
    recipe = context.recipe.name
    next_step = f"correct evaluate.studies.sentences.{key} in recipes/{recipe}.yaml, then type ae run {recipe}"
    try:
        file = context.project.find_source(path)
    except DataError as error:
        raise DataError(f"{error}: put it there or {next_step}") from error
    content = file.read_bytes()
    content_sha256 = data_sha256(content)
    if content_sha256 != sha256:
        raise DataError(f"{file}: expected SHA-256 {sha256[:12]}... ({key}_sha256), got {content_sha256[:12]}...: {next_step}")
    if file.suffix == ".gz":
        content = gzip.decompress(content)
    reader = csv.DictReader(io.StringIO(content.decode("utf-8"), newline=""))
    header = reader.fieldnames or ()
    missing_columns = names_not_in(columns, header)
    if missing_columns:
        raise DataError(f"{file}: expected the columns {', '.join(columns)}, got {', '.join(header)}: {next_step}")
    return list(reader)


def _test_documents(context: EvaluationContext, path: str, rows: list[dict[str, str]]) -> list[LabelledDocument]:
    """Return the documents whose texts are test samples, in the file's order, identified by the file's name and their row.

    Raises:
        DataError: there are none, as where the recipe's source does not read this file.
    """
    name = text_name(path)
    test_groups = set(context.data.table["group"])
    documents = []
    for index, row in enumerate(rows):
        if f"{name}:{index}" not in test_groups:
            continue
        sentences = list(split_sentences(row["document"]))[1:]
        if sentences:
            documents.append(LabelledDocument(sentences, row["summary"], row["category"]))
    if not documents:
        raise DataError(
            f"{path}: none of its documents is among the test texts: name a file of data.source in evaluate.studies.sentences"
        )
    return documents


def normalise_text(text: str) -> str:
    """Return the text as the tokenizer reads it, so that texts with the same tokens are equal."""
    return join_lines(unicodedata.normalize("NFKC", text)).lower()


# ---------------------------------------------------------------- vectors


def _code_vectorizers(context: EvaluationContext, train_texts: list[str]) -> dict[str, Vectorizer]:
    """Return the codes of the model and of the same network untrained, each also whitened on the training texts' codes."""
    vectorizers = {
        "model": _code_vectorizer(context, trained=True),
        "untrained": _code_vectorizer(context, trained=False),
    }
    for name, vectorizer in list(vectorizers.items()):
        vectorizers[f"{name}_whitened"] = whiten_vectors(vectorizer, vectorizer(train_texts))
    return vectorizers


def _code_vectorizer(context: EvaluationContext, *, trained: bool) -> Vectorizer:
    """Return a function from texts to codes (n, size) of the network that `load_model` returns."""
    import torch

    from ae_models.sample_sets import ArraySampleSet

    autoencoder = load_model(context, trained=trained)

    def compute_codes(texts: list[str]) -> np.ndarray:
        codes = []
        with torch.inference_mode():
            for block in ArraySampleSet(context.detector.check(texts).model_input).blocks():
                codes.append(autoencoder.bottleneck.to_code(autoencoder.encode(torch.from_numpy(block))).numpy())
        return np.concatenate(codes)

    return compute_codes


def load_model(context: EvaluationContext, *, trained: bool) -> "Autoencoder":
    """Return the model with the bundle's weights, or with fresh ones drawn from another seed than its own.

    The share of each token in the training texts is counted and not learned: both have the same.
    """
    import torch  # here: most evaluations do without

    from ae_models import bundle
    from ae_models.autoencoder import Autoencoder
    from ae_models.encoders import TokenEncoder

    if trained:
        return bundle.load_bundle(context.bundle).scorer.autoencoder
    fit = context.recipe.fit
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(fit.train.seed + 1)
        autoencoder = Autoencoder(fit.model, fit.input).eval()
    train_ids = torch.from_numpy(context.detector.check(np.asarray(context.data.train)).model_input)
    cast(TokenEncoder, autoencoder.encode).count_tokens([train_ids])
    return autoencoder


def whiten_vectors(vectorizer: Vectorizer, train_vectors: np.ndarray) -> Vectorizer:
    """Return the same vectorizer with mean 0 and the identity as covariance of the training vectors (n, d)."""
    mean = train_vectors.mean(axis=0, dtype=np.float64)
    variances, axes = np.linalg.eigh(np.cov((train_vectors - mean).T))
    scale = axes / np.sqrt(variances.clip(0) + COVARIANCE_RIDGE * variances.mean())
    return lambda texts: (vectorizer(texts) - mean) @ scale


def _tfidf_vectorizers(context: EvaluationContext, train_texts: list[str]) -> dict[str, Vectorizer]:
    """Return TF-IDF of words, of the model's own tokens, and of words with as many numbers as a code has.

    All are fitted on the training texts.
    """

    def model_tokens(text: str) -> list[int]:
        ids = context.detector.check(text).model_input[0]
        return list(map(int, ids[ids > tokens.END]))

    word_tfidf = TfidfVectorizer().fit(train_texts)
    token_tfidf = TfidfVectorizer(analyzer=model_tokens).fit(train_texts)
    word_vectors = word_tfidf.transform(train_texts)
    rows, columns = word_vectors.shape
    components = min(context.predictions["code"].shape[1], rows - 1, columns - 1)
    svd_projection = TruncatedSVD(components, random_state=0).fit(word_vectors)

    def reduce_tfidf(texts: list[str]) -> np.ndarray:
        return np.asarray(svd_projection.transform(word_tfidf.transform(texts)))

    return {
        "tfidf": word_tfidf.transform,
        "tfidf_tokens": token_tfidf.transform,
        "tfidf_svd": reduce_tfidf,
        "tfidf_svd_whitened": whiten_vectors(reduce_tfidf, reduce_tfidf(train_texts)),
    }


def _cosine_matrix(vectors: SentenceVectors, other_vectors: SentenceVectors) -> np.ndarray:
    """Return the cosine of each of n vectors with each of m others, (n, m); 0 where one of them is 0."""
    product = normalize(vectors) @ normalize(other_vectors).T
    if not isinstance(product, np.ndarray):
        product = product.toarray()
    return np.asarray(product)


# ---------------------------------------------------------------- measurements


def measure_similarity(pairs: list[dict[str, str]], vectorizers: dict[str, Vectorizer], train_texts: set[str]) -> dict[str, Any]:
    """Return Spearman's correlation of cosines with people's scores of the pairs.

    Pairs with a sentence that was trained on are left out, and counted.

    Args:
        pairs: sentence1, sentence2, score.
        vectorizers: by name.
        train_texts: normalised by `normalise_text`.

    Returns:
        The correlation by vectorizer, and the numbers `pairs` and `pairs_left_out`.
    """
    first_texts, second_texts, scores = [], [], []
    for pair in pairs:
        if train_texts.isdisjoint((normalise_text(pair["sentence1"]), normalise_text(pair["sentence2"]))):
            first_texts.append(pair["sentence1"])
            second_texts.append(pair["sentence2"])
            scores.append(float(pair["score"]))
    measures: dict[str, Any] = {"pairs": len(scores), "pairs_left_out": len(pairs) - len(scores)}
    for name, vectorizer in vectorizers.items():
        first_vectors, second_vectors = normalize(vectorizer(first_texts)), normalize(vectorizer(second_texts))
        if isinstance(first_vectors, np.ndarray):
            products = first_vectors * second_vectors
        else:
            products = first_vectors.multiply(second_vectors)
        measures[name] = float(spearmanr(np.asarray(products.sum(axis=1)).ravel(), scores)[0])
    return measures


def measure_topics(documents: list[LabelledDocument], vectorizers: dict[str, Vectorizer], neighbours: int) -> dict[str, Any]:
    """Return the share of nearest sentences, in other documents, whose document has the same category.

    Args:
        documents: two or more.
        vectorizers: by name.
        neighbours: nearest sentences that count, for each sentence.

    Returns:
        The mean share over all sentences by vectorizer, and the number of `sentences`.
    """
    texts: list[str] = []
    text_owners, text_categories = [], []
    for index, document in enumerate(documents):
        texts += document.sentences
        text_owners += [index] * len(document.sentences)
        text_categories += [document.category] * len(document.sentences)
    owner, category = np.array(text_owners), np.array(text_categories)
    measures: dict[str, Any] = {"sentences": len(texts)}
    for name, vectorizer in vectorizers.items():
        vectors = vectorizer(texts)
        similarity = _cosine_matrix(vectors, vectors)
        similarity[owner[:, None] == owner] = -np.inf
        nearest_rows = np.argsort(-similarity, axis=1, kind="stable")[:, :neighbours]
        measures[name] = float((category[nearest_rows] == category[:, None]).mean())
    return measures


def _measure_summaries(documents: list[LabelledDocument], vectorizers: dict[str, Vectorizer], spec: SentencesStudy) -> Measures:
    """Return ROUGE-1, -2 and -L (F1, no stemming) of extracts against the references, the mean over documents."""
    scorer = RougeScorer(list(ROUGE_KINDS))
    measures: Measures = {kind: {} for kind in ROUGE_KINDS}
    for name in (FIRST_SENTENCES, *vectorizers):
        f_measures: dict[str, list[float]] = defaultdict(list)
        for document in documents:
            if name == FIRST_SENTENCES:
                indices = choose_first(document, spec.share)
            else:
                indices = choose_central(document, vectorizers[name](document.sentences), spec)
            summary = " ".join(document.sentences[index] for index in sorted(indices))
            scores = scorer.score(document.summary, summary)
            for kind in ROUGE_KINDS:
                f_measures[kind].append(scores[kind].fmeasure)
        for kind in ROUGE_KINDS:
            measures[kind][name] = float(np.mean(f_measures[kind]))
    return measures


def choose_first(document: LabelledDocument, word_share: float) -> list[int]:
    """Return the indices of as many sentences from the beginning as the budget allows."""
    return fit_budget(document, range(len(document.sentences)), word_share)


def choose_central(document: LabelledDocument, vectors: SentenceVectors, spec: SentencesStudy) -> list[int]:
    """Return the indices of sentences near the mean of all and far from those already chosen.

    Maximal marginal relevance (Carbonell and Goldstein 1998), relevance * cos(s, mean) - (1 - relevance) * max cos(s, chosen),
    of vectors of length 1 (Radev et al. 2004).
    """
    unit_vectors = normalize(vectors)
    relevance = _cosine_matrix(unit_vectors, np.asarray(unit_vectors.mean(axis=0)).reshape(1, -1))[:, 0]
    similarity, redundancy = _cosine_matrix(unit_vectors, unit_vectors), np.zeros(len(relevance))
    order: list[int] = []
    candidates = set(range(len(relevance)))
    while candidates:
        gain = spec.relevance * relevance - (1 - spec.relevance) * redundancy
        best_index = max(sorted(candidates), key=lambda index: gain[index])
        redundancy = np.maximum(redundancy, similarity[best_index]) if order else similarity[best_index]
        order.append(best_index)
        candidates.remove(best_index)
    return fit_budget(document, order, spec.share)


def fit_budget(document: LabelledDocument, order: Iterable[int], word_share: float) -> list[int]:
    """Return the first indices of `order` whose length comes nearest to a share of the document's words, one at least."""
    lengths = [len(ROUGE_WORD.findall(text.lower())) for text in document.sentences]
    choice: list[int] = []
    budget, length = word_share * sum(lengths), 0
    for index in order:
        if choice and length + lengths[index] - budget > budget - length:
            break
        choice.append(index)
        length += lengths[index]
    return choice


# ---------------------------------------------------------------- the result


def _gains_over_baselines(measures: Measures) -> dict[str, dict[str, float]]:
    """Return the differences between the model, in the form settled for the measure, and each baseline in its better form."""
    baseline_gains: dict[str, dict[str, float]] = {}
    for kind, is_whitened in MODEL_IS_WHITENED.items():
        values = measures[kind]
        model_value = values["model_whitened"] if is_whitened else values["model"]
        baseline_gains[kind] = {}
        for name in METHOD_TITLES:
            if name != "model" and name in values:
                baseline_value = max(values[name], values.get(f"{name}_whitened", values[name]))
                baseline_gains[kind][f"gain_over_{name}"] = model_value - baseline_value
    return baseline_gains


def _sentences_result(
    spec: SentencesStudy, measures: Measures, baseline_gains: dict[str, dict[str, float]], document_count: int
) -> StudyResult:
    model_topics = measures["topics"]["model"]
    untrained_topics = model_topics - baseline_gains["topics"]["gain_over_untrained"]
    tfidf_topics = model_topics - baseline_gains["topics"]["gain_over_tfidf"]
    rouge_untrained, rouge_tfidf = (
        100 * baseline_gains["rouge1"]["gain_over_untrained"],
        100 * baseline_gains["rouge1"]["gain_over_tfidf"],
    )
    direction = "better" if rouge_tfidf < 0 else "worse"
    lead = (
        f"Of the {spec.neighbours} sentences of other documents nearest to one, {format_share(model_topics)} are of its "
        f"category; with the same network untrained {format_share(untrained_topics)}, with TF-IDF {format_share(tfidf_topics)}. "
        "Training changes the correlation with people's judgement of similarity by "
        f"{baseline_gains['spearman']['gain_over_untrained']:+.3f} and the ROUGE-1 of summaries by {rouge_untrained:+.1f} points"
        f"; by TF-IDF they are {abs(rouge_tfidf):.1f} points {direction}."
    )
    table = []
    for name, title in METHOD_TITLES.items():
        for key, row_title in ((name, title), (f"{name}_whitened", f"{title}, whitened")):
            if key in measures["rouge1"]:
                table.append([row_title, *_measure_cells(measures, key)])
    return StudyResult(
        title="Codes of sentences",
        lead=lead,
        head=["vectors", "similarity (Spearman)", f"topic ({spec.neighbours} nearest)", "ROUGE-1", "ROUGE-2", "ROUGE-L"],
        rows=table,
        figures=[],
        metrics={kind: values | baseline_gains.get(kind, {}) for kind, values in measures.items()},
        note=_sentences_note(spec, measures, document_count),
    )


def _measure_cells(measures: Measures, name: str) -> list[str]:
    cells = ["-"]
    if name in measures["spearman"]:
        cells = [format_number(measures["spearman"][name])]
    for kind in ("topics", *ROUGE_KINDS):
        if name in measures[kind]:
            cells.append(format_share(measures[kind][name]))
        else:
            cells.append("-")
    return cells


def _sentences_note(spec: SentencesStudy, measures: Measures, document_count: int) -> str:
    pairs, topics = measures["spearman"], measures["topics"]
    return (
        "Untrained: fresh weights from another seed, with the same tokenizer and the same token weights. Whitened and SVD: "
        "fitted on the training texts, as TF-IDF is. Similarity: rank correlation of cosines with the scores that people gave "
        f"{pairs['pairs']:,} pairs; {pairs['pairs_left_out']:,} more hold a sentence that was trained on and are left out. "
        f"Topic: of the {spec.neighbours} nearest among {topics['sentences']:,} sentences of {document_count} test documents, "
        "its own document left out, the share whose document has the same category. Summaries: sentences near the mean of a test "
        f"document's, {format_share(spec.share, 0)} of its words, F1 against references that are extracts themselves, so that "
        "all figures are high."
    )
