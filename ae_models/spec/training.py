"""Section `train`: how an autoencoder is trained."""

from dataclasses import dataclass, field

from ae_models.spec.augmentations import AugmentationSpec, NoAugmentationSpec
from ae_models.spec.fields import bounded_field

__all__ = ["TrainSpec"]


@dataclass(frozen=True)
class TrainSpec:
    """Training of an autoencoder."""

    epochs: int = bounded_field(10, low=1, high=100_000)  # passes over the training samples
    budget: float = bounded_field(1.0, low=0.001, high=10_000.0)  # multiplies the epochs; the recipe says what it is for
    batch: int = bounded_field(128, low=1, high=1_000_000)  # samples a step
    learning_rate: float = bounded_field(1e-3, low=1e-8, high=10.0)  # the peak, after warming up
    augment: AugmentationSpec = field(default_factory=NoAugmentationSpec)  # what is changed in training samples at random
    seed: int = bounded_field(0, low=0, high=2**31 - 1)  # of everything random: the same seed gives the same bits
    members: int = bounded_field(1, low=1, high=64, omit_default=True)  # of an ensemble, with the seeds seed, seed + 1, ...
    # Share of the samples that are not learnt from, for unlabelled data of which some are anomalous: the highest losses get no
    # gradient after a fifth of the steps, and a score keeps none that look least like the others; see docs/contaminated.md.
    trim: float = bounded_field(0.0, low=0.0, high=0.5, omit_default=True)
    threads: int = bounded_field(
        2, low=1, high=1024
    )  # of the CPU, for each worker; another number may train other bits, so no machine chooses it
    accelerator: str = bounded_field("auto", one_of=("auto", "cpu", "gpu"))  # auto: a GPU where there is one
    # Workers that share each batch, a process each with `threads` cores or a GPU: another number trains other bits; auto: one.
    devices: int | str = bounded_field("auto", low=1, high=1024, one_of=("auto", "1"))
    precision: str = bounded_field("auto", one_of=("auto", "32", "bf16-mixed"))  # auto: 32 bits on the CPU
    # auto: on a GPU, steps are captured as CUDA graphs, with the same bits as without; never: for parts that cannot be captured.
    capture: str = bounded_field("auto", one_of=("auto", "never"), omit_default=True)

    def validation_errors(self) -> list[str]:
        errors = []
        if self.trim and self.batch == 1:
            errors.append(
                f"trim is {self.trim:g} and batch is 1: of a single sample none has the highest loss; batch must be 2 or more"
            )
        if self.workers > self.batch:
            errors.append(
                f"devices is {self.devices} and batch is {self.batch}: each worker takes its share of every batch; batch must be "
                f"{self.workers} or more"
            )
        return errors

    @property
    def workers(self) -> int:
        """Processes that share each batch."""
        return 1 if self.devices == "auto" else int(self.devices)

    @property
    def total_epochs(self) -> int:
        """Epochs that the budget allows, at least one."""
        return max(1, round(self.epochs * self.budget))
