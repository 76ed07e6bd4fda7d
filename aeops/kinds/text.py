"""Texts: stored as UTF-8 bytes (n, length) filled up with zeros, served as strings, and read by a network as token ids.

`ae_models.tokens` is imported where a text becomes tokens, so that a service of images does without the tokenizer's library.
"""

import codecs
import json
import unicodedata
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from aeops.errors import DataError, UsageError
from aeops.kinds.decoding import read_file_content
from aeops.kinds.defaults import KindDefaults
from aeops.kinds.flags import FLAG_DTYPE, REFUSED, UNREADABLE, flag_bit
from aeops.kinds.results import (
    DUPLICATE_COLUMNS,
    SAMPLE_COLUMNS,
    STATISTIC_DECIMALS,
    BaselineSamples,
    ColumnSchema,
    ErrorLegend,
    ExpectedRange,
    ExpectedValue,
    Explanation,
    PageBlock,
    PageForm,
    TextTable,
    TokenSurprise,
    WrongToken,
)
from aeops.kinds.samples import CheckedSamples, FileSamples, FitOptions, FittedSample, SampleSpec
from aeops.kinds.text_bytes import decode_utf8

if TYPE_CHECKING:
    from ae_models.spec import InputSpec

TEXT_SUFFIX = ".txt"
ROWS_AT_ONCE = 64  # inside the model each token of a text becomes a number for every word of the vocabulary
EXAMPLE_ROWS, EXAMPLE_CHARACTERS = 8, 160  # of the report's table of examples


# ---------------------------------------------------------------- reading


def require_strings(samples: Any) -> list[str]:
    """Return the texts of a list or an array of strings; raise DataError where it holds something else."""
    if isinstance(samples, np.ndarray):
        samples = list(np.atleast_1d(samples))
    if isinstance(samples, list | tuple) and all(isinstance(text, str) for text in samples):
        return list(map(str, samples))
    raise DataError("expected strings, or their bytes as uint8 (n, length), got samples that are no texts")


def require_some(texts: list[str]) -> np.ndarray:
    """Return texts as object (n,); raise DataError where there are none."""
    if not texts:
        raise DataError("expected at least one sample, got none")
    return as_batch(texts)


def as_batch(texts: Sequence[str]) -> np.ndarray:
    """Return texts as object (n,), in which each takes only the memory that it needs."""
    return np.array(texts, dtype=object)


def strings_of_bytes(values: np.ndarray) -> list[str]:
    """Return a client's UTF-8 filled up with zeros, uint8 (n, length) or (length,), as strings."""
    if values.dtype != np.uint8 or values.ndim not in (1, 2):
        raise DataError(
            f"expected texts, or their UTF-8 filled up with zeros, uint8 (n, length), got {values.dtype} of shape {values.shape}"
        )
    # Bytes that are no UTF-8 become halves of surrogate pairs, which the encoder refuses text by text.
    return decode_rows(np.atleast_2d(values), "surrogateescape")


def normalized_bytes(character: str) -> int:
    """Return how many bytes of UTF-8 a character has after NFKC, the form in which a tokenizer reads it."""
    return len(unicodedata.normalize("NFKC", character).encode("utf-8", "surrogatepass"))


# ---------------------------------------------------------------- statistics


def is_utf8(content: bytes, text: str) -> bool:
    """Return whether `text`, which was decoded of `content`, is all of it, and nothing of it is a zero."""
    return text.encode() == content and "\0" not in text


def is_readable_text(text: "str | np.ndarray") -> bool:
    """Return whether a text, as a string or as bytes filled up with zeros, has UTF-8 that is whole but for its end."""
    try:
        content = text.encode() if isinstance(text, str) else text.tobytes().rstrip(b"\0")
        codecs.utf_8_decode(content, "strict", False)  # a row of bytes may end within a character
    except UnicodeError:
        return False
    return True


def letter_share(text: str) -> float:
    """Return the share of letters among a text's characters; 0 of an empty one."""
    return round(sum(map(str.isalpha, text)) / max(1, len(text)), STATISTIC_DECIMALS)


