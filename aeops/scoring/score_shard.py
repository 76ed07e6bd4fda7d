"""`python -m aeops.scoring.score_shard --bundle DIR --samples FILE --first A --last B --out FILE ...`: score some rows of a file.

The result is written under another name and renamed: FILE is there as a whole or not at all, whoever is killed and however
often the same rows are scored. Each try has a name of its own, so that two at once write no file together.
"""

import argparse
import os
import secrets
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from aeops.bundle.detector import Detector
from aeops.errors import DataError
from aeops.files import atomic_path
from aeops.machine.entry_point import run_main


@dataclass(frozen=True)
class ShardRequest:
    """Rows to score.

    Attributes:
        bundle: folder of the model.
        bundle_sha256: of its content.
        samples: a .npy file.
        stamp: size and time of that file, as it was when its content was hashed.
        first, last: the rows, the last one excluded.
        out: the file to write.
        cores: to use.
    """

    bundle: Path
    bundle_sha256: str
    samples: Path
    stamp: str
    first: int
    last: int
    out: Path
    cores: int = 1

    def arguments(self) -> tuple[str, ...]:
        """Return the command line of this module for the request."""
        words = []
        for name, value in vars(self).items():
            words += [f"--{name.replace('_', '-')}", str(value)]
        return ("aeops.scoring.score_shard", *words)


def file_stamp(path: Path) -> str:
    """Return size and time of a file's last change, by which another content is noticed."""
    status = path.stat()
    return f"{status.st_size}-{status.st_mtime_ns}"


def score_shard(request: ShardRequest) -> None:
    """Score rows of a file and write what the detector returns, one array a name, each (last - first, ...).

    Raises:
        DataError: the bundle or the file is not the one that was asked for, or holds no samples that the model takes.
    """
    if request.out.is_file():
        return
    if file_stamp(request.samples) != request.stamp:
        raise DataError(f"{request.samples} was written to while it was scored: type the same command again")
    detector = Detector(request.bundle, request.bundle_sha256, request.cores)
    values = detector.read_file(request.samples).values
    outputs = detector.score(values[request.first : request.last], code=True)
    own_path = request.out.with_name(f"{request.out.stem}-{secrets.token_hex(8)}{request.out.suffix}")
    with atomic_path(own_path) as tmp_path, tmp_path.open("wb") as stream:
        np.savez(stream, **outputs)  # type: ignore[arg-type]
    os.replace(own_path, request.out)


def main() -> None:
    """Parse the command line and score."""
    parser = argparse.ArgumentParser(description="Score some rows of a .npy file.")
    for option in ("bundle", "samples", "out"):
        parser.add_argument(f"--{option}", type=Path, required=True)
    for option in ("bundle-sha256", "stamp"):
        parser.add_argument(f"--{option}", required=True)
    for option in ("first", "last", "cores"):
        parser.add_argument(f"--{option}", type=int, required=True)
    arguments = parser.parse_args()
    run_main(lambda: score_shard(ShardRequest(**vars(arguments))))


if __name__ == "__main__":
    main()
