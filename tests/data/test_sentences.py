"""Texts are split into sentences, each held once, and what is of one document is in one split."""

import gzip
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from data_project import Room, shared_data, tree

from aeops.data.dataset import read_index
from aeops.data.sources.sentence_split import split_sentences
from aeops.errors import DataError, UsageError
from aeops.kinds.interface import load_kind
from aeops.machine.stored_json import read_json
from aeops.stages.prepare import prepare

SPLITS = {
    "ends and line ends": (
        "one two. three?\nfour!\n\na headline\n\nfive.",
        ["one two.", "three?", "four!", "a headline", "five."],
    ),
    "numbers": ("it rose 2.5% to £1.3bn. in 2004. so", ["it rose 2.5% to £1.3bn.", "in 2004.", "so"]),
    "quotes": ("\"we won.\" he left. (we did.) 'yes.' so", ['"we won."', "he left.", "(we did.)", "'yes.'", "so"]),
    "a quote before its speaker": ('"we won," he said. "we won again."', ['"we won," he said.', '"we won again."']),
    "abbreviations": ("mr. blair met dr. no of acme inc. today. ok", ["mr. blair met dr. no of acme inc. today.", "ok"]),
    "letters": ("the u.s. team at 5 p.m. today. j. smith won.", ["the u.s. team at 5 p.m. today.", "j. smith won."]),
    "no. before a number": ("he is no. 1 now. he said no. then", ["he is no. 1 now.", "he said no.", "then"]),
    "dots": ("well... it went. so", ["well...", "it went.", "so"]),
    "capitals": ("The U.S. won. They left.", ["The U.S. won.", "They left."]),
    "zero characters": ("a\0 b.\r\n\r\n c", ["a b.", "c"]),
    "nothing": (" \n\n ", []),
}


@pytest.mark.parametrize("case", SPLITS)
def test_texts_are_split_where_a_reader_would(case: str) -> None:
    text, sentences = SPLITS[case]
    assert list(split_sentences(text)) == sentences


def name_sentences(room: Room, length: int, *files: dict[str, object], **source: object) -> None:
    """Lets the recipe read sentences of at most `length` bytes."""
    room.ask_for_texts(length, {"kind": "sentences", "files": list(files)} | source)


NEWS = {"path": "news.csv", "columns": ["title", "text"], "sentences": "split"}
PAIRS = {"path": "pairs.csv.gz", "columns": ["first", "second"], "sentences": "whole"}


@pytest.fixture
def texts(room: Room) -> Room:
    """News of which a document repeats, and pairs of sentences."""
    news = [
        ("a win", "they won. they cheered."),
        ("a loss", "they lost. they cheered. ok."),
        ("a win", "they won. they cheered."),
    ]
    pd.DataFrame(news, columns=["title", "text"]).to_csv(room.root / "news.csv", index=False)
    pairs = [("a dog ran. it barked.", "one dog ran"), ("a cat slept", "a dog ran. it barked.")]
    pd.DataFrame(pairs, columns=["first", "second"]).to_csv(room.root / "pairs.csv.gz", index=False)
    name_sentences(room, 24, NEWS, PAIRS, shortest=4)
    return room


def held(room: Room) -> list[str]:
    return [sample.tobytes().rstrip(b"\0").decode() for sample in room.samples().array]


@pytest.mark.slow
def test_each_sentence_is_held_once_in_the_order_of_files_rows_and_columns(texts: Room) -> None:
    wanted = {
        "news:0": ["a win", "they won.", "they cheered."],
        "news:1": ["a loss", "they lost."],
        "pairs:0": ["a dog ran. it barked.", "one dog ran"],
        "pairs:1": ["a cat slept"],
    }
    assert held(texts) == [sentence for sentences in wanted.values() for sentence in sentences]
    assert texts.samples().groups.tolist() == [group for group, sentences in wanted.items() for _ in sentences]


def test_what_was_left_out_is_counted_in_dataset_json(texts: Room) -> None:
    texts.ingest()
    assert read_json(texts.incoming / "dataset.json")["source"]["facts"] == {
        "documents": 5,
        "repeated_documents": 1,
        "short_sentences": 1,
        "repeated_sentences": 2,
        "cut_sentences": 0,
    }


def test_a_sentence_that_is_too_long_is_cut_at_the_border_of_a_character(texts: Room) -> None:
    pd.DataFrame({"text": ["ab£££", "ab£££ and more"]}).to_csv(texts.root / "long.csv", index=False)
    name_sentences(texts, 5, {"path": "long.csv", "columns": ["text"]}, shortest=1)
    samples = texts.samples()
    assert held(texts) == ["ab£"]
    assert samples.metadata["cut_sentences"] == samples.metadata["repeated_sentences"] == 1


def test_the_index_of_texts_has_its_own_columns_and_splits_by_document(texts: Room) -> None:
    rows = [(f"headline {number}", f"first sentence of {number}. second of {number}.") for number in range(60)]
    pd.DataFrame(rows, columns=["title", "text"]).to_csv(texts.root / "news.csv", index=False)
    texts.ingest()
    index = read_index(texts.incoming)
    assert list(index.columns) == list(load_kind("text").INDEX_COLUMNS)
    assert (index.groupby("group")["split"].nunique() == 1).all()
    assert set(index["split"]) == {"train", "validation", "calibration", "test"}
    assert read_json(texts.incoming / "dataset.json")["kind"] == "text"


