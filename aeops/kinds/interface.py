"""The interface of a kind of data: what `KIND` of each module that is a kind offers.

kind = load_kind("image")
kind.read_file(Path("photo.png"), spec).values.shape  # (1, *spec.shape)
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol, cast

from aeops.kinds import module_name

if TYPE_CHECKING:  # so that a light process can import this and load a kind only where it needs one
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    import numpy as np

    from ae_models.spec import ColumnSpec, InputSpec
    from aeops.kinds import image, series, table, text
    from aeops.kinds.named_rows import NamedRows
    from aeops.kinds.results import (
        BaselineSamples,
        ColumnSchema,
        ColumnValues,
        ErrorLegend,
        ExpectedRange,
        ExpectedValue,
        Explanation,
        PageBlock,
        PageForm,
        TextTable,
        WatchedColumn,
    )
    from aeops.kinds.samples import CheckedSamples, FileSamples, FitOptions, FittedSample, SampleSpec
    from aeops.kinds.scorer import SampleScorer
    from aeops.kinds.series_blocks import BlockRule


class Encoder(Protocol):
    """Turns samples of one bundle into the batch that its network takes, and back."""

    def encode(self, samples: Any) -> np.ndarray:
        """Return one sample or several as a batch (n, ...) that `check` takes, whole or in parts; values are left to `check`.

        Raises:
            DataError: no samples, or not of the kind or the shape that the model takes.
        """

    def check(self, block: np.ndarray) -> CheckedSamples:
        """Return a part (k, ...) of what `encode` returned in the network's dtype, and what is unlike the training's samples.

        Raises:
            DataError: texts that are no UTF-8.
        """

    def decode(self, outputs: np.ndarray) -> np.ndarray:
        """Return the network's reconstructions (n, ...) as a person reads them: raw values, or strings, object (n,)."""

    def to_measured(self, samples: np.ndarray) -> np.ndarray:
        """Return samples or decoded reconstructions as errors are measured: in [0, 1], or as token ids."""

    def explain(self, model_input: np.ndarray, outputs: Mapping[str, np.ndarray]) -> list[Explanation]:
        """Explain where each sample differs from its reconstruction, ready for JSON; see docs/serving.md.

        Args:
            model_input: samples as the network took them; values may lie outside the range or be missing.
            outputs: of the network: `reconstruction`, not decoded; of texts also `token_surprise` (n, tokens), where its score
                has it.
        """


