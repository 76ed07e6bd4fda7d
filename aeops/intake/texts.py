"""Texts in files: what they are, and the recipe that is proposed for them."""

import gzip
import json
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from ae_models.names import names_not_in
from aeops.data.sources.files import links_beside
from aeops.data.sources.texts import JSON_SUFFIXES, MAX_LINE_BYTES, Records, list_text_files, read_records
from aeops.drawing.words import format_count
from aeops.errors import DataError, UsageError
from aeops.intake.common_sections import TRIM, data_section, gate_section, threshold_section
from aeops.intake.proposal import Choices, Proposal, Understanding, find_name, names_among, source_path, split_labels
from aeops.intake.recipe_text import Entry
from aeops.intake.sizing import SplitSizes, batch_for, count_anomalies, count_normal, split_sizes
from aeops.intake.wording import format_counts, format_reasons, utf8_length
from aeops.kinds.decoding import DecodeError, decode_errors
from aeops.kinds.table_cells import cell_text
from aeops.kinds.text import describe_text
from aeops.recipe.table_sources import TextFormat, TextsSource

LOOKED_LINES = 2000  # of JSON, whose keys are counted
TEXT_NAMES = ("text", "body", "content", "message", "document", "sentence", "review", "comment", "description", "log", "title")
LABEL_NAMES = ("label", "labels", "class", "category", "topic", "target", "sentiment")
ID_NAMES = ("id", "_id", "uuid", "url", "key")
MOST_LABELS = 30
SHARE_OF_IDS = 0.98  # of the objects that have an id of their own, where a key holds ids
LENGTHS = (64, 128, 256, 512, 1024)  # bytes of a sample, of which one is proposed
BYTES_OF_A_TOKEN = 4
TEXTS_SEEN = (20_000, 60_000)  # that pass through a training


def is_json_lines(path: Path) -> bool:
    """Return whether a file is of JSON objects, a line each, by its name."""
    return path.name.lower().endswith(JSON_SUFFIXES)


def propose_texts(path: Path, root: Path, dataset: str, choices: Choices, dialect: TextFormat | None = None) -> Proposal:
    """Look at texts and propose a recipe.

    Args:
        path: lines of JSON, rows of a file, a text file or a folder of such.
        root: of the project.
        dataset: its name in the recipe.
        choices: what the person said; `text` names the column of rows.
        dialect: of a text file of rows.

    Raises:
        DataError: they cannot be read, or are too few.
        UsageError: an option that does not fit.
    """
    understood = Understanding("text", source_path(path, root, choices), 0)
    if path.is_dir():
        files, source = list_text_files(path), TextsSource(understood.source, unit="file")
        understood.name_links(links_beside(files))
    elif is_json_lines(path):
        files, source = {path.name: path}, _json_source(path, understood, choices)
    elif choices.text is not None:
        labels = None if choices.labels == "none" else choices.labels
        files = {path.name: path}
        source = TextsSource(
            understood.source, choices.text, labels=labels, id=choices.identity, group=choices.group, dialect=dialect
        )
    else:
        files, source = {path.name: path}, TextsSource(understood.source)
    records = read_records(files, source)
    texts = [text for text in records.texts if text and text.strip()]
    if not texts:
        raise DataError(f"{path}: expected texts, got none")
    counts = Counter(map(cell_text, records.cells["labels"]))
    counts.pop("", None)
    labels_found = dict(sorted(counts.items())) if source.labels is not None else {}
    if len(labels_found) > MOST_LABELS:
        raise UsageError(f"--labels {source.labels}: expected at most {MOST_LABELS} labels, got {len(labels_found):,}")
    anomalies = split_labels(list(labels_found), choices, understood) if len(labels_found) > 1 else ()
    understood.count = len(texts)
    _describe(understood, records, texts, source, labels_found)
    return _recipe(understood, records, texts, source, labels_found, anomalies, dataset)


def _json_source(path: Path, understood: Understanding, choices: Choices) -> TextsSource:
    """Return which keys of JSON objects hold text, labels and ids."""
    rows = _json_rows(path)
    if not rows:
        raise DataError(f"{path}: expected a JSON object a line, got none in the first {LOOKED_LINES:,} lines")
    keys = list(dict.fromkeys(chain.from_iterable(rows)))
    for option, key in (
        ("--text", choices.text),
        ("--labels", choices.labels),
        ("--id", choices.identity),
        ("--group", choices.group),
    ):
        if key not in (None, "none") and key not in keys:
            raise UsageError(f"{option} {key}: expected a key out of {', '.join(keys)}")
    text = choices.text or _text_key(rows, keys)
    if text is None:
        raise DataError(f"{path}: none of the keys {', '.join(keys)} holds texts: name it by --text KEY")
    labels = choices.labels or _first_key(rows, names_among(keys, LABEL_NAMES), _is_label)
    identity = choices.identity or _first_key(rows, names_among(keys, ID_NAMES), _is_id)
    others = names_not_in(keys, (text, labels, identity, choices.group))
    if others:
        understood.oddities.append(f"keys that are not read: {', '.join(others)}")
    return TextsSource(understood.source, text, labels=None if labels == "none" else labels, id=identity, group=choices.group)


