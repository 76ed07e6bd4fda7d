"""Settings of an autoencoder, its training, its score and its threshold, as frozen dataclasses with bounds.

The fields are the keys of a recipe's YAML and of bundle.json. Standard library only, so that a recipe can be checked in a
light process. Import the public names from `ae_models.spec`.

    from ae_models.spec import FitSpec
    spec = FitSpec.from_dict(raw_spec, "digits.yaml")    # raises SpecError with every mistake at once

**Adding a part.** A part is two files: its settings in a recipe and its work. The settings are a frozen dataclass whose name
ends in `Spec`, with its `kind` (the word in a recipe), its `supported_inputs`, bounds on every number (`bounded_field`), and
`validation_errors()` where fields depend on each other; add it to the union at the end of its file. The work is a class with
the same name without `Spec`, whose constructor takes the fields as keyword arguments; add it to the dict at the end of its file.

| to add | settings | work |
|---|---|---|
| a corruption | ae_models/spec/corruptions.py | ae_models/corruptions.py, `CORRUPTIONS` |
| an encoder | ae_models/spec/encoders.py | ae_models/encoders.py, `ENCODERS` |
| a bottleneck | ae_models/spec/bottlenecks.py | ae_models/bottlenecks.py, `BOTTLENECKS` |
| a decoder | ae_models/spec/decoders.py | ae_models/decoders.py, `DECODERS` |
| a loss | ae_models/spec/losses.py | ae_models/losses.py, `LOSSES` |
| a critic | ae_models/spec/critics.py | ae_models/critics.py, `CRITICS` |
| an augmentation | ae_models/spec/augmentations.py | ae_models/augmentations.py, `AUGMENTATIONS` |
| a score | ae_models/spec/combined_score.py | ae_models/combined_score.py, `SCORES` |
| a threshold | ae_models/spec/thresholds.py | ae_models/thresholds.py, `THRESHOLDS` |
| a fault | ae_models/spec/faults.py, its name alone | ae_models/KIND_faults.py |

The parts of a model and the section train decide the weights (`WeightsSpec`); the calibration alone reads score and threshold. A
score stands in a module whose name ends in scores.py, the same in both folders, and is named in the union and in the table; it
says in `compatibility_errors()` which models and trainings it needs. A threshold implements
`ae_models.thresholds.ThresholdMethod`, through which calibration, export, evaluation, monitoring, report and card reach it. Rules
between the parts of a model stand in ae_models/spec/compatibility.py. tests/science/test_every_pair.py trains each part in some
model: add the new one to its `SMALL`.
"""

from ae_models.spec.augmentations import AffineAugmentationSpec, AugmentationSpec, FlipAugmentationSpec, NoAugmentationSpec
from ae_models.spec.autoencoder import AutoencoderConfig, input_shape, output_shape, with_backbone
from ae_models.spec.bank_scores import KnnScoreSpec, LocalHullScoreSpec
from ae_models.spec.bottlenecks import (
    BottleneckSpec,
    ContractiveBottleneckSpec,
    IdentityBottleneckSpec,
    L1BottleneckSpec,
    MemoryBottleneckSpec,
    QuantisedBottleneckSpec,
    TopKBottleneckSpec,
    VariationalBottleneckSpec,
)
from ae_models.spec.columns import (
    BOOLEAN,
    CATEGORY,
    COLUMN_TYPES,
    DATE,
    INTEGER,
    NUMBER,
    ColumnBlock,
    ColumnSpec,
    vector_width,
)
from ae_models.spec.combined_score import CombinedScoreSpec, ScoreSpec, SingleScoreSpec, score_row_errors, single_scores
from ae_models.spec.compatibility import PART_SPECS, Incompatibility, check_compatibility
from ae_models.spec.corruptions import (
    CorruptionSpec,
    GaussianCorruptionSpec,
    GreyCorruptionSpec,
    MaskingCorruptionSpec,
    NoCorruptionSpec,
    SaltAndPepperCorruptionSpec,
    WordDeletionCorruptionSpec,
)
from ae_models.spec.critics import AdversarialCodeCriticSpec, CriticSpec, GanomalyCriticSpec, NoCriticSpec
from ae_models.spec.decoders import ConvDecoderSpec, DecoderSpec, DenseDecoderSpec, TemporalDecoderSpec, TokenDecoderSpec
from ae_models.spec.encoders import (
    ConvEncoderSpec,
    DenseEncoderSpec,
    EncoderSpec,
    OnnxEncoderSpec,
    TableEncoderSpec,
    TemporalEncoderSpec,
    TokenEncoderSpec,
)
from ae_models.spec.ensemble_scores import DisagreementScoreSpec
from ae_models.spec.faults import FAULT_NAMES
from ae_models.spec.fields import bounded_field
from ae_models.spec.fit import FitReading, FitSpec, read_fit_spec
from ae_models.spec.inputs import ARRAY_KINDS, IMAGE, INPUT_KINDS, SERIES, TABLE, TEXT, VECTOR_KINDS, InputSpec, number_columns
from ae_models.spec.linear_scores import PcaResidualScoreSpec
from ae_models.spec.losses import (
    BceLossSpec,
    CrossEntropyLossSpec,
    HuberLossSpec,
    L1LossSpec,
    LossSpec,
    MixedLossSpec,
    MseLossSpec,
    SsimLossSpec,
)
from ae_models.spec.messages import format_value, join_choices, join_names, suggest_match
from ae_models.spec.patch_scores import PatchBankScoreSpec
from ae_models.spec.reader import SpecReader, spec_to_dict
from ae_models.spec.sample_rules import (
    FLAG_MISSING,
    IMPUTE_MISSING,
    LARGEST_EXCESS,
    MISSING_RULES,
    REFUSE_MISSING,
    SampleRules,
)
from ae_models.spec.scores import (
    AmbiguityScoreSpec,
    CodeResidualScoreSpec,
    DenoisingScoreSpec,
    NormalisedResidualScoreSpec,
    TokenSurpriseScoreSpec,
)
from ae_models.spec.series import UNITS_PER_SECOND, ChannelSpec, StepsSpec
from ae_models.spec.thresholds import (
    AlarmBudgetThresholdSpec,
    BestF1ThresholdSpec,
    BlockConformalThresholdSpec,
    ConfidentThresholdSpec,
    CostThresholdSpec,
    MadThresholdSpec,
    PeaksOverThresholdSpec,
    PerGroupThresholdSpec,
    QuantileThresholdSpec,
    SplitConformalThresholdSpec,
    ThresholdSpec,
)
from ae_models.spec.training import TrainSpec
from ae_models.spec.weights import WeightsSpec

