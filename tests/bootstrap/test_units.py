"""Units of every kind through lexicon, training, alignment, graph and search: what was sampled comes back."""

from pathlib import Path

import numpy as np
import pytest

from asr_kd.alignment.align import AlignConfig, align
from asr_kd.alignment.boundaries import phone_segments
from asr_kd.bootstrap.monophone import MonophoneConfig, train_monophone
from asr_kd.bootstrap.triphone import TriphoneConfig, train_triphone
from asr_kd.decoding.graph import DecodingGraph
from asr_kd.decoding.rescoring import best_path
from asr_kd.decoding.search import SearchConfig, decode
from asr_kd.graph.hclg import build_graph
from asr_kd.hmm.model import HmmModel
from asr_kd.lexicon.lexicon import Lexicon, LexiconConfig
from asr_kd.lexicon.lexicon_file import write_lexicon
from asr_kd.lexicon.phones import without_stress
from asr_kd.lexicon.sources import LexiconSourceConfig, build_lexicon
from asr_kd.lm.arpa import read_arpa
from asr_kd.tied_states.tree_growing import TreeConfig
from tests.hmm.toy import DIM, Sampled

MONO = MonophoneConfig(deltas=False, num_passes=20, num_gaussians=40, last_split_pass=12)
TRI = TriphoneConfig(deltas=False, num_passes=8, realign_passes=[4], num_gaussians=80, last_split_pass=5,
                     tree=TreeConfig(num_leaves=40, min_gain=20.0, round_to=1))
LEXICON = "ab A1 B\nba B A0\nca C A1\nca C B A0\nc C\nabc A1 B C\n"
NOISES = ("[NOISE]", "<UNK>")


@pytest.fixture(scope="module")
def noisy(sampled: Sampled) -> Sampled:
    """The sampled speech, every other utterance with a word at its end that is noise (the phone -1)."""
    generator = np.random.default_rng(5)
    noise_mean = 9.0 * generator.standard_normal(DIM)
    result = Sampled(dict(sampled.features), dict(sampled.transcripts), dict(sampled.phones))
    for i, utterance in enumerate(sorted(sampled.features)[::2]):
        frames = noise_mean + generator.standard_normal((int(generator.integers(8, 20)), DIM))
        result.features[utterance] = np.concatenate([sampled.features[utterance], frames.astype(np.float32)])
        result.transcripts[utterance] = [*sampled.transcripts[utterance], NOISES[i % 2]]
        result.phones[utterance] = np.concatenate([sampled.phones[utterance], np.full(len(frames), -1)])
    return result


def make_lexicon(folder: Path, speech: Sampled, source: LexiconSourceConfig, config: LexiconConfig) -> Lexicon:
    file = folder / "corpus_lexicon.txt"
    file.write_text(LEXICON)
    words = {word for words in speech.transcripts.values() for word in words}
    entries, _ = build_lexicon(words, source, file)
    write_lexicon(folder / "lexicon.txt", entries)
    return Lexicon.read(folder / "lexicon.txt", config)


def unigram(lexicon: Lexicon, folder: Path) -> Path:
    words = [word for word in lexicon.words[1:] if word != "!SIL"]
    lines = [f"{-np.log10(len(words) + 1):.4f} {word}" for word in ["</s>", *words]]
    path = folder / "unigram.arpa"
    path.write_text("\n".join(["\\data\\", f"ngram 1={len(lines) + 1}", "", "\\1-grams:", "-99 <s>", *lines, "",
                               "\\end\\", ""]))
    return path


def sounds(lexicon: Lexicon, ids: np.ndarray) -> list[str]:
    """What a phone or grapheme is in the sampled language: its base phone."""
    return [without_stress(lexicon.phones.base(p)).upper() for p in ids]


def frame_accuracy(model: HmmModel, speech: Sampled, truth: Lexicon, alignments: dict[str, np.ndarray]) -> float:
    right = []
    for utterance, ids in alignments.items():
        segments = phone_segments(ids, model.transitions)
        heard = sounds(model.lexicon, np.repeat(segments.phones, segments.frames))
        said = [sounds(truth, [p])[0] if p >= 0 else "SPN" for p in speech.phones[utterance].tolist()]
        right += [a == b for a, b in zip(heard, said, strict=True)]
    return float(np.mean(right))


