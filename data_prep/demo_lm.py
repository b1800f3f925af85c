"""A small n-gram LM for the demo corpus: interpolated Witten-Bell, written as ARPA.

Bell, Cleary and Witten 1990; Chen and Goodman 1998, section 2.5:
`p(w | h) = (c(h w) + t(h) p(w | h')) / (c(h) + t(h))`, `t(h)` the number of words seen after `h`; the last level is
uniform over the vocabulary, so that every word has a probability.
"""

import gzip
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

from asr_kd.core.files import atomic_file

_BEGIN, _END = "<s>", "</s>"
_Ngram = tuple[str, ...]


class WittenBell:
    """An n-gram LM of the given order over `vocabulary` and `</s>`."""

    def __init__(self, sentences: Iterable[Sequence[str]], vocabulary: Iterable[str], order: int) -> None:
        self.order = order
        self.vocabulary = sorted({*vocabulary, _END})
        self._counts: list[dict[_Ngram, Counter[str]]] = [defaultdict(Counter) for _ in range(order)]
        for words in sentences:
            padded = (_BEGIN, *words, _END)
            for end in range(1, len(padded)):
                for length in range(min(order, end + 1)):
                    self._counts[length][padded[end - length : end]][padded[end]] += 1

    def probability(self, word: str, history: _Ngram) -> float:
        """p(word | the last order - 1 words of `history`)."""
        history = history[len(history) - min(len(history), self.order - 1) :]
        lower = self.probability(word, history[1:]) if history else 1 / len(self.vocabulary)
        seen = self._counts[len(history)].get(history)
        if not seen:
            return lower
        return (seen[word] + len(seen) * lower) / (seen.total() + len(seen))

    def perplexity(self, sentences: Iterable[Sequence[str]]) -> float:
        """Perplexity of `sentences`, their ends counted."""
        log_probability, tokens = 0.0, 0
        for words in sentences:
            padded = (_BEGIN, *words, _END)
            for end in range(1, len(padded)):
                log_probability += math.log(self.probability(padded[end], padded[:end]))
                tokens += 1
        return math.exp(-log_probability / tokens)

    def write(self, path: Path) -> None:
        """Write the LM as gzip'd ARPA; the same LM gives the same bytes."""
        levels: list[list[_Ngram]] = [[(word,) for word in [_BEGIN, *self.vocabulary]]]
        for counts in self._counts[1:]:
            levels.append(sorted((*history, word) for history, seen in counts.items() for word in seen))
        lines = ["\\data\\", *(f"ngram {n}={len(level)}" for n, level in enumerate(levels, 1))]
        for n, level in enumerate(levels, 1):
            lines += ["", f"\\{n}-grams:", *(self._line(ngram) for ngram in level)]
        lines += ["", "\\end\\", ""]
        with atomic_file(path, "wb") as file, gzip.GzipFile("", "wb", fileobj=file, mtime=0) as zipped:
            zipped.write("\n".join(lines).encode())

    def _line(self, ngram: _Ngram) -> str:
        log_probability = -99.0 if ngram == (_BEGIN,) else math.log10(self.probability(ngram[-1], ngram[:-1]))
        line = f"{log_probability:.6f}\t{' '.join(ngram)}"
        seen = self._counts[len(ngram)].get(ngram) if len(ngram) < self.order else None
        # What an unseen word gets is t(h) / (c(h) + t(h)) of its lower-order probability: the back-off weight.
        return f"{line}\t{math.log10(len(seen) / (seen.total() + len(seen))):.6f}" if seen else line