def describe_text(text: str) -> dict[str, float]:
    """Return `characters`, `letters` and `blank` of a text; see `TextKind.statistics`."""
    return {"characters": len(text), "letters": letter_share(text), "blank": not text.strip()}


# ---------------------------------------------------------------- the model


class TextEncoder:
    """The encoder of texts: the network takes the token ids of the bundle's tokenizer, int64 (n, tokens)."""

    def __init__(self, read_file: Callable[[str], bytes], spec: SampleSpec) -> None:
        self._read_file, self.spec = read_file, spec

    @cached_property
    def _bundle_tokenizer(self) -> Any:
        from ae_models import tokens

        return tokens.tokenizer_from_json(self._read_file("tokenizer.json").decode("utf-8"))

    def encode(self, samples: Any) -> np.ndarray:
        """See `Encoder.encode`: strings, object (n,), of a string or strings; UTF-8 filled up with zeros, uint8 (n, bytes)."""
        if isinstance(samples, np.ndarray) and samples.dtype == np.uint8:
            texts = np.atleast_2d(samples)
        else:
            texts = as_batch(require_strings([samples] if isinstance(samples, str) else samples))
        if len(texts) == 0:
            raise DataError("expected at least one sample, got none")
        return texts

    def check(self, block: np.ndarray) -> CheckedSamples:
        """See `Encoder.check`: token ids; of a text that is no UTF-8, which is refused, those of an empty one."""
        from ae_models import tokens

        is_readable = np.array(list(map(is_readable_text, block)))
        if not is_readable.all():
            block = block.copy()
            block[~is_readable] = "" if block.dtype == object else 0
        parts = []
        # As bytes, a block has room for its longest text in every row: few rows a block, so that one long text costs little.
        size = ROWS_AT_ONCE if block.dtype == object else len(block)
        for start in range(0, len(block), size):
            rows = block[start : start + size]
            text_bytes = tokens.texts_to_bytes(list(rows)) if rows.dtype == object else rows
            parts.append(tokens.encode_texts(self._bundle_tokenizer, text_bytes, self.spec.shape[0]))
        flags = flag_texts(block, self.spec)
        flags[~is_readable] = UNREADABLE | REFUSED
        return CheckedSamples(np.ascontiguousarray(np.concatenate(parts), dtype=np.int64), flags)

    def decode(self, outputs: np.ndarray) -> np.ndarray:
        """See `Encoder.decode`: token ids as strings."""
        from ae_models import tokens

        return as_batch(tokens.decode_ids(self._bundle_tokenizer, outputs))

    def to_measured(self, samples: np.ndarray) -> np.ndarray:
        """See `Encoder.to_measured`: token ids (n, tokens), as the tokenizer reads what is written."""
        return self.check(self.encode(samples)).model_input

    def explain(self, model_input: np.ndarray, outputs: Mapping[str, np.ndarray]) -> list[Explanation]:
        """See `Encoder.explain`: the tokens of each text that the model has wrong, and how surprising each is, place by place."""
        explanations = list(map(self._explain_text, model_input, outputs["reconstruction"]))
        if "token_surprise" in outputs:
            for ids, surprise, explanation in zip(model_input, outputs["token_surprise"], explanations, strict=True):
                explanation["surprise"] = self._list_surprises(ids, surprise)
        return explanations

    def _list_surprises(self, ids: np.ndarray, surprise: np.ndarray) -> list[TokenSurprise]:
        positions = own_places(ids)
        values = zip(positions.tolist(), self._decode_words(ids[positions]), surprise[positions].tolist(), strict=True)
        return [{"place": place, "given": word, "surprise": value} for place, word, value in values]

    def _explain_text(self, model_input: np.ndarray, output: np.ndarray) -> Explanation:
        text_positions = own_places(model_input)
        positions = text_positions[model_input[text_positions] != output[text_positions]]
        expected_words, output_words = self._decode_words(model_input[positions]), self._decode_words(output[positions])
        wrong_words: list[WrongToken] = []
        for position, expected, word in zip(positions.tolist(), expected_words, output_words, strict=True):
            wrong_words.append({"place": position, "given": expected, "made": word})
        token_count = len(text_positions)
        return {"tokens": token_count, "wrong": wrong_words, "share": len(positions) / max(1, token_count)}

    def _decode_words(self, ids: np.ndarray) -> list[str]:
        """Return each token of ids (n,) by itself; nothing for the end and what comes after it."""
        from ae_models import tokens

        return tokens.decode_ids(self._bundle_tokenizer, ids.reshape(-1, 1))


