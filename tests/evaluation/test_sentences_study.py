"""The studies of sentences and of words: their arithmetic by hand, and both on a small model of made-up news."""

import csv
import gzip
import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ae_models import tokens
from ae_models.fit import fit
from ae_models.spec import FitSpec
from aeops.errors import DataError
from aeops.evaluation.studies import sentences, words
from aeops.evaluation.studies.sentences import (
    LabelledDocument,
    choose_central,
    choose_first,
    fit_budget,
    measure_similarity,
    measure_topics,
    whiten_vectors,
)
from aeops.project import Project
from aeops.recipe.reader import read_recipe
from aeops.recipe.sections import EvaluateSpec
from aeops.recipe.studies import SentencesStudy, WordsStudy
from aeops.stages.evaluate import build_context

RECIPE = Path(__file__).parents[2] / "recipes" / "digits.yaml"
SUM = "0" * 64
SPEC = SentencesStudy("pairs.csv", SUM, "news.csv.gz", SUM, neighbours=3, share=0.4)
THEMES = {
    "sport": "goal team match coach striker league injury referee penalty trophy",
    "money": "bank shares profit market investor growth economy prices budget exports",
    "film": "actor movie scene director award drama studio camera comedy audience",
}
NEUTRAL = "today year people week million first since after world told"
MODEL = {
    "corrupt": {"kind": "word-deletion", "share": 0.5},
    "encode": {
        "kind": "tokens",
        "vocabulary": 600,
        "length": 12,
        "width": 24,
        "layers": 0,
        "pooling": "inverse-frequency",
        "positions": False,
    },
    "bottleneck": {"kind": "identity", "size": 16},
    "decode": {"kind": "tokens", "width": 16, "layers": 0},
    "compare": {"kind": "cross-entropy"},
}
FILES = {"pairs": "pairs.csv", "documents": "news.csv.gz"}
DOCUMENTS, EACH = 120, 8


def by(table):
    """Vectors of texts, told by a dict."""
    return lambda texts: np.array([table[text] for text in texts], dtype=float)


# ---------------------------------------------------------------- arithmetic


def test_whitened_vectors_are_uncorrelated_with_unit_variance():
    drawn = np.random.default_rng(0).normal(size=(4000, 3)) @ np.array([[3, 1, 0], [0, 2, 1], [0, 0, 1]]) + 7
    made = whiten_vectors(lambda texts: drawn, drawn)([])
    np.testing.assert_allclose(made.mean(axis=0), 0, atol=1e-9)
    np.testing.assert_allclose(np.cov(made.T), np.eye(3), atol=0.02)


def test_pairs_with_a_sentence_that_was_trained_on_are_left_out():
    angles = {"a": [1, 0], "b": [1, 0.1], "c": [1, 1], "d": [0, 1], "Known  one": [5, 5]}
    rows = [("a", "b", 5), ("a", "c", 3), ("a", "d", 0), ("b", "Known  one", 4), ("Known  one", "d", 5)]
    pairs = [{"sentence1": one, "sentence2": other, "score": str(score)} for one, other, score in rows]
    found = measure_similarity(pairs, {"model": by(angles)}, {"known one"})
    assert found == {"pairs": 3, "pairs_left_out": 2, "model": pytest.approx(1.0)}


def test_topics_are_counted_among_other_documents_alone():
    table = {"a": [1, 0], "b": [1, 0.1], "c": [1, 0.2], "d": [0, 1], "e": [0.1, 1]}
    documents = [
        LabelledDocument(["a", "b"], "", "x"),
        LabelledDocument(["c"], "", "x"),
        LabelledDocument(["d"], "", "y"),
        LabelledDocument(["e"], "", "x"),
    ]
    # nearest in other documents: a -> c, b -> c, c -> b, d -> e, e -> d
    assert measure_topics(documents, {"model": by(table)}, 1) == {"sentences": 5, "model": pytest.approx(3 / 5)}


def test_a_summary_comes_as_near_to_its_share_as_whole_sentences_allow():
    document = LabelledDocument(["one two three four", "five six", "seven eight nine ten"], "", "x")  # 4, 2 and 4 words
    assert fit_budget(document, [0, 1, 2], 0.4) == [0]
    assert fit_budget(document, [1, 0, 2], 0.35) == [1]  # 2 words are nearer to 3.5 than 6
    assert fit_budget(document, [1, 0, 2], 0.45) == [1, 0]
    assert fit_budget(document, [2, 1, 0], 0.01) == [2]  # one at least
    assert choose_first(document, 1.0) == [0, 1, 2]


