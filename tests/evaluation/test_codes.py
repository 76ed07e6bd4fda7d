import subprocess
import sys
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from aeops.evaluation.studies import codes
from aeops.evaluation.studies.codes import euclidean_codes, label_agreement, run_codes_study
from aeops.recipe.studies import CodesStudy

SPEC = CodesStudy(neighbours=5, rows=60)
EPOCHS = 8  # of UMAP's layout, enough for so few codes
# UMAP as it is compiled, twice in one process.
COMPILED = """
import numpy as np
from aeops.evaluation.studies.codes import fit_umap
train, test = np.random.default_rng(0).normal(size=(2, 120, 16)).astype(np.float32)
assert fit_umap(train, test, 8).tobytes() == fit_umap(train, test, 8).tobytes()
"""


@pytest.fixture(scope="module", autouse=True)
def _interpreted():
    """UMAP as plain Python: to compile it takes half a minute, and it has few codes to lay out here."""
    import numba  # a second: only for the tests that need it

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(numba.config, "DISABLE_JIT", True)
        patch.setattr(codes, "EPOCHS", EPOCHS)
        yield


def test_agreement_is_that_of_the_nearest_others_counted_one_by_one():
    rng = np.random.default_rng(0)
    vectors, labels = rng.normal(size=(60, 3)), rng.integers(0, 3, 60)
    shares, right = [], []
    for i in range(60):
        near = [j for j in np.argsort(np.linalg.norm(vectors - vectors[i], axis=1)) if j != i][:7]
        shares.append(np.mean(labels[near] == labels[i]))
        right.append(np.bincount(labels[near]).argmax() == labels[i])
    found = label_agreement(vectors, labels, 7)
    assert found["agreement"] == pytest.approx(np.mean(shares))
    assert found["accuracy"] == pytest.approx(np.mean(right))


def test_words_are_as_far_apart_as_slots_differ():
    words = np.array([[0, 1, 2], [0, 2, 2], [1, 2, 0]])
    distances = np.square(euclidean_codes(words)[:, None] - euclidean_codes(words)).sum(axis=2) / 2
    assert distances.tolist() == [[0, 1, 3], [1, 0, 2], [3, 2, 0]]


@pytest.fixture(scope="module")
def found(scene, tmp_path_factory):
    room, figures = scene(), tmp_path_factory.mktemp("figures")
    return room, run_codes_study(SPEC, room, figures), figures / "codes_maps.svg"


@pytest.mark.slow
def test_codes_pca_and_umap_are_compared_at_one_size(found):
    _, finding, file = found
    assert [finding.metrics[name]["size"] for name in ("model", "pca", "umap")] == [8, 8, 8]
    best = max(finding.metrics[name]["agreement"] for name in ("pca", "umap"))
    assert finding.metrics["lead"] == pytest.approx(finding.metrics["model"]["agreement"] - best)
    assert finding.metrics["pca"]["agreement"] > 0.3  # ten digits: chance is 0.1
    assert finding.metrics["umap"]["agreement"] > 0.3
    assert file.stat().st_size < 200_000


@pytest.mark.slow
def test_the_same_codes_give_the_same_bytes(found, tmp_path):
    room, finding, file = found
    assert run_codes_study(SPEC, room, tmp_path) == finding
    assert (tmp_path / file.name).read_bytes() == file.read_bytes()


def test_without_labels_there_is_a_map_and_no_table(found, tmp_path):
    room, _, _ = found
    unlabelled = room.data.table.assign(label=pd.array([None] * len(room.data.table), "Int64"))
    bare = replace(room, data=replace(room.data, table=unlabelled))
    finding = run_codes_study(SPEC, bare, tmp_path)
    assert (finding.head, finding.rows, finding.metrics) == ([], [], {})
    assert (tmp_path / "codes_maps.svg").is_file()


@pytest.mark.long
def test_compiled_umap_gives_the_same_bytes():
    subprocess.run([sys.executable, "-c", COMPILED], check=True, timeout=600)
