"""Parts of mappings and mappings of other values, in the order of their keys. Standard library only."""

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import TypeVar

__all__ = ["drop_keys", "map_values", "select_keys"]

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
