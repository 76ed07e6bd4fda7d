import pytest
import yaml

from aeops.errors import UsageError
from aeops.recipe.reader import read_recipe
from aeops.recipe.studies import PowerStudy, apply_overrides

NOISY = {"corrupt": {"kind": "gaussian", "deviation": 0.5}}


@pytest.fixture
def read(writers, tmp_path):
    """Reads the digits recipe with its sections changed; a section's mapping is laid over the old one."""

    def reading(**changes):
        recipe = writers.recipe(tmp_path / "digits.yaml")
        recipe |= {name: recipe.get(name, {}) | change for name, change in changes.items()}
        (tmp_path / "digits.yaml").write_text(yaml.safe_dump(recipe, sort_keys=False), encoding="utf-8")
        return read_recipe(tmp_path / "digits.yaml")

    return reading


def mistakes(read, **changes) -> list[str]:
    with pytest.raises(UsageError) as error:
        read(**changes)
    return str(error.value).splitlines()


def test_every_mistake_in_studies_is_told_at_once_with_near_matches(read):
    studies = {"codez": {}, "codes": {"neighbours": 0, "row": 5}, "sparsity": None, "generation": {}}
    found = mistakes(read, evaluate={"studies": studies})
    assert len(found) == 5
    assert found[0].startswith("recipes/digits.yaml: evaluate.studies: expected a study out of denoising, ")
    assert found[0].endswith("got 'codez': did you mean codes?")
    assert any("evaluate.studies.codes: unexpected key 'row'" in line for line in found)
    assert any("evaluate.studies.codes.neighbours: expected 1 to 1000, got 0" in line for line in found)
    assert any("evaluate.studies.generation: it needs a Gaussian a sample" in line for line in found)


def test_a_study_that_does_not_fit_the_sentence_is_a_mistake(read):
    assert len(mistakes(read, evaluate={"studies": {"denoising": {}}})) == 2
    assert read(model=NOISY, input={"given": "corrupted"}, evaluate={"studies": {"denoising": {}}}).evaluate.studies


def test_a_gate_rule_on_a_study_that_the_recipe_lacks_is_told_when_it_is_read(read):
    rule = {"sparse": {"metric": "sparsity.active_share", "at_most": 0.1}}
    [line] = mistakes(read, gate=rule)
    assert "gate.sparse.metric: sparsity.active_share is of the study sparsity, which evaluate.studies lacks" in line
    assert "sparse" in read(gate=rule, evaluate={"studies": {"sparsity": {}}}).gate


def test_pca_is_refused_where_the_model_makes_another_shape_than_it_is_given(read):
    colours = {"shape": [3, 28, 28], "given": "corrupted"}
    [line] = mistakes(
        read,
        input=colours,
        model={"corrupt": {"kind": "grey"}},
        data={"source": {"kind": "npy", "path": "x.npy"}, "labels": [], "novelty": []},
        validate={"class_share": None},
    )
    assert "evaluate.pca_components: PCA reconstructs its input, but the model makes [3, 28, 28] of [1, 28, 28]" in line


def test_baselines_may_be_left_out_and_studies_but_that_of_the_power_of_a_detector(read):
    without_pca = {"beats_pca_reconstruction": {"metric": "reconstruction.model.mse", "at_most": 1}}
    found = read(evaluate={"pca_components": None, "neighbours": None, "studies": {}}, gate=without_pca).evaluate
    assert (found.pca_components, found.neighbours, found.studies) == (None, None, {"power": PowerStudy()})


def test_a_rival_is_the_recipes_own_sentence_but_for_its_overrides(read):
    rivals = {"four": {"model": {"bottleneck": {"size": 4}}, "train": {"epochs": 3}}}
    recipe = read(evaluate={"studies": {"rivals": rivals}})
    four = recipe.evaluate.studies["rivals"].rivals["four"]
    assert (four.model.bottleneck.size, four.train.epochs) == (4, 3)
    assert (four.model.encode, four.score, four.input) == (recipe.fit.model.encode, recipe.fit.score, recipe.fit.input)


def test_another_kind_replaces_a_part_and_the_same_kind_keeps_its_settings():
    plain = {"model": {"bottleneck": {"kind": "identity", "size": 16}, "compare": {"kind": "huber", "delta": 0.2}}}
    changes = {"model": {"bottleneck": {"kind": "top-k", "active": 3}, "compare": {"kind": "huber", "reduce": "sum"}}}
    assert apply_overrides(plain, changes)["model"] == {
        "bottleneck": {"kind": "top-k", "active": 3},
        "compare": {"kind": "huber", "delta": 0.2, "reduce": "sum"},
    }


def test_mistakes_in_rivals_name_the_rival(read):
    rivals = {
        "model": {"train": {"epochs": 2}},
        "typo": {"modle": {}},
        "wide": {"model": {"bottleneck": {"size": "x"}}},
        "other": {"model": {"corrupt": {"kind": "grey"}}},
    }
    found = mistakes(read, evaluate={"studies": {"rivals": rivals}})
    assert any("rivals.typo: unexpected key 'modle'" in line and line.endswith("did you mean model?") for line in found)
    assert any("rivals.wide: model.bottleneck.size: expected a whole number, got 'x'" in line for line in found)
    assert any("rivals.other: model.corrupt: grey needs 3 channels" in line for line in found)
    assert any("rivals.model: expected another name, since this is that of the recipe's own model" in line for line in found)
