"""The built wheel in an environment of its own, and programs of it in a shell that knows nothing of this one."""

import os
import subprocess
import sys
import sysconfig
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from checkout import FOREIGN, ROOT

PIP = ["python3", "-m", "pip"]
CERTIFICATES = ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")  # which pass to every process


def build_wheel(folder: Path) -> Path:
    """Build the wheel of this checkout in a folder and return its file; skip the test where that cannot be done."""
    done = subprocess.run([*PIP, "wheel", "--no-deps", "--quiet", "-w", str(folder), str(ROOT)], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"the wheel cannot be built here: {done.stderr.strip().splitlines()[-1:]}")
    [file] = folder.glob("*.whl")
    return file


def install_wheel(wheel: Path, folder: Path) -> Path:
    """Make an environment with the wheel; its third-party packages are those of this one, whose own code it does not see."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    site = Path(sysconfig.get_path("purelib", "venv", {"base": str(folder), "platbase": str(folder)}))
    (site / "others.pth").write_text(sysconfig.get_path("purelib"))
    python = str(folder / "bin" / "python")
    command = [*PIP, "--python", python, "install", "--quiet", "--no-deps", "--no-index", "--force-reinstall", str(wheel)]
    subprocess.run(command, check=True, capture_output=True)
    return folder


@dataclass(frozen=True)
class Shell:
    """A shell of a person.

    Attributes:
        environment: with the programs.
        home: the person's folder.
        variables: further variables of the shell.
    """

    environment: Path
    home: Path
    variables: Mapping[str, str] = field(default_factory=dict)

    def run(self, program: str, *arguments: str, cwd: Path) -> "subprocess.CompletedProcess[str]":
        """Run a program of the environment; its errors are part of its output."""
        variables = {"PATH": "/usr/bin:/bin", "HOME": str(self.home), "COLUMNS": "200"}
        variables |= {name: os.environ[name] for name in CERTIFICATES if name in os.environ and name not in FOREIGN}
        command = [str(self.environment / "bin" / program), *arguments]
        return subprocess.run(
            command, cwd=cwd, env=variables | self.variables, capture_output=True, text=True, timeout=900, check=False
        )
