"""The section `monitor` of a recipe: what is watched, and when that starts a retrain. Light: checkable without numpy."""

from dataclasses import dataclass

from ae_models.spec import bounded_field

# One word a signal. The first four are tests whose false alarms are bounded; the last two are rules.
ALARM_RATE_SIGNAL, SCORE_SIGNAL, CODE_SIGNAL, INPUT_SIGNAL = "alarm_rate", "scores", "codes", "inputs"
STALE_SIGNAL, VOLUME_SIGNAL = "stale", "volume"
TEST_SIGNALS = (ALARM_RATE_SIGNAL, SCORE_SIGNAL, CODE_SIGNAL, INPUT_SIGNAL)
RULE_SIGNALS = (STALE_SIGNAL, VOLUME_SIGNAL)
SIGNAL_NAMES = (*TEST_SIGNALS, *RULE_SIGNALS)

MANUAL_CHANNEL, SERVICE_CHANNEL, BATCH_CHANNEL = "hand", "service", "batch"  # `ae score`, the service, the flow `scoring`
CHANNELS = (MANUAL_CHANNEL, SERVICE_CHANNEL, BATCH_CHANNEL)


@dataclass(frozen=True)
class VolumeSpec:
    """Usual numbers of samples a day."""

    min: float | None = bounded_field(None, low=0.0)  # samples of the last whole day (UTC); None: not judged
    max: float | None = bounded_field(None, low=0.0)  # likewise
    silent_days: int = bounded_field(7, low=1, high=3650)  # so many whole days without a sample are an alarm

    def validation_errors(self) -> list[str]:
        if self.min is not None and self.max is not None and self.min > self.max:
            return [f"min is {self.min:g} and max is {self.max:g}: min must not be above max"]
        return []


@dataclass(frozen=True)
class MonitorSpec:
    """Settings of monitoring, and the rule by which alarms start a retrain. A recipe without the section has these defaults."""

    level: float = bounded_field(0.001, low=1e-9, high=0.2)  # chance that one test ever alarms while nothing changes
    # Whose predictions are tested.
    channels: tuple[str, ...] = bounded_field((SERVICE_CHANNEL, BATCH_CHANNEL), one_of=(SERVICE_CHANNEL, BATCH_CHANNEL))
    needed: int = bounded_field(1, low=1, high=len(SIGNAL_NAMES))  # alarms among `signals` that start a retrain
    # Those that count; the others are shown.
    signals: tuple[str, ...] = bounded_field((*TEST_SIGNALS, STALE_SIGNAL), one_of=SIGNAL_NAMES)
    cooldown_days: float = bounded_field(3.0, low=0.0, high=3650.0)  # between two retrains that monitoring starts
    retrains_a_month: int = bounded_field(4, low=0, high=1000)  # that monitoring starts in any 30 days; 0: none ever
    stale_after_days: float = bounded_field(90.0, low=0.01, high=36500.0)  # since the champion was promoted
    drift_every_days: float = bounded_field(7.0, low=0.0, high=3650.0)  # after which Evidently's report is made again
    volume: VolumeSpec = VolumeSpec()  # usual numbers of samples a day

    def validation_errors(self) -> list[str]:
        errors = []
        signal_count = len(set(self.signals))
        if signal_count < len(self.signals):
            errors.append("signals names one of them twice")
        if self.needed > signal_count:
            errors.append(f"needed is {self.needed} and signals names {signal_count}: so many can never alarm")
        return errors
