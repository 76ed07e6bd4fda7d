"""What each corruption does to samples: counted, not compared with its own code."""

import numpy as np
import pytest
import torch
from skimage.color import rgb2gray

from ae_models.corruptions import CORRUPTIONS
from ae_models.spec import PART_SPECS
from ae_models.tokens import END

IMAGES, SERIES = (64, 3, 30, 40), (64, 2, 500)


def half(shape: tuple[int, ...]) -> torch.Tensor:
    """Samples that are nowhere 0 or 1."""
    torch.manual_seed(0)
    return 0.25 + 0.5 * torch.rand(shape)


def test_every_corruption_of_the_spec_exists() -> None:
    assert list(CORRUPTIONS) == list(PART_SPECS["corrupt"])


@pytest.mark.parametrize("shape", [IMAGES, SERIES])
def test_gaussian_noise_has_its_deviation_and_is_clipped(shape: tuple[int, ...]) -> None:
    x = torch.full(shape, 0.5)
    slight = (CORRUPTIONS["gaussian"](deviation=0.05)(x) - x).numpy()
    assert slight.std() == pytest.approx(0.05, rel=0.02)
    assert slight.mean() == pytest.approx(0.0, abs=0.001)
    strong = CORRUPTIONS["gaussian"](deviation=0.5)(x)
    assert (strong.min(), strong.max()) == (0.0, 1.0)
    assert float((strong == 0.0).float().mean()) == pytest.approx(0.1587, rel=0.05)  # a normal is below -1 that often


@pytest.mark.parametrize("shape", [IMAGES, SERIES])
def test_salt_and_pepper_hits_its_share_in_all_channels_half_white(shape: tuple[int, ...]) -> None:
    x = half(shape)
    y = CORRUPTIONS["salt-and-pepper"](share=0.2)(x)
    white, black = y == 1.0, y == 0.0
    assert float(white.float().mean()) == pytest.approx(0.1, rel=0.1)
    assert float(black.float().mean()) == pytest.approx(0.1, rel=0.1)
    assert torch.equal(white.all(1), white.any(1))
    assert torch.equal(black.all(1), black.any(1))
    assert torch.equal(y[~(white | black)], x[~(white | black)])


@pytest.mark.parametrize("unit", ["pixels", "blocks", "features"])
@pytest.mark.parametrize("shape", [IMAGES, SERIES])
def test_masking_blackens_its_share_and_leaves_the_rest(shape: tuple[int, ...], unit: str) -> None:
    x = half(shape)
    y = CORRUPTIONS["masking"](share=0.3, unit=unit, block=4)(x)
    masked = y == 0.0
    assert float(masked.float().mean()) == pytest.approx(0.3, rel=0.05)
    assert torch.equal(y[~masked], x[~masked])
    assert torch.equal(masked.all(1), masked.any(1)) == (unit != "features")


def test_masked_blocks_are_squares_of_their_side() -> None:
    masked = (CORRUPTIONS["masking"](share=0.5, unit="blocks", block=5)(half((8, 1, 30, 42))) == 0.0).numpy()[:, 0]
    for top in range(0, 30, 5):
        for left in range(0, 42, 5):  # the last is two pixels wide
            inside = masked[:, top : top + 5, left : left + 5].reshape(8, -1)
            assert (inside.all(1) == inside.any(1)).all()
    assert (masked[:, 4] != masked[:, 5]).any()  # neighbouring blocks are drawn apart
    assert (masked[0] != masked[1]).any()  # and so are samples


@pytest.mark.parametrize(("kind", "field"), [("gaussian", "deviation"), ("salt-and-pepper", "share")])
def test_no_corruption_by_zero_is_the_identity(kind: str, field: str) -> None:
    x = half(IMAGES)
    for corrupt in (
        CORRUPTIONS[kind](**{field: 0.0}),
        CORRUPTIONS["none"](),
        CORRUPTIONS["masking"](share=0.0, unit="pixels", block=4),
    ):
        assert torch.equal(corrupt(x), x)


def test_masking_all_leaves_nothing() -> None:
    assert not CORRUPTIONS["masking"](share=1.0, unit="features", block=4)(half(IMAGES)).any()


def test_grey_weighs_the_colours_as_the_recommendation_says() -> None:
    colours = torch.eye(3).view(3, 3, 1, 1)
    assert CORRUPTIONS["grey"]()(colours).flatten().tolist() == pytest.approx([0.299, 0.587, 0.114])
    grey = CORRUPTIONS["grey"]()(half(IMAGES))
    assert grey.shape == (64, 1, 30, 40)
    other = rgb2gray(half(IMAGES).numpy(), channel_axis=1)  # weighs by Rec. 709: near, not equal
    assert np.abs(grey.numpy()[:, 0] - other).max() < 0.1


def texts() -> torch.Tensor:
    """500 texts of 1 to 20 tokens and END in 24 places; no token twice in a text, so that order can be told."""
    generator = np.random.default_rng(0)
    ids = np.zeros((500, 24), np.int64)
    for row in ids:
        length = generator.integers(1, 21)
        row[:length] = generator.permutation(np.arange(2, 1000))[:length]
        row[length] = END
    return torch.from_numpy(ids)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.6, 1.0])
def test_word_deletion_keeps_order_and_one_token_at_least_and_pads_after_the_end(share: float) -> None:
    torch.manual_seed(1)
    x = texts()
    y = CORRUPTIONS["word-deletion"](share=share)(x)
    assert (y.shape, y.dtype) == (x.shape, torch.int64)
    for before, after in zip(x.tolist(), y.tolist(), strict=True):
        left = after[: after.index(END)]
        assert len(left) >= 1
        assert after == [*left, END] + [0] * (23 - len(left))
        assert left == [token for token in before if token in left]
    before, after = (x > END).sum(1), (y > END).sum(1)
    long = before > 10
    if share == 1.0:
        assert (after == 1).all()
    else:
        assert 1 - int(after[long].sum()) / int(before[long].sum()) == pytest.approx(share, abs=0.03)


def test_word_deletion_takes_any_token_as_likely() -> None:
    torch.manual_seed(2)
    x = torch.arange(2, 6).repeat(20_000, 1)
    y = CORRUPTIONS["word-deletion"](share=0.5)(x)
    rates = [float((y == token).any(1).float().mean()) for token in range(2, 6)]
    assert rates == pytest.approx([0.5 + 0.5**4 / 4] * 4, abs=0.01)


def test_a_text_without_tokens_stays_as_it_is() -> None:
    empty = torch.tensor([[END, 0, 0], [0, 0, 0]])
    assert torch.equal(CORRUPTIONS["word-deletion"](share=0.6)(empty), empty)


@pytest.mark.parametrize("kind", ["gaussian", "salt-and-pepper", "masking"])
def test_the_global_generator_alone_decides(kind: str) -> None:
    fields = {"gaussian": {"deviation": 0.3}, "salt-and-pepper": {"share": 0.3}}.get(
        kind, {"share": 0.3, "unit": "blocks", "block": 3}
    )
    corrupt, x = CORRUPTIONS[kind](**fields).eval(), half((4, 1, 9, 9))
    drawn = []
    for seed in (5, 5, 6):
        torch.manual_seed(seed)
        drawn.append(corrupt(x))
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])