def test_documents_keep_their_split_when_others_are_added_behind(texts: Room) -> None:
    texts.ingest()
    before = read_index(texts.incoming).set_index("sha256")["split"]
    with (texts.root / "news.csv").open("a") as file:
        file.write("a draw,nobody won.\n" * 3)
    texts.ingest()
    now = read_index(texts.incoming).set_index("sha256")["split"]
    assert len(now) == len(before) + 2
    assert now[before.index].equals(before)


def test_texts_are_prepared_as_bytes_with_their_documents(texts: Room) -> None:
    rows = [(f"headline {number}", f"the sentence of {number}.") for number in range(60)]
    pd.DataFrame(rows, columns=["title", "text"]).to_csv(texts.root / "news.csv", index=False)
    texts.accept_unjudged()
    prepare(texts.recipe, texts.data, texts.root / "prepared")
    table = pd.read_parquet(texts.root / "prepared" / "test.parquet")
    assert table["group"].str.match(r"(news|pairs):\d+$").all()
    facts = read_json(texts.root / "prepared" / "prepared.json")
    assert (np.load(texts.root / "prepared" / "train_labels.npy") == -1).all()
    assert (facts["kind"], facts["shape"], facts["dtype"], facts["rows"]["test"]) == ("text", [24], "uint8", len(table))


@pytest.mark.slow
def test_real_news_give_whole_sentences(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AE_SOURCES", str(shared_data("text")))
    news = {"path": "bbc_news_summary.csv.gz", "columns": ["document"], "sentences": "split"}
    name_sentences(room, 256, news, {"path": "stsb_en_train.csv.gz", "columns": ["sentence1", "sentence2"], "sentences": "whole"})
    sentences, facts = held(room), room.samples().metadata
    assert facts["documents"] == 890 + 5749
    assert facts["repeated_documents"] >= 12
    assert len(set(sentences)) == len(sentences) > 25000
    of_news = [sentence for sentence in sentences[:15000] if len(sentence.encode()) < 250]
    ended = [sentence.rstrip("\"')]").endswith((".", "?", "!")) for sentence in of_news]
    assert sum(ended) / len(ended) > 0.9  # the others are headlines
    assert not any(sentence.endswith((" mr.", " dr.", " st.")) for sentence in of_news)


# ---------------------------------------------------------------- what is refused


def garbage(root: Path) -> None:
    (root / "news.csv").write_bytes(b"title,text\n\xff\xfe,b\n")


def cut_gzip(root: Path) -> None:
    (root / "pairs.csv.gz").write_bytes((root / "pairs.csv.gz").read_bytes()[:-20])


def no_gzip(root: Path) -> None:
    (root / "pairs.csv.gz").write_bytes(b"first,second\na,b\n")


def empty(root: Path) -> None:
    (root / "news.csv").write_bytes(b"")


def only_a_header(root: Path) -> None:
    (root / "news.csv").write_text("title,text\n")
    (root / "pairs.csv.gz").write_bytes(gzip.compress(b"first,second\n"))


def too_many_fields(root: Path) -> None:
    (root / "news.csv").write_text('title,text\na,b\na,"b\n')


def another_column(root: Path) -> None:
    (root / "news.csv").write_text("title,body\na,b\n")


SPOILED: dict[str, tuple[Callable[[Path], object], list[str]]] = {
    "no UTF-8": (garbage, ["news.csv: not readable as CSV", "UTF-8 with a header line"]),
    "gzip cut short": (cut_gzip, ["pairs.csv.gz: not readable as CSV"]),
    "no gzip": (no_gzip, ["pairs.csv.gz: not readable as CSV"]),
    "an empty file": (empty, ["news.csv: not readable as CSV"]),
    "an open quote": (too_many_fields, ["news.csv: not readable as CSV"]),
    "no sentence": (only_a_header, ["news.csv, pairs.csv.gz: expected", "got an empty set"]),
    "a missing column": (another_column, ["news.csv: expected a column text, got title, body"]),
    "a missing file": (lambda root: (root / "news.csv").unlink(), ["news.csv: no such file", "data.source.files[0].path"]),
}


@pytest.mark.parametrize("fault", SPOILED)
def test_spoiled_texts_are_refused_in_one_line_and_nothing_is_written(texts: Room, fault: str) -> None:
    spoil, facts = SPOILED[fault]
    spoil(texts.root)
    before = tree(texts.root)
    with pytest.raises(DataError) as caught:
        texts.ingest()
    message = str(caught.value)
    assert "\n" not in message
    assert all(fact in message for fact in [*facts, "type ae run mine"]), message
    assert tree(texts.root) == before


@pytest.mark.parametrize(
    ("files", "fact"),
    [
        ([NEWS, NEWS | {"path": "other/news.csv.gz"}], "files names news twice"),
        ([NEWS | {"columns": []}], "columns: expected the names of one column or more, got none"),
        ([NEWS | {"sentences": "half"}], "files[0].sentences: expected split or whole, got 'half'"),
    ],
)
def test_files_that_contradict_themselves_are_refused(texts: Room, files: list[dict[str, object]], fact: str) -> None:
    name_sentences(texts, 24, *files)
    with pytest.raises(UsageError) as caught:
        texts.recipe  # noqa: B018
    assert fact in str(caught.value)


def test_sentences_for_a_recipe_of_images_are_refused(room: Room) -> None:
    room.edit(data={"source": {"kind": "sentences", "files": [NEWS]}, "labels": [], "novelty": []})
    with pytest.raises(UsageError, match=r"input\.kind: expected text with a source of kind sentences, got image"):
        room.recipe  # noqa: B018
