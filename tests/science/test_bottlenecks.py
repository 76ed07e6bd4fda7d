"""Bottlenecks against formulas written another way, and by onnxruntime."""

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from onnx_export import by_onnxruntime
from scipy.special import softmax

from ae_models.bottlenecks import BOTTLENECKS, Bottleneck
from ae_models.codebooks import DEAD_SHARE
from ae_models.factory import build_part
from ae_models.spec import PART_SPECS

ROWS = 40
FIELDS: dict[str, dict[str, Any]] = {
    "identity": {"size": 12},
    "top-k": {"size": 12, "active": 3},
    "l1": {"size": 12, "weight": 0.5},
    "contractive": {"size": 12, "weight": 0.5},
    "variational": {"size": 12, "beta": 2.0, "free_bits": 0.1},
    "vq": {"size": 12, "slots": 4, "words": 5, "shared": False, "commitment": 0.25, "decay": 0.9},
    "memory": {"size": 12, "items": 30, "shrink": 0.03, "entropy": 0.1},
}


def make_bottleneck(kind: str, **changes: Any) -> Any:
    torch.manual_seed(0)
    return build_part(BOTTLENECKS, PART_SPECS["bottleneck"][kind](**FIELDS[kind] | changes))


def codes(bottleneck: Any, rows: int = ROWS) -> torch.Tensor:
    torch.manual_seed(1)
    return torch.randn(rows, bottleneck.width)


@pytest.fixture
def deterministic() -> Iterator[None]:
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(before)


def test_every_bottleneck_of_the_spec_exists() -> None:
    assert list(BOTTLENECKS) == list(PART_SPECS["bottleneck"]) == list(FIELDS)


@pytest.mark.parametrize("kind", BOTTLENECKS)
def test_the_decoder_gets_the_stored_code_in_evaluation(kind: str) -> None:
    bottleneck = make_bottleneck(kind).eval()
    h = codes(bottleneck)
    code = bottleneck.to_code(h)
    assert code.shape == (ROWS, *bottleneck.code_shape)
    assert bottleneck.from_code(code).shape == (ROWS, bottleneck.size)
    assert torch.equal(bottleneck.from_code(code), bottleneck(h))
    assert torch.equal(bottleneck(h), bottleneck(h))


@pytest.mark.parametrize("kind", [*BOTTLENECKS, "vq shared"])
def test_onnxruntime_writes_and_reads_the_same_codes(kind: str, tmp_path: Path) -> None:
    kind, *shared = kind.split()
    bottleneck = make_bottleneck(kind, **{"shared": True} if shared else {})
    h = codes(bottleneck)
    bottleneck(h)  # in training mode: words are those of a batch
    bottleneck.eval()
    code = bottleneck.to_code(h).detach()
    exported = by_onnxruntime(bottleneck, bottleneck.to_code, tmp_path, h)
    assert exported.dtype == code.numpy().dtype
    np.testing.assert_allclose(exported, code.numpy(), rtol=1e-5, atol=1e-6)
    latent = by_onnxruntime(bottleneck, bottleneck.from_code, tmp_path, code)
    np.testing.assert_allclose(latent, bottleneck(h).detach().numpy(), rtol=1e-5, atol=1e-6)


def test_the_identity_passes_everything_free_of_charge() -> None:
    bottleneck = make_bottleneck("identity")
    h = codes(bottleneck)
    assert torch.equal(bottleneck(h), h)
    assert float(bottleneck.penalty(h, h, h)) == 0.0


def test_top_k_passes_the_numbers_of_largest_magnitude() -> None:
    bottleneck = make_bottleneck("top-k")
    h = codes(bottleneck).requires_grad_()
    z = bottleneck(h)
    for before, after in zip(h.detach().numpy(), z.detach().numpy(), strict=True):
        order = np.argsort(-np.abs(before))
        assert (after[order[:3]] == before[order[:3]]).all()
        assert (after[order[3:]] == 0).all()
    z.sum().backward()
    assert torch.equal(h.grad, (z != 0).float())


def test_l1_rectifies_and_weighs_the_sum_of_magnitudes() -> None:
    bottleneck = make_bottleneck("l1")
    h = codes(bottleneck)
    z = bottleneck(h)
    expected = np.maximum(h.numpy(), 0)
    assert (z.numpy() == expected).all()
    assert float(bottleneck.penalty(h, z, h)) == pytest.approx(0.5 * expected.sum() / ROWS, rel=1e-5)


def test_contraction_is_the_jacobians_squared_norm_on_average() -> None:
    bottleneck = make_bottleneck("contractive", size=3, weight=0.5)
    encode = torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.Tanh(), torch.nn.Linear(8, 3))
    x = torch.randn(4, 6, requires_grad=True)
    norms = [torch.autograd.functional.jacobian(encode, row).square().sum() for row in x.detach()]
    h = encode(x)
    estimates = [float(bottleneck.penalty(h, bottleneck(h), x).detach()) for _ in range(2000)]
    assert np.mean(estimates) == pytest.approx(0.5 * float(sum(norms)) / 4, rel=0.02)
    assert Bottleneck.needs_input_gradient is False
    assert bottleneck.needs_input_gradient is True


