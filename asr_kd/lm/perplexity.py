"""Perplexity: how well a model predicts a text."""

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from asr_kd.core.errors import InputError
from asr_kd.lm.index import score_stream
from asr_kd.lm.model import BEGIN, END, NgramModel
from asr_kd.lm.text import EncodedText, Sentences, encode


@dataclass(frozen=True)
class PerplexityReport:
    """Counts and sums of natural logarithms; perplexities come from them.

    words: all words, oov those outside the vocabulary; log_prob_words: of the words in it; log_prob_ends: of `</s>`;
    log_prob_oov: of the others, as the model's unknown word, None where it has none.
    """

    sentences: int
    words: int
    oov: int
    log_prob_words: float
    log_prob_ends: float
    log_prob_oov: float | None

    @property
    def log_prob(self) -> float:
        """ln p of known words and sentence ends."""
        return self.log_prob_words + self.log_prob_ends

    @property
    def oov_rate(self) -> float:
        """Share of the words that are outside the vocabulary."""
        return self.oov / self.words

    @property
    def perplexity(self) -> float:
        """Of known words and sentence ends; words outside the vocabulary left out (as kenlm and SRILM)."""
        return math.exp(-self.log_prob / (self.words - self.oov + self.sentences))

    @property
    def perplexity_without_ends(self) -> float:
        """Of known words alone: `</s>` counts neither in the sum nor in the number."""
        return math.exp(-self.log_prob_words / (self.words - self.oov))

    @property
    def perplexity_with_oov(self) -> float | None:
        """Of all words, the unknown word in place of others, and sentence ends."""
        if self.log_prob_oov is None:
            return None if self.oov else self.perplexity
        return math.exp(-(self.log_prob + self.log_prob_oov) / (self.words + self.sentences))

    def as_dict(self) -> dict[str, Any]:
        """Counts, sums and perplexities as JSON values."""
        return {**asdict(self), "log_prob": self.log_prob, "oov_rate": self.oov_rate, "perplexity": self.perplexity,
                "perplexity_without_ends": self.perplexity_without_ends,
                "perplexity_with_oov": self.perplexity_with_oov}


def perplexity(model: NgramModel, sentences: Sentences) -> PerplexityReport:
    """Perplexity of a model on a text, sentence ends counted, and its rate of words outside the vocabulary.

    After a word outside the vocabulary the history is the model's unknown word, or begins anew. Raises InputError for
    a text without words, or without one that the model knows.
    """
    unknown = model.unknown_word
    text, = encode([sentences], (word for word in model.words if word not in (BEGIN, END)), unknown_word=unknown)
    log_probs = score_encoded(model, text)
    is_end, is_begin = text.tokens == 1, text.tokens == 0
    is_oov = text.tokens == (2 if unknown else len(text.vocabulary))
    is_known = ~(is_begin | is_end | is_oov)
    if not is_known.any():
        raise InputError(f"{model.path}: the model knows no word of the text ({text.words} words); is the text of "
                         "another language, or written in other letters?")
    of_oov = float(log_probs[is_oov].sum()) if unknown or not is_oov.any() else None
    return PerplexityReport(text.sentences, text.words, int(np.count_nonzero(is_oov)),
                            float(log_probs[is_known].sum()), float(log_probs[is_end].sum()), of_oov)


def score_encoded(model: NgramModel, text: EncodedText) -> np.ndarray:
    """ln p of each token of `text` (in any vocabulary), float64; -inf for words that the model knows not even as
    unknown ones; what stands at `<s>` means nothing."""
    mapping = np.append(model.map_words(text.vocabulary), model.map_words([model.unknown_word or ""]))
    return score_stream(model.index, model.orders, mapping[text.tokens].astype(np.int32))
