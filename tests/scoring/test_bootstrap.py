import itertools
import math
import tracemalloc

import numpy as np
import pytest

from asr_kd.core.errors import InputError
from asr_kd.scoring import bootstrap
from asr_kd.scoring.bootstrap import (
    DRAWS,
    Comparison,
    DrawnSystem,
    SpeakerCounts,
    System,
    compare,
    draw_speakers,
    holm,
    mean_wer,
    share_of_gap_closed,
    wer_interval,
)
from asr_kd.scoring.wer import ErrorCounts


def system(seed: int, rate: float, speakers: int = 40, words: int = 100, seeds: int = 1, spread: float = 0.0) -> System:
    """Systems share how hard each speaker is; `seed` sets their own luck; trainings differ by `spread`."""
    hardness = np.random.default_rng(0).uniform(-0.15, 0.15, speakers)
    own = np.random.default_rng(seed)
    made = {}
    for number in range(seeds):
        of_training = rate + own.normal(0, spread) if spread else rate
        made[number] = {
            f"s{i:02}": ErrorCounts(words, int(own.binomial(words, np.clip(of_training + hardness[i], 0, 1))), 0, 0)
            for i in range(speakers)
        }
    return made


def words_of(counts: SpeakerCounts) -> dict[str, int]:
    return {speaker: one.words for speaker, one in counts.items()}


def drawn_of(*systems: System, draws: int | None = 2000, seed: int = 0) -> list[DrawnSystem]:
    words = words_of(next(iter(systems[0].values())))
    set_draws = draw_speakers(words, draws, seed)
    return [set_draws.of(one) for one in systems]


def test_draws_without_any_words_are_refused() -> None:
    for seed in range(20):
        try:
            draw_speakers({"a": 0, "b": 5}, 1, seed)
        except InputError as error:
            assert "in none of 1 does a speaker with words" in str(error)
            return
    raise AssertionError("one of two speakers was never drawn twice")


def test_draws_equal_a_plain_loop_over_drawn_speakers_and_seeds() -> None:
    counts = system(1, 0.4, speakers=5, seeds=3, spread=0.1)
    drawn = draw_speakers(words_of(counts[0]), draws=50)
    picks = drawn.picks((0, 1, 2))
    assert {len(set(pick)) for pick in picks.T.tolist()} == {1, 2, 3}
    for weights, pick, rate in zip(drawn.weights, picks.T, drawn.of(counts).wer, strict=True):
        chosen = [name for name, times in zip(drawn.speakers, weights, strict=True) for _ in range(times)]
        assert len(chosen) == 5
        rates = [100 * sum(counts[seed][n].errors for n in chosen) / sum(counts[seed][n].words for n in chosen)
                 for seed in pick.tolist()]
        assert rate == pytest.approx(np.mean(rates))


def test_draws_are_of_speakers_with_equal_probability() -> None:
    drawn = draw_speakers({"a": 1, "b": 1000, "c": 10}, draws=20_000)
    assert drawn.weights.mean(axis=0) == pytest.approx([1, 1, 1], abs=0.03)
    assert set(drawn.weights.sum(axis=1)) == {3}


def test_a_hundred_thousand_draws_are_taken_unless_the_units_are_too_many_to_hold(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert len(draw_speakers({"a": 1, "b": 1}).weights) == DRAWS == 100_000
    monkeypatch.setattr("asr_kd.scoring.bootstrap._MOST_WEIGHTS", 10_000)
    assert len(draw_speakers({f"u{i}": 1 for i in range(500)}).weights) == 20
    assert len(draw_speakers({f"u{i}": 1 for i in range(500)}, draws=30).weights) == 30


def test_draws_are_held_in_memory_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bootstrap, "_BLOCK", 1 << 16)
    tracemalloc.start()
    try:
        draws = draw_speakers({f"s{number}": 1 for number in range(2000)}, draws=2000)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1.6 * draws.weights.nbytes


def test_interval_is_that_of_all_possible_draws() -> None:
    counts = {"a": ErrorCounts(10, 1, 0, 0), "b": ErrorCounts(20, 8, 0, 0), "c": ErrorCounts(5, 4, 0, 0)}
    every = [
        100 * sum(counts[n].errors for n in names) / sum(counts[n].words for n in names)
        for names in itertools.product(counts, repeat=3)
    ]
    estimate = wer_interval(drawn_of({0: counts}, draws=20_000)[0])
    assert estimate.value == pytest.approx(100 * 13 / 35)
    assert (estimate.low, estimate.high) == (pytest.approx(min(every)), pytest.approx(max(every)))


