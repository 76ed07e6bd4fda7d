"""A client of the scoring service, typed, for programs of other projects: `from aeops.client import ScoringClient`."""

from aeops.client.scoring_client import Prediction, ScoringClient, ScoringError, ServedModel

__all__ = ["Prediction", "ScoringClient", "ScoringError", "ServedModel"]
