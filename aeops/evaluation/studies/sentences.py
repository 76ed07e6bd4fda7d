"""What codes of sentences are good for: telling like from unlike, finding a topic, choosing what a summary keeps.

Every figure stands beside the same network untrained, with its tokenizer and its token weights: those need no training, and
much of what such codes can do comes from them.
"""

import csv
import gzip
import io
import re
import unicodedata
from collections.abc import Callable
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
from aeops.data.sources.sentence_split import join_lines, split_sentences
from aeops.drawing.words import format_number, format_share
from aeops.errors import DataError
from aeops.evaluation.study import EvaluationContext, StudyResult
from aeops.files import data_sha256
from aeops.recipe.sources import text_name
from aeops.recipe.studies import SentencesStudy

if TYPE_CHECKING:
    from ae_models.autoencoder import Autoencoder

RIDGE = 1e-3  # of the mean variance, added to every direction's before whitening: the smallest are noise
ROUGE = ("rouge1", "rouge2", "rougeL")  # Lin 2004
WORD = re.compile(r"[a-z0-9]+")  # as rouge_score counts them, so that a budget of words is one of what is compared
FIRST = "first"  # a summary that is the document's beginning: no vectors at all
# Which of its two forms the model is held to, settled in advance: whitening helps where single words decide, and hides topics,
# which live in the few directions that vary most. A baseline counts in its better form.
WHITENED = {"spearman": True, "topics": False, "rouge1": True}
NAMES = {
    "model": "autoencoder",
    "untrained": "the same, untrained",
    "tfidf": "TF-IDF of words",
    "tfidf_tokens": "TF-IDF of the same tokens",
    "tfidf_svd": "TF-IDF of words, SVD",
    FIRST: "first sentences",
}

Vectors = Any  # (n, d): an array, or a sparse matrix where there is a column for each word
Maker = Callable[[list[str]], Vectors]


def run_sentences_study(spec: SentencesStudy, scene: EvaluationContext, figures: Path) -> StudyResult:
    """Measures the codes on pairs of sentences and on the test documents, beside their baselines."""
    pairs = read_table(scene, "pairs", spec.pairs, spec.pairs_sha256, ("sentence1", "sentence2", "score"))
    documents = documents_aside(
        scene,
        spec.documents,
        read_table(scene, "documents", spec.documents, spec.documents_sha256, ("document", "summary", "category")),
    )
    seen = list(tokens.bytes_to_texts(scene.data.train))
    with threadpool_limits(1, "blas"):
        makers = {**codes(scene, seen), **counts(scene, seen)}
        measured = {
            "spearman": measure_similarity(pairs, makers, {normalise_text(text) for text in seen}),
            "topics": measure_topics(documents, makers, spec.neighbours),
            **summaries(documents, makers, spec),
        }
    return tell(spec, measured, gains(measured), len(documents))


# ---------------------------------------------------------------- what is measured on


@dataclass(frozen=True)
class LabelledDocument:
    """A test document: its sentences without the headline, its reference summary, its category."""

    sentences: list[str]
    summary: str
    category: str


def read_table(scene: EvaluationContext, key: str, path: str, sha256: str, columns: tuple[str, ...]) -> list[dict[str, str]]:
    """The rows of a CSV file (or .csv.gz) that a setting of the study names.

    Raises:
        DataError: it is not found, is another file than the recipe knows, or lacks a column.
    """
    again = f"correct evaluate.studies.sentences.{key} in recipes/{scene.recipe.name}.yaml, then type ae run {scene.recipe.name}"
    try:
        file = scene.project.find_source(path)
    except DataError as error:
        raise DataError(f"{error}: put it there or {again}") from error
    given = file.read_bytes()
    found = data_sha256(given)
    if found != sha256:
        raise DataError(f"{file}: SHA-256 {found[:12]}... given; {sha256[:12]}... allowed ({key}_sha256): {again}")
    text = (gzip.decompress(given) if file.suffix == ".gz" else given).decode("utf-8")
    reader = csv.DictReader(io.StringIO(text, newline=""))
    missing = [column for column in columns if column not in (reader.fieldnames or ())]
    if missing:
        raise DataError(f"{file}: no column {', '.join(missing)}; {', '.join(reader.fieldnames or ())} in it: {again}")
    return list(reader)


