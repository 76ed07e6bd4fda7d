"""Scores that compare the members of an ensemble."""

import torch
from torch import Tensor

from ae_models.blur import blur_axes, gaussian_kernel
from ae_models.model_output import ModelOutput
from ae_models.score_interface import ENERGY_FLOOR, Score, log_energy

__all__ = ["DisagreementScore"]


class DisagreementScore(Score):
    """V = log mean_m ||B(y_m - mean_m y_m)||^2 - energy log ||x||^2, with the reconstructions y_m of members m = 1 ... M.

    Members were trained on the same samples from different seeds, so they agree where the samples decide what to reconstruct,
    and differ elsewhere: the variance of an ensemble's predictions as a measure of their uncertainty (Lakshminarayanan et al.
    2017, section 2.4). B is a Gaussian blur, as in `NormalisedResidualScore`, and x the input.

    Args:
        energy: share of the sample's own energy that is subtracted.
        blur: standard deviation of B in pixels (steps, in a series); values outside count as zero.
    """

    kernel: Tensor

    def __init__(self, energy: float, blur: float) -> None:
        super().__init__()
        self.energy = energy
        self.register_buffer("kernel", gaussian_kernel(blur), persistent=False)
        self.padding = len(self.kernel) // 2

    def forward(self, output: ModelOutput) -> Tensor:
        assert len(output.members) > 1, "score disagreement needs an ensemble of two members or more"
        # An exported decoder's output has the number of samples of the export as a constant; that of the input is free.
        shape = (output.inputs.shape[0], *output.reconstruction.shape[1:])
        reconstructions = [member.reconstruction.reshape(shape) for member in output.members]
        mean = torch.stack(reconstructions).mean(0)
        variance = torch.stack([self._distance(y, mean) for y in reconstructions]).mean(0)
        return torch.log(variance + ENERGY_FLOOR) - self.energy * log_energy(output.inputs)

    def _distance(self, reconstruction: Tensor, mean: Tensor) -> Tensor:
        """Return ||B(y - mean)||^2 of each sample, (n,)."""
        return blur_axes(reconstruction - mean, self.kernel, self.padding).square().flatten(1).sum(1)
