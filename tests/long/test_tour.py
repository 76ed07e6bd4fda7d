"""The notebook docs/tour.ipynb, run again: its cells print what is stored there."""

import pytest
from docs_scripts import load_script

pytestmark = pytest.mark.long


def test_the_tour_prints_what_the_notebook_holds() -> None:
    import nbformat

    tour = load_script("run_tour")
    stored = nbformat.read(tour.NOTEBOOK, as_version=4)
    assert tour.printed_texts(tour.run_notebook()) == tour.printed_texts(stored)
