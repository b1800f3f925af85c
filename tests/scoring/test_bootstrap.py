import itertools

import numpy as np
import pytest

from asr_kd.core.errors import InputError
from asr_kd.scoring.bootstrap import (
    compare,
    draw_speakers,
    mean_wer,
    share_of_gap_closed,
    wer_interval,
)
from asr_kd.scoring.wer import ErrorCounts


def system(seed: int, rate: float, speakers: int = 40, words: int = 100, seeds: int = 1) -> list:
    """Systems share how hard each speaker is; `seed` sets their own luck."""
    hardness = np.random.default_rng(0).uniform(-0.15, 0.15, speakers)
    own = np.random.default_rng(seed)
    return [
        {
            f"s{i:02}": ErrorCounts(words, int(own.binomial(words, rate + hardness[i])), 0, 0)
            for i in range(speakers)
        }
        for _ in range(seeds)
    ]


def words_of(counts: dict) -> dict[str, int]:
    return {speaker: one.words for speaker, one in counts.items()}


def test_draws_equal_a_plain_loop_over_drawn_speakers() -> None:
    first, second = system(1, 0.4, speakers=5), system(2, 0.4, speakers=5)
    drawn = draw_speakers(words_of(first[0]), draws=50)
    for weights, rate in zip(drawn.weights, drawn.wer([*first, *second]), strict=True):
        chosen = [name for name, times in zip(drawn.speakers, weights, strict=True) for _ in range(times)]
        assert len(chosen) == 5
        rates = [
            100 * sum(seed[n].errors for n in chosen) / sum(seed[n].words for n in chosen)
            for seed in (*first, *second)
        ]
        assert rate == pytest.approx(np.mean(rates))


def test_draws_are_of_speakers_with_equal_probability() -> None:
    drawn = draw_speakers({"a": 1, "b": 1000, "c": 10}, draws=20_000)
    assert drawn.weights.mean(axis=0) == pytest.approx([1, 1, 1], abs=0.03)


def test_interval_is_that_of_all_possible_draws() -> None:
    counts = {"a": ErrorCounts(10, 1, 0, 0), "b": ErrorCounts(20, 8, 0, 0), "c": ErrorCounts(5, 4, 0, 0)}
    every = [
        100 * sum(counts[n].errors for n in names) / sum(counts[n].words for n in names)
        for names in itertools.product(counts, repeat=3)
    ]
    estimate = wer_interval([counts], draw_speakers(words_of(counts), draws=20_000))
    assert estimate.value == pytest.approx(100 * 13 / 35)
    assert (estimate.low, estimate.high) == (pytest.approx(min(every)), pytest.approx(max(every)))


def test_interval_covers_the_truth_as_often_as_it_says() -> None:
    rng = np.random.default_rng(3)
    covered = 0
    for trial in range(200):
        rates = np.clip(rng.normal(0.4, 0.1, 60), 0, 1)
        counts = {
            f"s{i}": ErrorCounts(100, int(rng.binomial(100, rate)), 0, 0) for i, rate in enumerate(rates)
        }
        estimate = wer_interval([counts], draw_speakers(words_of(counts), draws=500, seed=trial))
        covered += estimate.low <= 40 <= estimate.high
    assert 0.88 <= covered / 200 <= 0.99


def test_statistic_is_the_mean_over_seeds() -> None:
    seeds = system(1, 0.4, seeds=3)
    drawn = draw_speakers(words_of(seeds[0]), draws=100)
    assert mean_wer(seeds) == pytest.approx(np.mean([mean_wer([seed]) for seed in seeds]))
    assert drawn.wer(seeds) == pytest.approx(np.mean([drawn.wer([seed]) for seed in seeds], axis=0))


def test_same_seed_same_draws_whatever_the_order_of_speakers() -> None:
    words = words_of(system(1, 0.4)[0])
    shuffled = dict(reversed(words.items()))
    assert np.array_equal(draw_speakers(words, 100).weights, draw_speakers(shuffled, 100).weights)
    assert not np.array_equal(draw_speakers(words, 100).weights, draw_speakers(words, 100, seed=1).weights)


def test_a_system_against_itself_has_p_one_and_no_difference() -> None:
    counts = system(1, 0.4, seeds=2)
    found = compare(counts, list(reversed(counts)), draw_speakers(words_of(counts[0]), 1000))
    assert (found.difference, found.p_value) == (pytest.approx(0), 1.0)
    assert not found.significantly_positive


