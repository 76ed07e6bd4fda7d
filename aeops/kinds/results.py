"""What a kind of data returns: plain facts that the layers above turn into their own.

The registry makes MLflow's signature of a `ColumnSchema`, data makes Great Expectations' expectation of an `ExpectedRange`,
report and page render a `Block`, evaluation compares the model with baselines on a `Baseline`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, NotRequired, TypedDict

if TYPE_CHECKING:  # processes that only know names of expectations are light
    import numpy as np

LISTED_TEXTS = 8  # of `shorten_list`
STATISTIC_DECIMALS = 9  # of what floating-point sums give: the last bits differ between CPUs, and a dataset's hash must not

# The columns of a dataset's index that every kind has, and their types; a kind puts its statistics between or after them.
SAMPLE_COLUMNS = {
    "id": "str",  # dataset and position in the source
    "shard": "int64",
    "row": "int64",  # in the shard
    "sha256": "str",  # of the sample's dtype, shape and bytes
    "label": "Int64",
    "split": "str",  # train, validation, calibration or test
    "group": "str",  # samples of one group share a split; the id where there are no groups
    "source": "str",
    "shape": "str",
    "dtype": "str",
}
DUPLICATE_COLUMNS = {
    "blank": "bool",
    "duplicate_of": "str",  # id of the first sample with the same content
    "duplicate_across_splits": "bool",
}


class NamedColumn(NamedTuple):
    """A column by name: double, long, boolean, string, datetime, strings (a list of them), or any of them."""

    name: str
    dtype: str
    is_required: bool


SCORE_ANSWERS = (
    NamedColumn("score", "double", True),
    NamedColumn("p_value", "double", True),
    NamedColumn("is_anomaly", "boolean", True),
    NamedColumn("flags", "strings", True),
)


@dataclass(frozen=True)
class ColumnSchema:
    """The batch that a served model takes, and what it answers.

    Attributes:
        dtype: numpy's name, such as float32 or str.
        shape: of the batch, -1 for its length.
        columns: name and dtype of each column of a batch by name, and whether it may be left out; None where a batch is an
            array.
        answers: name and dtype of each column of the answer.
        params: what a request may ask for beside them.
    """

    dtype: str
    shape: tuple[int, ...]
    columns: tuple[NamedColumn, ...] | None = None
    answers: tuple[NamedColumn, ...] = SCORE_ANSWERS
    params: tuple[str, ...] = ("reconstruction", "code")


@dataclass(frozen=True)
class ExpectedRange:
    """An expectation: every value of a statistic lies in [low, high]; None leaves an end open.

    Attributes:
        name: of the expectation, in messages and receipts.
        column: the statistic.
        allowed: what is allowed, in words.
        unexpected: what breaks it, in words, with {} for the value.
        sentence: the expectation as a sentence for people.
        is_required: whether no model can take a sample that breaks it, so that nobody may release one.
        setting: the mapping of the recipe whose `min` and `max` are the bounds, such as validate.sample_mean; empty where the
            recipe has none.
    """

    name: str
    column: str
    low: float | None
    high: float | None
    allowed: str
    unexpected: str = "{}"
    sentence: str = ""
    is_required: bool = False
    setting: str = ""


@dataclass(frozen=True)
class ExpectedValue:
    """An expectation: every value of a statistic is this one, or one of a tuple; None: any value but a missing one.

    `name` and the others as in `ExpectedRange`; `setting` is the list of a tuple's values.
    """

    name: str
    column: str
    value: Any
    allowed: str
    unexpected: str
    sentence: str = ""
    is_required: bool = False
    setting: str = ""


def open_range(low: float | None, high: float | None) -> str:
    """Return a range in words; None is an open end.

    >>> open_range(None, 3), open_range(0, 1.5)
    ('-inf to 3', '0 to 1.5')
    """
    return f"{'-inf' if low is None else f'{low:g}'} to {'inf' if high is None else f'{high:g}'}"


def shorten_list(texts: Sequence[str]) -> str:
    """Return the first of some texts, separated by commas.

    >>> shorten_list(["a", "b"])
    'a, b'
    """
    more = f" and {len(texts) - LISTED_TEXTS} more" if len(texts) > LISTED_TEXTS else ""
    return f"{', '.join(texts[:LISTED_TEXTS])}{more}"


@dataclass(frozen=True)
class BaselineSamples:
    """Samples as simple baselines read them; one of the two is None.

    Attributes:
        vectors: (n, values) in `limits`, for PCA, nearest neighbours and the like.
        texts: n strings, for counts of their words.
        limits: of the values; reconstructions are clipped to them, as the model's are.
    """

    vectors: "np.ndarray | None" = None
    texts: list[str] | None = None
    limits: tuple[float, float] = (0.0, 1.0)


@dataclass(frozen=True)
class PageBlock:
    """A piece of a page: a text, an SVG or an image, under its title.

    Attributes:
        form: text, svg or image, which says how to render `content`.
        content: the text; an SVG element; the image as a data address.
    """

    form: str
    content: str
    title: str
    caption: str = ""


@dataclass(frozen=True)
class TextTable:
    """A table under its title; `lead` is one or two sentences above it."""

    title: str
    lead: str
    head: list[str]
    rows: list[list[str]]


@dataclass(frozen=True)
class WatchedColumn:
    """A column whose values monitoring compares with those of calibration.

    Attributes:
        name: of the column.
        type: one of those of a table's columns.
        categories: the texts of the codes 0, 1, ...; empty for numbers.
    """

    name: str
    type: str
    categories: tuple[str, ...] = ()


@dataclass(frozen=True)
class ColumnValues:
    """The columns of samples that have a distance, scaled: their names, and (n, columns)."""

    names: list[str]
    values: "np.ndarray"


# ---------------------------------------------------------------- explanations of a score, as JSON holds them

AreaShare = TypedDict("AreaShare", {"from": list[int], "to": list[int], "share": float})  # `from` is a keyword of Python


class ValueShare(TypedDict):
    """The squared residual of one value, its place, and its share of the total."""

    at: list[int]
    residual: float
    share: float


class ChannelShare(TypedDict):
    """The share of a channel in the squared residual; its name where channels have names."""

    channel: int
    share: float
    name: NotRequired[str]


class StepShare(TypedDict):
    step: int
    share: float


class ColumnShare(TypedDict):
    """A column of a table's row: its value, that of the reconstruction, its usual range or value, and its share of the score."""

    column: str
    value: Any
    made: Any
    usual: Any
    share: float


