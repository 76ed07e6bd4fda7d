"""What a variational model knows of its samples, in nats, and what it makes of draws from N(0, I), beside probabilistic PCA."""

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
from aeops.evaluation.study import EvaluationContext, StudyResult
from aeops.recipe.studies import GenerationStudy

ROWS = 2_000  # test normals that the bound is measured on
TRAIN_ROWS = 20_000  # training samples that PCA is fitted on
DRAWS = 4  # of each code, for the expectation in the bound
SEED = 0
ACTIVE = 0.01  # variance over samples above which a unit's mean counts as active (Burda et al. 2016, section 5.2)
SURE = 0.01  # how near to 0 or 1 the probabilities of the linear baseline may come
PATHS, STEPS = 4, 10  # interpolations, and samples in each
BOARD = 16  # samples in a row of those drawn

LogLikelihood = Callable[[np.ndarray, np.ndarray], np.ndarray]


@dataclass(frozen=True)
class EvidenceBound:
    """The evidence lower bound in nats a sample (Kingma and Welling 2014): elbo = likelihood - kl.

    Attributes:
        likelihood: E_q log p(x | z), the reconstruction term.
        kl: of q(z | x) from N(0, I).
        active_units: numbers of the code whose mean moves with the sample.
    """

    elbo: float
    likelihood: float
    kl: float
    active_units: int


def run_generation_study(spec: GenerationStudy, scene: EvaluationContext, figures: Path) -> StudyResult:
    """The bound of the model and of probabilistic PCA with as many numbers, on the same test normals; and samples of both."""
    bernoulli = isinstance(scene.recipe.fit.model.compare, BceLossSpec)
    chosen = evenly(np.flatnonzero(scene.is_normal), ROWS)
    target = scene.target[chosen].reshape(len(chosen), -1)
    likelihood = bernoulli_likelihood if bernoulli else gaussian_likelihood
    model = model_bound(scene, chosen, target, likelihood)
    size = scene.predictions["code"].shape[1]
    linear = LinearModel.fit(scene, size, None if bernoulli else 1.0)
    pca = linear.bound(target, likelihood)
    z = np.random.default_rng(SEED).standard_normal((spec.samples, size), dtype=np.float32)
    drawn = {"autoencoder": scene.data.scale(scene.detector.decode(z)), "pca": linear.samples(z, scene.target.shape[1:])}
    for name, samples in drawn.items():
        mosaics.draw_board(figures / f"generation_{name}.svg", samples, BOARD, REPORT_WIDTH * 0.75)
    between = scene.data.scale(scene.detector.decode(interpolate_codes(scene.predictions["code"], scene.is_normal, scene.data.labels)))
    mosaics.draw_board(figures / "generation_between.svg", between, STEPS, REPORT_WIDTH * 0.6)
    return tell(spec, model, pca, size, len(chosen), "Bernoulli" if bernoulli else "Gaussian of variance 1")


def tell(spec: GenerationStudy, model: EvidenceBound, pca: EvidenceBound, size: int, rows: int, kind: str) -> StudyResult:
    gain = model.elbo - pca.elbo
    names = {"autoencoder": model, f"probabilistic PCA-{size}": pca}
    table = [
        [name, format_number(one.elbo, 2), format_number(one.likelihood, 2), format_number(one.kl, 2), f"{one.active_units} of {size}"]
        for name, one in names.items()
    ]
    metrics: dict[str, Any] = asdict(model) | {"code_size": size, "pca": asdict(pca), "gain_nats": gain}
    return StudyResult(
        title="Generation",
        lead=f"The evidence lower bound is {model.elbo:,.2f} nats a sample, {abs(gain):,.2f} "
        f"{'above' if gain >= 0 else 'below'} that of probabilistic PCA of the same size; {model.active_units} of {size} "
        "numbers of the code carry something.",
        head=["", "ELBO (nats a sample)", "likelihood", "KL", "active units"],
        rows=table,
        figures=[
            ("generation_autoencoder.svg", f"{spec.samples} draws from N(0, I), decoded."),
            ("generation_pca.svg", "The same draws by PCA, as a Gaussian with the variances of its codes."),
            ("generation_between.svg", "From the code of one test sample to that of another, in equal steps."),
        ],
        metrics=metrics,
        note=f"{rows:,} normal test samples, {DRAWS} draws of each code. The likelihood is {kind}"
        + ("; of values that are not 0 or 1 it is no likelihood in the strict sense. " if kind == "Bernoulli" else ". ")
        + "Higher is better. Active: a number whose mean varies by more than 0.01 over the samples (Burda et al. 2016). "
        "Probabilistic PCA (Tipping and Bishop 1999) is the best linear model of this kind"
        + (" for Gaussian values; its outputs are kept within 0.01 to 0.99." if kind == "Bernoulli" else "."),
    )


def evenly(places: np.ndarray, most: int) -> np.ndarray:
    return np.asarray(places[np.unique(np.linspace(0, len(places) - 1, min(len(places), most)).round().astype(int))])