def test_redundancy_keeps_the_second_of_two_equal_sentences_out():
    vectors = np.array([[1, 0.2], [1, 0.2], [0.2, 1]])
    document = LabelledDocument(["a b", "c d", "e f"], "", "x")
    chosen = {
        relevance: choose_central(document, vectors, replace(SPEC, share=0.66, relevance=relevance)) for relevance in (1.0, 0.3)
    }
    assert chosen == {1.0: [0, 1], 0.3: [0, 2]}


# ---------------------------------------------------------------- made-up news


@pytest.fixture(scope="module")
def news(tmp_path_factory):
    """A project with news of three themes and a file of pairs, and a scene of a model trained on most of the news."""
    root = tmp_path_factory.mktemp("news")
    rng = np.random.default_rng(0)
    themes = list(THEMES)
    docs = []
    for place in range(DOCUMENTS):
        theme = themes[place % 3]
        parts = [(rng.choice(THEMES[theme].split(), 3), rng.choice(NEUTRAL.split(), 3)) for _ in range(EACH)]
        said = [" ".join(rng.permutation(np.concatenate(part))) + "." for part in parts]
        docs.append({"document": f"headline {place}\n\n" + " ".join(said), "summary": said[-1], "category": theme})
    with gzip.open(root / "news.csv.gz", "wt", encoding="utf-8", newline="") as file:
        write(file, docs)
    pairs = [pair(rng, theme, other) for theme in themes for other in themes for _ in range(4)]
    with (root / "pairs.csv").open("w", encoding="utf-8", newline="") as file:
        write(file, pairs)
    (root / "recipes").mkdir()
    return root, docs, set_up(root, docs)


def pair(rng, theme, other):
    one, two = (" ".join(rng.choice(THEMES[name].split(), 4)) for name in (theme, other))
    return {"sentence1": one, "sentence2": two, "score": 4 if theme == other else 1}


def write(file, rows):
    writer = csv.DictWriter(file, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)


def set_up(root, docs):
    sections = {
        "input": {"kind": "text", "shape": [96]},
        "model": MODEL,
        "score": {"kind": "token-surprise"},
        "threshold": {"kind": "split-conformal", "false_alarm_rate": 0.05},
        "train": {"epochs": 8, "batch": 16, "learning_rate": 0.02, "threads": 1, "accelerator": "cpu"},
    }
    fitted = FitSpec.from_dict(sections, "news")
    held = [(f"news:{place}", text) for place, row in enumerate(docs) for text in sentences.split_sentences(row["document"])]
    groups = np.array([group for group, _ in held])
    rows = tokens.texts_to_bytes([text for _, text in held])
    rows = np.pad(rows, ((0, 0), (0, 96 - rows.shape[1])))
    number = np.array([int(group.partition(":")[2]) for group in groups])
    parts = {"train": number < 72, "validation": number == 72, "calibration": (number > 72) & (number < 90), "test": number >= 90}
    prepared = root / "prepared"
    prepared.mkdir()
    for name, chosen in parts.items():
        np.save(prepared / f"{name}.npy", rows[chosen])
    test = groups[parts["test"]]
    table = {"id": test, "group": test, "label": pd.array([None] * len(test), "Int64"), "novelty": [False] * len(test)}
    pd.DataFrame(table).to_parquet(prepared / "test.parquet")
    counts = {name: int(chosen.sum()) for name, chosen in parts.items()}
    (prepared / "prepared.json").write_text(json.dumps({"rows": counts, "low": 0, "high": 255}), encoding="utf-8")
    places = {name: root / name for name in ("checkpoints", "bundle", "history")}
    samples = {name: rows[parts[name]] for name in ("train", "validation", "calibration")}
    fit(fitted, **samples, **places, content_sha256="d" * 64, recipe="news", progress_bar=False)
    recipe = replace(read_recipe(RECIPE), name="news", fit=fitted, evaluate=EvaluateSpec())
    return build_context(recipe, Project(root, root / ".ae"), prepared, root / "bundle", root / "history")


