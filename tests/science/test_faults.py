"""Standard faults: what they change, what they leave alone, and what they refuse."""

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from ae_models.errors import SampleError
from ae_models.fault_interface import Fault
from ae_models.faults import find_changed, inject, standard_faults
from ae_models.spec import FAULT_NAMES, INPUT_KINDS, ColumnSpec, InputSpec, number_columns

GREY = InputSpec("image", (1, 12, 20))
COLOUR = InputSpec("image", (3, 8, 8), low=-1.0, high=3.0)
ONE_CHANNEL = InputSpec("series", (1, 40), low=0.0, high=1.0)
THREE_CHANNELS = InputSpec("series", (3, 40), low=-5.0, high=5.0)
TEXT = InputSpec("text", (64,))
TABLE = InputSpec(
    "table",
    columns=(
        ColumnSpec("amount", missing=True),
        ColumnSpec("age", "integer"),
        ColumnSpec("member", "boolean"),
        ColumnSpec("country", "category", categories=("fr", "de", "uk")),
        ColumnSpec("opened", "date"),
        *number_columns(15),
    ),
)
SENTENCES = [
    "the quick brown fox  jumps over the lazy dog",
    "shares of the bank fell by nine per cent",
    "le café est fermé depuis mardi soir",
    "she sells sea shells on the sea shore",
]


def rows_of(texts: list[str], length: int = 64) -> np.ndarray:
    return np.array([list(text.encode().ljust(length, b"\0")) for text in texts], np.uint8)


def texts_of(rows: np.ndarray) -> list[str]:
    return [row.tobytes().rstrip(b"\0").decode() for row in rows]