# ---------------------------------------------------------------- the bound


def bernoulli_likelihood(target: np.ndarray, made: np.ndarray) -> np.ndarray:
    """log p of each sample (n, numbers) where `made` are probabilities."""
    made = made.astype(np.float64).clip(1e-7, 1 - 1e-7)  # a sigmoid in 32 bits can be 0 or 1
    return np.asarray((target * np.log(made) + (1 - target) * np.log1p(-made)).sum(axis=1))


def gaussian_likelihood(target: np.ndarray, made: np.ndarray) -> np.ndarray:
    """log p of each sample (n, numbers) around the means `made`, with variance 1."""
    squared = np.square(target - made, dtype=np.float64).sum(axis=1)
    return np.asarray(-0.5 * (squared + target.shape[1] * math.log(2 * math.pi)))


def evidence_bound(
    mean: np.ndarray,
    log_variance: np.ndarray,
    target: np.ndarray,
    decode: Callable[[np.ndarray], np.ndarray],
    likelihood: LogLikelihood,
) -> EvidenceBound:
    """The bound of samples (n, numbers) whose codes are N(mean, exp(log_variance)), each (n, size)."""
    rng = np.random.default_rng(SEED)
    draws = (mean + np.exp(0.5 * log_variance) * rng.standard_normal(mean.shape) for _ in range(DRAWS))
    expected = float(np.mean([likelihood(target, decode(z.astype(np.float32))).mean() for z in draws]))
    kl = float(0.5 * (mean**2 + np.exp(log_variance) - 1 - log_variance).sum(axis=1).mean())
    return EvidenceBound(expected - kl, expected, kl, int((mean.var(axis=0) > ACTIVE).sum()))


def model_bound(scene: EvaluationContext, chosen: np.ndarray, target: np.ndarray, likelihood: LogLikelihood) -> EvidenceBound:
    """The bound of the bundle's model; served models keep the means alone, so its own encoder is asked for the variances."""
    import torch  # here: the studies beside this one do without

    from ae_models import bundle
    from ae_models.bottlenecks import VariationalBottleneck

    autoencoder = bundle.load_bundle(scene.bundle).scorer.autoencoder
    with torch.inference_mode():
        raw = torch.from_numpy(np.array(scene.inputs[chosen]))
        h = autoencoder.encode(autoencoder.normalise(raw)).double()
    mean, log_variance = (part.numpy() for part in VariationalBottleneck.moments(h))

    def decode(z: np.ndarray) -> np.ndarray:
        made = scene.data.scale(scene.detector.decode(z))
        return made.reshape(len(made), -1)

    return evidence_bound(mean, log_variance, target, decode, likelihood)


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
    def fit(cls, scene: EvaluationContext, size: int, noise: float | None) -> "LinearModel":
        """Fits on training samples; `noise` None: the variance of greatest likelihood."""
        train = scene.data.scale(scene.data.train[:TRAIN_ROWS])
        train = train.reshape(len(train), -1)
        size = min(size, *train.shape)
        solver = "covariance_eigh" if train.shape[1] <= 4096 else "randomized"
        with threadpool_limits(1, "blas"):
            pca = PCA(size, svd_solver=solver, random_state=0).fit(train)
        found = float(pca.noise_variance_) if noise is None else noise
        return cls(pca.mean_, pca.components_, pca.explained_variance_, max(found, 1e-6))

    def bound(self, target: np.ndarray, likelihood: LogLikelihood) -> EvidenceBound:
        kept = np.maximum(self.variances, self.noise)
        strength = np.sqrt(kept - self.noise)
        mean = (target - self.mean) @ self.axes.T * (strength / kept)
        log_variance = np.broadcast_to(np.log(self.noise / kept), mean.shape)
        low, high = (SURE, 1 - SURE) if likelihood is bernoulli_likelihood else (-np.inf, np.inf)

        def decode(z: np.ndarray) -> np.ndarray:
            return np.asarray((self.mean + (z * strength) @ self.axes).clip(low, high))

        return evidence_bound(mean, log_variance, target, decode, likelihood)

    def samples(self, z: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        """Draws (n, size) from N(0, I) as samples (n, *shape) in [0, 1]."""
        used = z[:, : len(self.axes)]
        return np.asarray((self.mean + (used * np.sqrt(self.variances)) @ self.axes).clip(0, 1).reshape(len(z), *shape))


# ---------------------------------------------------------------- between codes


def interpolate_codes(code: np.ndarray, normal: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Straight lines between codes of test normals, of different labels where there are any: (PATHS * STEPS, size)."""
    places = np.flatnonzero(normal)
    starts = evenly(places[: len(places) // 2 + 1], PATHS)
    lines = []
    for start in starts:
        others = places[labels[places] != labels[start]]
        others = others if len(others) else places[places != start]
        end = others[(start * 7919) % len(others)]  # far apart in the file, the same each time
        share = np.linspace(0, 1, STEPS)[:, None]
        lines.append((1 - share) * code[start] + share * code[end])
    return np.concatenate(lines).astype(np.float32)