__all__ = [
    "ARRAY_KINDS",
    "BOOLEAN",
    "CATEGORY",
    "COLUMN_TYPES",
    "DATE",
    "FAULT_NAMES",
    "FLAG_MISSING",
    "IMAGE",
    "IMPUTE_MISSING",
    "INPUT_KINDS",
    "INTEGER",
    "LARGEST_EXCESS",
    "MISSING_RULES",
    "NUMBER",
    "PART_SPECS",
    "REFUSE_MISSING",
    "SERIES",
    "TABLE",
    "TEXT",
    "UNITS_PER_SECOND",
    "VECTOR_KINDS",
    "AdversarialCodeCriticSpec",
    "AffineAugmentationSpec",
    "AlarmBudgetThresholdSpec",
    "AmbiguityScoreSpec",
    "AugmentationSpec",
    "AutoencoderConfig",
    "BceLossSpec",
    "BestF1ThresholdSpec",
    "BlockConformalThresholdSpec",
    "BottleneckSpec",
    "ChannelSpec",
    "CodeResidualScoreSpec",
    "ColumnBlock",
    "ColumnSpec",
    "CombinedScoreSpec",
    "ConfidentThresholdSpec",
    "ContractiveBottleneckSpec",
    "ConvDecoderSpec",
    "ConvEncoderSpec",
    "CorruptionSpec",
    "CostThresholdSpec",
    "CriticSpec",
    "CrossEntropyLossSpec",
    "DecoderSpec",
    "DenoisingScoreSpec",
    "DenseDecoderSpec",
    "DenseEncoderSpec",
    "DisagreementScoreSpec",
    "EncoderSpec",
    "FitReading",
    "FitSpec",
    "FlipAugmentationSpec",
    "GanomalyCriticSpec",
    "GaussianCorruptionSpec",
    "GreyCorruptionSpec",
    "HuberLossSpec",
    "IdentityBottleneckSpec",
    "Incompatibility",
    "InputSpec",
    "KnnScoreSpec",
    "L1BottleneckSpec",
    "L1LossSpec",
    "LocalHullScoreSpec",
    "LossSpec",
    "MadThresholdSpec",
    "MaskingCorruptionSpec",
    "MemoryBottleneckSpec",
    "MixedLossSpec",
    "MseLossSpec",
    "NoAugmentationSpec",
    "NoCorruptionSpec",
    "NoCriticSpec",
    "NormalisedResidualScoreSpec",
    "OnnxEncoderSpec",
    "PatchBankScoreSpec",
    "PcaResidualScoreSpec",
    "PeaksOverThresholdSpec",
    "PerGroupThresholdSpec",
    "QuantileThresholdSpec",
    "QuantisedBottleneckSpec",
    "SaltAndPepperCorruptionSpec",
    "SampleRules",
    "ScoreSpec",
    "SingleScoreSpec",
    "SpecReader",
    "SplitConformalThresholdSpec",
    "SsimLossSpec",
    "StepsSpec",
    "TableEncoderSpec",
    "TemporalDecoderSpec",
    "TemporalEncoderSpec",
    "ThresholdSpec",
    "TokenDecoderSpec",
    "TokenEncoderSpec",
    "TokenSurpriseScoreSpec",
    "TopKBottleneckSpec",
    "TrainSpec",
    "VariationalBottleneckSpec",
    "WeightsSpec",
    "WordDeletionCorruptionSpec",
    "bounded_field",
    "check_compatibility",
    "format_value",
    "input_shape",
    "join_choices",
    "join_names",
    "number_columns",
    "output_shape",
    "read_fit_spec",
    "score_row_errors",
    "single_scores",
    "spec_to_dict",
    "suggest_match",
    "vector_width",
    "with_backbone",
]
