"""What a power failure leaves: a recorder of all that processes write, and the folder as a disk has it after a cut.

`record` runs a command and notes each operation on a folder (tests/write_recorder.c). `PowerCut` follows these operations and
builds the folder in which only what was synced is left.
"""

import hashlib
import os
import shutil
import struct
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

HEAD = struct.Struct("<cQqII")  # operation, inode, offset, lengths of two texts; see tests/write_recorder.c
VOLATILE = "-shm"  # end of the name of SQLite's shared memory, which is made anew from the log and written without system calls


@dataclass(frozen=True)
class Operation:
    letter: str
    inode: int
    offset: int
    first: bytes
    second: bytes


@dataclass
class File:
    """A file as processes see it, and as it was when it was last synced."""

    content: bytearray
    synced: bytes = b""

    def surviving(self) -> bytes:
        """Return the content where its length was stored and what was not synced was not: zeros."""
        return self.synced[: len(self.content)].ljust(len(self.content), b"\0")


@dataclass
class Folder:
    """The entries of a folder, now and when it was last synced."""

    entries: "dict[str, File | Folder]" = field(default_factory=dict)
    synced: "dict[str, File | Folder]" = field(default_factory=dict)


def build_recorder(folder: Path) -> Path:
    """Compile the library that is to be preloaded; skip the test where there is no C compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler (cc or gcc), which the recorder of writes is built with")
    library = folder / "write_recorder.so"
    source = Path(__file__).with_name("write_recorder.c")
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", library, source, "-ldl"], check=True)
    return library


def record(command: list[str], root: Path, scratch: Path) -> list[Operation]:
    """Run a command to its end and return its operations on what lies below `root`, in their order.

    Args:
        scratch: a folder outside `root` for the library and the record.
    """
    log = scratch / "writes"
    log.touch()
    settings = {"LD_PRELOAD": str(build_recorder(scratch)), "WRITE_RECORD": str(log), "WRITE_RECORD_ROOT": str(root)}
    subprocess.run(command, env=os.environ | settings, check=True)
    return list(read_operations(log.read_bytes()))


def read_operations(data: bytes) -> Iterator[Operation]:
    position = 0
    while position < len(data):
        letter, inode, offset, first, second = HEAD.unpack_from(data, position)
        position += HEAD.size
        texts = data[position : position + first], data[position + first : position + first + second]
        position += first + second
        yield Operation(letter.decode(), inode, offset, *texts)


class PowerCut:
    """A folder to which recorded operations are applied one after the other; made before they are recorded.

    What lies in the folder by then is taken as synced.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.nodes: dict[int, File | Folder] = {}
        self.tree = self._load(root)

    def _load(self, path: Path) -> Folder:
        folder = Folder()
        self.nodes[path.stat().st_ino] = folder
        for child in path.iterdir():
            if child.is_dir():
                folder.entries[child.name] = self._load(child)
            else:
                content = child.read_bytes()
                folder.entries[child.name] = self.nodes[child.stat().st_ino] = File(bytearray(content), content)
        folder.synced = dict(folder.entries)
        return folder

    def _parent(self, path: bytes) -> tuple[Folder, str]:
        *folders, name = Path(os.fsdecode(path)).relative_to(self.root).parts
        folder = self.tree
        for part in folders:
            child = folder.entries[part]
            assert isinstance(child, Folder)
            folder = child
        return folder, name

    def apply(self, operation: Operation) -> None:
        letter, node = operation.letter, self.nodes.get(operation.inode)
        if letter in "cm":
            folder, name = self._parent(operation.first)
            folder.entries[name] = self.nodes[operation.inode] = File(bytearray()) if letter == "c" else Folder()
        elif letter == "u":
            folder, name = self._parent(operation.first)
            del folder.entries[name]
        elif letter in "rl":
            (old_folder, old), (new_folder, new) = self._parent(operation.first), self._parent(operation.second)
            new_folder.entries[new] = old_folder.entries.pop(old) if letter == "r" else old_folder.entries[old]
        elif isinstance(node, Folder):
            node.synced = dict(node.entries)
        else:
            assert node is not None, f"the recorder missed how inode {operation.inode} was made"
            self._change_file(node, operation)

    def _change_file(self, file: File, operation: Operation) -> None:
        if operation.letter == "s":
            file.synced = bytes(file.content)
            return
        length = operation.offset
        file.content.extend(bytes(max(0, length - len(file.content))))
        if operation.letter == "t":
            del file.content[length:]
        else:
            file.content[length : length + len(operation.first)] = operation.first

    def restore(self, *, names_survive: bool) -> None:
        """Put on the disk what is left after a cut now.

        Args:
            names_survive: names and lengths reached the disk at once, as file systems with a journal may do, and only contents
                did not; False: neither did, unless synced.
        """
        shutil.rmtree(self.root)
        self._write(self.tree, self.root, names_survive)

    def _write(self, folder: Folder, path: Path, names_survive: bool) -> None:
        path.mkdir()
        entries = folder.entries if names_survive else folder.synced
        for name, node in entries.items():
            if isinstance(node, Folder):
                self._write(node, path / name, names_survive)
            else:
                (path / name).write_bytes(node.surviving() if names_survive else node.synced)

    def fingerprint(self, *, names_survive: bool) -> str:
        """Return a hash of what `restore` would put on the disk, by which a cut that leaves the same as another is known."""
        digest = hashlib.sha256()
        self._hash(self.tree, digest, names_survive)
        return digest.hexdigest()

    def _hash(self, folder: Folder, digest: "hashlib._Hash", names_survive: bool) -> None:
        entries = folder.entries if names_survive else folder.synced
        for name, node in sorted(entries.items()):
            digest.update(f"{name}\0{type(node).__name__}\0".encode())
            if isinstance(node, Folder):
                self._hash(node, digest, names_survive)
            else:
                digest.update(hashlib.sha256(node.surviving() if names_survive else node.synced).digest())
        digest.update(b"/")

    def differences(self) -> list[str]:
        """Return the paths in which the folder on the disk is not what the operations made it: the recorder missed one."""
        expected = dict(_contents(self.tree, ""))
        actual = {}
        for path in self.root.rglob("*"):
            actual[str(path.relative_to(self.root))] = path.read_bytes() if path.is_file() else None
        paths = expected.keys() | actual.keys()
        return sorted(
            path for path in paths if expected.get(path, b"-") != actual.get(path, b"-") and not path.endswith(VOLATILE)
        )


def _contents(folder: Folder, prefix: str) -> Iterator[tuple[str, bytes | None]]:
    for name, node in folder.entries.items():
        if isinstance(node, Folder):
            yield prefix + name, None
            yield from _contents(node, f"{prefix}{name}/")
        else:
            yield prefix + name, bytes(node.content)