def samples_of(spec: InputSpec, count: int = 12) -> np.ndarray:
    """Normal samples of a spec: noise, sines or sentences."""
    generator = np.random.default_rng(3)
    if spec is TEXT:
        return rows_of(SENTENCES * (count // 4))
    if spec is GREY:
        return generator.integers(0, 256, (count, *spec.shape), dtype=np.uint8)
    if spec is TABLE:
        columns = [generator.lognormal(3, 1, count), generator.integers(18, 90, count), generator.integers(0, 2, count)]
        columns += [generator.integers(0, 3, count), generator.uniform(1e9, 2e9, count), *generator.normal(size=(15, count))]
        rows = np.stack(columns, 1)
        rows[0, 0] = np.nan
        return rows
    if spec is COLOUR:
        return generator.uniform(spec.low, spec.high, (count, *spec.shape)).astype(np.float32)
    waves = np.sin(np.arange(40) / 3 + generator.uniform(0, 6, (count, spec.shape[0], 1)))
    return (spec.low + (0.3 + 0.2 * waves) * (spec.high - spec.low)).astype(np.float32)


def same(one: np.ndarray, other: np.ndarray) -> bool:
    return np.array_equal(one, other, equal_nan=one.dtype.kind == "f")


def size_of_change(fault: Fault, rows: np.ndarray, damaged: np.ndarray) -> float:
    """The share of changed cells, or how far the numbers have moved."""
    if fault.name in ("scaled", "out-of-range"):
        spread = np.nanstd(rows, axis=0)
        return float(np.nanmean(np.abs(damaged - rows) / spread))
    return float(np.mean((rows != damaged) & ~(np.isnan(rows) & np.isnan(damaged))))


def every_fault() -> Iterator[tuple[InputSpec, Fault]]:
    for spec in (GREY, COLOUR, ONE_CHANNEL, THREE_CHANNELS, TABLE, TEXT):
        for fault in standard_faults(spec.kind):
            yield spec, fault


EVERY_FAULT = list(every_fault())
IDS = [f"{fault.name}-{spec.shape}" for spec, fault in EVERY_FAULT]


def fault_named(kind: str, name: str) -> Fault:
    return next(fault for fault in standard_faults(kind) if fault.name == name)


# ---------------------------------------------------------------- every fault


@pytest.mark.parametrize("kind", INPUT_KINDS)
def test_every_kind_has_faults_of_five_ascending_strengths_with_a_unit(kind: str) -> None:
    faults = standard_faults(kind)
    assert tuple(fault.name for fault in faults) == FAULT_NAMES[kind]
    assert len(set(FAULT_NAMES[kind])) == len(faults) >= 3
    for fault in faults:
        assert len(fault.strengths) == 5
        assert all(weaker < stronger for weaker, stronger in pairwise(fault.strengths))
        assert fault.strengths[-1] <= fault.highest
        assert fault.unit
        assert fault.meaning.endswith(".")


@pytest.mark.parametrize(("spec", "fault"), EVERY_FAULT, ids=IDS)
def test_a_fault_changes_samples_keeps_their_form_and_is_the_same_each_time(spec: InputSpec, fault: Fault) -> None:
    samples = samples_of(spec)
    before = samples.copy()
    for strength in (fault.strengths[0], fault.strengths[-1]):
        damaged = inject(fault, strength, samples, 0, spec)
        assert (damaged.shape, damaged.dtype) == (samples.shape, samples.dtype)
        if spec is not TABLE:  # whose columns have no range
            assert np.isfinite(damaged).all()
            assert spec.low <= damaged.min()
            assert damaged.max() <= spec.high
        assert same(damaged, inject(fault, strength, samples, 0, spec))
    other = inject(fault, fault.strengths[0], samples, 1, spec)
    draws_nothing = fault.name == "blur" or (spec is ONE_CHANNEL and fault.name in ("drift", "lost-channel"))
    assert same(other, inject(fault, fault.strengths[0], samples, 0, spec)) == draws_nothing
    assert find_changed(samples, damaged)[spec is TABLE and fault.name == "frozen" :].all()  # of the row that stands still
    assert same(samples, before)


@pytest.mark.parametrize(("spec", "fault"), EVERY_FAULT, ids=IDS)
def test_a_stronger_fault_is_a_larger_change(spec: InputSpec, fault: Fault) -> None:
    samples = samples_of(spec, 48)
    changes = []
    for strength in (fault.strengths[0], fault.strengths[2], fault.strengths[4]):
        damaged = inject(fault, strength, samples, 0, spec)
        if spec is TEXT:
            changes.append(np.mean(samples != damaged))
        elif spec is TABLE:
            changes.append(size_of_change(fault, samples, damaged))
        else:
            changes.append(np.abs(damaged.astype(float) - samples).mean())
    if fault.name == "changed-frequency":  # of waves: any other frequency is as far away
        assert changes[0] < changes[2]
    else:
        assert changes[0] < changes[1] < changes[2]


def test_a_samples_fault_depends_on_its_own_row_alone() -> None:
    samples = samples_of(GREY)
    fault = fault_named("image", "occlusion")
    assert np.array_equal(inject(fault, 0.1, samples, 7, GREY)[:5], inject(fault, 0.1, samples[:5], 7, GREY))


@pytest.mark.parametrize("name", ["occlusion", "foreign-patch"])  # the second one takes a part of another sample
def test_some_rows_get_the_faults_that_they_have_among_all(name: str) -> None:
    fault, samples = fault_named("image", name), samples_of(GREY)
    expected = inject(fault, 0.1, samples, 7, GREY)
    assert np.array_equal(inject(fault, 0.1, samples, 7, GREY, range(2, 6)), expected[2:6])
    assert np.array_equal(inject(fault, 0.1, samples, 7, GREY, range(6, len(samples))), expected[6:])


def test_samples_of_a_file_are_damaged_as_those_in_memory(tmp_path) -> None:
    np.save(tmp_path / "test.npy", samples_of(COLOUR))
    mapped = np.load(tmp_path / "test.npy", mmap_mode="r")
    fault = fault_named("image", "rotation")
    assert np.array_equal(inject(fault, 20.0, mapped, 0, COLOUR), inject(fault, 20.0, samples_of(COLOUR), 0, COLOUR))


# ---------------------------------------------------------------- images


def test_the_target_channels_stay_as_they_are() -> None:
    spec = InputSpec("image", (3, 8, 8), low=-1.0, high=3.0, target_channels=1)
    samples = samples_of(COLOUR)
    for fault in standard_faults("image"):
        damaged = inject(fault, fault.strengths[-1], samples, 0, spec)
        assert np.array_equal(damaged[:, 2], samples[:, 2])
        assert find_changed(samples[:, :2], damaged[:, :2]).all(), fault.name


@pytest.mark.parametrize("name", ["scratch", "occlusion"])
def test_all_channels_are_damaged_at_the_same_place(name: str) -> None:
    fault = fault_named("image", name)
    samples = samples_of(COLOUR)
    places = inject(fault, fault.strengths[2], samples, 0, COLOUR) != samples
    assert (places.any(axis=1) == places.all(axis=1)).mean() > 0.99  # by chance a channel may have had the colour


def test_an_occlusion_covers_its_share_of_the_area_with_one_colour() -> None:
    samples = np.zeros((20, 1, 40, 60), np.float32)
    spec = InputSpec("image", (1, 40, 60), high=1.0)
    damaged = inject(fault_named("image", "occlusion"), 0.25, samples, 0, spec)
    for image in damaged:
        assert (image > 0).sum() == 20 * 30
        assert len(np.unique(image)) == 2


def test_the_blur_is_scipys_gaussian_filter() -> None:
    samples = samples_of(COLOUR)
    damaged = inject(fault_named("image", "blur"), 0.08, samples, 0, COLOUR)
    expected = gaussian_filter(samples.astype(float), 0.64, truncate=3, mode="nearest", axes=(2, 3))
    assert damaged == pytest.approx(expected, abs=1e-5)


def test_a_rotation_by_a_right_angle_is_numpys() -> None:
    samples = samples_of(COLOUR)
    damaged = inject(fault_named("image", "rotation"), 90.0, samples, 0, COLOUR)
    for image, turned in zip(samples, damaged, strict=True):
        ways = [np.abs(np.rot90(image, turns, (1, 2)) - turned).max() for turns in (1, 3)]
        assert min(ways) < 1e-5


def test_a_piece_is_pasted_from_the_image_itself_and_a_foreign_patch_from_another_sample() -> None:
    samples = np.arange(4, dtype=np.uint8).reshape(4, 1, 1, 1) + np.zeros((1, 1, 12, 20), np.uint8)
    piece = inject(fault_named("image", "cut-and-paste"), 0.1, samples, 0, GREY)
    assert not find_changed(samples, piece).any()  # the pieces of a constant image are all the same
    patch = inject(fault_named("image", "foreign-patch"), 0.1, samples, 0, GREY)
    for row, image in enumerate(patch):
        [other] = set(np.unique(image).tolist()) - {row}
        assert other in {0, 1, 2, 3}


def test_brightness_moves_every_value_by_the_strength_unless_it_is_clipped() -> None:
    samples = np.full((30, 1, 12, 20), 200, np.uint8)
    damaged = inject(fault_named("image", "brightness"), 0.4, samples, 0, GREY)
    assert set(np.unique(damaged).tolist()) == {200 - 102, 255}


@pytest.mark.parametrize("name", ["cut-and-paste", "blur", "rotation", "foreign-patch"])
def test_a_constant_image_is_left_as_it_is_by_what_moves_its_own_pixels_and_does_not_count(name: str) -> None:
    samples = np.full((6, 1, 12, 20), 0.37, np.float32)
    spec = InputSpec("image", (1, 12, 20), high=1.0)
    fault = fault_named("image", name)
    assert not find_changed(samples, inject(fault, fault.strengths[-1], samples, 0, spec)).any()


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 1, 9), (2, 3, 2), (1, 8, 8)])
def test_tiny_images_have_every_fault(shape: tuple[int, ...]) -> None:
    samples = np.random.default_rng(0).integers(0, 256, (5, *shape), dtype=np.uint8)
    for fault in standard_faults("image"):
        for strength in (*fault.strengths, fault.highest):
            damaged = inject(fault, strength, samples, 0, InputSpec("image", shape))
            assert damaged.shape == samples.shape
            if shape == (1, 8, 8) and strength == fault.strengths[-1]:
                assert find_changed(samples, damaged).all(), fault.name


