"""Own parts, sources and studies of a project: how a module declares them, and how they are found.

    AE_PARTS = [Part("score", WorstPixelScoreSpec, "my_scores:WorstPixelScore")]      # in a module that ae.yaml names
    AE_SOURCES = [Source(LogbookSource, "my_sources:SOURCE")]
    AE_STUDIES = [Study("brightness", BrightnessStudy, "my_studies:run_brightness_study")]

An installed package offers the same objects by entry points of the groups `ae.parts`, `ae.sources` and `ae.studies`. The
declaring module is imported wherever a recipe is read, so it imports nothing heavy: what does the work is named and not
imported. docs/plugins.md has an example of each.
"""

from aeops.plugins.declarations import OwnParts, Part, Source, Study
from aeops.plugins.discovery import SETTINGS_FILE, current_parts, own_parts, use_project

__all__ = ["SETTINGS_FILE", "OwnParts", "Part", "Source", "Study", "current_parts", "own_parts", "use_project"]
