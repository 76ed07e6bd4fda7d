"""`python -m aeops.page --port P`: serves the page until it is told to stop (SIGINT, SIGTERM). `ae ui` and `ae up` start it."""

import argparse
import sys
from pathlib import Path

from aeops.errors import AeError, print_error
from aeops.page.serve import PORT, serve
from aeops.project import find_project


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m aeops.page", description="One page over all recipes, for reading.")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen at (default: 127.0.0.1, this machine only)")
    parser.add_argument("--port", type=int, default=PORT, help=f"port to listen at, 0 for any that is free (default: {PORT})")
    parser.add_argument("--password-file", type=Path, help="one line: the password of the user `ae`; needed for another host")
    given = parser.parse_args()
    try:
        serve(find_project(), given.host, given.port, given.password_file)
    except AeError as error:
        return print_error(error)
    return 0


if __name__ == "__main__":
    sys.exit(main())
