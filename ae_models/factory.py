"""Construction of a part from its spec."""

from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any, TypeVar

from ae_models.errors import SpecError
from ae_models.own_parts import own_class

__all__ = ["build_part"]

_Part = TypeVar("_Part")


def build_part(classes: Mapping[str, Callable[..., _Part]], spec: Any, **context: Any) -> _Part:
    """Build the part that a spec describes.

    Args:
        classes: kind -> class, such as `ae_models.encoders.ENCODERS`.
        spec: its `kind` chooses the class, its fields are keyword arguments.
        context: further keyword arguments, such as the input's shape or the code's size.

    Raises:
        SpecError: a part of the project's own cannot be loaded.

    >>> from ae_models.spec import SplitConformalThresholdSpec
    >>> from ae_models.thresholds import THRESHOLDS
    >>> build_part(THRESHOLDS, SplitConformalThresholdSpec(0.05)).requested_rate
    0.05
    """
    settings = {spec_field.name: getattr(spec, spec_field.name) for spec_field in fields(spec)}
    part_class = classes.get(spec.kind) or own_class(spec)
    if part_class is None:
        raise SpecError([f"expected a part out of {', '.join(classes)}, got {spec.kind!r}"])
    return part_class(**settings, **context)
