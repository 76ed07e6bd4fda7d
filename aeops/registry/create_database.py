"""`python -m aeops.registry.create_database`: create MLflow's database before its first use, in a separate process."""

from aeops.machine.entry_point import run_main
from aeops.machine.library_settings import configure_libraries
from aeops.project import find_project
from aeops.registry.database import prepare_database
from aeops.registry.store import local_store_in_use


def main() -> None:
    """Create the database, unless MLFLOW_TRACKING_URI names another store."""
    configure_libraries()
    if local_store_in_use():
        prepare_database(find_project())


if __name__ == "__main__":
    run_main(main)
