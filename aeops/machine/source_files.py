"""The source files of this project that a module is made of: its own and those of all that it imports.

Found by reading the import statements, without importing anything. Names in strings count as imports as well: a whole module
name (`["aeops.gate.rules", ...]`), a package name in an f-string that picks one of its modules (`f"aeops.kinds.{name}"`), and a
package whose files are opened (`resources.files("aeops.data")`).
"""

import ast
import importlib.util
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from ae_models.names import names_of
from aeops.files import file_sha256

PACKAGES = ("ae_models", "aeops")


def source_files(root: Path, modules: Iterable[str], exempt: Collection[str] = ()) -> dict[str, Path]:
    """Return the source files of some modules and of everything of this project that they import, directly or indirectly.

    Args:
        root: a folder that may hold the packages. They are taken from there if it does, as `python -m` does, else from where they
            are installed.
        modules: names of modules; other names are ignored.
        exempt: modules and packages to leave out, with what only they import.

    Returns:
        The files by module name; files of a package that are no Python by `<package>/<path in it>`.
    """
    files: dict[str, Path] = {}
    pending = list(modules)
    while pending:
        name = pending.pop()
        file = module_file(root, name)
        if name in files or file is None or is_within(name, exempt):
            continue
        files[name] = file
        pending.extend(parent_packages(name))
        references = file_references(file, name)
        pending.extend(references.imports | references.strings)
        for package in references.prefixes:
            pending.extend(modules_of(root, package))
        for package in references.strings:
            files.update(data_files(root, package))
    return files


def source_hashes(root: Path, modules: Iterable[str], exempt: Collection[str] = ()) -> dict[str, str]:
    """Return the SHA-256 of each of the files that `source_files` returns, by the same name."""
    return {name: file_sha256(file) for name, file in source_files(root, modules, exempt).items()}


def is_within(name: str, packages: Iterable[str]) -> bool:
    """Return whether a module is one of these, or lies in one."""
    return any(name == package or name.startswith(f"{package}.") for package in packages)


def parent_packages(name: str) -> Iterator[str]:
    """Yield the packages around a module: importing it executes them."""
    while "." in name:
        name = name.rpartition(".")[0]
        yield name


# ---------------------------------------------------------------- modules and files


@cache
def package_folder(root: Path, package: str) -> Path | None:
    """Return the folder of a top-level package: in the project, else where it is installed."""
    if (root / package / "__init__.py").is_file():
        return root / package
    spec = importlib.util.find_spec(package)
    return Path(spec.origin).parent if spec is not None and spec.origin else None


@cache
def module_file(root: Path, name: str) -> Path | None:
    """Return the source file of a module of this project; None for any other name."""
    package, *path = name.split(".")
    folder = package_folder(root, package) if package in PACKAGES else None
    if folder is None:
        return None
    module_path = folder.joinpath(*path)
    if (module_path / "__init__.py").is_file():
        return module_path / "__init__.py"
    file = module_path.with_name(f"{module_path.name}.py")
    return file if path and file.is_file() else None


def modules_of(root: Path, package: str) -> list[str]:
    """Return the names of a package's own modules; none for a name that is no package."""
    file = module_file(root, package)
    if file is None or file.name != "__init__.py":
        return []
    names = {path.stem for path in file.parent.glob("*.py")} - {"__init__"}
    names.update(path.parent.name for path in file.parent.glob("*/__init__.py"))
    return [f"{package}.{name}" for name in sorted(names)]


def data_files(root: Path, package: str) -> dict[str, Path]:
    """Return a package's files that are no Python, such as templates."""
    file = module_file(root, package)
    if file is None or file.name != "__init__.py":
        return {}
    files = {}
    for path in file.parent.rglob("*"):
        if path.is_file() and path.suffix not in (".py", ".pyc"):
            files[f"{package}/{path.relative_to(file.parent).as_posix()}"] = path
    return files


# ---------------------------------------------------------------- what a file refers to


@dataclass(frozen=True)
class References:
    """The names in a source file that may refer to modules.

    Attributes:
        imports: of import statements that are executed, absolute; some name a function and no module.
        strings: string constants that have the form of a module name.
        prefixes: packages of which an f-string picks a module.
    """

    imports: set[str] = field(default_factory=set)
    strings: set[str] = field(default_factory=set)
    prefixes: set[str] = field(default_factory=set)


@cache
def file_references(file: Path, name: str) -> References:
    """Read the names that a module's source refers to, those of functions included.

    Imports under `if TYPE_CHECKING:` are left out, as they are never executed.
    """
    package = name if file.name == "__init__.py" else name.rpartition(".")[0]
    references = References()
    pending: list[ast.AST] = [ast.parse(file.read_bytes())]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.If) and is_type_checking(node.test):
            pending.extend(node.orelse)
            continue
        if isinstance(node, ast.Import):
            references.imports.update(names_of(node.names))
        elif isinstance(node, ast.ImportFrom):
            references.imports.update(imported_names(node, package))
        elif isinstance(node, ast.JoinedStr):
            references.prefixes.add(module_prefix(node, package))
            pending.extend(part for part in node.values if isinstance(part, ast.FormattedValue))
            continue
        elif isinstance(node, ast.Constant):
            if isinstance(node.value, str) and node.value.startswith(PACKAGES):
                references.strings.add(node.value)
            continue
        pending.extend(ast.iter_child_nodes(node))
    return references


@cache
def reexported_names(file: Path, name: str) -> frozenset[str] | None:
    """Return what a package's `__init__` makes available, if it does nothing else: `package.module.Name as Other` for each.

    Returns:
        None for a file that does more than import names of modules and list them in `__all__`.
    """
    if file.name != "__init__.py":
        return None
    names: set[str] = set()
    for node in ast.parse(file.read_bytes()).body:
        if isinstance(node, ast.ImportFrom):
            module = next(imported_names(node, name))
            names.update(f"{module}.{alias.name} as {alias.asname or alias.name}" for alias in node.names)
        elif not (_is_docstring(node) or _is_export_list(node)):
            return None
    return frozenset(names)


def _is_docstring(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _is_export_list(node: ast.stmt) -> bool:
    return isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"


def is_type_checking(test: ast.expr) -> bool:
    return (isinstance(test, ast.Name) and test.id == "TYPE_CHECKING") or (
        isinstance(test, ast.Attribute) and test.attr == "TYPE_CHECKING"
    )


def imported_names(node: ast.ImportFrom, package: str) -> Iterator[str]:
    """Yield the module of a `from ... import ...` and each name in it, which may be a module of its own."""
    parts = package.split(".")
    base = ".".join(parts[: len(parts) - node.level + 1]) if node.level else ""
    module = ".".join(filter(None, (base, node.module)))
    yield module
    for alias in node.names:
        yield f"{module}.{alias.name}"


def module_prefix(node: ast.JoinedStr, package: str) -> str:
    """Return the package that an f-string such as `f"{__package__}.studies.{name}"` begins with; empty if it has another form."""
    text = ""
    for part in node.values:
        if isinstance(part, ast.Constant):
            text += str(part.value)
        elif isinstance(part, ast.FormattedValue) and isinstance(part.value, ast.Name) and part.value.id == "__package__":
            text += package
        else:
            break
    return text.rpartition(".")[0] if text.endswith(".") else ""
