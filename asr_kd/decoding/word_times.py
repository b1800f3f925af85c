"""The times of the words of a decoded path."""

from dataclasses import dataclass

from asr_kd.alignment.boundaries import phone_segments
from asr_kd.alignment.word_segments import word_segments
from asr_kd.decoding.rescoring import BestPath
from asr_kd.hmm.model import HmmModel


@dataclass(frozen=True, slots=True)
class WordTime:
    """A word (its text), the frame in which its first phone begins, and its number of frames."""

    word: str
    start: int
    frames: int


def word_times(path: BestPath, hmm: HmmModel) -> list[WordTime]:
    """Start and length of each word of the path, read off its phones (Kaldi's `lattice-align-words`).

    The graph puts a word on some arc near it; its time is that of its own phones, without the optional silence around
    it. InputError where the phones do not spell the words: the path belongs to another model, or was cut off within
    a word.
    """
    segments = phone_segments(path.transition_ids, hmm.transitions)
    spelt = word_segments(segments, path.words, hmm.lexicon)
    return [WordTime(hmm.lexicon.words[word], start, frames)
            for word, start, frames in zip(path.words, spelt.starts.tolist(), spelt.frames.tolist(), strict=True)]