class DataKind(Protocol):
    """A kind of data. Arrays in, plain results out: it knows nothing of recipes, registries and pages.

    Attributes:
        SAMPLE_DTYPES: the dtypes in which a dataset may hold its samples.
        FIXED_SHAPE: whether all samples of a model have one shape; texts have any length.
        IS_DRAWABLE: whether samples in [0, 1] can be drawn, as (n, c, h, w) or (n, c, steps).
        NOT_COMPRESSIBLE: why samples cannot be compressed with loss, to go on after "RECIPE is about"; empty where they can.
        INDEX_COLUMNS: the columns of a dataset's index and their types, in order.
        DRIFT_COLUMNS: the statistics in [0, 1] whose means tell whether a dataset drifts.
        MEASURED_AS: which measures of `aeops.evaluation.measures` its reconstructions have.
        ERROR_NAME: the reconstruction error, for the axis of a figure.
        ERROR_HEAD: the reconstruction error, for the head of a table.
        ERROR_LEGEND: the caption below figures with errors.
        IS_BY_NAME: whether a sample has named columns: clients send objects, CSV, Parquet or Arrow by name.
        FILE_TYPES: media types of the files that people have, which a service takes as they are.
        DEFAULT_ENERGY: share of a sample's energy that baselines subtract, where the recipe's score says nothing of it.
        MEASURING_NOTE: how reconstructions are measured, to go on after "so many samples"; ends without a full stop.
    """

    SAMPLE_DTYPES: tuple[str, ...]
    FIXED_SHAPE: bool
    IS_DRAWABLE: bool
    NOT_COMPRESSIBLE: str
    INDEX_COLUMNS: Mapping[str, str]
    DRIFT_COLUMNS: tuple[str, ...]
    MEASURED_AS: str
    ERROR_NAME: str
    ERROR_HEAD: str
    ERROR_LEGEND: ErrorLegend
    MEASURING_NOTE: str
    IS_BY_NAME: bool
    DEFAULT_ENERGY: float
    FILE_TYPES: tuple[str, ...]

    # ---------------------------------------------------------------- reading

    def read_file(self, path: Path, spec: SampleSpec) -> FileSamples:
        """Read the samples of a file or folder.

        Raises:
            UsageError: there is no such file.
            DataError: it holds no samples that the model takes.
        """

    def read_columns(self, columns: Mapping[str, Any], from_text: bool, path: Path, spec: SampleSpec) -> FileSamples:
        """Return the samples in columns that were read of a file.

        Args:
            columns: name -> cells; further names are ignored.
            from_text: whether all cells are texts, as in CSV.
            path: of the file, for messages and names.
            spec: of the model's samples.

        Raises:
            DataError: they hold no samples that the model takes.
        """

    def fit_sample(self, content: bytes, media_type: str, spec: SampleSpec, options: FitOptions) -> FittedSample:
        """Make one sample of the model's shape of what a person dropped or pasted.

        Raises:
            DataError: it cannot be made such a sample, and why.
        """

    def read_json(self, inputs: Any, spec: SampleSpec, only_numbers: bool) -> np.ndarray:
        """Return samples out of parsed JSON.

        Args:
            inputs: one sample or several.
            spec: the model's.
            only_numbers: whether the caller knows that `inputs` holds nothing but lists, numbers and null.

        Raises:
            DataError: something else than samples.
        """

    def read_content(self, content: bytes, spec: SampleSpec) -> np.ndarray:
        """Return the samples in the bytes of a file of one of `FILE_TYPES`, by the model's rules for its size and its pages.

        Raises:
            DataError: it cannot be read, or the rules refuse it.
        """

    def read_array(self, values: np.ndarray | list[str] | Mapping[str, Any], spec: SampleSpec) -> np.ndarray:
        """Return samples out of a client's array or list of strings.

        Raises:
            DataError: something else than samples.
        """

    def count(self, samples: np.ndarray, spec: SampleSpec) -> int:
        """Return how many samples `read_json` or `read_array` returned."""

    def longest_sample(self, samples: np.ndarray) -> tuple[int, int]:
        """Return the row and the characters of the longest sample; (0, 0) where samples have no length of their own."""

    def text_bytes(self, samples: np.ndarray, limit: int) -> int:
        """Return how many bytes of UTF-8 all samples have as the model reads them; 0 where samples are no texts.

        Args:
            samples: as `read_json` or `read_array` returned them.
            limit: any larger number may be returned where there are more.
        """

    def values_per_sample(self, spec: SampleSpec) -> int | None:
        """Return how many numbers a sample has; None where it is no list of numbers."""

    def stored_form(self, samples: np.ndarray, spec: SampleSpec, is_json: bool) -> np.ndarray:
        """Return samples (n, ...) as a dataset would hold them, so that equal samples have equal hashes.

        Args:
            samples: such as the model takes.
            spec: the model's.
            is_json: whether they come from JSON, whose numbers have no dtype.
        """

    def dataset_array(self, samples: np.ndarray, spec: SampleSpec) -> np.ndarray:
        """Return samples that passed `check` as one array of numbers, (n, *spec.stored_shape), as prepared samples are.

        Raises:
            DataError: a sample does not fit into that shape.
        """

    # ---------------------------------------------------------------- a dataset

    def stored_shape(self, block: np.ndarray) -> tuple[int, ...]:
        """Return the shape of one sample of a block (n, ...) as a dataset holds it."""

    def stored_dtype(self, block: np.ndarray) -> str:
        """Return the name of the dtype of a block's samples."""

    def index_columns(self, spec: InputSpec) -> Mapping[str, str]:
        """Return the columns of a dataset's index and their types, in order, by the section input: `INDEX_COLUMNS` mostly."""

    def drift_columns(self, spec: InputSpec) -> tuple[str, ...]:
        """Return the statistics whose means tell whether a dataset drifts, by the section input: `DRIFT_COLUMNS` mostly."""

    def to_table(self, block: np.ndarray, spec: InputSpec) -> dict[str, Any] | None:
        """Return a block as columns by name, which a Parquet file can hold; None where a shard is a .npy file."""

    def from_table(self, columns: Mapping[str, Any], spec: InputSpec) -> np.ndarray:
        """Return the block of columns that `to_table` returned, in numpy arrays."""

    def table_expectations(self, spec: InputSpec) -> list[ExpectedRange | ExpectedValue]:
        """Return what is expected of each row of the table that `to_table` returns."""

    def learn_input(self, blocks: Iterable[np.ndarray], spec: InputSpec) -> InputSpec:
        """Return the section input with what its samples are read by, learnt of the training samples: a table's categories."""

    def prepared_form(self, block: np.ndarray, spec: InputSpec) -> np.ndarray:
        """Return a block as a model is trained on it, (n, *spec.shape); `spec` is the result of `learn_input`."""

    def recode(self, samples: np.ndarray, columns: Sequence[ColumnSpec], served: SampleSpec) -> np.ndarray:
        """Return samples by the codes of these columns as a model with other codes reads them."""

    def briefly(self, block: np.ndarray, spec: InputSpec) -> list[str]:
        """Return each sample of a block (n, ...) as a person reads it in a line; empty texts where samples are drawn."""

    # ---------------------------------------------------------------- data

    def statistics(self, samples: np.ndarray, spec: InputSpec) -> dict[str, np.ndarray]:
        """Return the statistics of stored samples (n, *spec.shape), each an array (n,)."""

    def expectations(
        self, spec: InputSpec, bounds: Mapping[str, tuple[float, float]], refuse_blank: bool
    ) -> list[ExpectedRange | ExpectedValue]:
        """Return what is expected of each sample's statistics.

        Args:
            spec: the recipe's section input.
            bounds: the recipe's, for each key of `KindInfo.bounds`.
            refuse_blank: whether samples that show nothing are bad.
        """

    def served_bounds(self, bounds: Mapping[str, tuple[float, float]]) -> dict[str, tuple[float, float]]:
        """Return bounds of a served sample's statistics by their flags, out of the recipe's for each of `KindInfo.bounds`."""

    def moments(self, samples: np.ndarray | Sequence[str], low: Any, high: Any) -> tuple[np.ndarray, np.ndarray]:
        """Return two numbers a sample for monitoring, float32 (n,) each: mean and standard deviation, or what stands for them.

        Both are NaN for a sample without any value. The range is two numbers, or of a series with channels one for each.
        """

    def watched_values(self, samples: np.ndarray | Sequence[str]) -> np.ndarray | None:
        """Return the values of samples for monitoring, float32 (n, columns) in the order of `watched_columns`; None without."""

    def watched_columns(self, spec: SampleSpec) -> list[WatchedColumn]:
        """Return the columns whose values monitoring compares one by one; none of samples without columns."""

    def block_rule(self, spec: SampleSpec, windows: int) -> BlockRule | None:
        """Return how windows of a series are counted by blocks, which hardly depend on each other; None for other samples.

        Args:
            spec: the model's.
            windows: of a block of the threshold; 1 where it judges windows one by one.
        """

    # ---------------------------------------------------------------- the model

    def open_encoder(self, read_file: Callable[[str], bytes], spec: SampleSpec) -> Encoder:
        """Return the encoder of a bundle.

        Args:
            read_file: returns the content of one of the bundle's files; called when it is needed.
        """

    def example(self, spec: SampleSpec) -> Any:
        """Return two samples that the model takes."""

    def python_example(self, spec: SampleSpec) -> str:
        """Return one sample as a Python expression."""

    def rows_at_once(self, values: int) -> int:
        """Return how many samples of so many values each to score at once."""

    def plain_sample(self, sample: Any, spec: SampleSpec) -> Any:
        """Return a sample as a client sends it: raw values, a string, or an object by the names of its columns."""

    def expected_values(self, spec: SampleSpec) -> str:
        """Return what values are expected, to go on after "expected"."""

    def served_schema(self, spec: SampleSpec) -> ColumnSchema:
        """Return the batch that a served model takes."""

    def served_example(self, stored: np.ndarray | None, spec: SampleSpec, count: int) -> np.ndarray:
        """Return samples as arrays: the stored ones, or `count` made-up ones where there are none."""

    def served_columns(self, samples: np.ndarray, spec: SampleSpec) -> dict[str, list[Any]] | None:
        """Return what `served_example` returned by the names of `served_schema`; None where a batch is an array.

        A series by name has the readings of one window.
        """

    def fewest_rows(self, spec: SampleSpec) -> int:
        """Return how many rows a batch by name has at least: those of a window, where samples are windows of readings."""

    def score_frame(self, frame: Any, scorer: SampleScorer, reconstruction: bool, code: bool) -> dict[str, np.ndarray]:
        """Return the answers to a frame of pandas with the columns of `served_schema`, by name, (n, ...) each: one a row.

        Args:
            frame: further columns are ignored.
            scorer: the model.
            reconstruction, code: whether to answer them, too, where `ColumnSchema.params` has them.

        Raises:
            DataError: a missing column, or a cell that is not of its column's type.
        """

    def json_schema(self, spec: SampleSpec, longest: int) -> list[dict[str, Any]]:
        """Return JSON schemas of one sample, any of which it may match; `longest` characters a text."""

    # ---------------------------------------------------------------- evaluation

    def baseline(self, samples: np.ndarray, spec: SampleSpec) -> BaselineSamples:
        """Return stored samples (n, ...) as baselines read them."""

    def errors(self, target: np.ndarray, output: np.ndarray) -> np.ndarray:
        """Return the reconstruction error of each sample, (n,), of what `Encoder.to_measured` returns."""

    def mean_error(self, target: np.ndarray, output: np.ndarray) -> float:
        """Return the reconstruction error over all samples."""

    def quality(self, target: np.ndarray, output: np.ndarray) -> tuple[str, np.ndarray]:
        """Return how well each sample is reconstructed, (n,), and what that is called in scores.parquet."""

    def examples(
        self, stored: np.ndarray, decoded: np.ndarray, target: np.ndarray, output: np.ndarray, spec: SampleSpec
    ) -> TextTable | None:
        """Return some samples beside their reconstructions to read; None where they are drawn.

        Args:
            stored: samples (n, ...) as a dataset holds them.
            decoded: their reconstructions (n, ...).
            target, output: both as `Encoder.to_measured` returns them.
            spec: the model's.
        """

    def column_values(self, samples: np.ndarray, spec: SampleSpec) -> ColumnValues | None:
        """Return the columns of samples whose correlations a figure shows; None where samples have no columns.

        Args:
            samples: of the test set, or their reconstructions, (n, ...) in raw units.
        """

    # ---------------------------------------------------------------- an audit

    def named_rows(self, read: Callable[[], Iterable[np.ndarray]], spec: InputSpec) -> NamedRows | None:
        """Return all samples of a dataset as an audit reads rows of named columns; None where samples have none.

        Args:
            read: yields the dataset's blocks (n, ...), one after another; called more than once.
            spec: the section input, as the dataset or its recipe has it.
        """

    # ---------------------------------------------------------------- what is shown

    def describe_samples(self, shape: tuple[int, ...], spec: InputSpec) -> str:
        """Return what a model takes that is served samples of this shape, to go on after "It takes"."""

    def page_form(self, spec: InputSpec) -> PageForm:
        """Return the form that takes one sample of a recipe with this section input."""

    def page_panels(
        self, batch: np.ndarray, output: np.ndarray | None, spec: SampleSpec, explanation: Explanation | None = None
    ) -> tuple[list[PageBlock], str]:
        """Return one sample beside its reconstruction and what explains its score, and why no error is drawn, if so.

        Args:
            batch: (1, *shape) in raw units, or (1,) with a string.
            output: the decoded reconstruction, likewise; None where there is none.
            spec: the model's.
            explanation: of its score: the nearest normal sample and the map of pixels are drawn, where it has them.
        """


def load_kind(name: str) -> DataKind:
    """Return the kind out of its module; raise ValueError where there is no such kind."""
    return cast(DataKind, import_module(module_name(name)).KIND)


if TYPE_CHECKING:  # so that mypy holds every module to the interface
    KINDS_CHECKED: tuple[DataKind, ...] = (image.KIND, series.KIND, table.KIND, text.KIND)