def documents_aside(scene: EvaluationContext, path: str, rows: list[dict[str, str]]) -> list[LabelledDocument]:
    """The documents that the source set aside for testing, in the file's order; a document is known by its file and row.

    Raises:
        DataError: there are none, as where the recipe's source does not read this file.
    """
    name = text_name(path)
    groups = set(scene.data.table["group"])
    found = [row for place, row in enumerate(rows) if f"{name}:{place}" in groups]
    split = [LabelledDocument(list(split_sentences(row["document"]))[1:], row["summary"], row["category"]) for row in found]
    kept = [document for document in split if document.sentences]
    if not kept:
        raise DataError(
            f"{path}: none of its documents is among the test texts: name a file of data.source in evaluate.studies.sentences"
        )
    return kept


def normalise_text(text: str) -> str:
    """The text as the tokenizer reads it, so that what is equal to it is equal."""
    return join_lines(unicodedata.normalize("NFKC", text)).lower()


# ---------------------------------------------------------------- vectors


def codes(scene: EvaluationContext, seen: list[str]) -> dict[str, Maker]:
    """The codes of the model and of the same network untrained, each also whitened on the training texts' codes."""
    made = {"model": encoder(scene, trained=True), "untrained": encoder(scene, trained=False)}
    return made | {f"{name}_whitened": whiten_vectors(maker, maker(seen)) for name, maker in made.items()}


def encoder(scene: EvaluationContext, trained: bool) -> Maker:
    """From texts to codes (n, size), as `load_model` makes them."""
    import torch

    from ae_models.sample_sets import ArraySampleSet

    autoencoder = load_model(scene, trained)

    def make(texts: list[str]) -> np.ndarray:
        blocks = (torch.from_numpy(block) for block in ArraySampleSet(scene.detector.check(texts)).blocks())
        with torch.inference_mode():
            return np.concatenate([autoencoder.bottleneck.to_code(autoencoder.encode(block)).numpy() for block in blocks])

    return make


def load_model(scene: EvaluationContext, trained: bool) -> "Autoencoder":
    """The model with the bundle's weights, or with fresh ones drawn from another seed than its own.

    What is counted and not learned, the share of each token in the training texts, both have the same.
    """
    import torch  # here: most evaluations do without

    from ae_models import bundle
    from ae_models.autoencoder import Autoencoder
    from ae_models.encoders import TokenEncoder

    if trained:
        return bundle.load_bundle(scene.bundle).scorer.autoencoder
    fit = scene.recipe.fit
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(fit.train.seed + 1)
        fresh = Autoencoder(fit.model, fit.input).eval()
    cast(TokenEncoder, fresh.encode).count_tokens([torch.from_numpy(scene.detector.check(np.asarray(scene.data.train)))])
    return fresh


def whiten_vectors(maker: Maker, fitted: np.ndarray) -> Maker:
    """The same vectors with mean 0 and the identity as covariance, as those of `fitted` (n, d) would have them."""
    mean = fitted.mean(axis=0, dtype=np.float64)
    variances, axes = np.linalg.eigh(np.cov((fitted - mean).T))
    scale = axes / np.sqrt(variances.clip(0) + RIDGE * variances.mean())
    return lambda texts: (maker(texts) - mean) @ scale


def counts(scene: EvaluationContext, seen: list[str]) -> dict[str, Maker]:
    """TF-IDF of words, of the model's own tokens, and of words with as many numbers as a code has; fitted on `seen`."""

    def own_tokens(text: str) -> list[int]:
        return [int(token) for token in scene.detector.check(text)[0] if token > tokens.END]

    words, pieces = TfidfVectorizer().fit(seen), TfidfVectorizer(analyzer=own_tokens).fit(seen)
    columns = words.transform(seen)
    size = min(scene.predictions["code"].shape[1], *(side - 1 for side in columns.shape))
    reduced = TruncatedSVD(size, random_state=0).fit(columns)

    def few(texts: list[str]) -> np.ndarray:
        return np.asarray(reduced.transform(words.transform(texts)))

    makers: dict[str, Maker] = {"tfidf": words.transform, "tfidf_tokens": pieces.transform, "tfidf_svd": few}
    return makers | {"tfidf_svd_whitened": whiten_vectors(few, few(seen))}


