import numpy as np
import pytest

from aeops.evaluation.baselines import PcaBaseline
from aeops.evaluation.studies.sparsity import run_sparsity_study
from aeops.recipe.studies import SparsityStudy


@pytest.fixture(scope="module")
def room(scene):
    return scene(model={"bottleneck": {"kind": "top-k", "size": 1000, "active": 20}})


@pytest.mark.slow
def test_of_a_top_k_code_so_many_numbers_are_in_use(room, tmp_path):
    found = run_sparsity_study(SparsityStudy(), room, tmp_path).metrics
    assert (found["code_size"], found["input_size"]) == (1000, 784)
    assert found["active_numbers"] == 20
    assert found["active_share"] == found["active_share_p95"] == 0.02
    used = (room.predictions["code"][room.is_normal] != 0).any(axis=0)
    assert found["never_active_share"] == pytest.approx(1 - used.mean())


def test_it_is_compared_with_pca_of_as_many_numbers_as_are_in_use(room, tmp_path):
    found = run_sparsity_study(SparsityStudy(), room, tmp_path).metrics
    assert found["pca_components"] == 20
    train, test = (samples.reshape(len(samples), -1) / 255 for samples in (room.data.train, room.data.test[room.is_normal]))
    by_hand = np.square(test - PcaBaseline.fit(train, 20).reconstruct(test).clip(0, 1)).mean()
    assert found["pca_mse"] == pytest.approx(by_hand, rel=1e-3)
    assert found["gain_over_pca"] == pytest.approx(1 - found["mse"] / found["pca_mse"])


@pytest.mark.slow
def test_a_higher_threshold_leaves_fewer_in_use(room, tmp_path):
    shares = [
        run_sparsity_study(SparsityStudy(threshold), room, tmp_path).metrics["active_share"] for threshold in (0.0, 0.2, 0.6)
    ]
    assert shares[0] > shares[1] > shares[2]
