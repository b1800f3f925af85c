import numpy as np
import pytest

from asr_kd.alignment.align import align
from asr_kd.bootstrap.pronunciation_probabilities import estimate_pronunciation_probabilities
from asr_kd.core.errors import InputError
from asr_kd.hmm.model import HmmModel
from tests.hmm.toy import sample_speech


def test_probabilities_are_those_of_the_pronunciations_that_were_said(true_model: HmmModel) -> None:
    speech = sample_speech(true_model, 150, np.random.default_rng(17))
    alignments, _ = align(true_model, speech.features, speech.transcripts)
    lexicon, counts = estimate_pronunciation_probabilities(true_model, alignments, speech.transcripts)
    assert counts.counts.sum() == sum(map(len, speech.transcripts.values()))
    assert counts.places == counts.counts.sum() + len(speech.transcripts)
    # "ca" was said in two ways, each half of the time; silence stands in half of the places.
    said = {tuple(p.phones): c for p, c in zip(lexicon.pronunciations, counts.counts.tolist(), strict=True)
            if lexicon.words[p.word] == "ca"}
    short, long = sorted(said, key=len)
    table = {p.phones: p.probability for p in lexicon.pronunciations_of[lexicon.word_id["ca"]]}
    assert max(table.values()) == 1.0
    assert table[short] / table[long] == pytest.approx((said[short] + 1) / (said[long] + 1))
    assert 0.6 < table[short] / table[long] < 1.7
    assert lexicon.silence_probability == pytest.approx(0.5, abs=0.05)
    assert all(p.probability == 1.0 for p in lexicon.pronunciations if lexicon.words[p.word] != "ca")
    assert lexicon.words == true_model.lexicon.words and lexicon.phones is true_model.phones
    assert true_model.with_lexicon(lexicon).digest == true_model.digest


def test_words_that_were_not_heard_keep_equal_probabilities(true_model: HmmModel) -> None:
    speech = sample_speech(true_model, 3, np.random.default_rng(1))
    transcripts = {u: ["c"] for u in speech.transcripts}
    alignments, _ = align(true_model, speech.features, transcripts)
    lexicon, _ = estimate_pronunciation_probabilities(true_model, alignments, transcripts)
    assert {p.probability for p in lexicon.pronunciations} == {1.0}


def test_probabilities_of_nothing_are_refused(true_model: HmmModel) -> None:
    with pytest.raises(InputError, match="align the training split first"):
        estimate_pronunciation_probabilities(true_model, {}, {"u": ["ab"]})
