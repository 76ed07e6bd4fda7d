"""Reading of specs from plain mappings, and writing them back."""

import types
import typing
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, fields, is_dataclass
from typing import Any

from ae_models.errors import SpecError
from ae_models.names import names_of
from ae_models.own_parts import with_own_parts
from ae_models.spec.messages import format_value, join_choices, join_names, suggest_match

__all__ = ["SpecReader", "spec_to_dict"]

_TYPE_NAMES = {int: "a whole number", float: "a number", str: "a word", bool: "true or false"}


def spec_to_dict(spec: Any) -> Any:
    """Return a spec, or a value of one, as JSON-ready dicts, lists and numbers; a part's `kind` comes first.

    >>> from ae_models.spec.bottlenecks import IdentityBottleneckSpec
    >>> spec_to_dict(IdentityBottleneckSpec(size=8))
    {'kind': 'identity', 'size': 8}

    A key that was added to a format later is left out where it has its default: see `bounded_field`.
    """
    if is_dataclass(spec) and not isinstance(spec, type):
        document = {"kind": spec.kind} if hasattr(spec, "kind") else {}
        for spec_field in fields(spec):
            value = getattr(spec, spec_field.name)
            if not (spec_field.metadata.get("omit_default") and value == spec_field.default):
                document[spec_field.name] = spec_to_dict(value)
        return document
    if isinstance(spec, tuple):
        return list(map(spec_to_dict, spec))
    return spec


