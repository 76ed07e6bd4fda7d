"""Parts of mappings and mappings of other values, in the order of their keys. Standard library only."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, TypeVar, overload

__all__ = ["drop_keys", "join_entries", "map_values", "select_keys", "values_at", "without_none", "without_zeros"]

_Key = TypeVar("_Key")
_Value = TypeVar("_Value")
_Result = TypeVar("_Result")


def select_keys(mapping: Mapping[_Key, _Value], keys: Iterable[_Key]) -> dict[_Key, _Value]:
    """Return the entries of these keys, in the order of the keys; raise KeyError where one is missing.

    >>> select_keys({"a": 1, "b": 2, "c": 3}, ("c", "a"))
    {'c': 3, 'a': 1}
    """
    return {key: mapping[key] for key in keys}


def drop_keys(mapping: Mapping[_Key, _Value], keys: Collection[_Key]) -> dict[_Key, _Value]:
    """Return the entries of all keys but these; one that is missing is no mistake.

    >>> drop_keys({"a": 1, "b": 2, "c": 3}, {"b"})
    {'a': 1, 'c': 3}
    """
    return {key: value for key, value in mapping.items() if key not in keys}


def map_values(function: Callable[[_Value], _Result], mapping: Mapping[_Key, _Value]) -> dict[_Key, _Result]:
    """Return the same keys with what the function makes of their values.

    >>> map_values(len, {"a": "one", "b": "three"})
    {'a': 3, 'b': 5}
    """
    return {key: function(value) for key, value in mapping.items()}


@overload
def values_at(values: Mapping[_Key, _Value], keys: Iterable[_Key]) -> list[_Value]: ...


@overload
def values_at(values: Sequence[_Value], keys: Iterable[int]) -> list[_Value]: ...


def values_at(values: Any, keys: Iterable[Any]) -> list[Any]:
    """Return the values of these keys of a mapping, or at these places of a sequence, in the order of the keys.

    >>> values_at({"a": 1, "b": 2}, ("b", "a", "b"))
    [2, 1, 2]
    >>> values_at(["one", "two", "three"], (2, 0))
    ['three', 'one']
    """
    return [values[key] for key in keys]


def without_none(mapping: Mapping[_Key, _Value | None]) -> dict[_Key, _Value]:
    """Return the entries that have a value.

    >>> without_none({"a": None, "b": 0})
    {'b': 0}
    """
    return {key: value for key, value in mapping.items() if value is not None}


def without_zeros(counts: Mapping[_Key, int]) -> dict[_Key, int]:
    """Return the counts of what is there at all.

    >>> without_zeros({"a": 0, "b": 2})
    {'b': 2}
    """
    return {key: count for key, count in counts.items() if count}


def join_entries(mapping: Mapping[_Key, _Value], value_text: Callable[[_Value], str]) -> str:
    """Return the entries as YAML and messages have them in one line.

    >>> join_entries({"at_least": 0.25, "of": 3}, str)
    'at_least: 0.25, of: 3'
    """
    return ", ".join(f"{key}: {value_text(value)}" for key, value in mapping.items())
