"""Files of arrays and tables whose bytes depend on their content alone. They are not written atomically: their folder is."""

import io
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd


def write_npy_file(path: Path, shape: tuple[int, ...], dtype: "np.dtype", blocks: Iterable["np.ndarray"]) -> None:
    """Write one .npy file from its blocks of rows, never more than one of them in memory.

    numpy's own writers hide why a write failed (ndarray.tofile) or die of it (a memory map on a full disk).

    Args:
        path: the file.
        shape: of the whole array.
        dtype: of the whole array.
        blocks: its rows in order, (k, *shape[1:]).
    """
    import numpy as np

    with path.open("wb") as stream:
        header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(stream, header)
        for block in blocks:
            stream.write(np.ascontiguousarray(block, dtype=dtype).data)


def write_parquet(path: Path, table: "pd.DataFrame") -> None:
    """Write a table as Parquet whose bytes depend on its rows and the library's version alone."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    buffer = io.BytesIO()  # in memory first: Python's own write says why the disk refused
    pq.write_table(pa.Table.from_pandas(table, preserve_index=False).replace_schema_metadata(None), buffer, compression="zstd")
    path.write_bytes(buffer.getvalue())