def own_places(ids: np.ndarray) -> np.ndarray:
    """Return the places of a text's own tokens among its ids (tokens,), without the end and the padding."""
    from ae_models.tokens import END, PADDING

    return np.flatnonzero((ids != PADDING) & (ids != END))


def flag_texts(block: np.ndarray, spec: SampleSpec) -> np.ndarray:
    """Return the flags of texts whose statistics are unlike those of the training, (n,).

    Args:
        block: strings, object (n,), or UTF-8 filled up with zeros, uint8 (n, bytes). A text that is longer than a dataset stores
            is judged as it would be stored.
        spec: the model's.
    """
    flags = np.zeros(len(block), FLAG_DTYPE)
    if spec.rules is None or not spec.rules.expected:
        return flags
    longest = spec.stored_shape[0] if spec.stored_shape else None
    rows = []
    for text in block:
        content = text.encode() if isinstance(text, str) else text.tobytes().rstrip(b"\0")
        rows.append(describe_text(content[:longest].decode(errors="ignore")))
    for name, (low, high) in spec.rules.expected.items():
        values = np.array([row[name] for row in rows])
        flags[~((values >= low) & (values <= high))] |= flag_bit(name)
    return flags


def decode_rows(rows: np.ndarray, errors: str = "replace") -> list[str]:
    """Return UTF-8 filled up with zeros, uint8 (n, bytes), as strings; bytes that are no UTF-8 become U+FFFD by default."""
    return [row.tobytes().rstrip(b"\0").decode(errors=errors) for row in rows]


def stored_strings(samples: np.ndarray) -> list[str]:
    """Return stored texts as strings; a character that is cut by the end of its row is left out."""
    from ae_models import tokens

    return list(tokens.bytes_to_texts(samples))


def tokens_right(target: np.ndarray, output: np.ndarray) -> np.ndarray:
    """Return the share of each text's tokens that are made in their place, (n,), of token ids (n, tokens), 0 for none."""
    text_mask = target != 0
    return np.asarray(((target == output) & text_mask).sum(axis=1) / np.maximum(text_mask.sum(axis=1), 1))


def token_accuracy(target: np.ndarray, output: np.ndarray) -> float:
    """Return the share of all tokens that are made in their place."""
    return float((target == output)[target != 0].mean())


def shorten_text(text: str) -> str:
    """Return a text that fits a cell of a table."""
    if len(text) <= EXAMPLE_CHARACTERS:
        return text
    return text[: EXAMPLE_CHARACTERS - 1] + "…"


# ---------------------------------------------------------------- the kind