def test_the_only_sample_has_no_other_to_be_patched_with() -> None:
    samples = samples_of(GREY, 1)
    assert not find_changed(samples, inject(fault_named("image", "foreign-patch"), 0.3, samples, 0, GREY)).any()


# ---------------------------------------------------------------- series


def test_a_spike_is_one_step_of_one_channel_moved_by_the_strength_towards_the_farther_end() -> None:
    samples = samples_of(THREE_CHANNELS)
    damaged = inject(fault_named("series", "spike"), 0.4, samples, 0, THREE_CHANNELS)
    for before, after in zip(samples, damaged, strict=True):
        [[channel], [step]] = np.nonzero(before != after)
        expected = 4.0 if before[channel, step] <= 0 else -4.0
        assert after[channel, step] - before[channel, step] == pytest.approx(expected, abs=1e-5)


def test_a_level_shift_goes_on_to_the_end_and_a_drift_reaches_the_strength_there() -> None:
    samples = samples_of(ONE_CHANNEL)
    shifted = inject(fault_named("series", "level-shift"), 0.25, samples, 0, ONE_CHANNEL) - samples
    for [change] in shifted:
        first = int(np.flatnonzero(change)[0])
        assert 0.2 * 40 <= first < 0.8 * 40
        assert change[first:] == pytest.approx(np.full(40 - first, 0.25), abs=1e-6)
    drifted = inject(fault_named("series", "drift"), 0.25, samples, 0, ONE_CHANNEL) - samples
    assert drifted[:, 0] == pytest.approx(np.tile(0.25 * np.arange(1, 41) / 40, (12, 1)), abs=1e-6)


