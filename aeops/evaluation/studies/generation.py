"""Evidence lower bound of a variational model, in nats, and its samples from N(0, I), beside probabilistic PCA."""

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.decomposition import PCA
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from ae_models.spec import BceLossSpec
from aeops.drawing import mosaics
from aeops.drawing.style import REPORT_WIDTH
from aeops.drawing.words import format_number
from aeops.evaluation.sampling import even_indices
from aeops.evaluation.study import EvaluationContext, StudyResult
from aeops.recipe.studies import GenerationStudy

ROWS = 2_000  # test normals that the bound is measured on
TRAIN_ROWS = 20_000  # training samples that PCA is fitted on
DRAWS_PER_CODE = 4  # for the expectation in the bound
SEED = 0
ACTIVE_VARIANCE = 0.01  # over samples, above which a unit's mean counts as active (Burda et al. 2016, section 5.2)
PROBABILITY_MARGIN = 0.01  # how near to 0 or 1 the probabilities of the linear baseline may come
INTERPOLATIONS, INTERPOLATION_STEPS = 4, 10  # lines between codes, and samples on each
BOARD_COLUMNS = 16  # generated samples in a row

LogLikelihood = Callable[[np.ndarray, np.ndarray], np.ndarray]


@dataclass(frozen=True)
class EvidenceBound:
    """The evidence lower bound in nats a sample (Kingma and Welling 2014): elbo = likelihood - kl.

    Attributes:
        elbo: the bound.
        likelihood: E_q log p(x | z), the reconstruction term.
        kl: of q(z | x) from N(0, I).
        active_units: numbers of the code whose mean moves with the sample.
    """

    elbo: float
    likelihood: float
    kl: float
    active_units: int


def run_generation_study(spec: GenerationStudy, context: EvaluationContext, figures: Path) -> StudyResult:
    """Measure the bound of the model and of probabilistic PCA of the same size on test normals, and draw samples of both."""
    test_indices = np.flatnonzero(context.is_normal)
    test_indices = test_indices[even_indices(len(test_indices), ROWS)]
    target = context.target[test_indices].reshape(len(test_indices), -1)
    size = context.predictions["code"].shape[1]
    if isinstance(context.recipe.fit.model.compare, BceLossSpec):
        likelihood_name, log_likelihood, noise = "Bernoulli", bernoulli_likelihood, None
    else:
        likelihood_name, log_likelihood, noise = "Gaussian of variance 1", gaussian_likelihood, 1.0
    model = _model_bound(context, test_indices, target, log_likelihood)
    linear_model = LinearModel.fit(context, size, noise)
    pca = linear_model.bound(target, log_likelihood)
    _draw_generated_samples(spec, context, linear_model, figures)
    return _generation_result(spec, model, pca, size, len(test_indices), likelihood_name)


def _draw_generated_samples(
    spec: GenerationStudy, context: EvaluationContext, linear_model: "LinearModel", figures: Path
) -> None:
    code = context.predictions["code"]
    z = np.random.default_rng(SEED).standard_normal((spec.samples, code.shape[1]), dtype=np.float32)
    generated_samples = {
        "autoencoder": context.data.scale(context.detector.decode(z)),
        "pca": linear_model.samples(z, context.target.shape[1:]),
    }
    for name, samples in generated_samples.items():
        mosaics.draw_board(figures / f"generation_{name}.svg", samples, BOARD_COLUMNS, REPORT_WIDTH * 0.75)
    lines = interpolate_codes(code, context.is_normal, context.data.labels)
    decoded_lines = context.data.scale(context.detector.decode(lines))
    mosaics.draw_board(figures / "generation_between.svg", decoded_lines, INTERPOLATION_STEPS, REPORT_WIDTH * 0.6)


