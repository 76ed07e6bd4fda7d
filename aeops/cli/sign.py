"""`ae sign RECIPE VERSION --key PRIVATE.pem`: sign a version's bundle; `ae sign --new-keys keys/NAME` makes the keys."""

import argparse
from pathlib import Path
from typing import Any


def add_command(commands: Any) -> None:
    """Add `ae sign` to the commands of the parser."""
    command = commands.add_parser("sign", help="sign a registered version's bundle, or make a pair of keys for that")
    command.add_argument("recipe", nargs="?", help="name of a file in recipes/, such as digits")
    command.add_argument("version", nargs="?", help="a version or an alias")
    command.add_argument(
        "--key", type=Path, metavar="PRIVATE.pem", help="the private key (default: the one AE_SIGNING_KEY names)"
    )
    command.add_argument("--new-keys", type=Path, metavar="NAME", help="write NAME.pem and NAME.pub instead")
    command.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Sign the version, or make a pair of keys; return 0."""
    from aeops.bundle.signing import signing_key
    from aeops.errors import UsageError

    target = (arguments.recipe, arguments.version)
    if arguments.new_keys is not None:
        if any(target) or arguments.key is not None:
            raise UsageError("--new-keys: expected no other argument: type `ae sign --new-keys keys/NAME` alone")
        return make_keys(arguments.new_keys)
    if not all(target):
        raise UsageError(
            "expected RECIPE and VERSION: type `ae sign RECIPE VERSION --key PRIVATE.pem`; `ae show RECIPE` lists the versions"
        )
    key = arguments.key or signing_key()
    if key is None:
        raise UsageError(
            f"expected a private key: type `ae sign {' '.join(target)} --key PRIVATE.pem`, or set AE_SIGNING_KEY; "
            "`ae sign --new-keys keys/NAME` makes one"
        )
    return sign_version_with(*target, key)


def make_keys(path: Path) -> int:
    """Write PATH.pem and PATH.pub and print how to use them; return 0.

    Raises:
        UsageError: the path has a suffix of its own, or one of the files exists.
    """
    from aeops.bundle.signing import new_keys
    from aeops.errors import UsageError

    if path.suffix in (".pem", ".pub"):
        raise UsageError(f"--new-keys: expected a name without {path.suffix}, such as {path.with_suffix('')}, got {path}")
    name = new_keys(path)
    print(f"{path}.pem: the private key; keep it readable by you alone, out of git and off machines that only serve")
    print(
        f"{path}.pub: the public key {name[:12]}; commit it, and add this to each recipe whose versions must be signed with it:"
    )
    print(f"signature: {{require_signature: true, public_key: {path}.pub}}")
    return 0


def sign_version_with(recipe: str, version_name: str, key: Path) -> int:
    """Sign the bundle of a version, given by its number or alias; return 0."""
    from aeops.project import find_project
    from aeops.recipe.reader import load_recipe
    from aeops.registry.signatures import sign_version
    from aeops.registry.store import open_store

    project = find_project()
    load_recipe(project, recipe, with_keys=True)
    store = open_store(project)
    version = store.version(recipe, version_name)
    public_key = sign_version(store, recipe, version.version, key)
    print(f"{recipe} {version.version} (bundle {version.tags['bundle_sha256'][:12]}) is signed with the key {public_key[:12]}")
    return 0
