"""Seven sources of own data become champions by what docs/own-data-examples.md types: three commands, no file edited."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from checkout import ROOT
from docs_scripts import load_script
from documented_transcripts import missing_lines, read_transcripts
from installed_wheel import Shell
from PIL import Image
from real_servers import BIN, Cluster, postgres_cluster
from s3_server import Bucket, s3_bucket
from source_files import digit_files, heart_rates, machine_rows, write_digits, write_news, write_taxi_rides, write_tiles

pytestmark = [pytest.mark.long, pytest.mark.timeout(1800)]
SERVER = "db.example.org"  # as the page calls it
HOME, PROJECT = "/home/me", "mine"  # likewise
PICTURED = ("tiles", "plant", "taxi")
MOST_COMMANDS = 3
LARGEST_PICTURE = 150_000  # bytes
TRANSCRIPTS = read_transcripts()


@pytest.fixture(scope="module")
def secrets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clinic") / "secrets"
    subprocess.run([sys.executable, BIN / "make-secrets", folder], check=True, capture_output=True, timeout=30)
    return folder


@pytest.fixture
def cluster(secrets: Path) -> Iterator[Cluster]:
    """A PostgreSQL server with the table heart_rates."""
    with postgres_cluster(secrets) as running:
        running.wait_until_ready()
        engine = sa.create_engine(running.address)
        heart_rates().to_sql("heart_rates", engine, index=False)
        engine.dispose()
        yield running


@pytest.fixture
def bucket() -> Iterator[Bucket]:
    with s3_bucket() as running:
        running.put({f"stamps/{name}": content for name, content in digit_files().items()})
        yield running


class Person:
    """Somebody who types what the page shows, in an empty folder.

    Attributes:
        shell: in whose home the data lies.
        project: the folder.
        addresses: text of the page -> what stands for it here.
    """

    def __init__(self, shell: Shell, project: Path, addresses: dict[str, str]) -> None:
        self.shell, self.project, self.addresses = shell, project, addresses
        project.mkdir()

    def type(self, name: str) -> str:
        """Type the commands of a transcript; return all that was printed, with the page's names."""
        printed = ""
        steps = TRANSCRIPTS[name]
        assert len(steps) <= MOST_COMMANDS
        for step in steps:
            done = self.shell.run("ae", *map(self._here, step.arguments), cwd=self.project)
            output = (done.stderr + done.stdout).replace(str(self.shell.home), HOME)
            output = output.replace(str(self.project), f"{HOME}/{PROJECT}")
            for page_text, own_text in self.addresses.items():
                output = output.replace(own_text, page_text)
            printed += f"$ ae {' '.join(step.arguments)}\n{output}"
            (self.project.parent / f"{name}.txt").write_text(printed)
            assert done.returncode == 0, output[-3000:]
            assert not missing_lines(step, output), printed
        assert f"version    {name} 1 (challenger, champion)" in printed
        return printed

    def _here(self, argument: str) -> str:
        for page_text, own_text in self.addresses.items():
            argument = argument.replace(page_text, own_text)
        return argument.replace("~", str(self.shell.home))

    def check_picture(self, name: str) -> None:
        """The report of the run can be taken as a picture for the page."""
        report = self.project / ".ae" / "reports" / name / "report.html"
        script = load_script("take_screenshots")
        chromium = Path(script.CHROMIUM)
        if not chromium.exists():
            pytest.skip(f"the transcript ran; no {chromium} for the picture of its report")
        names = {str(self.shell.home): HOME}
        [file] = script.take_reports({f"own-{name}": report}, self.project.parent, names)
        assert file.stat().st_size < LARGEST_PICTURE
        taken, shown = Image.open(file), Image.open(ROOT / "docs" / file.name)
        assert taken.size == shown.size


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """The folder of a person with data."""
    (tmp_path / "home" / "data").mkdir(parents=True)
    return tmp_path / "home"


def test_a_thousand_jpeg_and_png_files_become_a_champion(environment: Path, home: Path, tmp_path: Path) -> None:
    write_tiles(home / "data" / "tiles")
    person = Person(Shell(environment, home), tmp_path / "project", {})
    person.type("tiles")
    person.check_picture("tiles")


def test_a_hundred_thousand_rows_of_parquet_become_a_champion(environment: Path, home: Path, tmp_path: Path) -> None:
    machine_rows().to_parquet(home / "data" / "plant.parquet", index=False)
    person = Person(Shell(environment, home), tmp_path / "project", {})
    person.type("plant")
    person.check_picture("plant")


def test_readings_of_nab_become_a_champion(environment: Path, home: Path, tmp_path: Path) -> None:
    write_taxi_rides(home / "data" / "taxi.csv")
    person = Person(Shell(environment, home), tmp_path / "project", {})
    person.type("taxi")
    person.check_picture("taxi")


def test_news_in_json_lines_become_a_champion(environment: Path, home: Path, tmp_path: Path) -> None:
    write_news(home / "data" / "news.jsonl")
    person = Person(Shell(environment, home), tmp_path / "project", {})
    person.type("news")


def test_arrays_in_npz_become_a_champion(environment: Path, home: Path, tmp_path: Path) -> None:
    write_digits(home / "data" / "digits.npz")
    person = Person(Shell(environment, home), tmp_path / "project", {})
    person.type("digits")


def test_a_table_of_postgresql_becomes_a_champion_and_the_password_stands_nowhere(
    environment: Path, home: Path, tmp_path: Path, cluster: Cluster
) -> None:
    shell = Shell(environment, home, {"PGPASSWORD": cluster.password})
    person = Person(shell, tmp_path / "project", {SERVER: f"127.0.0.1:{cluster.port}"})
    printed = person.type("hearts")
    assert cluster.password not in printed
    written = [path.read_bytes() for path in person.project.rglob("*") if path.is_file()]
    assert not any(cluster.password.encode() in content for content in written)


def test_pictures_of_a_bucket_become_a_champion(environment: Path, home: Path, tmp_path: Path, bucket: Bucket) -> None:
    person = Person(Shell(environment, home, bucket.environment), tmp_path / "project", {})
    person.type("stamps")
