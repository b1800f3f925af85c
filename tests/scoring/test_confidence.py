"""Quality of word confidences, and maps that calibrate them."""

import itertools
import json
import re
import subprocess
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from asr_kd.core.errors import InputError
from asr_kd.data.ctm import CtmWord, write_ctm
from asr_kd.scoring import api
from asr_kd.scoring.calibration import Calibration, fit_calibration, read_calibration, write_calibration
from asr_kd.scoring.confidence import WordConfidences, measure_confidence

PAIRS = st.lists(st.tuples(st.integers(0, 10), st.booleans()), min_size=2, max_size=30).filter(
    lambda pairs: len({right for _, right in pairs}) == 2
)


def arrays(pairs: list[tuple[int, bool]]) -> tuple[np.ndarray, np.ndarray]:
    return np.array([value / 10 for value, _ in pairs]), np.array([right for _, right in pairs])


def drawn_words(words: int, seed: int, sharpness: float = 3.0) -> WordConfidences:
    """Words that are right with a probability that the confidence overstates: logit(confidence) = sharpness · true."""
    random = np.random.default_rng(seed)
    logit = random.normal(0.5, 1.0, words)
    correct = random.random(words) < 1 / (1 + np.exp(-logit))
    speakers = tuple(f"s{number}" for number in random.integers(0, 20, words))
    return WordConfidences(1 / (1 + np.exp(-sharpness * logit)), correct, speakers)


@given(PAIRS)
def test_roc_area_is_the_share_of_pairs_in_the_right_order(pairs: list[tuple[int, bool]]) -> None:
    right = [value for value, correct in pairs if correct]
    wrong = [value for value, correct in pairs if not correct]
    order = [(a > b) + (a == b) / 2 for a, b in itertools.product(right, wrong)]
    assert measure_confidence(*arrays(pairs)).roc_area == pytest.approx(np.mean(order))


@given(PAIRS)
def test_bins_hold_every_word_once_and_the_error_is_their_mean(pairs: list[tuple[int, bool]]) -> None:
    confidence, correct = arrays(pairs)
    found = measure_confidence(confidence, correct)
    assert sum(one.words for one in found.bins) == found.words == len(pairs)
    assert sum(one.words * one.correct for one in found.bins) == pytest.approx(found.correct)
    assert all(one.low - 1e-9 <= one.confidence <= one.high + 1e-9 for one in found.bins)
    gaps = [one.words * abs(one.confidence - one.correct) for one in found.bins]
    assert found.ece == pytest.approx(sum(gaps) / len(pairs)) and 0 <= found.ece <= 1


def test_confidence_that_says_only_the_share_of_right_words_has_no_cross_entropy_gain() -> None:
    correct = np.array([True, True, True, False])
    found = measure_confidence(np.full(4, 0.75), correct)
    assert found.nce == pytest.approx(0) and found.ece == 0 and found.roc_area == 0.5
    perfect = measure_confidence(correct.astype(float), correct)
    assert perfect.nce == pytest.approx(1, abs=1e-5) and (perfect.ece, perfect.roc_area) == (0, 1)
    # By hand: 4 words, 3 right; H = 3.2451; log2 of .9 .8 .9 and of 1 - .4.
    by_hand = (3.245112 + np.log2([0.9, 0.8, 0.9, 0.6]).sum()) / 3.245112
    assert measure_confidence(np.array([0.9, 0.8, 0.9, 0.4]), correct).nce == pytest.approx(by_hand, abs=1e-6)


def test_without_right_and_wrong_words_there_is_no_entropy_to_explain() -> None:
    found = measure_confidence(np.array([0.5, 1.0]), np.array([True, True]))
    assert (found.nce, found.roc_area, found.ece) == (None, None, 0.25)
    with pytest.raises(InputError, match="no recognised word"):
        measure_confidence(np.empty(0), np.empty(0, bool))
    with pytest.raises(InputError, match="from 0 to 1"):
        measure_confidence(np.array([0.5, np.nan]), np.array([True, False]))


