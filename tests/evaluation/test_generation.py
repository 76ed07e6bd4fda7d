import math
from functools import partial

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal, norm
from torch.distributions import Bernoulli, Normal, kl_divergence

from aeops.evaluation.studies import generation
from aeops.evaluation.studies.generation import (
    LinearModel,
    bernoulli_likelihood,
    evidence_bound,
    gaussian_likelihood,
    interpolate_codes,
    run_generation_study,
)
from aeops.recipe.studies import GenerationStudy

VARIATIONAL = {"kind": "variational", "size": 6}


@pytest.fixture
def posterior() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.normal(size=(30, 6)), rng.normal(-1, 0.5, (30, 6))


def test_kl_is_that_of_the_gaussians(posterior):
    mean, log_variance = posterior
    found = evidence_bound(mean, log_variance, np.zeros((30, 4)), lambda z: np.zeros((30, 4)), gaussian_likelihood)
    q = Normal(torch.tensor(mean), torch.tensor(log_variance).mul(0.5).exp())
    assert found.kl == pytest.approx(float(kl_divergence(q, Normal(0.0, 1.0)).sum(1).mean()))
    assert found.elbo == pytest.approx(found.likelihood - found.kl)
    assert found.active_units == 6


def test_likelihoods_are_those_of_the_distributions():
    rng = np.random.default_rng(1)
    target, made = rng.random((5, 7)), rng.uniform(0.1, 0.9, (5, 7))
    np.testing.assert_allclose(gaussian_likelihood(target, made), norm.logpdf(target, made).sum(axis=1))
    binary = (target > 0.5).astype(float)
    by_torch = Bernoulli(torch.tensor(made)).log_prob(torch.tensor(binary)).sum(1)
    np.testing.assert_allclose(bernoulli_likelihood(binary, made), by_torch.numpy(), rtol=1e-6)


def test_the_bound_of_probabilistic_pca_is_its_exact_likelihood():
    rng = np.random.default_rng(2)
    axes = np.linalg.qr(rng.normal(size=(5, 5)))[0][:2]
    model = LinearModel(np.full(5, 0.3), axes, np.array([9.0, 4.0]), 1.0)
    covariance = axes.T @ np.diag([8.0, 3.0]) @ axes + np.eye(5)
    target = rng.multivariate_normal(model.mean, covariance, 4000)
    exact = multivariate_normal(model.mean, covariance).logpdf(target).mean()
    assert model.bound(target, gaussian_likelihood).elbo == pytest.approx(exact, abs=0.04)  # but for the luck of the draws


def test_an_axis_of_less_variance_than_the_noise_carries_nothing():
    model = LinearModel(np.zeros(3), np.eye(3)[:2], np.array([4.0, 0.5]), 1.0)
    found = model.bound(np.random.default_rng(0).normal(size=(200, 3)) * 2, gaussian_likelihood)
    assert found.active_units == 1


@pytest.mark.parametrize(("compare", "kind"), [("bce", "Bernoulli"), ("mse", "Gaussian of variance 1")])
def test_the_models_bound_agrees_with_the_loss_it_was_trained_by(scene, tmp_path, compare, kind):
    from ae_models import bundle

    room = scene(model={"bottleneck": VARIATIONAL, "compare": {"kind": compare, "reduce": "sum"}})
    found = run_generation_study(GenerationStudy(samples=8), room, tmp_path)
    autoencoder = bundle.load_bundle(room.bundle).scorer.autoencoder.train()
    x = autoencoder.normalise(torch.from_numpy(np.array(room.inputs[room.is_normal])))
    torch.manual_seed(0)
    with torch.no_grad():
        loss = np.mean([float(autoencoder.loss(x)) for _ in range(20)])
    likelihood = found.metrics["likelihood"]
    error = -likelihood if compare == "bce" else -2 * likelihood - 784 * math.log(2 * math.pi)
    assert error + found.metrics["kl"] == pytest.approx(loss, rel=0.01)
    assert found.metrics["elbo"] == pytest.approx(likelihood - found.metrics["kl"])
    assert found.metrics["gain_nats"] == pytest.approx(found.metrics["elbo"] - found.metrics["pca"]["elbo"])
    assert f"The likelihood is {kind}" in found.note
    assert {file for file, _ in found.figures} == {file.name for file in tmp_path.iterdir()}


def test_paths_lead_from_one_label_to_another_in_equal_steps():
    code, labels = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32), np.arange(40) % 4
    lines = interpolate_codes(code, np.ones(40, bool), labels).reshape(
        generation.INTERPOLATIONS, generation.INTERPOLATION_STEPS, 3
    )
    place = partial(np.argmin, axis=0)
    for line in lines:
        start, end = (int(place(np.abs(code - tip).sum(axis=1))) for tip in (line[0], line[-1]))
        assert labels[start] != labels[end]
        np.testing.assert_allclose(np.diff(line, axis=0), np.tile((line[-1] - line[0]) / 9, (9, 1)), atol=1e-5)


def test_the_gaussian_constant_counts_every_number():
    assert gaussian_likelihood(np.zeros((1, 10)), np.zeros((1, 10)))[0] == pytest.approx(-5 * math.log(2 * math.pi))