def _generation_result(
    spec: GenerationStudy, model: EvidenceBound, pca: EvidenceBound, size: int, rows: int, likelihood_name: str
) -> StudyResult:
    gain = model.elbo - pca.elbo
    direction = "above" if gain >= 0 else "below"
    metrics: dict[str, Any] = asdict(model) | {"code_size": size, "pca": asdict(pca), "gain_nats": gain}
    likelihood_note, pca_note = ". ", "."
    if likelihood_name == "Bernoulli":
        likelihood_note = "; of values that are not 0 or 1 it is no likelihood in the strict sense. "
        pca_note = " for Gaussian values; its outputs are kept within 0.01 to 0.99."
    return StudyResult(
        title="Generation",
        lead=f"The evidence lower bound is {model.elbo:,.2f} nats a sample, {abs(gain):,.2f} "
        f"{direction} that of probabilistic PCA of the same size; {model.active_units} of {size} "
        "numbers of the code carry something.",
        head=["", "ELBO (nats a sample)", "likelihood", "KL", "active units"],
        rows=[_bound_row("model", model, size), _bound_row(f"probabilistic PCA-{size}", pca, size)],
        figures=[
            ("generation_autoencoder.svg", f"{spec.samples} draws from N(0, I), decoded."),
            ("generation_pca.svg", "The same draws by PCA, as a Gaussian with the variances of its codes."),
            ("generation_between.svg", "From the code of one test sample to that of another, in equal steps."),
        ],
        metrics=metrics,
        note=f"{rows:,} normal test samples, {DRAWS_PER_CODE} draws of each code. The likelihood is {likelihood_name}"
        + likelihood_note
        + "Higher is better. Active: a number whose mean varies by more than 0.01 over the samples (Burda et al. 2016). "
        "Probabilistic PCA (Tipping and Bishop 1999) is the best linear model of this kind" + pca_note,
    )


def _bound_row(name: str, bound: EvidenceBound, size: int) -> list[str]:
    numbers = [format_number(bound.elbo, 2), format_number(bound.likelihood, 2), format_number(bound.kl, 2)]
    return [name, *numbers, f"{bound.active_units} of {size}"]


# ---------------------------------------------------------------- the bound


def bernoulli_likelihood(target: np.ndarray, output: np.ndarray) -> np.ndarray:
    """Return log p of each sample (n, numbers) where `output` holds probabilities."""
    probabilities = output.astype(np.float64).clip(1e-7, 1 - 1e-7)  # a sigmoid in 32 bits can be 0 or 1
    return np.asarray((target * np.log(probabilities) + (1 - target) * np.log1p(-probabilities)).sum(axis=1))


def gaussian_likelihood(target: np.ndarray, output: np.ndarray) -> np.ndarray:
    """Return log p of each sample (n, numbers) around the means `output`, with variance 1."""
    squared_error = np.square(target - output, dtype=np.float64).sum(axis=1)
    return np.asarray(-0.5 * (squared_error + target.shape[1] * math.log(2 * math.pi)))


def evidence_bound(
    mean: np.ndarray,
    log_variance: np.ndarray,
    target: np.ndarray,
    decode: Callable[[np.ndarray], np.ndarray],
    log_likelihood: LogLikelihood,
) -> EvidenceBound:
    """Return the bound of samples whose codes are N(mean, exp(log_variance)).

    Args:
        mean: (n, size).
        log_variance: (n, size).
        target: (n, numbers) in [0, 1].
        decode: from codes (n, size) to outputs (n, numbers).
        log_likelihood: of targets, given outputs.
    """
    rng = np.random.default_rng(SEED)
    draw_means = []
    for _ in range(DRAWS_PER_CODE):
        z = mean + np.exp(0.5 * log_variance) * rng.standard_normal(mean.shape)
        draw_means.append(log_likelihood(target, decode(z.astype(np.float32))).mean())
    expected = float(np.mean(draw_means))
    kl = float(0.5 * (mean**2 + np.exp(log_variance) - 1 - log_variance).sum(axis=1).mean())
    return EvidenceBound(expected - kl, expected, kl, int((mean.var(axis=0) > ACTIVE_VARIANCE).sum()))


