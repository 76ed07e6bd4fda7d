"""Encoders, decoders, scores and thresholds that a project adds: found by their kind where this package has none of that name.

Who runs a project says by `set_loader` how to find them; nothing is imported before a kind is asked for that is not one of this
package's own. `ae_models.factory.build_part` builds them like any other part.
"""

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from ae_models.errors import SpecError

__all__ = [
    "OWN_KEYS",
    "OwnPart",
    "forget_parts",
    "own_class",
    "register_part",
    "registered_parts",
    "resolve_work",
    "set_loader",
    "with_own_parts",
]

# Key of a recipe -> the module with this package's own kinds, by which a choice of kinds is known to be one of that key.
OWN_KEYS = {
    "encode": "ae_models.spec.encoders",
    "decode": "ae_models.spec.decoders",
    "score": "ae_models.spec.bank_scores",
    "threshold": "ae_models.spec.thresholds",
}


@dataclass(frozen=True)
class OwnPart:
    """A part of a project.

    Attributes:
        key: encode, decode, score or threshold.
        spec: its settings: a frozen dataclass as those of `ae_models.spec`.
        work: `module:Class` of what does the work; imported when a model is built.
    """

    group: ClassVar[str] = "parts"  # among what a project may add
    key: str
    spec: Any
    work: str


_parts: dict[str, dict[str, OwnPart]] = {}  # key -> kind -> part
_loaders: list[Callable[[], None]] = []  # one at most


def set_loader(loader: Callable[[], None]) -> None:
    """Set what registers a project's parts, called when a kind is asked for that is unknown. It replaces the last one."""
    _loaders[:] = [loader]


def register_part(part: OwnPart) -> None:
    """Add a part, in the place of one of the same kind."""
    _parts.setdefault(part.key, {})[part.spec.kind] = part


def registered_parts() -> tuple[OwnPart, ...]:
    """Return the parts that were added, for another process that needs the same."""
    return tuple(part for parts in _parts.values() for part in parts.values())


def forget_parts() -> None:
    """Forget every part and the loader, as in a fresh process."""
    _parts.clear()
    _loaders.clear()


def with_own_parts(specs: Mapping[str, type]) -> dict[str, type]:
    """Return the choices of a key, kind -> spec, with those that the project adds to them."""
    modules = {spec.__module__ for spec in specs.values()}
    for key, module in OWN_KEYS.items():
        if module in modules:
            for loader in _loaders:
                loader()
            return {kind: part.spec for kind, part in _parts.get(key, {}).items()} | dict(specs)
    return dict(specs)


def own_class(spec: Any) -> Callable[..., Any] | None:
    """Return the class that does the work of a spec that a project has added; None for this package's own."""
    for parts in _parts.values():
        part = parts.get(spec.kind)
        if part is not None and part.spec is type(spec):
            found: Callable[..., Any] = resolve_work(part.work, spec.kind)
            return found
    return None


def resolve_work(work: str, kind: str) -> Any:
    """Return what `module:name` says.

    Raises:
        SpecError: the module is missing or fails, or has no such name.
    """
    module, _, name = work.partition(":")
    try:
        return getattr(importlib.import_module(module), name)
    except Exception as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise SpecError([f"the part {kind!r} of this project cannot be loaded from {work}: {reason}"]) from error