def test_bounds_are_the_quantiles_of_the_draws() -> None:
    (drawn,) = drawn_of(system(1, 0.4, seeds=3, spread=0.1), draws=777)
    estimate = wer_interval(drawn)
    assert [estimate.low, estimate.high] == pytest.approx(np.quantile(drawn.wer, [0.025, 0.975]).tolist())


def test_interval_covers_the_truth_as_often_as_it_says() -> None:
    rng = np.random.default_rng(3)
    covered = 0
    for trial in range(200):
        rates = np.clip(rng.normal(0.4, 0.1, 60), 0, 1)
        counts = {
            f"s{i}": ErrorCounts(100, int(rng.binomial(100, rate)), 0, 0) for i, rate in enumerate(rates)
        }
        estimate = wer_interval(drawn_of({0: counts}, draws=500, seed=trial)[0])
        assert estimate.low is not None and estimate.high is not None
        covered += estimate.low <= 40 <= estimate.high
    assert 0.88 <= covered / 200 <= 0.99


def test_statistic_is_the_mean_over_the_drawn_seeds() -> None:
    seeds = system(1, 0.4, seeds=3, spread=0.1)
    assert mean_wer(seeds) == pytest.approx(np.mean([mean_wer({0: counts}) for counts in seeds.values()]))
    (drawn,) = drawn_of(seeds, draws=100)
    alone = np.array([one.wer for one in drawn_of(*({0: counts} for counts in seeds.values()), draws=100)])
    picks = drawn.draws.picks((0, 1, 2))
    assert drawn.wer == pytest.approx(np.take_along_axis(alone, picks, axis=0).mean(axis=0))


def test_the_spread_of_seeds_widens_the_interval() -> None:
    speakers = {f"s{i}": ErrorCounts(100, 40, 0, 0) for i in range(20)}
    worse = {name: ErrorCounts(100, 46, 0, 0) for name in speakers}
    better = {name: ErrorCounts(100, 34, 0, 0) for name in speakers}
    estimate = wer_interval(drawn_of({1: speakers, 2: worse, 3: better}, draws=20_000)[0])
    assert estimate.value == pytest.approx(40)
    # All speakers are alike, so what is left are the means of three drawn seeds; one in 27 draws is all the worst.
    assert (estimate.low, estimate.high) == (pytest.approx(34), pytest.approx(46))


def test_the_same_seed_of_two_systems_is_drawn_together() -> None:
    first = system(1, 0.4, seeds=3, spread=0.2)
    better = {seed: {name: ErrorCounts(one.words, one.errors - 1, 0, 0) if one.errors else one
                     for name, one in counts.items()} for seed, counts in first.items()}
    together = compare(*drawn_of(first, better))
    apart = compare(*drawn_of(first, {seed + 3: counts for seed, counts in better.items()}))
    assert together.low is not None and together.high is not None and apart.low is not None and apart.high is not None
    assert 0.5 < together.low <= together.difference <= together.high < 1.5
    assert apart.low < -1 and apart.high > 3


def test_systems_with_other_seeds_draw_the_common_ones_together_and_each_as_often() -> None:
    counts = system(1, 0.4, speakers=2, seeds=4, spread=0.2)
    more = {seed: counts[seed] for seed in (0, 1, 2)}
    fewer = {seed: counts[seed] for seed in (1, 3)}
    leader, follower = drawn_of(more, fewer, draws=20_000)
    followed = follower._picks_beside(leader)
    drawn_leader = np.array(leader.seeds)[leader.draws.picks(leader.seeds)]
    drawn_follower = np.array(follower.seeds)[followed]
    assert (drawn_follower[drawn_leader[:2] == 1] == 1).all()
    assert np.mean(drawn_follower == 1) == pytest.approx(1 / 2, abs=0.01)
    assert np.mean(drawn_leader == 1) == pytest.approx(1 / 3, abs=0.01)


