"""An ONNX model that computes some of its outputs alone, cut out of the file's bytes: neither onnx nor torch is imported.

onnxruntime computes every output of a model, also those that a run does not ask for.
"""

from collections.abc import Collection, Iterator
from typing import NamedTuple

__all__ = ["keep_outputs", "list_outputs"]

# Numbers of protobuf's fields: https://github.com/onnx/onnx/blob/main/onnx/onnx.proto3
_MODEL_GRAPH = 7
_NODE, _INITIALIZER, _OUTPUT = 1, 5, 12  # of a graph
_NODE_INPUT, _NODE_OUTPUT, _NODE_ATTRIBUTE = 1, 2, 5
_ATTRIBUTE_GRAPHS = (6, 11)  # of a node such as If, which reads tensors of the graph around it
_INITIALIZER_NAME, _OUTPUT_NAME = 8, 1
_VARINT, _FIXED_64, _BYTES, _FIXED_32 = 0, 1, 2, 5  # how a value is stored


class _Field(NamedTuple):
    """A field of a protobuf message.

    Attributes:
        number: says which.
        content: bytes of a message, a string or a tensor; empty for numbers.
        encoded: the whole field.
    """

    number: int
    content: memoryview
    encoded: memoryview


def keep_outputs(model: bytes, names: Collection[str]) -> bytes:
    """Return the model with these of its outputs, and with the nodes and weights that they need.

    Args:
        model: as ONNX stores it.
        names: of outputs.
    """
    return b"".join(_rewrite_graphs(model, names))


def list_outputs(model: bytes) -> list[str]:
    """Return the names of a model's outputs, in order."""
    names = []
    for graph in _contents(memoryview(model), _MODEL_GRAPH):
        for output in _contents(graph, _OUTPUT):
            names += _strings(output, _OUTPUT_NAME)
    return names


def _rewrite_graphs(model: bytes, names: Collection[str]) -> Iterator[bytes | memoryview]:
    for field in _fields(memoryview(model)):
        if field.number != _MODEL_GRAPH:
            yield field.encoded
            continue
        graph = b"".join(_needed_fields(field.content, names))
        yield _varint(_MODEL_GRAPH << 3 | _BYTES) + _varint(len(graph))
        yield graph


def _needed_fields(graph: memoryview, names: Collection[str]) -> list[memoryview]:
    """Return the fields of a graph that these outputs need, in order."""
    needed = set(names)
    fields = list(_fields(graph))
    unused_nodes = set()
    for place in reversed(range(len(fields))):  # ONNX asks for nodes in an order in which they can be run
        field = fields[place]
        if field.number == _NODE and needed.isdisjoint(_strings(field.content, _NODE_OUTPUT)):
            unused_nodes.add(place)
        elif field.number == _NODE:
            needed |= _tensors_read(field.content)
    kept = []
    for place, field in enumerate(fields):
        is_unused_weight = field.number == _INITIALIZER and needed.isdisjoint(_strings(field.content, _INITIALIZER_NAME))
        is_other_output = field.number == _OUTPUT and set(names).isdisjoint(_strings(field.content, _OUTPUT_NAME))
        if not (place in unused_nodes or is_unused_weight or is_other_output):
            kept.append(field.encoded)
    return kept


def _tensors_read(node: memoryview) -> set[str]:
    """Return the names of what a node reads, and the nodes of graphs within it."""
    read = set(_strings(node, _NODE_INPUT))
    for attribute in _contents(node, _NODE_ATTRIBUTE):
        for number in _ATTRIBUTE_GRAPHS:
            for graph in _contents(attribute, number):
                for inner_node in _contents(graph, _NODE):
                    read |= _tensors_read(inner_node)
                for output in _contents(graph, _OUTPUT):  # which may be a tensor of the graph around it
                    read.update(_strings(output, _OUTPUT_NAME))
    return read


def _strings(message: memoryview, number: int) -> list[str]:
    return [str(content, "utf-8") for content in _contents(message, number)]


def _contents(message: memoryview, number: int) -> Iterator[memoryview]:
    for field in _fields(message):
        if field.number == number:
            yield field.content


def _fields(message: memoryview) -> Iterator[_Field]:
    place = 0
    while place < len(message):
        start = place
        key, place = _read_varint(message, place)
        content = message[:0]
        if key & 7 == _BYTES:
            size, place = _read_varint(message, place)
            content = message[place : place + size]
            place += size
        elif key & 7 == _VARINT:
            _, place = _read_varint(message, place)
        elif key & 7 in (_FIXED_32, _FIXED_64):
            place += 4 if key & 7 == _FIXED_32 else 8
        else:
            raise ValueError(f"expected a field of an ONNX file at byte {start}, got one of the unknown kind {key & 7}")
        yield _Field(key >> 3, content, message[start:place])


def _read_varint(message: memoryview, place: int) -> tuple[int, int]:
    """Return the number at a place, and the place after it."""
    value, shift = 0, 0
    while True:
        byte = message[place]
        value |= (byte & 0x7F) << shift
        place += 1
        if byte < 0x80:
            return value, place
        shift += 7


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)