def test_contraction_has_a_slope_for_the_encoder_to_follow() -> None:
    bottleneck, encode = make_bottleneck("contractive", size=3), torch.nn.Linear(6, 3)
    x = torch.randn(4, 6, requires_grad=True)
    h = encode(x)
    bottleneck.penalty(h, bottleneck(h), x).backward()
    assert encode.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("free_bits", [0.0, 0.4])
def test_the_divergence_is_that_of_two_gaussians_in_closed_form(free_bits: float) -> None:
    bottleneck = make_bottleneck("variational", free_bits=free_bits)
    h = 0.7 * codes(bottleneck)
    m, s = h.numpy()[:, ::2].astype(np.float64), np.exp(h.numpy()[:, 1::2].astype(np.float64) / 2)
    by_number = (np.log(1 / s) + (s**2 + m**2) / 2 - 1 / 2).mean(0)
    assert (by_number < 0.4).any()
    assert (by_number > 0.4).any()
    expected = 2.0 * np.maximum(by_number, free_bits).sum()
    assert float(bottleneck.penalty(h, bottleneck(h), h)) == pytest.approx(expected, rel=1e-5)


def test_draws_have_the_encoders_mean_and_variance_in_training_only() -> None:
    bottleneck = make_bottleneck("variational", size=2)
    assert bottleneck.width == 4
    h = torch.tensor([1.0, np.log(0.25), -2.0, np.log(4.0)]).repeat(20_000, 1)
    z = bottleneck(h).numpy()
    assert z.mean(0) == pytest.approx([1.0, -2.0], abs=0.05)
    assert z.std(0) == pytest.approx([0.5, 2.0], rel=0.03)
    assert torch.equal(bottleneck.eval()(h), h[:, [0, 2]])


# ---------------------------------------------------------------- vq


def by_slot(h: Any) -> Any:
    """(n, 12) as (n, 4 slots, 3 numbers)."""
    return h.reshape(len(h), 4, 3)


@pytest.mark.parametrize("shared", [False, True])
def test_a_quantised_code_is_the_nearest_words_by_brute_force(shared: bool) -> None:
    bottleneck = make_bottleneck("vq", shared=shared)
    h = codes(bottleneck)
    bottleneck(h)
    words = bottleneck.codebooks.words.numpy()
    assert words.shape == (1 if shared else 4, 5, 3)
    code, z = bottleneck.to_code(h), bottleneck.eval()(h)
    assert code.dtype == torch.int64
    for row, (parts, quantised) in enumerate(zip(by_slot(h.numpy()), by_slot(z.numpy()), strict=True)):
        for slot in range(4):
            book = words[0 if shared else slot]
            nearest = int(((book - parts[slot]) ** 2).sum(1).argmin())
            assert int(code[row, slot]) == nearest
            assert (quantised[slot] == book[nearest]).all()


def test_the_first_training_batch_makes_the_words() -> None:
    bottleneck = make_bottleneck("vq", words=5)
    h = codes(bottleneck)
    bottleneck.codebooks.revive(bottleneck.split_slots(h))
    for slot, book in enumerate(bottleneck.codebooks.words.numpy()):
        rows = {tuple(part) for part in by_slot(h.numpy())[:, slot]}
        words = [tuple(word) for word in book]
        assert len(set(words)) == 5
        assert set(words) <= rows


def test_words_beyond_a_small_first_batch_repeat_its_rows() -> None:
    bottleneck = make_bottleneck("vq", words=16)
    h = codes(bottleneck, rows=3)
    bottleneck.codebooks.revive(bottleneck.split_slots(h))
    for slot, book in enumerate(bottleneck.codebooks.words.numpy()):
        assert {tuple(word) for word in book} == {tuple(part) for part in by_slot(h.numpy())[:, slot]}


def test_words_follow_running_means_as_computed_by_hand() -> None:
    bottleneck = make_bottleneck("vq", shared=True)
    bottleneck(codes(bottleneck))
    books = bottleneck.codebooks
    counts, sums, words = (part.numpy()[0].astype(np.float64) for part in (books.counts, books.sums, books.words))
    assert (counts > 0.1 * counts.mean()).all()  # none is dead
    torch.manual_seed(7)
    h = torch.randn(ROWS, 12)
    parts = h.numpy().astype(np.float64).reshape(-1, 3)
    nearest = np.array([((words - part) ** 2).sum(1).argmin() for part in parts])
    for word in range(5):
        counts[word] = 0.9 * counts[word] + 0.1 * (nearest == word).sum()
        sums[word] = 0.9 * sums[word] + 0.1 * parts[nearest == word].sum(0)
    epsilon = 1e-5 * counts.sum() / 5
    smoothed = (counts + epsilon) / (counts.sum() + 5 * epsilon) * counts.sum()
    bottleneck(h)
    np.testing.assert_allclose(books.words.numpy()[0], sums / smoothed[:, None], rtol=1e-4, atol=1e-6)


