"""What most kinds of data share: a dataset holds the arrays that a model is trained on."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from aeops.errors import DataError
from aeops.kinds.results import ColumnValues, ExpectedRange, ExpectedValue, WatchedColumn
from aeops.kinds.samples import FileSamples, SampleSpec

if TYPE_CHECKING:
    from ae_models.spec import ColumnSpec, InputSpec
    from aeops.kinds.named_rows import NamedRows
    from aeops.kinds.scorer import SampleScorer
    from aeops.kinds.series_blocks import BlockRule


def _brief_cell(cell: Any) -> str:
    if cell is None or cell != cell:
        return "-"
    return f"{cell:.6g}" if isinstance(cell, float) else str(cell)


class KindDefaults:
    """The parts of `aeops.kinds.interface.DataKind` that are the same for every kind whose samples are arrays of one dtype."""

    INDEX_COLUMNS: Mapping[str, str] = {}
    DRIFT_COLUMNS: tuple[str, ...] = ()
    IS_BY_NAME: bool = False
    DEFAULT_ENERGY: float = 0.5
    FILE_TYPES: tuple[str, ...] = ()

    def read_columns(self, columns: Mapping[str, Any], from_text: bool, path: Path, spec: SampleSpec) -> FileSamples:
        """See `DataKind.read_columns`."""
        raise DataError(f"{path}: this recipe takes no columns by name")

    def stored_shape(self, block: np.ndarray) -> tuple[int, ...]:
        """See `DataKind.stored_shape`."""
        return block.shape[1:]

    def stored_dtype(self, block: np.ndarray) -> str:
        """See `DataKind.stored_dtype`."""
        return block.dtype.name

    def index_columns(self, spec: "InputSpec") -> Mapping[str, str]:
        """See `DataKind.index_columns`."""
        return self.INDEX_COLUMNS

    def drift_columns(self, spec: "InputSpec") -> tuple[str, ...]:
        """See `DataKind.drift_columns`."""
        return self.DRIFT_COLUMNS

    def to_table(self, block: np.ndarray, spec: "InputSpec") -> dict[str, Any] | None:
        """See `DataKind.to_table`."""
        return None

    def from_table(self, columns: Mapping[str, Any], spec: "InputSpec") -> np.ndarray:
        """See `DataKind.from_table`."""
        raise NotImplementedError("samples of this kind are stored as arrays")

    def briefly(self, block: np.ndarray, spec: "InputSpec") -> list[str]:
        """See `DataKind.briefly`: the columns of a row by name; nothing for samples without columns."""
        columns = self.to_table(block, spec)
        if columns is None:
            return [""] * len(block)
        values = {name: list(columns[name]) for name in columns if not name.startswith("(")}
        return [", ".join(f"{name}={_brief_cell(cells[row])}" for name, cells in values.items()) for row in range(len(block))]

    def table_expectations(self, spec: "InputSpec") -> list[ExpectedRange | ExpectedValue]:
        """See `DataKind.table_expectations`."""
        return []

    def learn_input(self, blocks: Iterable[np.ndarray], spec: "InputSpec") -> "InputSpec":
        """See `DataKind.learn_input`."""
        return spec

    def prepared_form(self, block: np.ndarray, spec: "InputSpec") -> np.ndarray:
        """See `DataKind.prepared_form`."""
        return block

    def recode(self, samples: np.ndarray, columns: "Sequence[ColumnSpec]", served: SampleSpec) -> np.ndarray:
        """See `DataKind.recode`."""
        return samples

    def watched_values(self, samples: "np.ndarray | Sequence[str]") -> np.ndarray | None:
        """See `DataKind.watched_values`."""
        return None

    def watched_columns(self, spec: SampleSpec) -> list[WatchedColumn]:
        """See `DataKind.watched_columns`."""
        return []

    def block_rule(self, spec: SampleSpec, windows: int) -> "BlockRule | None":
        """See `DataKind.block_rule`."""
        return None

    def column_values(self, samples: np.ndarray, spec: SampleSpec) -> ColumnValues | None:
        """See `DataKind.column_values`."""
        return None

    def named_rows(self, read: "Callable[[], Iterable[np.ndarray]]", spec: "InputSpec") -> "NamedRows | None":
        """See `DataKind.named_rows`."""
        return None

    def served_columns(self, samples: np.ndarray, spec: SampleSpec) -> dict[str, list[Any]] | None:
        """See `DataKind.served_columns`."""
        return None

    def fewest_rows(self, spec: SampleSpec) -> int:
        """See `DataKind.fewest_rows`."""
        return 1

    def score_frame(self, frame: Any, scorer: "SampleScorer", reconstruction: bool, code: bool) -> dict[str, np.ndarray]:
        """See `DataKind.score_frame`: a row is a sample."""
        return scorer.score(frame, reconstruction=reconstruction, code=code)

    def plain_sample(self, sample: Any, spec: SampleSpec) -> Any:
        """See `DataKind.plain_sample`."""
        return sample

    def read_content(self, content: bytes, spec: SampleSpec) -> np.ndarray:
        """See `DataKind.read_content`."""
        raise NotImplementedError("samples of this kind come in no files of their own")

    def expected_values(self, spec: SampleSpec) -> str:
        """See `DataKind.expected_values`."""
        return f"values from {spec.low:g} to {spec.high:g}"
