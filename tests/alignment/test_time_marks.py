from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from praatio import textgrid

from asr_kd.alignment.align import Alignments, align
from asr_kd.alignment.alignment_store import AlignmentStore, write_alignments
from asr_kd.alignment.time_marks import time_marks, write_time_marks
from asr_kd.alignment.viterbi import equal_alignment
from asr_kd.core.errors import InputError
from asr_kd.data.ctm import read_ctm
from asr_kd.hmm.model import HmmModel
from tests.alignment.test_viterbi import build
from tests.hmm.toy import Sampled


@pytest.fixture(scope="module")
def alignments(true_model: HmmModel, sampled: Sampled) -> Alignments:
    return align(true_model, sampled.features, sampled.transcripts)[0]


@settings(deadline=None)
@given(words=st.lists(st.sampled_from(["ab", "ba", "ca", "c", "abc"]), max_size=5), frames=st.integers(1, 150),
       seed=st.integers(0, 10**6), shift=st.sampled_from([0.01, 0.0125, 0.0116]))
def test_times_add_up_and_words_cover_their_phones(true_model: HmmModel, words: list[str], frames: int, seed: int,
                                                   shift: float) -> None:
    ids = [true_model.lexicon.word_id[w] for w in words]
    alignment = equal_alignment(build(true_model, ids), frames, np.random.default_rng(seed))
    if alignment is None:
        return
    marks = time_marks("u", alignment, words, true_model, shift)
    assert marks.phones[0].start == 0 and marks.end == pytest.approx(frames * shift)
    for before, after in zip(marks.phones, marks.phones[1:], strict=False):
        assert before.end == pytest.approx(after.start, abs=1e-9)
    assert [w.word for w in marks.words] == words
    for word in marks.words:
        inside = [p for p in marks.phones if word.start - 1e-9 <= p.start and p.end <= word.end + 1e-9]
        assert inside[0].start == word.start and inside[-1].end == pytest.approx(word.end)
        assert "".join(p.word[0] for p in inside) in {"AB", "BA", "CA", "CBA", "C", "ABC"}
        assert inside[0].word[-1] in "BS" and inside[-1].word[-1] in "ES"
    silent = [p for p in marks.phones if not any(w.start <= p.start < w.end - 1e-9 for w in marks.words)]
    assert all(p.word == "SIL" for p in silent)


def test_files_say_what_the_marks_say(true_model: HmmModel, sampled: Sampled, alignments: Alignments, tmp_path: Path
                                      ) -> None:
    write_alignments(tmp_path / "ali", alignments, true_model)
    store = AlignmentStore.open(tmp_path / "ali", true_model)
    durations = {u: 0.01 * len(a) + 0.015 for u, a in alignments.items()}
    write_time_marks(tmp_path, store, sampled.transcripts, true_model, ["ctm", "textgrid", "ids"], 0.01, durations)
    phones, words = read_ctm(tmp_path / "phones.ctm"), read_ctm(tmp_path / "words.ctm")
    kept = dict(line.split(maxsplit=1) for line in (tmp_path / "pdf_ids.txt").read_text().splitlines())
    for utterance, ids in alignments.items():
        marks = time_marks(utterance, ids, sampled.transcripts[utterance], true_model)
        for wanted, ctm in ((marks.phones, phones), (marks.words, words)):
            own = [entry for entry in ctm if entry.utterance == utterance]
            assert [(e.word, e.channel) for e in own] == [(e.word, "1") for e in wanted]
            assert [(e.start, e.duration) for e in own] == [
                (pytest.approx(e.start, abs=1e-9), pytest.approx(e.duration, abs=1e-9)) for e in wanted]
        grid = textgrid.openTextgrid(str(tmp_path / f"textgrid/{utterance}.TextGrid"), False, reportingMode="error")
        assert grid.maxTimestamp == pytest.approx(durations[utterance])
        for name, wanted in (("phones", marks.phones), ("words", marks.words)):
            assert [tuple(e) for e in grid.getTier(name).entries] == [
                (pytest.approx(e.start), pytest.approx(e.end), e.word) for e in wanted]
        assert list(map(int, kept[utterance].split())) == true_model.transitions.pdf_ids[ids].tolist()
    assert (tmp_path / "transition_ids.txt").read_text().splitlines()[0] == " ".join(
        [store.ids[0], *map(str, store[store.ids[0]])])


def test_only_the_formats_asked_for_are_written(true_model: HmmModel, sampled: Sampled, alignments: Alignments,
                                                tmp_path: Path) -> None:
    write_time_marks(tmp_path, alignments, sampled.transcripts, true_model, ["ctm"])
    assert sorted(p.name for p in tmp_path.iterdir()) == ["phones.ctm", "words.ctm"]


def test_an_unknown_word_keeps_its_spelling(true_model: HmmModel) -> None:
    lexicon = true_model.lexicon
    ids = [lexicon.word_id["<UNK>"], lexicon.word_id["c"]]
    alignment = equal_alignment(build(true_model, ids), 40, np.random.default_rng(1))
    assert alignment is not None
    assert [w.word for w in time_marks("u", alignment, ["xylophone", "c"], true_model).words] == ["xylophone", "c"]


def test_no_id_leads_out_of_the_folder(true_model: HmmModel, sampled: Sampled, alignments: Alignments, tmp_path: Path
                                       ) -> None:
    first = next(iter(alignments))
    names = ["../../u", "a/b", ".hidden", "100%"]
    write_time_marks(tmp_path, {n: alignments[first] for n in names},
                     {n: sampled.transcripts[first] for n in names}, true_model, ["textgrid"])
    assert sorted(p.name for p in (tmp_path / "textgrid").iterdir()) == [
        "%2E.%2F..%2Fu.TextGrid", "%2Ehidden.TextGrid", "100%25.TextGrid", "a%2Fb.TextGrid"]
    assert [p.name for p in tmp_path.iterdir()] == ["textgrid"]


def test_the_alignment_of_another_transcript_or_model_is_named(true_model: HmmModel, alignments: Alignments) -> None:
    utterance, ids = next(iter(alignments.items()))
    with pytest.raises(InputError, match=f"{utterance}: the aligned phones .* do not spell 'c c c c c c c'"):
        time_marks(utterance, ids, ["c"] * 7, true_model)
    with pytest.raises(InputError, match="belongs to another model"):
        time_marks(utterance, ids + 10**6, ["c"], true_model)
