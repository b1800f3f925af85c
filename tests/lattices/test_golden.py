"""Kaldi's own lattices of real speech: posteriors, total log-likelihoods, best words, both forms of file."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from asr_kd.kaldi_lattices.archive import read_lattices, read_word_lattices, write_lattices
from asr_kd.lattices.lattice import Lattice
from asr_kd.lattices.minimum_bayes_risk import minimum_bayes_risk
from asr_kd.lattices.oracle import lattice_statistics, oracle_errors
from asr_kd.lattices.posteriors import arc_posteriors, frame_posteriors
from asr_kd.lattices.word_lattice import WordLattice
from tests.kaldi_lattices.test_archive import assert_equal

UTTERANCES = ["000930005", "001570024", "010610015", "012920007", "020140004", "024480016"]
SCALE = 0.1


@pytest.fixture(scope="module")
def golden(shared: Path) -> Path:
    return shared / "golden" / "kaldi_lattice"


@pytest.fixture(scope="module")
def summary(golden: Path) -> dict[str, Any]:
    summary = json.loads((golden / "summary.json").read_text())["utterances"]
    assert sorted(summary) == UTTERANCES
    return dict(summary)


@pytest.fixture(scope="module")
def words(golden: Path) -> dict[str, int]:
    return {word: int(number) for word, number in map(str.split, (golden / "words.txt").read_text().splitlines())}


def lattice_of(golden: Path, utterance: str) -> Lattice:
    [(key, lattice)] = read_lattices(golden / f"{utterance}.lat.txt")
    assert key == utterance
    return lattice


def compact_of(golden: Path, utterance: str) -> WordLattice:
    [(key, lattice)] = read_word_lattices(golden / f"{utterance}.clat.txt")
    assert key == utterance
    return lattice


def posteriors_of(path: Path) -> dict[tuple[int, int], float]:
    """Kaldi's text posteriors, `[ tid p tid p ... ]` a frame."""
    frames = path.read_text().split("[")[1:]
    return {(frame, int(tid)): float(p) for frame, text in enumerate(frames)
            for tid, p in zip(*[iter(text.rstrip().removesuffix("]").split())] * 2, strict=True)}


@pytest.mark.parametrize("utterance", UTTERANCES)
def test_frame_posteriors_and_total_are_kaldis(golden: Path, summary: dict[str, Any], utterance: str) -> None:
    lattice = lattice_of(golden, utterance)
    expected = posteriors_of(golden / f"{utterance}.post_den.txt")
    frames, tids, posteriors = frame_posteriors(lattice, SCALE)
    found = dict(zip(zip(frames.tolist(), tids.tolist(), strict=True), posteriors.tolist(), strict=True))
    assert len(expected) > 300
    worst = max(abs(found.get(key, 0.0) - expected.get(key, 0.0)) for key in found.keys() | expected.keys())
    assert worst < 1e-5
    assert arc_posteriors(lattice, SCALE)[1] == pytest.approx(summary[utterance]["loglike_scaled"], abs=1e-3)


@pytest.mark.parametrize("utterance", UTTERANCES)
def test_counts_are_those_of_the_files(golden: Path, summary: dict[str, Any], utterance: str) -> None:
    statistics = lattice_statistics(lattice_of(golden, utterance))
    assert {name: statistics[name] for name in ("frames", "states", "arcs")} == {
        name: summary[utterance][name] for name in ("frames", "states", "arcs")}
    compact = lattice_statistics(compact_of(golden, utterance))
    assert compact["frames"] == statistics["frames"] and compact["word_arcs"] == statistics["word_arcs"]
    assert compact["depth"] == pytest.approx(statistics["depth"])


@pytest.mark.parametrize("utterance", UTTERANCES)
def test_both_forms_are_one_lattice(golden: Path, utterance: str) -> None:
    plain, compact = lattice_of(golden, utterance), compact_of(golden, utterance)
    [(_, expanded)] = read_lattices(golden / f"{utterance}.clat.txt")
    [(_, joined)] = read_word_lattices(golden / f"{utterance}.lat.txt")
    for scales in [(0.1, 1.0), (1.0, 0.0), (0.0, 1.0), (0.3, -0.2)]:
        assert arc_posteriors(plain, *scales)[1] == pytest.approx(arc_posteriors(expanded, *scales)[1], abs=1e-9)
    np.testing.assert_array_equal(frame_posteriors(plain, SCALE)[1], frame_posteriors(expanded, SCALE)[1])
    assert arcs_with_times(joined) == arcs_with_times(compact)


