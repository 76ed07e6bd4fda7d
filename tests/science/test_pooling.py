"""How tokens become one code: pooling by inverse frequency, with and without positions."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from onnx_export import by_onnxruntime
from safetensors.numpy import load_file

from ae_models import encoders, tokens
from ae_models.encoders import TokenEncoder as Module
from ae_models.errors import SpecError
from ae_models.factory import build_part
from ae_models.fit import fit
from ae_models.spec import FitSpec, TokenEncoderSpec

SPEC = TokenEncoderSpec(vocabulary=300, length=9, width=8, layers=0, heads=2, pooling="inverse-frequency", positions=False)


def encoder(spec: TokenEncoderSpec = SPEC) -> Module:
    torch.manual_seed(0)
    module: Module = build_part(encoders.ENCODERS, spec, shape=(9,), size=5).eval()
    return module


@pytest.fixture
def texts() -> torch.Tensor:
    """Ids of 9, 4, 1 and 0 tokens, the token 7 among them more often than others."""
    ids = torch.randint(1, 300, (4, 9), generator=torch.Generator().manual_seed(0))
    ids[0, ::2] = 7
    return ids * (torch.arange(9) < torch.tensor([9, 4, 1, 0])[:, None])


def test_shares_are_those_of_the_tokens_without_padding(texts: torch.Tensor) -> None:
    module = encoder()
    module.count_tokens([texts[:1], texts[1:]])
    used = texts[texts != 0].numpy()
    expected = np.bincount(used, minlength=300) / len(used)
    np.testing.assert_allclose(module.shares.numpy(), expected, rtol=1e-6)


def test_a_code_is_the_mean_of_normalised_tokens_weighed_by_a_over_a_plus_p(texts: torch.Tensor) -> None:
    module = encoder()
    module.count_tokens([texts])
    table = module.embeddings.weight.detach().double().numpy()
    normal = (table - table.mean(axis=1, keepdims=True)) / np.sqrt(table.var(axis=1, keepdims=True) + 1e-5)
    weights = 0.001 / (0.001 + module.shares.double().numpy())
    dense = [value.detach().double().numpy() for value in (module.dense.weight, module.dense.bias)]
    for ids, code in zip(texts[:3].numpy(), module(texts).detach().numpy(), strict=False):
        used = ids[ids != 0]
        mean = np.average(normal[used], axis=0, weights=weights[used])
        np.testing.assert_allclose(code, mean @ dense[0].T + dense[1], rtol=1e-3, atol=1e-5)


def test_a_text_without_tokens_and_tokens_never_seen_have_finite_codes(texts: torch.Tensor) -> None:
    module = encoder()
    module.count_tokens([texts[:1]])
    assert torch.isfinite(module(texts)).all()


@pytest.mark.parametrize(("positions", "layers", "matters"), [(False, 0, False), (False, 2, False), (True, 0, True)])
def test_order_matters_only_with_positions(texts: torch.Tensor, positions: bool, layers: int, matters: bool) -> None:
    module = encoder(dataclasses.replace(SPEC, positions=positions, layers=layers))
    module.count_tokens([texts])
    assert torch.allclose(module(texts[:1]), module(texts[:1].flip(1)), atol=1e-5) != matters


def test_the_plain_mean_counts_nothing_and_keeps_its_weights_names() -> None:
    module = encoder(dataclasses.replace(SPEC, pooling="mean", positions=True))
    before = {name: value.clone() for name, value in module.state_dict().items()}
    module.count_tokens([torch.ones(2, 9, dtype=torch.int64)])
    assert "shares" not in before
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())


@pytest.mark.parametrize("layers", [0, 1])
def test_as_onnx_it_answers_the_same(texts: torch.Tensor, layers: int, tmp_path: Path) -> None:
    module = encoder(dataclasses.replace(SPEC, layers=layers))
    module.count_tokens([texts])
    np.testing.assert_allclose(
        by_onnxruntime(module, module, tmp_path, texts), module(texts).detach().numpy(), rtol=1e-3, atol=1e-5
    )


def test_a_pooling_that_is_none_is_refused_with_the_allowed_ones() -> None:
    with pytest.raises(SpecError, match=r"encode\.pooling: expected mean or inverse-frequency, got 'sif'"):
        FitSpec.from_dict(raw_spec(pooling="sif"), "x")


def test_a_training_counts_its_own_texts_and_keeps_the_shares(tmp_path: Path) -> None:
    words = np.array(["a", "cat", "sees", "the", "bird"])
    rng = np.random.default_rng(0)
    rows = tokens.texts_to_bytes([" ".join(rng.choice(words, 5, p=[0.5, 0.2, 0.1, 0.1, 0.1])) for _ in range(300)])
    rows = np.pad(rows, ((0, 0), (0, 32 - rows.shape[1])))
    places = {name: tmp_path / name for name in ("checkpoints", "bundle", "history")}
    spec = FitSpec.from_dict(raw_spec(), "x")
    fit(spec, rows[:150], rows[150:170], rows[170:], **places, content_sha256="0" * 64, recipe="x", progress_bar=False)
    shares = load_file(tmp_path / "bundle" / "weights.safetensors")["encode.shares"]
    tokenizer = tokens.tokenizer_from_json((tmp_path / "bundle" / "tokenizer.json").read_text(encoding="utf-8"))
    ids = tokens.encode_texts(tokenizer, rows[:150], 9)
    np.testing.assert_allclose(shares, np.bincount(ids[ids != 0], minlength=300) / (ids != 0).sum(), rtol=1e-6)


def raw_spec(**changes: object) -> dict[str, object]:
    encoder_section = {"kind": "tokens", **dataclasses.asdict(SPEC)} | changes
    return {
        "input": {"kind": "text", "shape": [32]},
        "model": {
            "corrupt": {"kind": "word-deletion"},
            "encode": encoder_section,
            "bottleneck": {"kind": "identity", "size": 4},
            "decode": {"kind": "tokens", "width": 8, "layers": 0, "heads": 2},
            "compare": {"kind": "cross-entropy"},
        },
        "score": {"kind": "token-surprise"},
        "threshold": {"kind": "split-conformal"},
        "train": {"epochs": 1, "batch": 32, "threads": 1, "accelerator": "cpu"},
    }
