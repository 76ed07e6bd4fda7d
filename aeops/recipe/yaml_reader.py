"""Read YAML that people write, strictly: a key that stands twice is a mistake, and aliases cannot make a small file large."""

from collections.abc import Hashable
from itertools import chain
from pathlib import Path
from typing import Any

import yaml

from aeops.errors import UsageError

MAX_FILE_BYTES = 2**20
MAX_VALUES = 20_000  # of a file, each alias counted as all that it stands for
MAX_DEPTH = 100  # of lists and mappings in each other; PyYAML's time grows with its square


def read_yaml(file: Path) -> Any:
    """Return what a YAML file holds; raises as `read_yaml_content` and `parse_yaml` do."""
    return parse_yaml(read_yaml_content(file), file.name)


def read_yaml_content(file: Path) -> bytes:
    """Return the bytes of a YAML file.

    Raises:
        UsageError: it cannot be read, or is too large.
    """
    try:
        content = file.read_bytes()
    except OSError as error:
        raise UsageError(f"{file} cannot be read ({error.strerror})") from error
    if len(content) > MAX_FILE_BYTES:
        raise UsageError(f"{file.name}: expected at most {MAX_FILE_BYTES:,} bytes of YAML, got {len(content):,}")
    return content


def parse_yaml(content: bytes, name: str) -> Any:
    """Return what the bytes of a YAML file hold.

    Args:
        name: the file's, for messages.

    Raises:
        UsageError: it is no YAML, is too large or nested too deeply, or has a key twice.
    """
    try:
        return yaml.load(content.decode("utf-8-sig"), _StrictLoader)  # a SafeLoader
    except UsageError:
        raise
    except UnicodeDecodeError as error:
        raise UsageError(f"{name}: expected UTF-8, got other bytes at byte {error.start}: convert the file") from error
    except RecursionError as error:
        raise UsageError(f"{name}: not readable as YAML: it is nested too deeply, or an alias holds itself") from error
    except Exception as error:  # PyYAML also raises ValueError and others, such as for the date 2026-13-45
        raise UsageError(f"{name}: not readable as YAML: {' '.join(str(error).split())}") from error


class _StrictLoader(yaml.SafeLoader):
    """A SafeLoader that refuses keys that stand twice, more than `MAX_VALUES` values, and nesting beyond `MAX_DEPTH`."""

    def fetch_flow_collection_start(self, token_class: type[yaml.Token]) -> None:
        _require_shallow(self)
        super().fetch_flow_collection_start(token_class)

    def add_indent(self, column: int) -> bool:
        _require_shallow(self)
        return bool(super().add_indent(column))

    def get_single_node(self) -> yaml.Node | None:
        node: yaml.Node | None = super().get_single_node()
        if node is not None:
            _count_values(node, {})
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        _require_unique_keys(self, node)
        return super().construct_mapping(node, deep=deep)


def _require_shallow(loader: _StrictLoader) -> None:
    if loader.flow_level + len(loader.indents) >= MAX_DEPTH:
        raise yaml.scanner.ScannerError(None, None, f"it is nested more than {MAX_DEPTH} deep", loader.get_mark())


def _require_unique_keys(loader: yaml.SafeLoader, node: yaml.MappingNode) -> None:
    first_lines: dict[Hashable, int] = {}
    for key_node, _ in node.value:
        if not isinstance(key_node, yaml.ScalarNode):
            continue  # a key that is a list or a mapping is refused by PyYAML itself
        key = "<<" if key_node.tag == "tag:yaml.org,2002:merge" else loader.construct_object(key_node)
        line = key_node.start_mark.line + 1
        if key in first_lines:
            raise yaml.constructor.ConstructorError(
                problem=f"the key {key!r} stands in line {first_lines[key]} and again in line {line}: remove one of them"
            )
        first_lines[key] = line


def _count_values(node: yaml.Node, counts: dict[int, int]) -> int:
    """Return how many values a node holds, each alias counted in full.

    Args:
        node: a part of the document.
        counts: of the nodes counted so far, by their id; -1 while a node is being counted.

    Raises:
        ConstructorError: there are too many, or a node holds itself.
    """
    if id(node) in counts:
        count = counts[id(node)]
        if count < 0:
            raise yaml.constructor.ConstructorError(problem="an alias holds itself", problem_mark=node.start_mark)
        return count
    counts[id(node)] = -1
    count = 1
    for child in _child_nodes(node):
        count += _count_values(child, counts)
        if count > MAX_VALUES:
            raise yaml.constructor.ConstructorError(
                problem=f"it holds more than {MAX_VALUES:,} values, with its aliases counted in full"
            )
    counts[id(node)] = count
    return count


def _child_nodes(node: yaml.Node) -> list[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        return list(chain.from_iterable(node.value))
    if isinstance(node, yaml.SequenceNode):
        return list(node.value)
    return []
