from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from praatio import textgrid

from asr_kd.core.errors import InputError
from asr_kd.data.textgrid import Interval, textgrid_text, write_textgrid

LABELS = st.text(st.characters(blacklist_categories=["Cs", "Cc", "Zs", "Zl", "Zp"]), min_size=1, max_size=6)


@st.composite
def tiers(draw: st.DrawFn) -> tuple[dict[str, list[Interval]], float]:
    """Tiers of intervals on a grid of 10 ms, and a duration that they fit into."""
    result: dict[str, list[Interval]] = {}
    last = 1
    for name in draw(st.lists(st.sampled_from(["words", "phones", 'so "called"', "mots é"]), min_size=1, unique=True)):
        at, intervals = 0, []
        for gap, length, label in draw(st.lists(st.tuples(st.integers(0, 3), st.integers(1, 50), LABELS), max_size=6)):
            intervals.append(((at + gap) / 100, (at + gap + length) / 100, label))
            at += gap + length
        result[name] = intervals
        last = max(last, at)
    return result, (last + draw(st.integers(0, 3))) / 100


@given(content=tiers())
def test_praats_readers_find_what_was_written(tmp_path_factory: pytest.TempPathFactory,
                                              content: tuple[dict[str, list[Interval]], float]) -> None:
    wanted, duration = content
    path = tmp_path_factory.mktemp("textgrid") / "u.TextGrid"
    write_textgrid(path, wanted, duration)
    found = textgrid.openTextgrid(str(path), includeEmptyIntervals=True, reportingMode="error")
    assert list(found.tierNames) == list(wanted)
    assert (found.minTimestamp, found.maxTimestamp) == (0, pytest.approx(duration))
    for name, intervals in wanted.items():
        entries = found.getTier(name).entries
        assert [tuple(e) for e in entries if e.label] == [
            (pytest.approx(a), pytest.approx(b), label) for a, b, label in intervals]
        # Every moment belongs to just one interval.
        assert entries[0].start == 0 and entries[-1].end == pytest.approx(duration)
        assert [e.end for e in entries[:-1]] == [e.start for e in entries[1:]]


@pytest.mark.parametrize("intervals", [[(0.0, 0.5, "a"), (0.4, 0.6, "b")], [(0.5, 0.6, "a"), (0.1, 0.2, "b")],
                                       [(0.2, 0.2, "a")], [(0.5, 1.5, "a")], [(-0.1, 0.5, "a")],
                                       [(0.0, float("nan"), "a")]])
def test_intervals_that_no_tier_can_hold_are_refused(intervals: list[Interval]) -> None:
    with pytest.raises(InputError, match="u.TextGrid: tier words: '[ab]' from"):
        textgrid_text({"words": intervals}, 1.0, path="u.TextGrid")


@pytest.mark.parametrize("duration", [0.0, -1.0, float("inf")])
def test_a_textgrid_lasts(duration: float, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="duration above 0"):
        write_textgrid(tmp_path / "u.TextGrid", {}, duration)
    assert not list(tmp_path.iterdir())
