"""How far a row lies outside of what its columns allow, and the loss over columns of different types."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from ae_models.losses import MixedLoss
from ae_models.spec import LARGEST_EXCESS, ColumnSpec, InputSpec, SampleRules
from ae_models.table_bounds import TableBounds
from ae_models.table_preprocessing import ONE_HOT, TablePreprocessing

COLUMNS = (
    ColumnSpec("amount", min=0.0, max=10.0),
    ColumnSpec("age", "integer", headroom=0.5),
    ColumnSpec("country", "category", categories=("a", "b")),
    ColumnSpec("hue", missing=True),
    ColumnSpec("member", "boolean"),
)
SPEC = InputSpec("table", columns=COLUMNS)
NORMAL = [5.0, 30.0, 1.0, 0.5, 1.0]


@pytest.fixture(scope="module")
def preprocessing() -> TablePreprocessing:
    rng = np.random.default_rng(0)
    columns = [rng.uniform(0, 10, 50), np.r_[20, 40, rng.integers(20, 41, 48)], rng.integers(0, 2, 50), rng.normal(size=50)]
    learnt = TablePreprocessing(SPEC)
    learnt.learn(np.stack([*columns, rng.integers(0, 2, 50)], 1).astype(np.float64))
    return learnt


def excess(preprocessing: TablePreprocessing, changes: dict[int, float], **rules: str) -> float:
    row = torch.tensor([NORMAL], dtype=torch.float64)
    for place, value in changes.items():
        row[0, place] = value
    _, found = TableBounds(preprocessing, SampleRules(**rules))(row)
    return float(found[0])


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, 0),
        ({0: 15.0}, 0.5),  # half the length of 0 to 10
        ({0: -10.0, 1: 70.0}, 1.5),  # headroom of half of 20 to 40 allows 10 to 50: half of its length too many
        ({1: 50.0}, 0),
        ({2: 2.0}, 1),  # unknown
        ({3: np.nan}, 0),  # may be missing
        ({0: np.nan}, 1),
        ({3: np.inf}, LARGEST_EXCESS),
        ({3: 1e9}, 0),  # no bound is given
    ],
)
def test_excess_counts_in_lengths_of_the_allowed_range(
    preprocessing: TablePreprocessing, changes: dict[int, float], expected: float
) -> None:
    assert excess(preprocessing, changes) == pytest.approx(expected)


def test_rules_impute_or_refuse(preprocessing: TablePreprocessing) -> None:
    for name, changes in (("missing", {0: np.nan}), ("unknown", {2: 2.0}), ("infinite", {3: -np.inf})):
        assert excess(preprocessing, changes, **{name: "impute"}) == 0
        assert np.isnan(excess(preprocessing, changes, **{name: "refuse"}))
    inputs, _ = TableBounds(preprocessing, SampleRules(unknown="impute", infinite="impute"))(
        torch.tensor([[5.0, 30.0, 2.0, np.inf, 1.0]], dtype=torch.float64)
    )
    assert torch.isnan(inputs[0, 2:4]).all()


def test_rules_survive_their_document_and_old_documents_keep_their_bytes() -> None:
    rules = SampleRules("impute", {"blank": (0, 0)}, "refuse", "flag")
    assert SampleRules.from_dict(rules.to_dict()) == rules
    assert SampleRules().to_dict() == {"missing": "flag", "expected": {}}


def test_the_loss_is_that_of_each_columns_type_and_leaves_missing_values_out(preprocessing: TablePreprocessing) -> None:
    rows = torch.tensor([NORMAL, [2.0, 25.0, 0.0, np.nan, 0.0]], dtype=torch.float64)
    target = preprocessing(rows)
    outputs = torch.randn(target.shape, generator=torch.Generator().manual_seed(0))
    losses = MixedLoss("mean", 1.0, SPEC.blocks).elementwise(outputs, target)
    amount, _, country, hue, member = SPEC.blocks
    assert hue.indicator is not None
    indicator = F.binary_cross_entropy_with_logits(outputs[:, hue.indicator], torch.tensor([0.0, 1.0]), reduction="none")
    expected = {
        0: F.huber_loss(outputs[:, amount.start], target[:, amount.start], reduction="none"),
        2: F.cross_entropy(outputs[:, country.places], torch.tensor([1, 0]), reduction="none"),
        3: F.huber_loss(outputs[:, hue.start], target[:, hue.start], reduction="none") * torch.tensor([1.0, 0.0]) + indicator,
        4: F.binary_cross_entropy_with_logits(outputs[:, member.start], torch.tensor([1.0, 0.0]), reduction="none"),
    }
    for column, values in expected.items():
        torch.testing.assert_close(losses[:, column], values)


def test_a_step_against_the_slope_lowers_the_loss(preprocessing: TablePreprocessing) -> None:
    target = preprocessing(torch.tensor([NORMAL, [2.0, 25.0, 0.0, np.nan, 0.0]], dtype=torch.float64))
    outputs = torch.randn(target.shape, generator=torch.Generator().manual_seed(1)).requires_grad_()
    loss_module = MixedLoss("sum", 1.0, SPEC.blocks)
    loss = loss_module(outputs, target)
    (slope,) = torch.autograd.grad(loss, outputs)
    assert loss_module(outputs - 1e-3 * slope, target) < loss


def test_outputs_become_numbers_and_probabilities() -> None:
    loss = MixedLoss("sum", 1.0, SPEC.blocks)
    made = loss.activate(torch.full((1, 8), 3.0))
    country, member = SPEC.blocks[2], SPEC.blocks[4]
    assert made[0, SPEC.blocks[0].start] == 3
    assert made[0, member.start] == pytest.approx(1 / (1 + np.exp(-3)) - 0.5)
    np.testing.assert_allclose(made[0, country.places], ONE_HOT / 3, rtol=1e-6)