def test_confidences_of_a_ctm_are_those_of_its_words(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("u1 A B C\nu2 D\n")
    (tmp_path / "utt2spk").write_text("u1 s1\nu2 s2\n")
    words = [("u1", "A", 0.9), ("u1", "X", 0.4), ("u1", "C", 1.0), ("u2", "D", 0.3), ("u2", "E", 0.2)]
    write_ctm(tmp_path / "hyp.ctm", [CtmWord(u, "1", i, 1, word, value) for i, (u, word, value) in enumerate(words)])
    found = api.score(tmp_path / "text", [tmp_path / "hyp.ctm"], confidence=True).system.confidence
    assert found is not None
    right = np.array([True, False, True, True, False])
    assert found == measure_confidence(np.array([value for *_, value in words]), right)
    assert api.score(tmp_path / "text", [tmp_path / "hyp.ctm"]).system.confidence is None
    for name, line in (("text.txt", "u1 A\n"), ("some.ctm", "u1 1 0 1 A 0.5\nu1 1 1 1 B\n")):
        (tmp_path / name).write_text(line)
        with pytest.raises(InputError, match=f"{name}: not every word has a confidence"):
            api.score(tmp_path / "text", [tmp_path / name], confidence=True)


def test_words_in_no_segment_are_wrong_words_with_a_confidence(tmp_path: Path) -> None:
    (tmp_path / "ref.stm").write_text("r1 A s1 0 1 YES\nr1 A s2 2 3 NO\n")
    (tmp_path / "hyp.ctm").write_text("r1 A 0.1 0.2 YES 0.9\nr1 A 1.4 0.2 NO 0.8\nr1 A 2.4 0.2 NO 0.7\n")
    found = api.score(tmp_path / "ref.stm", [tmp_path / "hyp.ctm"], confidence=True).system.confidence
    assert found is not None and (found.words, found.correct) == (3, 2)


def test_cross_entropy_equals_sclites(sclite: list[str], tmp_path: Path) -> None:
    random = np.random.default_rng(5)
    segments, lines = [], []
    for number in range(40):
        spoken = " ".join(random.choice(list("abc"), 5))
        segments.append(f"r1 A s{number % 4} {10 * number} {10 * number + 9} {spoken}")
        for index in range(6):
            value = random.choice([0.0, 1.0, random.random()])
            lines.append(f"r1 A {10 * number + index + 0.5} 0.5 {random.choice(list('abc'))} {value:.4f}")
    (tmp_path / "ref.stm").write_text("\n".join(segments) + "\n")
    (tmp_path / "hyp.ctm").write_text("\n".join(lines) + "\n")
    printed = subprocess.run(
        [*sclite, "-r", "ref.stm", "stm", "-h", "hyp.ctm", "ctm", "-s", "-o", "sum", "stdout"],
        cwd=tmp_path, capture_output=True, text=True, check=True,
    ).stdout
    theirs = re.search(r"Sum/Avg.*\|\s*(-?[\d.]+)\s*\|\s*$", printed, flags=re.MULTILINE)
    assert theirs is not None
    ours = api.score(tmp_path / "ref.stm", [tmp_path / "hyp.ctm"], alignment="sclite", confidence=True)
    assert ours.system.confidence is not None and ours.system.confidence.nce is not None
    assert round(ours.system.confidence.nce, 3) == float(theirs[1])


@pytest.mark.parametrize("kind", ["platt", "isotonic"])
def test_a_map_fitted_on_one_set_calibrates_another(kind: str) -> None:
    fitted = fit_calibration(drawn_words(4000, seed=1), kinds=(kind,))  # type: ignore[arg-type]
    test = drawn_words(4000, seed=2)
    before = measure_confidence(test.confidence, test.correct)
    after = measure_confidence(fitted(test.confidence), test.correct)
    assert before.nce is not None and after.nce is not None
    assert before.ece > 0.1 and after.ece < 0.04
    assert before.nce < 0 < after.nce
    assert after.roc_area == pytest.approx(before.roc_area, abs=0.01)


def test_platts_map_finds_the_slope_that_was_drawn() -> None:
    fitted = fit_calibration(drawn_words(20000, seed=3, sharpness=4.0), kinds=("platt",))
    assert fitted.slope == pytest.approx(0.25, abs=0.02) and fitted.intercept == pytest.approx(0, abs=0.05)


def test_the_kind_is_chosen_on_held_out_speakers() -> None:
    words = drawn_words(3000, seed=4, sharpness=1.0)
    # Already calibrated: nothing that is fitted can do better on other speakers but by chance.
    fitted = fit_calibration(words)
    assert set(fitted.losses) == {"identity", "platt", "isotonic"}
    assert fitted.kind == min(fitted.losses, key=lambda kind: fitted.losses[kind])
    assert abs(fitted.losses["platt"] - fitted.losses["identity"]) < 0.005
    # Two levels only, far from any sigmoid of the confidence.
    confidence = np.linspace(0.01, 0.99, 3000)
    stepped = WordConfidences(confidence, np.arange(3000) % 10 < np.where(confidence > 0.9, 9, 4), words.speaker)
    assert fit_calibration(stepped).kind == "isotonic"


@given(PAIRS)
def test_maps_never_turn_the_order_of_words_and_stay_probabilities(pairs: list[tuple[int, bool]]) -> None:
    confidence, correct = arrays(pairs)
    grid = np.linspace(0, 1, 101)
    for kind in ("platt", "isotonic", "identity"):
        found = fit_calibration(WordConfidences(confidence, correct, ("s",) * len(pairs)), kinds=(kind,))(grid)
        assert np.all(np.diff(found) >= -1e-12) and found.min() >= 0 and found.max() <= 1


def test_a_map_is_written_and_read_and_applied_by_the_score(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("".join(f"s{i % 4}-u{i} A B\n" for i in range(40)))
    (tmp_path / "utt2spk").write_text("".join(f"s{i % 4}-u{i} s{i % 4}\n" for i in range(40)))
    write_ctm(tmp_path / "dev.ctm", [
        CtmWord(f"s{i % 4}-u{i}", "1", index, 1, word if (i + index) % 5 else "X", 0.99 if i % 3 else 0.5)
        for i in range(40) for index, word in enumerate("AB")
    ])
    files = tmp_path / "text", [tmp_path / "dev.ctm"]
    api.score(*files, fit=tmp_path / "map.json", alignment="sclite")
    written = read_calibration(tmp_path / "map.json")
    assert (written.words, written.text_filter, written.alignment) == (80, "none-1", "sclite")
    found = api.score(*files, calibration=tmp_path / "map.json").system
    assert found.confidence is not None and found.calibrated is not None
    assert found.calibrated.ece < found.confidence.ece
    again = tmp_path / "again.json"
    write_calibration(again, written)
    assert read_calibration(again) == written


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "spline"}, "kind: "), ({"slope": -1.0}, "slope: expected from 0"), ({"knots": []}, "knots: Extra"),
        ({"kind": "isotonic"}, "as many rising confidences"), ({"version": 2}, "version: "),
        ({"kind": "isotonic", "confidences": [0.5, 0.4], "probabilities": [0.1, 0.2]}, "rising confidences"),
        ({"kind": "isotonic", "confidences": [0.5], "probabilities": [1.5]}, "probabilities from 0 to 1"),
    ],
)
def test_a_damaged_map_is_refused_by_key(tmp_path: Path, change: dict[str, object], message: str) -> None:
    content = Calibration(kind="platt", slope=0.5).model_dump(mode="json")
    (tmp_path / "map.json").write_text(json.dumps({**content, **change}))
    with pytest.raises(InputError, match=f"map.json: .*{message}") as error:
        read_calibration(tmp_path / "map.json")
    assert "\n" not in str(error.value)


def test_a_map_needs_right_and_wrong_words() -> None:
    with pytest.raises(InputError, match="all words are right or all are wrong"):
        fit_calibration(WordConfidences(np.array([0.5, 0.6]), np.array([True, True]), ("a", "b")))