def test_a_dead_word_becomes_a_row_of_the_batch_and_the_others_stay() -> None:
    bottleneck = make_bottleneck("vq")
    bottleneck(codes(bottleneck))
    books = bottleneck.codebooks
    books.counts[2, 4] = 0.5 * DEAD_SHARE * books.counts[2].mean()
    before = books.words.clone()
    h = torch.randn(ROWS, 12)
    books.revive(bottleneck.split_slots(h))
    changed = (books.words != before).any(2)
    assert torch.nonzero(changed).tolist() == [[2, 4]]
    assert tuple(books.words[2, 4].tolist()) in {tuple(part) for part in by_slot(h)[:, 2].tolist()}
    assert float(books.counts[2, 4]) == ROWS / 5


def test_words_that_the_codes_left_behind_are_in_use_again() -> None:
    bottleneck = make_bottleneck("vq", words=8)
    for step in range(80):
        torch.manual_seed(step)
        bottleneck(torch.randn(ROWS, 12) + (100.0 if step == 0 else 0.0))
    code = bottleneck.to_code(codes(bottleneck, rows=2000))
    shares = np.stack([np.bincount(slot, minlength=8) for slot in code.numpy().T]) / 2000
    assert shares.min() > 0.01


def test_the_gradient_passes_straight_through_and_commitment_pulls_to_the_word() -> None:
    bottleneck = make_bottleneck("vq")
    h = codes(bottleneck).requires_grad_()
    z = bottleneck(h)
    weights = torch.randn_like(z)
    (through,) = torch.autograd.grad((z * weights).sum(), h, retain_graph=True)
    assert torch.equal(through, weights)
    penalty = bottleneck.penalty(h, z, h)
    far = (h - z).detach().numpy()
    assert float(penalty.detach()) == pytest.approx(0.25 * (far**2).sum() / ROWS, rel=1e-5)
    (pull,) = torch.autograd.grad(penalty, h)
    np.testing.assert_allclose(pull.numpy(), 0.25 * 2 * far / ROWS, rtol=1e-4, atol=1e-7)


def test_words_resume_bit_by_bit_from_a_state(deterministic: None) -> None:
    def steps(bottleneck: Any, first: int, last: int) -> None:
        for step in range(first, last):
            torch.manual_seed(step)
            bottleneck(torch.randn(7, 12))

    whole = make_bottleneck("vq", words=16)
    steps(whole, 0, 30)
    half = make_bottleneck("vq", words=16)
    steps(half, 0, 12)
    resumed = make_bottleneck("vq", words=16)
    resumed.load_state_dict(copy.deepcopy(half.state_dict()))
    steps(resumed, 12, 30)
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


def test_half_precision_around_it_does_not_change_a_code() -> None:
    bottleneck = make_bottleneck("vq", words=200).eval()
    h = codes(bottleneck)
    with torch.autocast("cpu", torch.bfloat16):
        inside = bottleneck.to_code(h)
    assert torch.equal(inside, bottleneck.to_code(h))


# ---------------------------------------------------------------- memory


def test_memory_is_the_papers_attention_shrunk_and_scaled_in_numpy() -> None:
    bottleneck = make_bottleneck("memory")
    h = codes(bottleneck)
    items, x = bottleneck.items.detach().numpy().astype(np.float64), h.numpy().astype(np.float64)
    cosines = x @ items.T / np.linalg.norm(x, axis=1)[:, None] / np.linalg.norm(items, axis=1)
    w = softmax(cosines, axis=1)
    shrunk = np.where(w > 0.03, w, 0.0)  # max(w - l, 0) w / |w - l|
    shrunk /= shrunk.sum(1, keepdims=True)
    assert 0 < (shrunk > 0).mean() < 1
    np.testing.assert_allclose(bottleneck(h).detach().numpy(), shrunk @ items, rtol=1e-4, atol=1e-6)
    entropies = [-(row[row > 0] * np.log(row[row > 0])).sum() for row in shrunk]
    assert float(bottleneck.penalty(h, h, h).detach()) == pytest.approx(0.1 * np.mean(entropies), rel=1e-4)


def test_a_code_that_no_item_resembles_is_empty() -> None:
    bottleneck = make_bottleneck("memory", shrink=1.0)
    assert not bottleneck(codes(bottleneck)).any()


def test_memory_learns_through_codes_and_items() -> None:
    bottleneck = make_bottleneck("memory")
    h = codes(bottleneck).requires_grad_()
    (bottleneck(h).square().sum() + bottleneck.penalty(h, h, h)).backward()
    assert torch.isfinite(h.grad).all()
    assert h.grad.abs().sum() > 0
    assert bottleneck.items.grad.abs().sum() > 0
