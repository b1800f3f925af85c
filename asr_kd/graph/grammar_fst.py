"""The grammar G: a back-off n-gram model as an acceptor of words."""

from dataclasses import dataclass

from asr_kd.graph.fst import Fst
from asr_kd.lm.arpa import NgramModel

History = tuple[int, ...]


@dataclass(frozen=True)
class Grammar:
    """G, and what the lexicon could not say.

    fst: input and output labels are the lexicon's word ids, but back-off arcs read `#0` (id: number of words) and
    write epsilon; dropped_words: words of the model that the lexicon lacks; dropped_ngrams: n-grams with them.
    """

    fst: Fst
    dropped_words: list[str]
    dropped_ngrams: int


def build_grammar(model: NgramModel, words: list[str]) -> Grammar:
    """G over `words` (id -> word, 0 = epsilon), as Kaldi's `arpa2fst --disambig-symbol=#0`.

    `<s>` is the start state's history, `</s>` a final cost. A history with no n-gram of its own is passed over, its
    backoff added to the arcs that would have entered it.
    """
    word_id = {word: i for i, word in enumerate(words) if i > 0}
    labels = [word_id.get(word, 0) for word in model.words]
    begin, end = model.words.index("<s>"), model.words.index("</s>")
    labels[begin], labels[end] = -1, -2

    usable: list[list[tuple[History, float]]] = []
    backoffs: dict[History, float] = {}
    dropped = 0
    for ngrams in model.orders:
        kept: list[tuple[History, float]] = []
        rows = zip(ngrams.words.tolist(), ngrams.log_probs.tolist(), ngrams.backoffs.tolist(), strict=True)
        for ids, log_prob, backoff in rows:
            key = tuple([labels[i] for i in ids])
            if 0 in key:
                dropped += 1
            elif -1 not in key[1:] and -2 not in key[:-1]:
                kept.append((key, -log_prob))
                backoffs[key] = -backoff
        usable.append(kept)

    states: dict[History, int] = {(): 0}
    for kept in usable[1:]:
        for key, _ in kept:
            states.setdefault(key[:-1], len(states))

    def enter(history: History) -> tuple[int, float]:
        """The state of the longest known suffix, and the backoff costs on the way to it."""
        cost = 0.0
        while history not in states:
            cost += backoffs.get(history, 0.0)
            history = history[1:]
        return states[history], cost

    disambiguation = len(words)
    rows_out: list[tuple[int, int, int, float, int]] = []
    finals: dict[int, float] = {}
    for kept in usable:
        for key, cost in kept:
            source, word = states[key[:-1]], key[-1]
            if word == -2:
                finals[source] = cost
            elif word > 0:
                state, extra = enter(key if len(key) < model.order else key[1:])
                rows_out.append((source, word, word, cost + extra, state))
    for history, source in states.items():
        if history:
            state, extra = enter(history[1:])
            rows_out.append((source, disambiguation, 0, backoffs[history] + extra, state))
    dropped_words = [word for word, label in zip(model.words, labels, strict=True) if label == 0]
    return Grammar(Fst.from_lists(enter((-1,))[0], finals, rows_out), dropped_words, dropped)