@pytest.mark.parametrize(("source", "positions"), [
    (LexiconSourceConfig(special_words={"[NOISE]": "SPN"}), True),
    (LexiconSourceConfig(special_words={"[NOISE]": "SPN"}), False),
    (LexiconSourceConfig(special_words={"[NOISE]": "SPN"}, stress="strip"), True),
    (LexiconSourceConfig(special_words={"[NOISE]": "SPN"}, source="graphemes"), True),
    (LexiconSourceConfig(special_words={"[NOISE]": "SPN"}, source="graphemes"), False),
], ids=["positions", "no-positions", "no-stress", "graphemes", "graphemes-no-positions"])
def test_what_was_said_comes_back(noisy: Sampled, lexicon: Lexicon, tmp_path: Path, source: LexiconSourceConfig,
                                  positions: bool) -> None:
    units = make_lexicon(tmp_path, noisy, source, LexiconConfig(position_dependent=positions))
    assert units.phones.position_dependent == positions
    monophone = train_monophone(noisy.features, noisy.transcripts, units, MONO)
    alignments, _ = align(monophone, noisy.features, noisy.transcripts, AlignConfig(boost_silence=1.25))
    triphone, report = train_triphone(noisy.features, alignments, noisy.transcripts, monophone, TRI)
    assert report.num_seen_pdfs == report.num_pdfs
    alignments, drops = align(triphone, noisy.features, noisy.transcripts)
    assert drops.kept == len(noisy.features)
    # "ca" is also said as "C B A": what is spelt has no such variant.
    assert frame_accuracy(triphone, noisy, lexicon, alignments) > (0.85 if source.source == "graphemes" else 0.95)
    for utterance, words in noisy.transcripts.items():
        last = sounds(units, phone_segments(alignments[utterance], triphone.transitions).phones)[-1:]
        assert (last == ["SPN"]) == (words[-1] in NOISES)
    build_graph(triphone, read_arpa(unigram(units, tmp_path)), tmp_path / "graph")
    graph = DecodingGraph.load(tmp_path / "graph", triphone.digest)
    assert triphone.gmm is not None
    right = []
    for utterance in sorted(noisy.features)[:20]:
        result = decode(graph, triphone.gmm.log_likelihoods(noisy.features[utterance]),
                        SearchConfig(acoustic_scale=1.0, beam=40.0))
        found = phone_segments(best_path(result.lattice, 1.0, 0.0).transition_ids, triphone.transitions)
        # Sounds, not words: "ab c" and "abc", [NOISE] and <UNK> are the same.
        heard = [sound for sound in sounds(units, found.phones) if sound != "SIL"]
        said = phone_segments(alignments[utterance], triphone.transitions)
        right.append(heard == [sound for sound in sounds(units, said.phones) if sound != "SIL"])
        assert (result.words[-1] in NOISES) == (noisy.transcripts[utterance][-1] in NOISES)
    assert sum(right) >= (15 if source.source == "graphemes" else 19)


def test_words_left_out_of_the_lexicon_train_as_the_unknown_word(noisy: Sampled, tmp_path: Path) -> None:
    file = tmp_path / "lexicon.txt"
    file.write_text(LEXICON.replace("abc A1 B C\n", ""))
    words = {word for words in noisy.transcripts.values() for word in words}
    entries, report = build_lexicon(words, LexiconSourceConfig(missing="unknown"), file)
    assert report.unknown == ("[NOISE]", "abc")
    units = Lexicon.from_entries(entries)
    config = MONO.model_copy(update={"map_unknown": True, "num_passes": 5})
    model = train_monophone(noisy.features, noisy.transcripts, units, config)
    alignments, drops = align(model, noisy.features, noisy.transcripts, AlignConfig(map_unknown=True))
    assert drops.kept == len(noisy.features)
    spn = units.phones.ids["SPN_S"]
    for utterance, transcript in noisy.transcripts.items():
        phones = phone_segments(alignments[utterance], model.transitions).phones
        assert (phones == spn).sum() == sum(word in ("abc", *NOISES) for word in transcript)
