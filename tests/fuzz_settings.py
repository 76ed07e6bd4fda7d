"""Settings of hypothesis for fuzzing a server: the same examples each time, and no time limit for one."""

from hypothesis import HealthCheck, Phase, settings


def fuzz_settings(examples: int) -> settings:
    """Return the settings for so many examples."""
    return settings(
        max_examples=examples,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.explicit, Phase.generate],
    )