def test_same_seed_same_draws_whatever_the_order_of_speakers() -> None:
    words = words_of(system(1, 0.4)[0])
    shuffled = dict(reversed(words.items()))
    assert np.array_equal(draw_speakers(words, 100).weights, draw_speakers(shuffled, 100).weights)
    assert not np.array_equal(draw_speakers(words, 100).weights, draw_speakers(words, 100, seed=1).weights)
    assert not np.array_equal(draw_speakers(words, 100).picks((1, 2, 3)), draw_speakers(words, 100, 1).picks((1, 2, 3)))


def test_a_system_against_itself_has_p_one_and_no_difference() -> None:
    counts = system(1, 0.4, seeds=2)
    found = compare(*drawn_of(counts, dict(reversed(counts.items()))))
    assert (found.difference, found.p_value) == (pytest.approx(0), 1.0)
    assert not found.significantly_positive


def test_pairing_shows_what_separate_intervals_hide() -> None:
    worse, better = drawn_of(system(1, 0.45, seeds=2), system(2, 0.40, seeds=2))
    found = compare(worse, better)
    high, low = wer_interval(better).high, wer_interval(worse).low
    assert low is not None and high is not None and low < high
    assert found.p_value is not None and found.significantly_positive and found.p_value < 0.01
    turned = compare(better, worse)
    assert (turned.difference, turned.p_value) == (pytest.approx(-found.difference), found.p_value)
    assert (turned.low, turned.high) == (pytest.approx(found.reversed.low), pytest.approx(found.reversed.high))


def test_smallest_p_is_one_over_draws_plus_one() -> None:
    assert compare(*drawn_of(system(1, 0.8), system(2, 0.2), draws=99)).p_value == 1 / 100


def test_p_counts_draws_at_least_as_far_from_the_difference_as_it_is_from_zero() -> None:
    first = {name: ErrorCounts(10, errors, 0, 0) for name, errors in (("a", 5), ("b", 3), ("c", 2))}
    second = {name: ErrorCounts(10, errors, 0, 0) for name, errors in (("a", 2), ("b", 4), ("c", 2))}
    drawn = draw_speakers(words_of(first), draws=999)
    gaps = 100 * (drawn.weights @ np.array([3, -1, 0])) / 30
    observed = 100 * 2 / 30
    count = sum(abs(gap - observed) >= observed - 1e-9 for gap in gaps)
    assert 0 < count < 999
    assert compare(drawn.of({0: first}), drawn.of({0: second})).p_value == (1 + count) / 1000


@pytest.mark.parametrize("seeds", [1, 3])
def test_p_is_not_below_nominal_where_there_is_no_difference(seeds: int) -> None:
    """Seeds of a system differ as much as those of the other: three are few, and p is a little too small then."""
    p_values = []
    for trial in range(150):
        first = system(2 * trial + 10, 0.4, speakers=30, seeds=seeds, spread=0.02 if seeds > 1 else 0)
        second = system(2 * trial + 11, 0.4, speakers=30, seeds=seeds, spread=0.02 if seeds > 1 else 0)
        p_values.append(compare(*drawn_of(first, second, draws=300, seed=trial)).p_value)
    shown = np.mean(np.array(p_values, float) < 0.05)
    assert 0.01 <= shown <= (0.1 if seeds == 1 else 0.16)


def test_speakers_alone_would_show_differences_of_seeds_that_there_are_not() -> None:
    """The bootstrap of old, over speakers with the mean of the seeds fixed, on the same simulation."""
    shown = np.zeros(2)
    for trial in range(100):
        first = system(2 * trial + 10, 0.4, speakers=30, seeds=3, spread=0.02)
        second = system(2 * trial + 11, 0.4, speakers=30, seeds=3, spread=0.02)
        one, other = drawn_of(first, second, draws=300, seed=trial)
        difference = one.value - other.value
        by_speaker = one.rates.mean(axis=0) - other.rates.mean(axis=0)
        count = np.count_nonzero(np.abs(by_speaker - difference) >= abs(difference) - 1e-9)
        p_value = compare(one, other).p_value
        assert p_value is not None
        shown += [(1 + count) / 301 < 0.05, p_value < 0.05]
    assert shown[0] > 2 * shown[1]


def with_difference(speakers: int, seeds: int = 3) -> Comparison:
    return compare(*drawn_of(system(1, 0.5, speakers, seeds=seeds), system(2, 0.3, speakers, seeds=seeds)))


@pytest.mark.parametrize(("speakers", "reason"), [(1, "one speaker"), (2, "2 speakers"), (3, "3 speakers"),
                                                  (9, "9 speakers"), (10, None)])
