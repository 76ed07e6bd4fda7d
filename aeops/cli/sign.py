"""`ae sign RECIPE VERSION --key PRIVATE.pem`: vouches for a version's bundle; `ae sign --new-keys keys/NAME` makes the keys."""

import argparse
from pathlib import Path
from typing import Any


def add_command(commands: Any) -> None:
    """Add `ae sign` to the commands of the parser."""
    command = commands.add_parser("sign", help="sign a registered version's bundle, or make a pair of keys for that")
    command.add_argument("recipe", nargs="?", help="name of a file in recipes/, such as digits")
    command.add_argument("version", nargs="?", help="a version or an alias")
    command.add_argument("--key", type=Path, metavar="PRIVATE.pem", help="the private key (default: the one AE_SIGNING_KEY names)")
    command.add_argument("--new-keys", type=Path, metavar="NAME", help="write NAME.pem and NAME.pub instead")
    command.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Signs, or makes keys."""
    from aeops.bundle.signing import signing_key
    from aeops.errors import UsageError

    target = (arguments.recipe, arguments.version)
    if arguments.new_keys is not None:
        if any(target) or arguments.key is not None:
            raise UsageError("--new-keys is given with something else; type `ae sign --new-keys keys/NAME` alone")
        return make_keys(arguments.new_keys)
    if not all(target):
        raise UsageError(
            "RECIPE and VERSION are needed: type `ae sign RECIPE VERSION --key PRIVATE.pem`; `ae show RECIPE` lists them"
        )
    key = arguments.key or signing_key()
    if key is None:
        raise UsageError(
            f"no private key given: type `ae sign {' '.join(target)} --key PRIVATE.pem`, or set AE_SIGNING_KEY; "
            "`ae sign --new-keys keys/NAME` makes one"
        )
    return sign_version_with(*target, key)


def make_keys(place: Path) -> int:
    from aeops.bundle.signing import new_keys
    from aeops.errors import UsageError

    if place.suffix in (".pem", ".pub"):
        raise UsageError(f"--new-keys {place} given; a name without {place.suffix} is allowed, such as {place.with_suffix('')}")
    name = new_keys(place)
    print(f"{place}.pem: the private key; yours alone to read, keep it out of git (as *.pem is) and off machines that only serve")
    print(f"{place}.pub: the public key {name[:12]}; commit it, and put this into each recipe that it shall vouch for:")
    print(f"signature: {{require_signature: true, public_key: {place}.pub}}")
    return 0


def sign_version_with(recipe: str, which: str, key: Path) -> int:
    from aeops.project import find_project
    from aeops.recipe.reader import load_recipe
    from aeops.registry.signatures import sign_version
    from aeops.registry.store import open_store

    project = find_project()
    load_recipe(project, recipe, with_keys=True)
    store = open_store(project)
    version = store.version(recipe, which)
    signer = sign_version(store, recipe, version.version, key)
    print(f"{recipe} {version.version} (bundle {version.tags['bundle_sha256'][:12]}) is signed with the key {signer[:12]}")
    return 0
