"""What the stack was asked for: `.ae/stack/settings.json`. While that file is there the stack shall run; `ae down` removes it."""

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from aeops.errors import InfrastructureError, UsageError
from aeops.files import write_json
from aeops.project import Project

HOST = "127.0.0.1"
EVERYWHERE = ("0.0.0.0", "::")  # addresses that mean every one of this machine's
USER = "ae"  # the name that goes with the password


@dataclass(frozen=True)
class Settings:
    """The options of `ae up`.

    Attributes:
        score_port: of the first scoring service; each further one has the next.
        host: the address to listen at; anything but loopback needs a password.
        password_file: its first line is the password; its place is kept here, never what it says.
        notify: where failures are told to, as a POST of JSON; None: nowhere.
        asked: names one `ae up`, so that the supervisor brings the deployments up to date once for each.
    """

    mlflow_port: int = 5000
    prefect_port: int = 4200
    page_port: int = 8080
    score_port: int = 8100
    host: str = HOST
    password_file: str | None = None
    notify: str | None = None
    asked: str = ""

    @property
    def reached_at(self) -> str:
        """The host by which this machine's own processes reach what listens at `host`."""
        return HOST if self.host in EVERYWHERE else self.host

    def url(self, port: int) -> str:
        host = f"[{self.reached_at}]" if ":" in self.reached_at else self.reached_at
        return f"http://{host}:{port}"

    @property
    def prefect_api(self) -> str:
        return f"{self.url(self.prefect_port)}/api"

    @property
    def auth(self) -> str | None:
        """User and password as Prefect takes them; None where none is asked for.

        Raises:
            UsageError: the file cannot be read, is empty, or may be read by others.
        """
        return None if self.password_file is None else f"{USER}:{read_password(Path(self.password_file))}"


def read_password(file: Path) -> str:
    """The first line of a file that nobody else may read."""
    try:
        mode, lines = file.stat().st_mode, file.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise UsageError(
            f"--password-file {file}: {error.strerror}; a file with the password as its first line is allowed"
        ) from error
    if not lines or not lines[0].strip():
        raise UsageError(f"--password-file {file}: its first line is empty; the password goes there")
    if mode & 0o077:
        raise UsageError(f"--password-file {file} may be read by others: type `chmod 600 {file}`, then the command again")
    return lines[0].strip()


def settings_file(project: Project) -> Path:
    return project.home / "stack" / "settings.json"


def write_settings(project: Project, settings: Settings) -> None:
    write_json(settings_file(project), asdict(settings), mode=0o600)  # an address of a chat's webhook is a secret


def read_settings(project: Project) -> Settings | None:
    """What is asked for; None where no stack shall run.

    Raises:
        InfrastructureError: the file is of another form.
    """
    try:
        facts = json.loads(settings_file(project).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    if set(facts) != {field.name for field in fields(Settings)}:
        raise InfrastructureError(f"{settings_file(project)} is of another version: type `ae down`, then `ae up`")
    return Settings(**facts)


def forget_settings(project: Project) -> None:
    settings_file(project).unlink(missing_ok=True)


# ---------------------------------------------------------------- what flows/deploying.py has done


def deployed_file(project: Project) -> Path:
    return project.home / "stack" / "deployed.json"


def deployed_for(project: Project) -> str:
    """The `asked` of the settings that pool, deployments and automations were last made for."""
    file = deployed_file(project)
    return str(json.loads(file.read_text(encoding="utf-8"))["asked"]) if file.is_file() else ""