def _json_rows(path: Path) -> list[Mapping[str, Any]]:
    rows: list[Mapping[str, Any]] = []
    opener = gzip.open if path.name.lower().endswith(".gz") else open
    try:
        with decode_errors(), opener(path, "rb") as stream:
            for _ in range(LOOKED_LINES):
                line = stream.readline(MAX_LINE_BYTES)
                if not line:
                    break
                try:
                    row = json.loads(line)
                except (ValueError, RecursionError):
                    continue
                if isinstance(row, dict):
                    rows.append(row)
    except DecodeError as error:
        raise DataError(f"{path}: not readable ({error}): is it whole?") from error
    return rows


def _first_key(
    rows: Sequence[Mapping[str, Any]], keys: Sequence[str], is_fitting: Callable[[Sequence[Mapping[str, Any]], str], bool]
) -> str | None:
    for key in keys:
        if is_fitting(rows, key):
            return key
    return None


def _text_key(rows: Sequence[Mapping[str, Any]], keys: Sequence[str]) -> str | None:
    """Return the key with texts: one that is called so, else that of the longest texts."""
    lengths = {}
    for key in keys:
        values = [row[key] for row in rows if isinstance(row.get(key), str)]
        if len(values) > len(rows) / 2:
            lengths[key] = sum(map(len, values)) / len(values)
    for name in TEXT_NAMES:
        for key, length in lengths.items():
            if key.lower() == name and length >= 8:
                return find_name(list(lengths), (name,))
    longest = max(lengths, key=lengths.__getitem__, default=None)
    return longest if longest is not None and lengths[longest] >= 8 else None


def _is_label(rows: Sequence[Mapping[str, Any]], key: str) -> bool:
    values = {str(row.get(key)) for row in rows}
    return 1 < len(values) <= MOST_LABELS


def _is_id(rows: Sequence[Mapping[str, Any]], key: str) -> bool:
    values = [str(row[key]) for row in rows if row.get(key) is not None]
    return len(set(values)) >= SHARE_OF_IDS * len(rows)


# ---------------------------------------------------------------- what was understood


def _describe(
    understood: Understanding, records: Records, texts: Sequence[str], source: TextsSource, labels: Mapping[str, int]
) -> None:
    lengths = list(map(utf8_length, texts))
    low, middle, high = map(int, np.quantile(lengths, (0, 0.5, 1)))
    where = f"key or column {source.text}" if source.text else f"each {source.unit}"
    understood.facts += [
        ("kind", f"text: {len(records.texts):,} texts, {where} of {understood.source}"),
        ("lengths", f"{low:,} to {high:,} bytes, median {middle:,}"),
    ]
    if labels:
        shown = format_counts(labels.items())
        understood.facts.append(("labels", f"{source.labels}: {shown}"))
    for title, key in (("ids", source.id), ("groups", source.group)):
        if key is not None:
            understood.facts.append((title, key))
    length = _sample_length(lengths)
    cut = sum(one > length for one in lengths)
    if cut:
        understood.oddities.append(f"{format_count(cut, 'text')} longer than {length:,} bytes, to be cut there")
    empty = len(records.texts) - len(texts)
    if empty:
        understood.oddities.append(f"{format_count(empty, 'empty text')}, to be set aside")
    copies = len(texts) - len(set(texts))
    if copies:
        understood.oddities.append(
            f"{format_count(copies, 'text')} equal to another one: accepted, and never on two sides of a split"
        )
    if records.set_aside:
        shown = format_reasons(records.set_aside, 3)
        understood.oddities.append(f"{format_count(len(records.set_aside), 'line')} without a text, to be set aside: {shown}")


# ---------------------------------------------------------------- the recipe


