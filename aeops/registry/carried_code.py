"""The code of this project that a logged model carries, so that it answers where the project is not installed.

It lies under a top-level package of its own, `ae_served_<hash>`, named by its content. So two models that carry different code
load in one process, and beside an installed version of this project.
"""

import ast
import functools
import hashlib
import re
from collections.abc import Collection, Iterator
from pathlib import Path

from aeops.errors import UsageError
from aeops.files import file_sha256
from aeops.machine.source_files import PACKAGES, file_references, is_within, source_files

SERVED_MODEL = Path(__file__).with_name("served_model.py")
HASH_DIGITS = 8  # of the hash, in the package's name


def carried_files(root: Path) -> dict[str, Path]:
    """Return the source files by module name: of everything that served_model.py imports from this project."""
    return source_files(root, file_references(SERVED_MODEL, SERVED_MODEL.stem).imports)


def package_name(root: Path) -> str:
    """Return the name of the package, by the content of the carried files and of served_model.py."""
    lines = [f"{file_sha256(file)}  {name}\n" for name, file in sorted(carried_files(root).items())]
    lines.append(f"{file_sha256(SERVED_MODEL)}  {SERVED_MODEL.name}\n")
    return f"ae_served_{hashlib.sha256(''.join(lines).encode()).hexdigest()[:HASH_DIGITS]}"


def write_carried_code(root: Path, folder: Path) -> tuple[Path, Path]:
    """Write the package, and the model's own file, with rewritten imports.

    Args:
        root: a folder that may hold this project's packages; otherwise the installed ones are taken.
        folder: where to write.

    Returns:
        The package's folder and the file of the model.
    """
    files, package = carried_files(root), package_name(root)
    modules = frozenset(files)
    for name, file in files.items():
        target = folder.joinpath(package, *name.split("."))
        if file.name == "__init__.py":
            _write_rewritten(file, target / "__init__.py", package, modules)
            continue
        target = target.with_name(f"{target.name}.py")
        _write_rewritten(file, target, package, modules)
    (folder / package / "__init__.py").touch()
    _write_rewritten(SERVED_MODEL, folder / SERVED_MODEL.name, package, modules)
    return folder / package, folder / SERVED_MODEL.name


def _write_rewritten(file: Path, target: Path, package: str, modules: frozenset[str]) -> None:
    try:
        new_source = rewrite_imports(file.read_text(encoding="utf-8"), package, modules)
    except UsageError as error:
        raise UsageError(f"{file} cannot be carried by a logged model: {error}") from error
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(new_source, encoding="utf-8")


@functools.cache  # parsing takes a third of the time of a registration, and a process that registers again has the same files
def rewrite_imports(source: str, package: str, modules: frozenset[str]) -> str:
    """Put `package` before the names of this project's modules, in import statements and in strings that name a module.

    Args:
        source: Python.
        package: the name to put before them.
        modules: those that are carried; strings with other names stay as they are.

    Raises:
        UsageError: an `import` of one of this project's modules without `as`, which would bind a name that the new package does
            not have; or an import whose module stands in another line than its keyword.
    """
    lines = source.splitlines(keepends=True)
    module_names = set()
    for syntax_node, name in _module_names(ast.parse(source), modules):
        module_names.add((syntax_node.lineno, syntax_node.col_offset, name))
    for number, column, name in sorted(module_names, reverse=True):  # from the end, so that earlier columns stay right
        line = lines[number - 1]
        start = len(line.encode()[:column].decode())  # ast counts bytes
        new_text, count = re.subn(rf"(?<![\w.]){re.escape(name)}(?!\w)", f"{package}.{name}", line[start:], count=1)
        if count == 0:
            raise UsageError(f"line {number}: expected the name {name} in the line in which its statement begins")
        lines[number - 1] = line[:start] + new_text
    return "".join(lines)


def _module_names(tree: ast.AST, modules: Collection[str]) -> Iterator[tuple[ast.stmt | ast.expr | ast.alias, str]]:
    """Yield each syntax node that names a module of this project, and the name."""
    for syntax_node in ast.walk(tree):
        if isinstance(syntax_node, ast.ImportFrom):
            if syntax_node.level == 0 and syntax_node.module is not None and is_within(syntax_node.module, PACKAGES):
                yield syntax_node, syntax_node.module
        elif isinstance(syntax_node, ast.Import):
            for alias in syntax_node.names:
                if is_within(alias.name, PACKAGES):
                    if alias.asname is None:
                        raise UsageError(f"line {syntax_node.lineno}: expected `from ... import ...`, got `import {alias.name}`")
                    yield alias, alias.name
        elif (
            isinstance(syntax_node, ast.Constant)
            and isinstance(syntax_node.value, str)
            and syntax_node.value.rstrip(".") in modules
        ):
            yield syntax_node, syntax_node.value  # one that begins an f-string ends with a dot: f"aeops.kinds.{name}"
