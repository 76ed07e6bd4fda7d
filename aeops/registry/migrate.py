"""`python -m aeops.registry.migrate`: makes MLflow's database ahead of its first use, in a process of its own."""

from aeops.machine.entry_point import run_main
from aeops.machine.library_settings import configure_libraries
from aeops.project import find_project
from aeops.registry.database import prepare_database
from aeops.registry.store import local_store_in_use


def main() -> None:
    """Does nothing where MLFLOW_TRACKING_URI names a store elsewhere."""
    configure_libraries()
    if local_store_in_use():
        prepare_database(find_project())


if __name__ == "__main__":
    run_main(main)