class SpecReader:
    """Builds dataclasses from plain mappings and collects every mistake on the way.

    A dataclass may have `validation_errors()`, which returns a message for each rule between its fields that is broken.

    Args:
        source: named in every message, such as the recipe's file.

    >>> from ae_models.spec.training import TrainSpec
    >>> reader = SpecReader("digits.yaml")
    >>> reader.read(TrainSpec, {"epochs": 3}, "train").epochs
    3
    >>> reader.read(TrainSpec, {"epoch": 3, "batch": 0}, "train")
    >>> for mistake in reader.mistakes:
    ...     print(mistake)  # doctest: +ELLIPSIS
    digits.yaml: train: unexpected key 'epoch', expected epochs, budget, ... or capture: did you mean epochs?
    digits.yaml: train.batch: expected 1 to 1e+06, got 0
    """

    def __init__(self, source: str) -> None:
        self.source = source
        self.mistakes: list[str] = []

    def mistake(self, path: str, message: str) -> None:
        """Add a mistake at a path such as `model.encode.kind`."""
        self.mistakes.append(f"{self.source}: {path}: {message}")

    def finish(self) -> None:
        """Raise every mistake at once.

        Raises:
            SpecError: there were mistakes.
        """
        if self.mistakes:
            raise SpecError(self.mistakes)

    def read(self, cls: type, raw_spec: Any, path: str) -> Any:
        """Read a dataclass.

        Args:
            cls: a dataclass, whose field types and bounds are checked.
            raw_spec: a mapping from field names to values.
            path: of the mapping, for messages.

        Returns:
            An instance of `cls`, or None where `raw_spec` has mistakes.
        """
        names = names_of(fields(cls))
        if not isinstance(raw_spec, Mapping):
            self.mistake(path, f"expected a mapping with {join_names(names)}, got {format_value(raw_spec)}")
            return None
        mistakes_before = len(self.mistakes)
        hints = typing.get_type_hints(cls)
        self.check_keys(raw_spec, names, path)
        values = {}
        for spec_field in fields(cls):
            name = spec_field.name
            if name in raw_spec:
                values[name] = self._read_value(hints[name], raw_spec[name], f"{path}.{name}", spec_field.metadata)
            elif spec_field.default is MISSING and spec_field.default_factory is MISSING:
                self.mistake(path, f"the key {name} is missing")
        if len(self.mistakes) > mistakes_before:
            return None
        spec = cls(**values)
        for message in getattr(spec, "validation_errors", list)():
            self.mistake(path, message)
        return spec

    def read_kind(self, specs: Mapping[str, type], raw_spec: Any, path: str) -> Any:
        """Read the dataclass that `raw_spec["kind"]` names from the other keys.

        Args:
            specs: kind -> dataclass.
            raw_spec: a mapping with the key `kind`.
            path: of the mapping, for messages.

        Returns:
            An instance of one of `specs`, or None where `raw_spec` has mistakes.
        """
        if not isinstance(raw_spec, Mapping) or "kind" not in raw_spec:
            self.mistake(path, f"expected {{kind: ...}} with kind {join_choices(specs)}, got {format_value(raw_spec)}")
            return None
        settings = dict(raw_spec)
        kind = settings.pop("kind")
        if kind not in specs:
            specs = with_own_parts(specs)
        if kind not in specs:
            self.mistake(f"{path}.kind", f"expected {join_choices(specs)}, got {format_value(kind)}{suggest_match(kind, specs)}")
            return None
        return self.read(specs[kind], settings, path)

    def check_keys(self, raw_spec: Mapping[str, Any], allowed_keys: Iterable[str], path: str) -> None:
        """Add a mistake for each key that is not allowed."""
        allowed_keys = list(allowed_keys)
        for key in raw_spec:
            if key not in allowed_keys:
                expected = join_choices(allowed_keys) if allowed_keys else "no key"
                self.mistake(path, f"unexpected key {format_value(key)}, expected {expected}{suggest_match(key, allowed_keys)}")

    def _read_value(self, hint: Any, raw_value: Any, path: str, bounds: Mapping[str, Any]) -> Any:
        origin, arguments = typing.get_origin(hint), typing.get_args(hint)
        members = arguments if origin in (typing.Union, types.UnionType) else (hint,)
        if raw_value is None and type(None) in members:
            return None
        if all(_is_part(member) for member in members):
            return self.read_kind({member.kind: member for member in members}, raw_value, path)
        if len(members) > 1 and all(member in _TYPE_NAMES for member in members):  # a number or a word
            return self._read_one_of(members, raw_value, path, bounds)
        if len(members) > 1:  # X | None
            inner_type = next(member for member in members if member is not type(None))
            return self._read_value(inner_type, raw_value, path, bounds)
        if origin is tuple:
            return self._read_list(arguments[0], raw_value, path, bounds)
        if origin is dict:
            if not isinstance(raw_value, Mapping):
                self.mistake(path, f"expected a mapping, got {format_value(raw_value)}")
                return None
            return dict(raw_value)
        if is_dataclass(hint):
            return self.read(typing.cast(type, hint), raw_value, path)
        return self._read_scalar(hint, raw_value, path, bounds)

    def _read_list(self, item_type: Any, raw_value: Any, path: str, bounds: Mapping[str, Any]) -> tuple[Any, ...] | None:
        if not isinstance(raw_value, list | tuple):
            self.mistake(path, f"expected a list, got {format_value(raw_value)}")
            return None
        items = []
        for index, item in enumerate(raw_value):
            items.append(self._read_value(item_type, item, f"{path}[{index}]", bounds))
        return tuple(items)

    def _read_one_of(self, types: tuple[Any, ...], raw_value: Any, path: str, bounds: Mapping[str, Any]) -> Any:
        """Read a value that is of one of several plain types: words are checked by `one_of`, numbers by `low` and `high`."""
        for scalar_type in types:
            if _is_instance(raw_value, scalar_type):
                checks = ("one_of",) if scalar_type is str else ("low", "high")
                return self._read_scalar(scalar_type, raw_value, path, {name: bounds.get(name) for name in checks})
        choices = [*(bounds.get("one_of") or ()), *(_TYPE_NAMES[scalar_type] for scalar_type in types if scalar_type is not str)]
        self.mistake(path, f"expected {join_choices(choices)}, got {format_value(raw_value)}")
        return None

    def _read_scalar(self, scalar_type: Any, raw_value: Any, path: str, bounds: Mapping[str, Any]) -> Any:
        if scalar_type not in _TYPE_NAMES:
            return raw_value
        if not _is_instance(raw_value, scalar_type):
            self.mistake(path, f"expected {_TYPE_NAMES[scalar_type]}, got {format_value(raw_value)}")
            return None
        low, high, one_of = bounds.get("low"), bounds.get("high"), bounds.get("one_of")
        if (low is not None and raw_value < low) or (high is not None and raw_value > high):
            self.mistake(path, f"expected {_format_range(low, high)}, got {raw_value}")
        if one_of is not None and raw_value not in one_of:
            suggestion = suggest_match(raw_value, one_of)
            self.mistake(path, f"expected {join_choices(one_of)}, got {format_value(raw_value)}{suggestion}")
        return scalar_type(raw_value)


def _is_part(hint: Any) -> bool:
    """Return whether a type is a dataclass with a constant `kind`, which its mapping must name."""
    if not is_dataclass(hint) or not isinstance(getattr(hint, "kind", None), str):
        return False
    return "kind" not in names_of(fields(hint))


def _is_instance(raw_value: Any, scalar_type: type) -> bool:
    if isinstance(raw_value, bool):
        return scalar_type is bool
    if scalar_type is float:
        return isinstance(raw_value, int | float) and raw_value == raw_value  # a NaN is no number
    return isinstance(raw_value, scalar_type)


def _format_range(low: float | None, high: float | None) -> str:
    if high is None:
        return f"{low:g} or more"
    if low is None:
        return f"{high:g} or less"
    return f"{low:g} to {high:g}"