def _model_bound(
    context: EvaluationContext, test_indices: np.ndarray, target: np.ndarray, log_likelihood: LogLikelihood
) -> EvidenceBound:
    """Return the bound of the bundle's model; its own encoder gives the variances, as served models keep the means alone."""
    import torch  # here: most other studies do without

    from ae_models import bundle
    from ae_models.bottlenecks import VariationalBottleneck

    autoencoder = bundle.load_bundle(context.bundle).scorer.autoencoder
    with torch.inference_mode():
        raw = torch.from_numpy(np.array(context.inputs[test_indices]))
        h = autoencoder.encode(autoencoder.normalise(raw)).double()
    mean, log_variance = VariationalBottleneck.moments(h)

    def decode(z: np.ndarray) -> np.ndarray:
        outputs = context.data.scale(context.detector.decode(z))
        return outputs.reshape(len(outputs), -1)

    return evidence_bound(mean.numpy(), log_variance.numpy(), target, decode, log_likelihood)


# ---------------------------------------------------------------- the baseline


@dataclass(frozen=True)
class LinearModel:
    """Probabilistic PCA (Tipping and Bishop 1999, J. R. Statist. Soc. B 61): x = mean + W z + noise, z from N(0, I).

    W = U (L - v)^(1/2) with the leading axes U (size, numbers), their variances L and the noise's variance v; the code of x
    is N((L - v)^(1/2) / L * U (x - mean), v / L). An axis of less variance than the noise carries nothing.
    """

    mean: np.ndarray
    axes: np.ndarray
    variances: np.ndarray
    noise: float

    @classmethod
    def fit(cls, context: EvaluationContext, size: int, noise: float | None) -> "LinearModel":
        """Fit on training samples; `noise` None: the variance of greatest likelihood."""
        train = context.data.scale(context.data.train[:TRAIN_ROWS])
        train = train.reshape(len(train), -1)
        size = min(size, *train.shape)
        pca_solver = "covariance_eigh" if train.shape[1] <= 4096 else "randomized"
        with threadpool_limits(1, "blas"):
            pca = PCA(size, svd_solver=pca_solver, random_state=0).fit(train)
        if noise is None:
            noise = float(pca.noise_variance_)
        return cls(pca.mean_, pca.components_, pca.explained_variance_, max(noise, 1e-6))

    def bound(self, target: np.ndarray, log_likelihood: LogLikelihood) -> EvidenceBound:
        """Return the bound of samples (n, numbers)."""
        total_variances = np.maximum(self.variances, self.noise)
        strength = np.sqrt(total_variances - self.noise)
        mean = (target - self.mean) @ self.axes.T * (strength / total_variances)
        log_variance = np.broadcast_to(np.log(self.noise / total_variances), mean.shape)
        low, high = -np.inf, np.inf
        if log_likelihood is bernoulli_likelihood:
            low, high = PROBABILITY_MARGIN, 1 - PROBABILITY_MARGIN

        def decode(z: np.ndarray) -> np.ndarray:
            return np.asarray((self.mean + (z * strength) @ self.axes).clip(low, high))

        return evidence_bound(mean, log_variance, target, decode, log_likelihood)

    def samples(self, z: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        """Return draws (n, size) from N(0, I) as samples (n, *shape) in [0, 1]."""
        axis_draws = z[:, : len(self.axes)]
        outputs = self.mean + (axis_draws * np.sqrt(self.variances)) @ self.axes
        return np.asarray(outputs.clip(0, 1).reshape(len(z), *shape))


# ---------------------------------------------------------------- between codes


def interpolate_codes(code: np.ndarray, normal: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return straight lines between codes of test normals, of different labels where there are any.

    Args:
        code: (n, size).
        normal: bool (n,).
        labels: int (n,).

    Returns:
        (INTERPOLATIONS * INTERPOLATION_STEPS, size), a line after the other.
    """
    indices = np.flatnonzero(normal)
    first_half = indices[: len(indices) // 2 + 1]
    lines = []
    for start in first_half[even_indices(len(first_half), INTERPOLATIONS)]:
        candidates = indices[labels[indices] != labels[start]]
        if not len(candidates):
            candidates = indices[indices != start]
        end = candidates[(start * 7919) % len(candidates)]  # far apart in the file, the same each time
        share = np.linspace(0, 1, INTERPOLATION_STEPS)[:, None]
        lines.append((1 - share) * code[start] + share * code[end])
    return np.concatenate(lines).astype(np.float32)
