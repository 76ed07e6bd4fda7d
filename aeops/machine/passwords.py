"""The password of the servers that others can reach: one file, one rule for who may read it."""

import shlex
from pathlib import Path

from aeops.errors import UsageError
from aeops.machine.network import is_loopback

USER = "ae"  # the name that goes with the password


def read_password(path: Path) -> str:
    """Return the first line of a file that only its owner may read.

    Raises:
        UsageError: the file cannot be read, is empty, or can be read by others.
    """
    try:
        mode, lines = path.stat().st_mode, path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8"
        raise UsageError(f"--password-file {path}: {reason}; expected a text file whose first line is the password") from error
    if not lines or not lines[0].strip():
        raise UsageError(f"--password-file {path}: its first line is empty; expected the password there")
    if mode & 0o077:
        raise UsageError(
            f"--password-file {path} can be read by others: type `chmod 600 {shlex.quote(str(path))}`, then the command again"
        )
    return lines[0].strip()


def server_password(host: str, password_file: Path | None) -> str | None:
    """Return the password that a server listening at `host` asks for; None where it asks for none.

    Raises:
        UsageError: others can reach the address and there is no file, or the file breaks the rule of `read_password`.
    """
    if password_file is not None:
        return read_password(password_file)
    if is_loopback(host):
        return None
    raise UsageError(
        f"--host {host} lets others reach the server: give --password-file FILE, whose first line is the password of the user "
        f"{USER}, or leave --host out"
    )