class WrongToken(TypedDict):
    """A token in the place of another."""

    place: int
    given: str
    made: str


class TokenSurprise(TypedDict):
    """A token of a text and -log of the probability that the model gives it, in nats."""

    place: int
    given: str
    surprise: float


class ScoredPart(TypedDict):
    """The standardised value of a part of a combined score: 0 is the median of normal samples, 1 one spread above it."""

    score: str
    value: float


class NearestSample(TypedDict):
    """The nearest normal sample: its row in the score's bank, and itself, in raw units or as a text."""

    row: int
    sample: Any


class Explanation(TypedDict, total=False):
    """Causes of a sample's score; docs/serving.md describes the keys. An explanation has those that apply to it.

    `residual` is an array, or nested lists where a service sent it; so are `pixel_map` and `sample` of `nearest`.
    """

    residual: Any
    total: float
    areas: list[AreaShare]
    channels: list[ChannelShare]
    steps: list[StepShare]
    columns: list[ColumnShare]
    unusual: list[str]
    worst: list[ValueShare]
    outside: int
    excess: float
    missing: int
    tokens: int
    wrong: list[WrongToken]
    share: float
    surprise: list[TokenSurprise]
    parts: list[ScoredPart]
    nearest: NearestSample
    pixel_map: Any


# ---------------------------------------------------------------- what is shown


@dataclass(frozen=True)
class ErrorLegend:
    """The caption below figures with errors.

    Attributes:
        start: the whole caption, or the text before a bar of the error's colours.
        end: the text after the bar; empty where there is no bar.
    """

    start: str
    end: str = ""


@dataclass(frozen=True)
class PageForm:
    """The form of a page that takes one sample.

    Attributes:
        intro: which samples the recipe takes, as sentences.
        file_label, text_label: above the field for a file and the field to type in.
        accepts: the file types, as the attribute `accept` of HTML has them.
        has_invert: whether light and dark can change places.
        has_row: whether one of several samples can be chosen.
    """

    intro: str
    file_label: str
    text_label: str
    accepts: str
    has_invert: bool = False
    has_row: bool = False