def arcs_with_times(lattice: WordLattice) -> list[tuple[object, ...]]:
    sources = lattice.sources
    return sorted((int(lattice.frames[sources[arc]]), int(lattice.frames[lattice.targets[arc]]),
                   int(lattice.words[arc]), float(lattice.graph_costs[arc]), float(lattice.acoustic_costs[arc]),
                   tuple(lattice.run(arc).tolist())) for arc in range(lattice.num_arcs))


@pytest.mark.parametrize("text", [True, False])
def test_what_is_read_is_written_and_read_unchanged(golden: Path, tmp_path: Path, text: bool) -> None:
    plain = [(utterance, lattice_of(golden, utterance)) for utterance in UTTERANCES]
    compact = [(utterance, compact_of(golden, utterance)) for utterance in UTTERANCES]
    write_lattices(tmp_path / "plain.ark", plain, text=text)
    write_lattices(tmp_path / "compact.ark", compact, text=text)
    for (_, before), (_, after) in zip(plain, read_lattices(tmp_path / "plain.ark"), strict=True):
        assert_equal(before, after)
    for (_, before), (_, after) in zip(compact, read_word_lattices(tmp_path / "compact.ark"), strict=True):
        assert_equal(before, after)


@pytest.mark.parametrize("utterance", UTTERANCES)
def test_text_is_written_with_kaldis_numbers(golden: Path, tmp_path: Path, utterance: str) -> None:
    for form, lattice in [("lat", lattice_of(golden, utterance)), ("clat", compact_of(golden, utterance))]:
        write_lattices(tmp_path / "out.txt", [(utterance, lattice)], text=True)
        written, original = (sorted(behind_states(path)) for path in
                             (tmp_path / "out.txt", golden / f"{utterance}.{form}.txt"))
        assert written == original


def behind_states(path: Path) -> list[list[object]]:
    """Of each line what follows the state numbers, costs as numbers: their order differs, nothing else."""
    rows = []
    for line in path.read_text().splitlines()[1:-1]:
        columns = line.split("\t")
        rest = columns[1:] if len(columns) < 3 else columns[2:]
        costs = rest[-1].split(",") if rest and "," in rest[-1] else None
        numbers = [] if costs is None else [float(np.float32(cost)) for cost in costs[:2]] + costs[2:]
        rows.append([len(columns), rest if costs is None else rest[:-1], [str(number) for number in numbers]])
    return rows


@pytest.mark.parametrize("utterance", UTTERANCES)
def test_words_at_least_risk_start_from_kaldis_best_path(
    golden: Path, summary: dict[str, Any], words: dict[str, int], utterance: str
) -> None:
    best = [words[word] for word in summary[utterance]["best_path"].split()]
    lattice = compact_of(golden, utterance)
    kept = minimum_bayes_risk(lattice, SCALE, decode_mbr=False)
    assert kept.words == best
    improved = minimum_bayes_risk(lattice, SCALE)
    assert improved.risk <= kept.risk + 1e-9
    for result in (kept, improved):
        assert all(0 <= begin <= end <= summary[utterance]["frames"] for begin, end in result.times)
        assert all(0 < confidence <= 1 for confidence in result.confidences)


@pytest.mark.parametrize("utterance", UTTERANCES)
def test_oracle_is_no_worse_than_the_best_path(
    golden: Path, summary: dict[str, Any], words: dict[str, int], utterance: str
) -> None:
    reference = [words.get(word, -1) for word in summary[utterance]["words"].split()]
    plain = oracle_errors(lattice_of(golden, utterance), reference)
    assert plain == oracle_errors(compact_of(golden, utterance), reference)
    best = [words[word] for word in summary[utterance]["best_path"].split()]
    from rapidfuzz.distance import Levenshtein

    assert Levenshtein.distance(plain.words, reference) == plain.errors <= Levenshtein.distance(best, reference)