def cosines(vectors: Vectors, others: Vectors) -> np.ndarray:
    """The cosine of each of n vectors with each of m others, (n, m); 0 where one of them is 0."""
    product = normalize(vectors) @ normalize(others).T
    return np.asarray(product if isinstance(product, np.ndarray) else product.toarray())


# ---------------------------------------------------------------- measurements


def measure_similarity(pairs: list[dict[str, str]], makers: dict[str, Maker], seen: set[str]) -> dict[str, Any]:
    """Spearman's correlation of cosines with what people say of the pairs; pairs with a sentence that was trained on are left
    out, and counted."""
    new = [pair for pair in pairs if not {normalise_text(pair["sentence1"]), normalise_text(pair["sentence2"])} & seen]
    judged = [float(pair["score"]) for pair in new]
    found: dict[str, Any] = {"pairs": len(new), "pairs_left_out": len(pairs) - len(new)}
    for name, maker in makers.items():
        left, right = (normalize(maker([pair[key] for pair in new])) for key in ("sentence1", "sentence2"))
        products = left * right if isinstance(left, np.ndarray) else left.multiply(right)
        found[name] = float(spearmanr(np.asarray(products.sum(axis=1)).ravel(), judged)[0])
    return found


def measure_topics(documents: list[LabelledDocument], makers: dict[str, Maker], neighbours: int) -> dict[str, Any]:
    """Of the sentences nearest to one, in other documents, the share whose document has its category; all sentences' mean."""
    texts = [text for document in documents for text in document.sentences]
    owner = np.repeat(np.arange(len(documents)), [len(document.sentences) for document in documents])
    category = np.array([document.category for document in documents])[owner]
    found: dict[str, Any] = {"sentences": len(texts)}
    for name, maker in makers.items():
        near = cosines(vectors := maker(texts), vectors)
        near[owner[:, None] == owner] = -np.inf
        nearest = np.argsort(-near, axis=1, kind="stable")[:, :neighbours]
        found[name] = float((category[nearest] == category[:, None]).mean())
    return found


def summaries(documents: list[LabelledDocument], makers: dict[str, Maker], spec: SentencesStudy) -> dict[str, dict[str, float]]:
    """ROUGE-1, -2 and -L (F1, no stemming) of extracts against the references, the mean over documents: rouge1, ..."""
    scorer = RougeScorer(list(ROUGE))

    def rated(choose: Callable[[LabelledDocument], list[int]]) -> list[float]:
        scores = [scorer.score(document.summary, extract(document, choose(document))) for document in documents]
        return [float(np.mean([score[kind].fmeasure for score in scores])) for kind in ROUGE]

    found = {FIRST: rated(lambda document: choose_first(document, spec.share))}
    for name, maker in makers.items():
        found[name] = rated(lambda document, maker=maker: choose_central(document, maker(document.sentences), spec))  # type: ignore[misc]
    return {kind: {name: values[place] for name, values in found.items()} for place, kind in enumerate(ROUGE)}


def extract(document: LabelledDocument, chosen: list[int]) -> str:
    return " ".join(document.sentences[place] for place in sorted(chosen))


def choose_first(document: LabelledDocument, words: float) -> list[int]:
    """As many sentences from the beginning as the budget allows."""
    return fit_budget(document, range(len(document.sentences)), words)


def choose_central(document: LabelledDocument, vectors: Vectors, spec: SentencesStudy) -> list[int]:
    """Sentences near the mean of all and far from those already chosen: maximal marginal relevance (Carbonell and Goldstein
    1998), relevance * cos(s, mean) - (1 - relevance) * max cos(s, chosen), of vectors of length 1 (Radev et al. 2004)."""
    each = normalize(vectors)
    relevance = cosines(each, np.asarray(each.mean(axis=0)).reshape(1, -1))[:, 0]
    between, nearest = cosines(each, each), np.zeros(len(relevance))
    order: list[int] = []
    left = set(range(len(relevance)))
    while left:
        gain = spec.relevance * relevance - (1 - spec.relevance) * nearest
        best = max(sorted(left), key=lambda place: gain[place])
        nearest = np.maximum(nearest, between[best]) if order else between[best]
        order.append(best)
        left.remove(best)
    return fit_budget(document, order, spec.share)