def spec_of(root):
    sums = {key: hashlib.sha256((root / name).read_bytes()).hexdigest() for key, name in FILES.items()}
    return replace(SPEC, pairs_sha256=sums["pairs"], documents_sha256=sums["documents"])


@pytest.fixture(scope="module")
def found(news):
    root, _, scene = news
    return sentences.run_sentences_study(spec_of(root), scene, root)


@pytest.mark.slow
def test_training_on_sentences_alone_finds_their_topics(found):
    topic = found.metrics["topics"]
    assert topic["sentences"] == 30 * EACH
    assert topic["model"] > 0.9  # three themes: chance is a third
    assert topic["gain_over_untrained"] == pytest.approx(topic["model"] - max(topic["untrained"], topic["untrained_whitened"]))
    assert topic["gain_over_untrained"] > 0.1


def test_every_way_of_making_vectors_is_measured_and_shown(found):
    ways = {"model", "untrained", "tfidf_svd"}
    ways |= {f"{way}_whitened" for way in ways} | {"tfidf", "tfidf_tokens"}
    for kind, more in (("spearman", set()), ("topics", set()), ("rouge1", {"first"})):
        assert {name for name in found.metrics[kind] if not name.startswith(("gain", "pairs", "sentences"))} == ways | more
    assert len(found.rows) == len(ways) + 1
    assert all(len(row) == len(found.head) for row in found.rows)
    assert found.metrics["spearman"]["pairs"] == 36
    json.dumps(found.metrics)


def test_the_beginning_of_a_document_is_what_first_sentences_take(news, found):
    _, docs, _ = news
    scorer = sentences.RougeScorer(["rouge1"])
    scores = []
    for row in docs[90:]:
        body = row["document"].partition("\n\n")[2].split(". ")
        beginning = " ".join(body[:3])  # 40 % of eight sentences of six words: three come nearest
        scores.append(scorer.score(row["summary"], beginning)["rouge1"].fmeasure)
    assert found.metrics["rouge1"]["first"] == pytest.approx(np.mean(scores))


@pytest.mark.slow
def test_the_same_question_gets_the_same_answer(news, found):
    root, _, scene = news
    assert sentences.run_sentences_study(spec_of(root), scene, root) == found


def test_a_file_that_is_missing_or_another_is_refused(news):
    root, _, scene = news
    spec = spec_of(root)
    with pytest.raises(DataError, match=r"other\.csv: no such file.*evaluate\.studies\.sentences\.pairs"):
        sentences.run_sentences_study(replace(spec, pairs="other.csv"), scene, root)
    with pytest.raises(DataError, match=r"expected SHA-256 000000000000\.\.\. \(documents_sha256\), got "):
        sentences.run_sentences_study(replace(spec, documents_sha256=SUM), scene, root)
    with pytest.raises(DataError, match="expected the columns document, summary, category, got sentence1, sentence2, score"):
        sentences.run_sentences_study(replace(spec, documents="pairs.csv", documents_sha256=spec.pairs_sha256), scene, root)


def test_documents_that_the_source_did_not_set_aside_are_refused(news):
    root, _, scene = news
    elsewhere = replace(scene.data, table=scene.data.table.assign(group="other:1"))
    with pytest.raises(DataError, match="none of its documents is among the test texts"):
        sentences.run_sentences_study(spec_of(root), replace(scene, data=elsewhere), root)


def test_words_of_one_theme_are_found_to_be_alike(news):
    root, _, scene = news
    asked = ("goal", "shares", "actor")
    finding = words.run_words_study(WordsStudy(asked, neighbours=4), scene, root)
    token_of = words.find_frequent_words(scene)
    for row, theme in zip(finding.rows, ("sport", "money", "film"), strict=True):
        own = set(THEMES[theme].split())
        after, before = (sum(word in own for word in cell.split(", ")) for cell in row[1:])
        assert after >= 3
        assert before <= 2
    assert finding.metrics == {"words": len(token_of)}


def test_a_word_that_was_seldom_seen_is_refused_with_what_may_be_asked(news):
    root, _, scene = news
    with pytest.raises(DataError, match=r"expected words of one token .* such as .*, got zebra"):
        words.run_words_study(WordsStudy(("goal", "zebra")), scene, root)
