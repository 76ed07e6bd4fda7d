"""What docs/quick-start.md types to install the wheel: as a tool of its own, with the wheel's lock as constraints."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from checkout import ROOT

pytestmark = [pytest.mark.long, pytest.mark.timeout(1800)]


def find_uv() -> str:
    """Return uv; skip the test where it is absent."""
    uv = shutil.which("uv") or str(ROOT / ".tools" / "bin" / "uv")
    if not Path(uv).is_file():
        pytest.skip("needs uv, which `make` brings along")
    return uv


def find_wheels() -> str:
    """Return the folder of wheels that pip knows, with PyTorch's CPU build; skip the test where there is none."""
    command = [sys.executable, "-m", "pip", "config", "get", "global.find-links"]
    configured = subprocess.run(["python3", *command[1:]], capture_output=True, text=True, check=False).stdout.strip()
    links = os.environ.get("UV_FIND_LINKS") or os.environ.get("PIP_FIND_LINKS") or configured
    if not links:
        pytest.skip("without a folder of wheels with PyTorch's CPU build, gigabytes of CUDA would be downloaded")
    return links


def documented_commands() -> list[str]:
    """Return the commands of the first block of the quick start."""
    text = (ROOT / "docs" / "quick-start.md").read_text(encoding="utf-8")
    return text.split("```\n")[1].splitlines()


def test_the_quick_starts_commands_install_a_tool_that_works(wheel: Path, tmp_path: Path) -> None:
    uv, links = find_uv(), find_wheels()
    shutil.copy(wheel, tmp_path)
    commands = documented_commands()
    assert [command.split(" ")[0] for command in commands] == ["unzip", "uv", "ae"]
    places = {"UV_TOOL_DIR": str(tmp_path / "tools"), "UV_TOOL_BIN_DIR": str(tmp_path / "bin"), "UV_FIND_LINKS": links}
    path = os.pathsep.join([str(tmp_path / "bin"), str(Path(uv).parent), "/usr/bin", "/bin"])
    variables = os.environ | places | {"PATH": path, "UV_PYTHON": sys.executable}
    script = "\n".join(commands)
    done = subprocess.run(script, shell=True, cwd=tmp_path, env=variables, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.splitlines()[-1].startswith("ae 0.2.0")
    shell = {"PATH": f"{tmp_path / 'bin'}:/usr/bin:/bin", "HOME": str(tmp_path / "home")}
    (tmp_path / "home").mkdir()
    script = "ae init shoes && cd shoes && ae doctor"
    done = subprocess.run(script, shell=True, cwd=tmp_path, env=shell, capture_output=True, text=True, check=False)
    assert "with the packages that it was tested with" in done.stdout, done.stdout + done.stderr
