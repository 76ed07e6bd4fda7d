"""The baselines of a recipe: fitted to its training samples, and read in blocks, as sets may not fit into memory."""

import math
from collections.abc import Iterator
from dataclasses import replace
from functools import cached_property

import numpy as np

from aeops.bundle.detector import Detector
from aeops.evaluation import model_input
from aeops.evaluation.baselines import FittedBaselines, PcaBaseline, ResidualTreatment, join_scores
from aeops.evaluation.prepared import PreparedSamples
from aeops.evaluation.sample_blocks import RowFunction, map_samples, release_pages, rows_of_blocks
from aeops.evaluation.sampling import MAX_BASELINE_VALUES, draw_baseline_rows, draw_rows, neighbour_rows
from aeops.evaluation.shrinking import shrink_factor, shrink_samples, shrunk_shape
from aeops.recipe.reader import Recipe


class RecipeBaselines:
    """The baselines of a recipe, each fitted when it is first used to a subsample of the training samples, always the same.

    They read samples as the model is served them, (n, *detector.shape) in raw units. PCA is fitted to clean training samples,
    also where the model is served corrupted ones: its reconstruction of a corrupted sample is the projection on the clean ones.
    Those that detect see large samples shrunk; see `aeops.evaluation.shrinking`.

    Args:
        recipe: its section `evaluate` names the baselines, its score decides their treatment.
        data: the prepared samples.
        detector: the model beside them; its kind of samples has values in a range.
    """

    def __init__(self, recipe: Recipe, data: PreparedSamples, detector: Detector) -> None:
        self._recipe, self._data, self._detector = recipe, data, detector
        self._values = math.prod(detector.shape)
        self._factor = shrink_factor(detector.shape)

    @property
    def pca_rows(self) -> int:
        """Number of training samples that PCA is fitted to."""
        return len(draw_baseline_rows(len(self._data.train), self._values))

    @cached_property
    def neighbour_rows(self) -> int:
        """Number of training samples that the baselines that detect are fitted to."""
        scored = len(self._data.test) + self._data.rows["calibration"]
        return neighbour_rows(len(self._data.train), math.prod(self.searched_shape), scored)

    @property
    def searched_shape(self) -> tuple[int, ...]:
        """Shape of a sample as the baselines that detect see it."""
        return shrunk_shape(self._detector.shape, self._factor)

    @cached_property
    def detectors(self) -> FittedBaselines | None:
        """Those that detect; None if the recipe has no `evaluate.neighbours`."""
        spec, fit = self._recipe.evaluate, self._recipe.fit
        if spec.neighbours is None:
            return None
        treatment = ResidualTreatment.of_score(fit.score, self._detector.data_kind.DEFAULT_ENERGY)
        pca = None
        if spec.pca_components is not None:
            pca = self._pca
            if self._factor > 1:
                clean = self._searched_train(lambda raw: model_input.clean_inputs(fit.input, raw))
                pca = PcaBaseline.fit(clean.reshape(len(clean), -1), spec.pca_components)
        return FittedBaselines(
            self._searched_train(lambda raw: model_input.served_inputs(fit, raw, model_input.TRAIN_SEED)),
            spec.neighbours,
            replace(treatment, blur=treatment.blur / self._factor),
            pca,
            self._limits,
        )

    def reconstruct(self, samples: np.ndarray) -> np.ndarray | None:
        """Return the reconstructions by PCA, (n, *shape) in [0, 1], or None if the recipe has no `evaluate.pca_components`.

        They are clipped as the bundle's outputs are, so that the comparison is fair. Many are in a file: see `map_samples`.
        """
        pca = self._pca
        if pca is None:
            return None

        def project(block: np.ndarray) -> np.ndarray:
            values = self._to_unit_range(block)
            return pca.reconstruct(values.reshape(len(values), -1)).clip(*self._limits).reshape(values.shape)

        return map_samples(project, samples, self._data.folder)

    def score(self, samples: np.ndarray) -> dict[str, np.ndarray]:
        """Return the scores of each baseline that detects, float32 (n,), by its name; empty if there are none.

        Raises:
            DataError: values that are NaN or infinite.
        """
        if self.detectors is None:
            return {}
        return join_scores(map(self.detectors.score, self._searched_blocks(samples)))

    def pixel_maps(self, samples: np.ndarray) -> dict[str, np.ndarray]:
        """Return the map of each baseline that has one, float32 (n, h, w), by its name; empty if there are none.

        Of images that are shrunk, each value of a map stands for a square of pixels.

        Raises:
            DataError: values that are NaN or infinite.
        """
        if self.detectors is None:
            return {}
        maps = join_scores(map(self.detectors.pixel_maps, self._searched_blocks(samples)))
        if self._factor > 1:
            for name, values in maps.items():
                maps[name] = self._enlarge_maps(values)
        return maps

    def _enlarge_maps(self, maps: np.ndarray) -> np.ndarray:
        height, width = self._detector.shape[-2:]
        return maps.repeat(self._factor, axis=1).repeat(self._factor, axis=2)[:, :height, :width]

    def _searched_blocks(self, samples: np.ndarray) -> Iterator[np.ndarray]:
        """Yield the samples in blocks that fit into memory, each in [0, 1], as the baselines that detect see them."""
        for rows in rows_of_blocks(len(samples), self._values, limit=MAX_BASELINE_VALUES):
            yield shrink_samples(self._to_unit_range(samples[rows]), self._factor)
            release_pages(samples)

    def _searched_train(self, served: RowFunction) -> np.ndarray:
        """Return the training samples that neighbours are looked for among, in [0, 1], as the baselines that detect see them.

        Args:
            served: of stored training samples (n, ...): as the model is served them.
        """
        train = self._data.train
        indices, blocks = draw_rows(len(train), self.neighbour_rows), []
        for rows in rows_of_blocks(len(indices), self._values, limit=MAX_BASELINE_VALUES):
            blocks.append(shrink_samples(self._to_unit_range(served(np.asarray(train[indices[rows]]))), self._factor))
            release_pages(train)
        return np.concatenate(blocks)

    @cached_property
    def _pca(self) -> PcaBaseline | None:
        if self._recipe.evaluate.pca_components is None:
            return None
        train = self._data.train
        stored = np.asarray(train[draw_baseline_rows(len(train), self._values)])
        release_pages(train)
        clean = self._to_unit_range(model_input.clean_inputs(self._recipe.fit.input, stored))
        return PcaBaseline.fit(clean.reshape(len(clean), -1), self._recipe.evaluate.pca_components)

    def _to_unit_range(self, samples: np.ndarray) -> np.ndarray:
        vectors = self._detector.data_kind.baseline(samples, self._detector.spec).vectors
        assert vectors is not None, "the recipe reader allows baselines only for kinds that have such values"
        return vectors.reshape(samples.shape) if vectors.size == samples.size else vectors

    @cached_property
    def _limits(self) -> tuple[float, float]:
        """The limits of what a model of these samples reconstructs."""
        return self._detector.data_kind.baseline(np.asarray(self._data.train[:1]), self._detector.spec).limits