def test_pairing_shows_what_separate_intervals_hide() -> None:
    worse, better = system(1, 0.45), system(2, 0.40)
    drawn = draw_speakers(words_of(worse[0]), 2000)
    found = compare(worse, better, drawn)
    assert wer_interval(worse, drawn).low < wer_interval(better, drawn).high
    assert found.significantly_positive and found.p_value < 0.01
    turned = compare(better, worse, drawn)
    assert (turned.difference, turned.p_value) == (pytest.approx(-found.difference), found.p_value)
    assert (turned.low, turned.high) == (pytest.approx(-found.high), pytest.approx(-found.low))


def test_smallest_p_is_one_over_draws_plus_one() -> None:
    worse, better = system(1, 0.8), system(2, 0.2)
    assert compare(worse, better, draw_speakers(words_of(worse[0]), 99)).p_value == 1 / 100


def test_p_counts_draws_at_least_as_far_from_the_difference_as_it_is_from_zero() -> None:
    first = {name: ErrorCounts(10, errors, 0, 0) for name, errors in (("a", 5), ("b", 3), ("c", 2))}
    second = {name: ErrorCounts(10, errors, 0, 0) for name, errors in (("a", 2), ("b", 4), ("c", 2))}
    drawn = draw_speakers(words_of(first), draws=999)
    gaps = 100 * (drawn.weights @ np.array([3, -1, 0])) / 30
    observed = 100 * 2 / 30
    count = sum(abs(gap - observed) >= observed - 1e-9 for gap in gaps)
    assert 0 < count < 999
    assert compare([first], [second], drawn).p_value == (1 + count) / 1000


def test_p_is_uniform_where_there_is_no_difference() -> None:
    p_values = []
    for trial in range(200):
        first, second = system(2 * trial + 10, 0.4, speakers=60), system(2 * trial + 11, 0.4, speakers=60)
        drawn = draw_speakers(words_of(first[0]), draws=300, seed=trial)
        p_values.append(compare(first, second, drawn).p_value)
    assert 0.01 <= np.mean(np.array(p_values) < 0.05) <= 0.1
    assert 0.4 <= np.mean(p_values) <= 0.6


def test_share_of_the_gap_is_printed_only_where_there_is_a_gap() -> None:
    baseline, student, teacher = system(1, 0.5), system(2, 0.45), system(3, 0.4)
    drawn = draw_speakers(words_of(baseline[0]), 2000)
    share = share_of_gap_closed(student, baseline, teacher, drawn)
    assert share is not None
    expected = (mean_wer(baseline) - mean_wer(student)) / (mean_wer(baseline) - mean_wer(teacher))
    assert share.value == pytest.approx(expected)
    assert share.low < share.value < share.high
    assert share_of_gap_closed(student, teacher, baseline, drawn) is None
    assert share_of_gap_closed(student, baseline, baseline, drawn) is None


def test_one_speaker_has_no_interval() -> None:
    counts = {"a": ErrorCounts(10, 1, 0, 0)}
    estimate = wer_interval([counts], draw_speakers({"a": 10}, draws=10))
    assert estimate.value == 10
    assert np.isnan(estimate.low) and np.isnan(estimate.high)


def test_draws_without_a_word_are_left_out() -> None:
    drawn = draw_speakers({"a": 10, "silent": 0}, draws=1000)
    assert 600 < len(drawn.weights) < 900
    counts = {"a": ErrorCounts(10, 1, 0, 0), "silent": ErrorCounts(0, 0, 0, 2)}
    assert np.isfinite(drawn.wer([counts])).all()


def test_systems_of_different_sets_are_refused() -> None:
    drawn = draw_speakers({"a": 10, "b": 10}, draws=10)
    with pytest.raises(InputError, match="speaker b has 9 words against 10"):
        drawn.wer([{"a": ErrorCounts(10, 0, 0, 0), "b": ErrorCounts(9, 0, 0, 0)}])
    with pytest.raises(InputError, match="1 speakers against 2, first difference b"):
        drawn.wer([{"a": ErrorCounts(10, 0, 0, 0)}])


@pytest.mark.parametrize(
    ("words", "draws", "message"), [({}, 10, "no words"), ({"a": 0}, 10, "no words"), ({"a": 1}, 0, "draws")]
)
def test_nothing_to_draw_is_refused(words: dict[str, int], draws: int, message: str) -> None:
    with pytest.raises(InputError, match=message):
        draw_speakers(words, draws)