class TextKind(KindDefaults):
    """See `aeops.kinds.interface.DataKind`."""

    SAMPLE_DTYPES: tuple[str, ...] = ("uint8",)
    FIXED_SHAPE: bool = False
    IS_DRAWABLE: bool = False
    NOT_COMPRESSIBLE: str = "texts, which must come back letter by letter"
    INDEX_COLUMNS: Mapping[str, str] = {
        **SAMPLE_COLUMNS,
        **DUPLICATE_COLUMNS,
        "characters": "int64",
        "letters": "float64",
        "filled": "float64",
        "readable": "bool",
    }
    DRIFT_COLUMNS: tuple[str, ...] = ("letters", "filled")
    MEASURED_AS: str = "tokens"
    ERROR_NAME: str = "share of tokens wrong"
    ERROR_HEAD: str = "share of tokens wrong"
    ERROR_LEGEND: ErrorLegend = ErrorLegend("")
    MEASURING_NOTE: str = ", as tokens"

    def read_file(self, path: Path, spec: SampleSpec) -> FileSamples:
        """Read the texts of a .txt file in UTF-8, one a line; each is called by its file and line, from 1.

        White space around a text is left out, and a line with nothing else is no text.

        Raises:
            UsageError: there is no such file.
            DataError: it is a folder, does not end in .txt, is no UTF-8, or holds no text.
        """
        expected = f"expected a {TEXT_SUFFIX} file with one text a line"
        if path.is_dir():
            raise DataError(f"{expected}, got the folder {path}")
        if not path.is_file():
            raise UsageError(f"no file {path}: {expected}")
        if path.suffix.lower() != TEXT_SUFFIX:
            raise DataError(
                f"{path} does not end in {TEXT_SUFFIX}: this recipe takes texts: write them to a {TEXT_SUFFIX} file, one a line"
            )
        names, texts = [], []
        lines = decode_utf8(read_file_content(path), str(path)).replace("\r\n", "\n").replace("\r", "\n").split("\n")
        for number, line in enumerate(lines, start=1):  # not splitlines: a text may hold other breaks than these
            if line.strip():
                names.append(f"{path.name}:{number}")
                texts.append(line.strip())
        if not texts:
            raise DataError(f"{path} holds no text: expected one text a line")
        return FileSamples(names, as_batch(texts))

    def fit_sample(self, content: bytes, media_type: str, spec: SampleSpec, options: FitOptions) -> FittedSample:
        """See `DataKind.fit_sample`: one text, or a JSON string of one; line breaks become spaces."""
        if not content.strip():
            raise DataError("nothing was given: drop a file or paste a sample")
        if not media_type.startswith("text/") and media_type != "application/json":
            raise DataError(f"this recipe takes texts: paste one, or drop a {TEXT_SUFFIX} file")
        text = decode_utf8(content).strip()
        changes = []
        if text.startswith('"'):
            try:
                text = str(json.loads(text))
                changes.append("Read as a JSON string.")
            except ValueError:  # a text may begin with a quotation mark
                changes.append("Taken as it is: it begins with a quotation mark and is no JSON.")
        if "\n" in text:
            text = " ".join(text.split())
            changes.append("Line breaks were made spaces: a sample is one text.")
        return FittedSample(as_batch([text]), changes, [])

    def read_json(self, inputs: Any, spec: SampleSpec, only_numbers: bool) -> np.ndarray:
        """See `DataKind.read_json`: a string or a list of strings, as object (n,)."""
        if isinstance(inputs, str):
            return as_batch([inputs])
        return require_some(require_strings(inputs))

    def read_array(self, values: np.ndarray | list[str] | Mapping[str, Any], spec: SampleSpec) -> np.ndarray:
        """See `DataKind.read_array`: strings, or UTF-8 filled up with zeros, uint8 (n, length)."""
        if isinstance(values, np.ndarray) and values.dtype.kind not in "OU":
            return require_some(strings_of_bytes(values))
        return require_some(require_strings(values))

    def count(self, samples: np.ndarray, spec: SampleSpec) -> int:
        """See `DataKind.count`."""
        return len(samples)

    def longest_sample(self, samples: np.ndarray) -> tuple[int, int]:
        """See `DataKind.longest_sample`."""
        lengths = list(map(len, samples))
        row = int(np.argmax(lengths))
        return row, lengths[row]

    def text_bytes(self, samples: np.ndarray, limit: int) -> int:
        """See `DataKind.text_bytes`: after NFKC, which makes 18 characters of one, character by character."""
        character_count = sum(map(len, samples))
        if character_count > limit:
            return character_count
        counts: Counter[str] = Counter()
        for text in samples:
            counts.update(text)
        return sum(count * normalized_bytes(character) for character, count in counts.items())

    def values_per_sample(self, spec: SampleSpec) -> int | None:
        """See `DataKind.values_per_sample`."""
        return None

    def stored_form(self, samples: np.ndarray, spec: SampleSpec, is_json: bool) -> np.ndarray:
        """See `DataKind.stored_form`: strings, whose hash is of their UTF-8."""
        return samples

    def dataset_array(self, samples: np.ndarray, spec: SampleSpec) -> np.ndarray:
        """See `DataKind.dataset_array`: UTF-8 filled up with zeros, uint8 (n, bytes)."""
        from ae_models import tokens

        rows, [length] = tokens.texts_to_bytes(list(samples)), spec.stored_shape
        if rows.shape[1] > length:
            raise DataError(f"expected texts of at most {length} bytes (input.shape in the recipe), got one of {rows.shape[1]}")
        return np.pad(rows, ((0, 0), (0, length - rows.shape[1])))

    def statistics(self, samples: np.ndarray, spec: "InputSpec") -> dict[str, np.ndarray]:
        """Return statistics of each text of (n, bytes), UTF-8 filled up with zeros, each an array (n,).

        Returns:
            `characters`, how many it has; `letters`, the share of letters among them; `filled`, the share of the bytes in use;
            `readable`, whether it is UTF-8 without a zero before its end; `blank`, whether it is white space only.
        """
        columns: dict[str, list[float]] = {"characters": [], "letters": [], "filled": [], "readable": [], "blank": []}
        for sample in samples:
            content = sample.tobytes().rstrip(b"\0")
            text = content.decode(errors="replace")
            for name, value in describe_text(text).items():
                columns[name].append(value)
            columns["filled"].append(round(len(content) / samples.shape[1], STATISTIC_DECIMALS))
            columns["readable"].append(is_utf8(content, text))
        return dict(zip(columns, map(np.array, columns.values()), strict=True))

    def briefly(self, block: np.ndarray, spec: "InputSpec") -> list[str]:
        """See `DataKind.briefly`: the text, on one line."""
        return [" ".join(text.split()) for text in decode_rows(block)]

    def expectations(
        self, spec: "InputSpec", bounds: Mapping[str, tuple[float, float]], refuse_blank: bool
    ) -> list[ExpectedRange | ExpectedValue]:
        """See `DataKind.expectations`."""
        expected: list[ExpectedRange | ExpectedValue] = [
            ExpectedValue(
                *("readable", "readable", True, "UTF-8, then zeros", "bytes that are no text"), "Each text is UTF-8.", True
            )
        ]
        if refuse_blank:
            sentence = "Each text has a word in it."
            expected.append(ExpectedValue("blank", "blank", False, "texts with a word in them", "white space only", sentence))
        for name, title in (("characters", "number of characters"), ("letters", "share of letters")):
            low, high = bounds[name]
            sentence = f"The {title} of a text is {low:g} to {high:g}."
            expected.append(
                ExpectedRange(name, name, low, high, f"{low:g} to {high:g}", sentence=sentence, setting=f"validate.{name}")
            )
        return expected

    def served_bounds(self, bounds: Mapping[str, tuple[float, float]]) -> dict[str, tuple[float, float]]:
        """See `DataKind.served_bounds`."""
        return dict(bounds)

    def moments(self, samples: np.ndarray | Sequence[str], low: float, high: float) -> tuple[np.ndarray, np.ndarray]:
        """Return how many characters each text has, and 0, float32 (n,) each.

        Args:
            samples: strings, or UTF-8 filled up with zeros, uint8 (n, bytes).
            low, high: not used.
        """
        if isinstance(samples, np.ndarray) and samples.dtype == np.uint8:
            samples = decode_rows(samples)
        lengths = np.array([len(str(text)) for text in samples], dtype=np.float32)
        return lengths, np.zeros_like(lengths)

    def open_encoder(self, read_file: Callable[[str], bytes], spec: SampleSpec) -> TextEncoder:
        """See `DataKind.open_encoder`."""
        return TextEncoder(read_file, spec)

    def example(self, spec: SampleSpec) -> Any:
        """See `DataKind.example`."""
        return ["a short text", "and another one, which is longer"]

    def python_example(self, spec: SampleSpec) -> str:
        """See `DataKind.python_example`."""
        return "'a text'"

    def rows_at_once(self, values: int) -> int:
        """See `DataKind.rows_at_once`."""
        return ROWS_AT_ONCE

    def served_schema(self, spec: SampleSpec) -> ColumnSchema:
        """See `DataKind.served_schema`."""
        return ColumnSchema("str", (-1,))

    def served_example(self, stored: np.ndarray | None, spec: SampleSpec, count: int) -> np.ndarray:
        """See `DataKind.served_example`."""
        if stored is None:
            return np.array(["a text"] * count)
        return np.array(decode_rows(stored))

    def json_schema(self, spec: SampleSpec, longest: int) -> list[dict[str, Any]]:
        """See `DataKind.json_schema`."""
        return [{"type": "string", "description": f"up to {longest} characters"}]

    def baseline(self, samples: np.ndarray, spec: SampleSpec) -> BaselineSamples:
        """See `DataKind.baseline`."""
        return BaselineSamples(texts=stored_strings(samples))

    def errors(self, target: np.ndarray, output: np.ndarray) -> np.ndarray:
        """See `DataKind.errors`."""
        return np.asarray(1 - tokens_right(target, output))

    def mean_error(self, target: np.ndarray, output: np.ndarray) -> float:
        """See `DataKind.mean_error`."""
        return 1 - token_accuracy(target, output)

    def quality(self, target: np.ndarray, output: np.ndarray) -> tuple[str, np.ndarray]:
        """See `DataKind.quality`."""
        return "tokens_right", tokens_right(target, output)

    def examples(
        self, stored: np.ndarray, decoded: np.ndarray, target: np.ndarray, output: np.ndarray, spec: SampleSpec
    ) -> TextTable | None:
        """See `DataKind.examples`: evenly chosen from the best reconstructed text to the worst."""
        token_shares = tokens_right(target, output)
        order = np.argsort(-token_shares, kind="stable")
        example_rows = order[np.unique(np.linspace(0, len(order) - 1, min(len(order), EXAMPLE_ROWS)).round().astype(int))]
        rows = []
        for index, text in zip(example_rows, stored_strings(stored[example_rows]), strict=True):
            rows.append([shorten_text(text), shorten_text(str(decoded[index])), f"{token_shares[index]:.0%}"])
        return TextTable(
            title="Texts and what became of them",
            lead="Normal test texts as given and as made from their codes, evenly chosen from the best rebuilt to the worst.",
            head=["given", "made", "tokens right"],
            rows=rows,
        )

    def expected_values(self, spec: SampleSpec) -> str:
        """See `DataKind.expected_values`."""
        return "UTF-8: convert it, as with iconv -t UTF-8"

    def describe_samples(self, shape: tuple[int, ...], spec: "InputSpec") -> str:
        """See `DataKind.describe_samples`."""
        return f"texts and reads their first {shape[0]} tokens"

    def page_form(self, spec: "InputSpec") -> PageForm:
        """See `DataKind.page_form`."""
        return PageForm(
            intro="This recipe takes a text.",
            file_label="Drop a .txt file here, or choose one",
            text_label="or type a text",
            accepts=".txt,text/plain",
        )

    def page_panels(
        self, batch: np.ndarray, output: np.ndarray | None, spec: SampleSpec, explanation: Explanation | None = None
    ) -> tuple[list[PageBlock], str]:
        """See `DataKind.page_panels`: the texts to read."""
        reconstruction = "" if output is None else str(output[0])
        blocks = [PageBlock("text", str(batch[0]), "Given"), PageBlock("text", reconstruction, "What the model makes of it")]
        if explanation and "nearest" in explanation:
            blocks.append(PageBlock("text", str(explanation["nearest"]["sample"]), "Nearest normal sample"))
        return blocks, ""


KIND = TextKind()
