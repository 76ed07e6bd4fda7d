"""Run Python in a fork of a process that has loaded the libraries (tests/fork_server.py): the `python` of pytest-xdist's workers.

    python tests/forked_python.py -u -c CODE

Of the standard library alone, as it is loaded for each worker.
"""

import json
import os
import socket
import sys

ADDRESS = "AE_TESTS_FORK_SERVER"  # environment variable: the server's socket


def ask(address: str, kind: str, arguments: list[str], cwd: str, env: dict[str, str], files: list[int]) -> socket.socket:
    """Ask the server to run something in a folder and an environment, with stdin, stdout and stderr."""
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(address)
    request = json.dumps({"kind": kind, "arguments": arguments, "cwd": cwd, "env": env}).encode() + b"\n"
    socket.send_fds(connection, [request[:1]], files)
    connection.sendall(request[1:])
    return connection


def wait_for_exit_code(connection: socket.socket) -> int:
    """Return how the command ended.

    Raises:
        ConnectionError: the server ended before.
    """
    answer = connection.recv(100)
    if not answer:
        raise ConnectionError("expected an exit code from the fork server, got the end of the connection")
    return int(answer)


if __name__ == "__main__":
    address = os.environ[ADDRESS]
    sys.exit(wait_for_exit_code(ask(address, "worker", sys.argv[1:], os.getcwd(), dict(os.environ), [0, 1, 2])))
