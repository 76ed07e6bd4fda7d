"""What a page shows of one sample and its reconstruction."""

import numpy as np

from aeops.kinds.interface import load_kind
from aeops.kinds.samples import SampleSpec

image, series, text = load_kind("image"), load_kind("series"), load_kind("text")


def spec(shape: tuple[int, ...], low: float = 0, high: float = 255) -> SampleSpec:
    return SampleSpec(shape, shape, low, high)


def test_the_error_map_is_the_mean_difference_over_the_range() -> None:
    batch, output = np.zeros((1, 1, 2, 2)), np.array([[[[0.0, 127.5], [255.0, 0.0]]]])
    panels, reason = image.page_panels(batch, output, spec((1, 2, 2)))
    assert reason == ""
    assert panels[2].caption == "mean 0.375, most 1.00 of the range"


def test_a_coloured_picture_is_compared_by_its_luma_and_edges_not_at_all() -> None:
    red = np.stack([np.full((2, 2), 255.0), *np.zeros((2, 2, 2))])[None]
    panels, reason = image.page_panels(np.full((1, 1, 2, 2), 76.245), red, spec((1, 2, 2)))
    assert (reason, panels[2].caption) == ("", "mean 0.000, most 0.00 of the range")
    panels, reason = image.page_panels(np.zeros((1, 3, 2, 2)), np.zeros((1, 1, 2, 2)), spec((3, 2, 2)))
    assert len(panels) == 2
    assert "no error to draw" in reason


def test_missing_and_infinite_values_are_drawn_at_the_ends_of_the_range() -> None:
    batch = np.array([[[[np.nan, np.inf], [-np.inf, 300]]]])
    panels, _ = image.page_panels(batch, np.array([[[[0.0, 255.0], [0.0, 255.0]]]]), spec((1, 2, 2)))
    assert panels[2].caption == "mean 0.000, most 0.00 of the range"
    panels, _ = series.page_panels(batch[0], None, spec((2, 2)))
    assert "nan" not in panels[0].content


def test_a_sample_without_a_reconstruction_is_shown_alone() -> None:
    panels, reason = image.page_panels(np.zeros((1, 1, 2, 2)), None, spec((1, 2, 2)))
    assert len(panels) == 1
    assert "no reconstruction" in reason


def test_a_map_of_pixels_and_the_nearest_sample_stand_beside_the_error() -> None:
    batch, pixel_map = np.zeros((1, 1, 2, 2)), [[0.0, 1.5], [0.25, 3.0]]  # as a service sends it
    panels, _ = image.page_panels(
        batch, batch, spec((1, 2, 2)), {"pixel_map": pixel_map, "nearest": {"row": 3, "sample": [[[0, 255], [0, 0]]]}}
    )
    assert [panel.title for panel in panels[2:]] == ["Error at each pixel", "Score map", "Nearest normal sample"]
    assert panels[3].caption == "how far each is from normal, up to 3"
    panels, reason = image.page_panels(batch, None, spec((1, 2, 2)), {"pixel_map": np.zeros((2, 2))})
    assert ([panel.title for panel in panels], reason) == (["Given", "Score map"], "The scorer gives no reconstruction.")


def test_texts_and_series_have_panels_of_their_own() -> None:
    panels, _ = text.page_panels(np.array(["a text"], dtype=object), np.array(["a test"]), spec((8,)))
    assert [panel.content for panel in panels] == ["a text", "a test"]
    panels, _ = series.page_panels(np.zeros((1, 2, 5)), np.ones((1, 2, 5)), spec((2, 5), -1, 1))
    assert panels[0].form == "svg"
    assert panels[0].content.count("<polyline") == 4