def test_a_stuck_channel_repeats_a_value_and_a_lost_one_has_the_lowest() -> None:
    samples = samples_of(THREE_CHANNELS)
    for before, after in zip(samples, inject(fault_named("series", "stuck"), 0.4, samples, 0, THREE_CHANNELS), strict=True):
        [channel] = np.flatnonzero((before != after).any(axis=1))
        steps = np.flatnonzero(before[channel] != after[channel])
        assert len(np.unique(after[channel, steps])) == 1
        assert len(steps) <= 15  # 16 steps, of which the first has its own value
    for before, after in zip(
        samples, inject(fault_named("series", "lost-channel"), 0.4, samples, 0, THREE_CHANNELS), strict=True
    ):
        [channel] = np.flatnonzero((before != after).any(axis=1))
        assert (after[channel, -16:] == -5).all()
        assert np.array_equal(after[channel, :-16], before[channel, :-16])


def test_another_frequency_is_that_of_a_wave_with_another_frequency() -> None:
    steps = np.arange(200)
    waves = (0.5 + 0.4 * np.cos(steps / 10))[None, None].repeat(20, axis=0)
    spec = InputSpec("series", (1, 200), low=0.0, high=1.0)
    factors = set()
    for [wave] in inject(fault_named("series", "changed-frequency"), 0.5, waves, 0, spec):
        errors = {factor: np.abs(wave - (0.5 + 0.4 * np.cos(factor * steps / 10)))[:130].max() for factor in (1.5, 1 / 1.5)}
        factor = min(errors, key=errors.__getitem__)
        assert errors[factor] < 0.01
        factors.add(factor)
    assert factors == {1.5, 1 / 1.5}


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_windows_of_a_few_steps_have_every_fault(steps: int) -> None:
    samples = np.random.default_rng(0).random((5, 1, steps))
    for fault in standard_faults("series"):
        for strength in (*fault.strengths, fault.highest):
            damaged = inject(fault, strength, samples, 0, InputSpec("series", (1, steps), high=1.0))
            assert damaged.shape == samples.shape
            assert (damaged >= 0).all()
            assert (damaged <= 1).all()


def test_a_constant_window_can_neither_be_stuck_nor_run_faster_nor_be_lost_at_the_lowest_value() -> None:
    samples = np.zeros((4, 1, 40), np.float32)
    for name in ("stuck", "changed-frequency", "lost-channel"):
        fault = fault_named("series", name)
        assert not find_changed(samples, inject(fault, fault.strengths[-1], samples, 0, ONE_CHANNEL)).any()


# ---------------------------------------------------------------- texts


def test_replaced_words_are_those_of_other_texts_and_all_else_stays() -> None:
    rows = rows_of(SENTENCES)
    known = {word for text in SENTENCES for word in text.split()}
    for before, after in zip(SENTENCES, texts_of(inject(fault_named("text", "words-replaced"), 0.4, rows, 0, TEXT)), strict=True):
        words, old_words = after.split(), before.split()
        assert len(words) == len(old_words)
        assert set(words) <= known
        assert sum(new != old for new, old in zip(words, old_words, strict=True)) == round(0.4 * len(old_words))
        assert [gap for gap in after.split(" ") if not gap] == [gap for gap in before.split(" ") if not gap]  # double spaces


