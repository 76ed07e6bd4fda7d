"""A pseudo-terminal in which a command runs, as in a person's own: Ctrl-C there reaches its whole foreground group."""

import fcntl
import os
import pty
import re
import select
import signal
import subprocess
import termios
import time
from pathlib import Path
from threading import Thread

CTRL_C = b"\x03"
_CONTROL_SEQUENCE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def _open_session() -> None:
    """Take the terminal, and SIGINT, which a shell lets its background jobs ignore: the tests may be one of them."""
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    signal.signal(signal.SIGINT, signal.SIG_DFL)


class Terminal:
    """A command and what is seen of it. Use as a context manager."""

    def __init__(self, command: list[str], folder: Path, environment: dict[str, str]) -> None:
        self._controller, terminal = pty.openpty()
        self.process = subprocess.Popen(
            command,
            cwd=folder,
            env=environment,
            stdin=terminal,
            stdout=terminal,
            stderr=terminal,
            start_new_session=True,
            preexec_fn=_open_session,
        )
        os.close(terminal)
        self._chunks: list[bytes] = []
        self._is_closed = False
        self._reader = Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> "Terminal":
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        self._reader.join()
        if not self._is_closed:
            os.close(self._controller)

    @property
    def lines(self) -> list[str]:
        """Printed lines that are not empty, without colours and without what a carriage return has covered."""
        text = _CONTROL_SEQUENCE.sub("", b"".join(self._chunks).decode(errors="replace")).replace("\r\n", "\n")
        lines = [line.rpartition("\r")[2].strip() for line in text.split("\n")]
        return list(filter(None, lines))

    def press_ctrl_c(self, timeout: float) -> tuple[int, float]:
        """Press it and wait for the end; return the exit code and the seconds that it took."""
        began = time.monotonic()
        os.write(self._controller, CTRL_C)
        code = self.process.wait(timeout=timeout)
        seconds = time.monotonic() - began
        self._reader.join()
        return code, seconds

    def close(self, timeout: float) -> int:
        """Close it, as a person closes a window; return the exit code of the command, which is to end."""
        self._is_closed = True
        self._reader.join()
        os.close(self._controller)
        return self.process.wait(timeout=timeout)

    def _read(self) -> None:
        while True:
            try:
                while not select.select([self._controller], [], [], 0.1)[0]:
                    if self._is_closed:
                        return
                chunk = os.read(self._controller, 65536)
            except OSError:  # nobody has the terminal open any more
                return
            if not chunk:
                return
            self._chunks.append(chunk)
