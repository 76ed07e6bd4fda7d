"""What is wrong with the declarations of own parts, sources and studies, without an import of what does the work."""

from collections.abc import Iterable, Iterator
from dataclasses import is_dataclass

from ae_models.own_parts import OWN_KEYS
from aeops.plugins.declarations import Part, Source, Study

PART_CONSTANTS = {
    "encode": ("supported_inputs",),
    "decode": ("supported_inputs",),
    "score": ("supported_inputs", "compatibility_errors"),
    "threshold": ("supported_inputs", "has_rate", "has_law", "has_block", "reads_groups", "reads_novelty"),
}


def declaration_mistakes(declared: Part | Source | Study) -> Iterator[str]:
    """Yield what is wrong with a declaration; what does the work is looked for and not imported."""
    import importlib.util

    spec = declared.spec
    if not (isinstance(spec, type) and is_dataclass(spec) and spec.__dataclass_params__.frozen):  # type: ignore[attr-defined]
        yield f"expected a frozen dataclass as spec, got {spec!r}"
        return
    required: tuple[str, ...] = ()
    if isinstance(declared, Part):
        if declared.key not in OWN_KEYS:
            yield f"{spec.__name__}: expected a part of {', '.join(OWN_KEYS)}, got {declared.key!r}"
            return
        required = ("kind", *PART_CONSTANTS[declared.key])
    elif declared.group == "sources":
        required = ("kind", "input_kinds", "check_input", "check_labels")
    for name in required:
        if not hasattr(spec, name):
            yield f"{spec.__name__} has no {name}, as every spec of its sort has: see docs/plugins.md"
    module, _, name = declared.work.partition(":")
    try:
        is_found = bool(name) and importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        is_found = False
    if not is_found:
        yield f"{spec.__name__}: expected `module:name` of a module that is there as its work, got {declared.work!r}"


def taken_names(found: Iterable[tuple[Part | Source | Study, str]]) -> Iterator[str]:
    """Yield the names that two plugins give or the package has; `found` holds each declaration with its plugin."""
    from ae_models.spec import PART_SPECS

    seen: dict[tuple[str, str], str] = {}
    for declared, plugin in found:
        if isinstance(declared, Part):
            key, name = declared.key, getattr(declared.spec, "kind", "")
            if name in PART_SPECS.get(key, {}):
                yield f"{plugin}: {key} has a kind {name!r} already: choose another name"
        elif declared.group == "sources":
            key, name = "source", getattr(declared.spec, "kind", "")
        else:
            key, name = "study", getattr(declared, "name", "")
        if (other := seen.setdefault((key, name), plugin)) != plugin:
            yield f"{plugin}: the {key} {name!r} is added by {other} as well: remove one of them from `plugins`"