def test_fewer_than_ten_speakers_carry_no_verdict_and_one_has_no_p(speakers: int, reason: str | None) -> None:
    found = with_difference(speakers)
    assert found.undecidable == reason
    assert found.verdict() == (None if reason else "more errors")
    assert found.significantly_positive == (reason is None)
    if speakers == 1:
        assert (found.low, found.high, found.p_value) == (None, None, None)
    else:
        assert found.p_value is not None and 0 < found.p_value <= 1
        assert found.low is not None and found.high is not None and math.isfinite(found.low + found.high)


def test_one_seed_carries_no_verdict() -> None:
    found = with_difference(40, seeds=1)
    assert (found.undecidable, found.verdict(), found.significantly_positive) == ("one seed", None, False)
    assert found.p_value is not None and found.p_value < 0.05


def test_a_verdict_is_by_the_corrected_p_where_there_is_one() -> None:
    found = with_difference(40)
    assert found.verdict() == "more errors" and found.reversed.verdict() == "fewer errors"
    assert found.verdict(0.05) == "no difference shown" and found.verdict(0.049) == "more errors"


def test_holm_equals_a_computation_by_hand() -> None:
    assert holm({"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.005}) == pytest.approx(
        {"d": 0.02, "a": 0.03, "c": 0.06, "b": 0.06})  # 4 · 0.005, 3 · 0.01, 2 · 0.03, max(0.06, 0.04)
    assert holm({"a": 0.4, "b": 0.9}) == {"a": 0.8, "b": 0.9}
    assert holm({"a": 0.7, "b": 0.9}) == {"a": 1.0, "b": 1.0}
    assert holm({"a": 0.01}, family=3) == {"a": 0.03}
    assert holm({}, family=3) == {}
    with pytest.raises(ValueError, match="2 p-values in a family of 1"):
        holm({"a": 0.1, "b": 0.2}, family=1)


def test_share_of_the_gap_is_given_only_where_there_is_a_gap() -> None:
    rates = (0.5, 0.45, 0.4)
    baseline, student, teacher = drawn_of(*(system(n, rate, seeds=2) for n, rate in enumerate(rates, 1)))
    share = share_of_gap_closed(student, baseline, teacher)
    assert share is not None and share.low is not None and share.high is not None
    assert share.value == pytest.approx((baseline.value - student.value) / (baseline.value - teacher.value))
    assert share.low < share.value < share.high
    assert share_of_gap_closed(student, teacher, baseline) is None
    assert share_of_gap_closed(student, baseline, baseline) is None
    one_seed = drawn_of(*(system(n, rate) for n, rate in enumerate(rates, 1)))
    assert share_of_gap_closed(one_seed[1], one_seed[0], one_seed[2]) is None


def test_one_speaker_has_no_interval() -> None:
    estimate = wer_interval(drawn_of({0: {"a": ErrorCounts(10, 1, 0, 0)}}, draws=10)[0])
    assert (estimate.value, estimate.low, estimate.high) == (10, None, None)


def test_draws_without_a_word_are_left_out() -> None:
    drawn = draw_speakers({"a": 10, "silent": 0}, draws=1000)
    assert 600 < len(drawn.weights) < 900
    counts = {"a": ErrorCounts(10, 1, 0, 0), "silent": ErrorCounts(0, 0, 0, 2)}
    assert np.isfinite(drawn.of({0: counts, 1: counts}).wer).all()


def test_systems_of_different_sets_are_refused() -> None:
    drawn = draw_speakers({"a": 10, "b": 10}, draws=10)
    with pytest.raises(InputError, match="speaker b has 9 words against 10"):
        drawn.of({0: {"a": ErrorCounts(10, 0, 0, 0), "b": ErrorCounts(9, 0, 0, 0)}})
    with pytest.raises(InputError, match="1 speakers against 2, first difference b"):
        drawn.of({0: {"a": ErrorCounts(10, 0, 0, 0)}})


@pytest.mark.parametrize(
    ("words", "draws", "message"), [({}, 10, "no words"), ({"a": 0}, 10, "no words"), ({"a": 1}, 0, "draws")]
)
def test_nothing_to_draw_is_refused(words: dict[str, int], draws: int, message: str) -> None:
    with pytest.raises(InputError, match=message):
        draw_speakers(words, draws)