def test_shuffled_words_are_the_same_words_in_another_order() -> None:
    for before, after in zip(
        SENTENCES, texts_of(inject(fault_named("text", "words-shuffled"), 0.5, rows_of(SENTENCES), 0, TEXT)), strict=True
    ):
        assert sorted(before.split()) == sorted(after.split())
        assert before.split() != after.split()


def test_a_foreign_passage_ends_the_text_with_the_start_of_one_that_shares_few_words() -> None:
    rows = rows_of(SENTENCES)
    for before, after in zip(SENTENCES, texts_of(inject(fault_named("text", "foreign-text"), 0.5, rows, 0, TEXT)), strict=True):
        words = before.split()
        kept = len(words) - round(0.5 * len(words))
        assert after.split()[:kept] == words[:kept]
        starts = [" ".join(other.split()[: len(words) - kept]) for other in SENTENCES if other != before]
        assert " ".join(after.split()[kept:]) in starts


@pytest.mark.parametrize("name", ["words-shuffled", "foreign-text"])
def test_a_text_of_one_word_has_no_order_and_no_place_for_a_passage(name: str) -> None:
    rows = rows_of(["word", "fjord", "", "Привет"], 20)
    spec = InputSpec("text", (20,))
    assert not find_changed(rows, inject(fault_named("text", name), 0.4, rows, 0, spec)).any()


def test_the_word_of_a_one_word_text_is_replaced_and_an_empty_text_stays() -> None:
    rows = rows_of(["word", "fjord", ""], 20)
    damaged = inject(fault_named("text", "words-replaced"), 0.1, rows, 0, InputSpec("text", (20,)))
    assert texts_of(damaged) == ["fjord", "word", ""]


def test_what_does_not_fit_into_the_row_is_left_out_in_whole_words() -> None:
    rows = rows_of(["a b", "élan vital", "éééé ii"], 12)
    spec = InputSpec("text", (12,))
    for fault in standard_faults("text"):
        for seed in range(20):
            for text in texts_of(inject(fault, 0.5, rows, seed, spec)):
                assert set(text.split()) <= {"a", "b", "élan", "vital", "éééé", "ii"}


def test_texts_that_are_all_the_same_have_no_foreign_words() -> None:
    rows = rows_of([SENTENCES[0]] * 3)
    damaged = inject(fault_named("text", "foreign-text"), 0.5, rows, 0, TEXT)
    assert not find_changed(rows, damaged).any()


# ---------------------------------------------------------------- what is refused


def test_bad_input_is_refused_with_what_was_expected() -> None:
    blur, spike = fault_named("image", "blur"), fault_named("series", "spike")
    samples = samples_of(GREY)
    for strength in (0.0, -1.0, 0.51, np.nan):
        with pytest.raises(ValueError, match=r"strength of blur: expected more than 0 and at most 0\.5, got"):
            inject(blur, strength, samples, 0, GREY)
    with pytest.raises(ValueError, match=r"fault: expected one of kind image \(cut-and-paste, .*got spike"):
        inject(spike, 0.1, samples, 0, GREY)
    with pytest.raises(SampleError, match=r"the samples have shape \(12, 12, 20\), expected \(n, 1, 12, 20\) with n >= 1"):
        inject(blur, 0.1, samples[:, 0], 0, GREY)
    with pytest.raises(SampleError, match="with n >= 1"):
        inject(blur, 0.1, samples[:0], 0, GREY)
    with pytest.raises(SampleError, match=r"sample 3 has values from nan to nan, expected 0 to 255"):
        inject(blur, 0.1, np.where(np.arange(12)[:, None, None, None] == 3, np.nan, samples), 0, GREY)
    with pytest.raises(SampleError, match=r"sample 0 has values from .* expected 0 to 255 \(input\.low and input\.high"):
        inject(blur, 0.1, samples * 2.0, 0, GREY)
    with pytest.raises(SampleError, match="the texts have dtype int64, expected uint8"):
        inject(fault_named("text", "words-shuffled"), 0.5, rows_of(SENTENCES).astype(np.int64), 0, TEXT)
    with pytest.raises(ValueError, match="kind: expected one of image, series, table, text, got 'cloud'"):
        standard_faults("cloud")