def _recipe(
    understood: Understanding,
    records: Records,
    texts: Sequence[str],
    source: TextsSource,
    label_counts: Mapping[str, int],
    anomalies: Sequence[str],
    dataset: str,
) -> Proposal:
    labels = list(label_counts) if len(label_counts) > 1 else []
    bad = len(records.set_aside) + len(records.texts) - len(texts)
    bad_share = bad / max(1, len(records.texts) + len(records.set_aside))
    normal = count_normal(sum(label_counts.values()) if labels else len(texts), label_counts, anomalies)
    sizes = split_sizes(int(normal * (1 - bad_share)))
    lengths = list(map(utf8_length, texts))
    length = _sample_length(lengths)
    cut = sum(one > length for one in lengths)
    proposal = Proposal(understood, f"{understood.source}", f"Texts of {understood.source}.")
    shape_reason = f"bytes of UTF-8; {cut:,} of {len(texts):,} texts are longer, and cut at the border of a character"
    proposal.entries = [
        data_section(dataset, _source_entries(source, bool(labels)), labels, anomalies, sizes),
        _validate_section(texts, length, bad_share),
        Entry("input", [Entry("kind", "text"), Entry("shape", [length], shape_reason)]),
        *_model_sections(sizes, length),
        threshold_section(sizes),
        _train_section(sizes),
        Entry("evaluate", {}, "no baselines are measured on texts"),
        gate_section(count_anomalies(label_counts, anomalies)),
    ]
    return proposal


def _sample_length(lengths: Sequence[int]) -> int:
    """Return the bytes of a sample: the least of LENGTHS that 95 % of the texts fit into, or the largest."""
    longest = float(np.quantile(lengths, 0.95))
    return next((one for one in LENGTHS if one >= longest), LENGTHS[-1])


def _source_entries(source: TextsSource, has_labels: bool) -> list[Entry]:
    entries = [Entry("kind", "texts"), Entry("path", source.path)]
    if source.text is None:
        entries.append(Entry("unit", source.unit, "what one text is: a line, or a file"))
    else:
        entries.append(Entry("text", source.text, "the key or column with the texts"))
    if source.dialect is not None:
        from aeops.intake.recipe_text import changed_values

        entries.append(Entry("dialect", changed_values(source.dialect)))
    if has_labels and source.labels is not None:
        entries.append(Entry("labels", source.labels))
    if source.id is not None:
        entries.append(Entry("id", source.id, "each text keeps this id wherever it is shown"))
    if source.group is not None:
        entries.append(Entry("group", source.group, "texts with one value of it share a split"))
    return entries


def _letter_share(text: str, length: int) -> float:
    """Return the share of letters in the first `length` bytes of a text."""
    stored = text.encode(errors="replace")[:length].decode(errors="ignore")
    return describe_text(stored)["letters"]


def _validate_section(texts: Sequence[str], length: int, bad_share: float) -> Entry:
    letters = [_letter_share(text, length) for text in texts[:5000]]
    low = math.floor(float(np.quantile(letters, 0.01)) * 50) / 100
    return Entry(
        "validate",
        [
            Entry("rows", {"min": max(1, len(texts) // 2), "max": max(100_000, 20 * len(texts))}),
            Entry("characters", {"min": 1, "max": length}, "of a text, as it is stored"),
            Entry("letters", {"min": low, "max": 1.0}, f"share of letters: half of what 99 % of the texts have ({2 * low:.2f})"),
            Entry("mean_drift", 0.1, "how far the means may move from the last accepted version"),
            Entry("quarantine_budget", round(min(0.5, max(0.02, 2 * bad_share)), 3), f"{bad_share:.1%} of what came is no text"),
            Entry("duplicates", "accept", "equal texts are no dirt: they never lie on two sides of a split"),
        ],
        "bounds that were measured on the data; what fails them goes to quarantine with its reason",
    )


def _model_sections(sizes: SplitSizes, length: int) -> list[Entry]:
    vocabulary = 1024 if sizes.train < 2000 else 4096
    tokens = max(8, length // BYTES_OF_A_TOKEN)
    encode: dict[str, Any] = {"kind": "tokens", "vocabulary": vocabulary, "length": tokens, "width": 128, "layers": 0}
    encode |= {"pooling": "inverse-frequency", "positions": False}
    return [
        Entry(
            "model",
            [
                Entry("corrupt", {"kind": "word-deletion", "share": 0.3}),
                Entry("encode", encode, "a bag of tokens, which trains in minutes; the vocabulary is learnt of the texts"),
                Entry("bottleneck", {"kind": "identity", "size": 128}),
                Entry("decode", {"kind": "tokens", "width": 64, "layers": 0}),
                Entry("compare", {"kind": "cross-entropy"}),
            ],
        ),
        Entry("score", {"kind": "token-surprise"}, "how little the network expects the words of a text"),
    ]


def _train_section(sizes: SplitSizes) -> Entry:
    low, high = TEXTS_SEEN
    epochs = min(40, max(2, round(min(high, max(low, 10 * sizes.train)) / sizes.train)))
    reason = f"`ae new` proposed {epochs} passes over about {sizes.train:,} texts, by the size of the data (docs/own-data.md)"
    return Entry(
        "train",
        [
            Entry("epochs", epochs, reason),
            Entry("batch", min(32, batch_for(sizes.train))),
            Entry("learning_rate", 0.003),
            TRIM,
            Entry("seed", 0),
        ],
    )
