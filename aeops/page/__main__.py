"""`python -m aeops.page --port P`: serve the page until SIGINT or SIGTERM. `ae up` starts it."""

import argparse
import sys
from pathlib import Path

from aeops.errors import AeError, print_error
from aeops.page.serve import PORT, serve_page
from aeops.project import find_project


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m aeops.page", description="One page over all recipes, for reading.")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: 127.0.0.1, this machine only)")
    parser.add_argument("--port", type=int, default=PORT, help=f"port to listen on, 0 for any that is free (default: {PORT})")
    parser.add_argument("--password-file", type=Path, help="its first line is the password of user `ae`; needed for another host")
    arguments = parser.parse_args()
    try:
        serve_page(find_project(), arguments.host, arguments.port, arguments.password_file)
    except AeError as error:
        return print_error(error)
    return 0


if __name__ == "__main__":
    sys.exit(main())