def fit_budget(document: LabelledDocument, order: Any, words: float) -> list[int]:
    """The first of `order` whose length comes nearest to the share `words` of the document's words, one at least."""
    lengths = [len(WORD.findall(text.lower())) for text in document.sentences]
    chosen: list[int] = []
    budget, length = words * sum(lengths), 0
    for place in order:
        if chosen and length + lengths[place] - budget > budget - length:
            break
        chosen.append(place)
        length += lengths[place]
    return chosen


# ---------------------------------------------------------------- what is told


def gains(measured: dict[str, dict[str, Any]]) -> dict[str, dict[str, float]]:
    """How far the model is above each baseline: the model in the way settled for the measurement, a baseline in its best."""
    found: dict[str, dict[str, float]] = {}
    for kind, whiten in WHITENED.items():
        of = measured[kind]
        own = of["model_whitened" if whiten else "model"]
        others = [name for name in NAMES if name != "model" and name in of]
        found[kind] = {f"gain_over_{name}": own - max(of[name], of.get(f"{name}_whitened", of[name])) for name in others}
    return found


def tell(
    spec: SentencesStudy, measured: dict[str, dict[str, Any]], above: dict[str, dict[str, float]], count: int
) -> StudyResult:
    topic = measured["topics"]
    untrained, by_words = (topic["model"] - above["topics"][f"gain_over_{name}"] for name in ("untrained", "tfidf"))
    rouge = {name: 100 * above["rouge1"][f"gain_over_{name}"] for name in ("untrained", "tfidf")}
    lead = (
        f"Of the {spec.neighbours} sentences of other documents nearest to one, {format_share(topic['model'])} are of its category; "
        f"with the same network untrained {format_share(untrained)}, with TF-IDF {format_share(by_words)}. Training changes the correlation "
        f"with people's judgement of similarity by {above['spearman']['gain_over_untrained']:+.3f} and the ROUGE-1 of summaries "
        f"by {rouge['untrained']:+.1f} points; by TF-IDF they are {abs(rouge['tfidf']):.1f} points "
        f"{'better' if rouge['tfidf'] < 0 else 'worse'}."
    )
    rows = []
    for name, words in NAMES.items():
        for suffix, more in (("", ""), ("_whitened", ", whitened")):
            if name + suffix in measured["rouge1"]:
                rows.append([words + more, *(shown(measured, kind, name + suffix) for kind in ("spearman", "topics", *ROUGE))])
    return StudyResult(
        title="Codes of sentences",
        lead=lead,
        head=["vectors", "similarity (Spearman)", f"topic ({spec.neighbours} nearest)", "ROUGE-1", "ROUGE-2", "ROUGE-L"],
        rows=rows,
        figures=[],
        metrics={kind: found | above.get(kind, {}) for kind, found in measured.items()},
        note=note(spec, measured, count),
    )


def shown(measured: dict[str, dict[str, Any]], kind: str, name: str) -> str:
    value = measured[kind].get(name)
    if value is None:
        return "-"
    return format_number(value) if kind == "spearman" else format_share(value)


def note(spec: SentencesStudy, measured: dict[str, dict[str, Any]], count: int) -> str:
    pairs, topic = measured["spearman"], measured["topics"]
    return (
        "Untrained: fresh weights from another seed, with the same tokenizer and the same token weights. Whitened and SVD: "
        "fitted on the training texts, as TF-IDF is. Similarity: rank correlation of cosines with the scores that people gave "
        f"{pairs['pairs']:,} pairs; {pairs['pairs_left_out']:,} more hold a sentence that was trained on and are left out. "
        f"Topic: of the {spec.neighbours} nearest among {topic['sentences']:,} sentences of {count} test documents, its own "
        "document left out, the share whose document has the same category. Summaries: sentences near the mean of a test "
        f"document's, {format_share(spec.share, 0)} of its words, F1 against references that are extracts themselves, so that all "
        "figures are high."
    )
