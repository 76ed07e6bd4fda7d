"""How to reach the Prefect server that this project uses: its address, and the secret that every request to it carries.

Whoever reaches Prefect's API can start work as this user. So `ae up` makes a secret where no password is given: the user `ae` and
a random password, in `.ae/stack/prefect-login`, which only its owner may read.
"""

import os
import secrets
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from aeops.errors import InfrastructureError
from aeops.files import atomic_write
from aeops.machine.network import is_own_address, proxy_exclusions, unusable_proxies
from aeops.machine.passwords import USER, read_password
from aeops.machine.stack_settings import Settings, read_settings
from aeops.project import Project

_SECRET_BYTES = 24


@dataclass(frozen=True)
class PrefectAccess:
    """Address and credentials of a Prefect server.

    Attributes:
        api_url: as PREFECT_API_URL takes it.
        credentials: `user:password`; None where the server asks for none.
    """

    api_url: str
    credentials: str | None

    def environment(self) -> dict[str, str]:
        """Return the variables by which a process reaches the server."""
        variables = {"PREFECT_API_URL": self.api_url}
        if self.credentials:
            variables["PREFECT_API_AUTH_STRING"] = self.credentials
        server = urlsplit(self.api_url)
        if is_own_address(server.netloc):
            variables |= proxy_exclusions(server.hostname or "") | unusable_proxies()
        return variables


def external_prefect_api() -> str | None:
    """Return the API address of a Prefect server that is not the stack's own, PREFECT_API_URL; None without one."""
    return os.environ.get("PREFECT_API_URL")


def external_prefect() -> PrefectAccess | None:
    """Return the access to the server that PREFECT_API_URL and PREFECT_API_AUTH_STRING name; None without one."""
    api_url = external_prefect_api()
    if not api_url:
        return None
    return PrefectAccess(api_url, os.environ.get("PREFECT_API_AUTH_STRING"))


def prefect_access(project: Project, settings: Settings) -> PrefectAccess:
    """Return the access to the server of a stack with these settings: an external one, else the stack's own.

    Raises:
        AeError: the secret cannot be read, or can be read by others.
    """
    return external_prefect() or PrefectAccess(settings.prefect_api, stack_credentials(project, settings))


def stack_credentials(project: Project, settings: Settings) -> str | None:
    """Return `user:password` of the stack's own server: of the password file, else the secret that `ae up` has made.

    Returns:
        None where there is no secret, as of a stack that an earlier version has started.

    Raises:
        AeError: the file cannot be read, is empty, or can be read by others.
    """
    if settings.password_file is not None:
        return f"{USER}:{read_password(Path(settings.password_file))}"
    file = login_file(project)
    try:
        mode, credentials = file.stat().st_mode, file.read_text(encoding="ascii").strip()
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise InfrastructureError(f"{file} cannot be read ({error}): type `ae status` as the user who typed `ae up`") from error
    if mode & 0o077:
        raise InfrastructureError(f"{file} can be read by others: type `chmod 600 {shlex.quote(str(file))}`")
    if not credentials.startswith(f"{USER}:"):
        raise InfrastructureError(
            f"{file} is damaged, expected {USER}:PASSWORD: type `ae down`, `rm {shlex.quote(str(file))}`, then `ae up`"
        )
    return credentials


def recorded_access(project: Project, api_url: str) -> PrefectAccess:
    """Return the access to a server of which the stack's record has the address; raises as `stack_credentials` does."""
    settings = read_settings(project)
    if settings is None or settings.prefect_api != api_url:  # it was started otherwise
        return PrefectAccess(api_url, None)
    return PrefectAccess(api_url, stack_credentials(project, settings))


def login_file(project: Project) -> Path:
    return project.home / "stack" / "prefect-login"


def make_login(project: Project) -> None:
    """Make the secret of the stack's Prefect server, for its owner alone; one that exists stays."""
    file = login_file(project)
    if not file.exists():
        atomic_write(file, f"{USER}:{new_password()}\n", mode=0o600)


def login_hint(project: Project, settings: Settings) -> str:
    """Return how a person logs in to the page of the stack's own Prefect server, and reaches it by its command line."""
    login = f"what `cat {shlex.quote(str(login_file(project)))}` prints"
    if settings.password_file is not None:
        login = f"{USER}:PASSWORD, with the password of {settings.password_file}"
    return f"Prefect's page asks for {login}; `ae prefect ...` is its command line, logged in"


def new_password() -> str:
    """Return a random password, of letters, digits, `-` and `_`."""
    return secrets.token_urlsafe(_SECRET_BYTES)


def use_prefect(access: PrefectAccess) -> None:
    """Make every Prefect client of this process and its children use this server."""
    os.environ.update(access.environment())
    if not access.credentials:
        os.environ.pop("PREFECT_API_AUTH_STRING", None)  # the secret of another server


@contextmanager
def using_prefect(access: PrefectAccess) -> Iterator[None]:
    """Use this server while the block runs, see `use_prefect`; then the environment is as it was before."""
    variables = {*access.environment(), "PREFECT_API_AUTH_STRING"}
    earlier_values = {name: os.environ[name] for name in variables if name in os.environ}
    use_prefect(access)
    try:
        yield
    finally:
        for name in variables:
            os.environ.pop(name, None)
        os.environ.update(earlier_values)
