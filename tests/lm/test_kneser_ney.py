"""Modified Kneser-Ney: against its definition, against kenlm, and what it sums to."""

import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asr_kd.core.errors import InputError
from asr_kd.lm.arpa import read_arpa, write_arpa
from asr_kd.lm.kneser_ney import estimate, estimate_discounts, estimate_encoded
from asr_kd.lm.perplexity import perplexity
from asr_kd.lm.text import encode, read_sentences, read_vocabulary
from tests.lm.models import LETTERS, sentences, sums, tables_of

GOLDEN = Path(__file__).parent / "golden"


class ByDefinition:
    """Chen and Goodman 1998, equations 18 to 27, one n-gram at a time; histories with <s> by their occurrences."""

    def __init__(self, text: Sequence[Sequence[str]], order: int, words: Sequence[str], min_counts: Sequence[int]):
        self.order, self.words = order, [*words, "</s>"]
        occurrences: list[Counter[tuple[str, ...]]] = [Counter() for _ in range(order + 1)]
        for sentence in text:
            padded = ["<s>", *sentence, "</s>"]
            for end in range(1, len(padded)):
                for n in range(1, min(order, end + 1) + 1):
                    occurrences[n][tuple(padded[end - n + 1:end + 1])] += 1
        self.counts: list[Counter[tuple[str, ...]]] = [Counter(), *occurrences[1:]]
        for n in range(1, order):
            self.counts[n] = Counter({g: c for g, c in occurrences[n].items() if g[0] == "<s>"})
            self.counts[n].update(longer[1:] for longer in occurrences[n + 1])
        cut = [1, 1, *min_counts[1:], *([min_counts[-1]] * order if min_counts else [1] * order)]
        self.kept = [{g for g, c in occurrences[n].items() if c >= cut[n]} for n in range(order + 1)]
        self.discounts = [self._discounts(counts) for counts in self.counts]
        self.followers: list[defaultdict[tuple[str, ...], list[tuple[str, ...]]]]
        self.followers = [defaultdict(list) for _ in range(order + 1)]
        for n, counts in enumerate(self.counts):
            for ngram in counts:
                self.followers[n][ngram[:-1]].append(ngram)

    @staticmethod
    def _discounts(counts: Counter[tuple[str, ...]]) -> list[float]:
        of = Counter(counts.values())
        n1, n2, n3, n4 = (of[k] for k in (1, 2, 3, 4))
        if n1 and n2 and n3 and n4:
            y = n1 / (n1 + 2 * n2)
            found = [0.0, 1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3]
            if all(0 < d <= k for k, d in enumerate(found) if k):
                return found
        return [0.0, 0.5, 1.0, 1.5]

    def probability(self, ngram: tuple[str, ...]) -> float:
        if not ngram:
            return 1 / len(self.words)
        n = len(ngram)
        followers = self.followers[n][ngram[:-1]]
        if not followers:
            return self.probability(ngram[1:])
        counts, total, left = self.counts[n], 0, 0.0
        for other in followers:
            total += counts[other]
            left += self.discounts[n][min(counts[other], 3)] if n == 1 or other in self.kept[n] else counts[other]
        own = 0.0
        if ngram in counts and (n == 1 or ngram in self.kept[n]):
            own = counts[ngram] - self.discounts[n][min(counts[ngram], 3)]
        return (own + left * self.probability(ngram[1:])) / total


@settings(max_examples=60, deadline=None)
@given(sentences(), st.integers(1, 4), st.sampled_from([(), (1, 2), (1, 1, 2), (1, 2, 3)]))
def test_every_probability_is_that_of_the_definition(
    text: list[list[str]], order: int, min_counts: tuple[int, ...]
) -> None:
    min_counts = min_counts[:order]
    model = estimate(text, order, LETTERS, min_counts=min_counts)
    longest = min(order, max(map(len, text)) + 2)
    reference = ByDefinition(text, longest, LETTERS, min_counts)
    log_probs, _ = tables_of(model)
    assert set(log_probs) - {("<s>",)} == {(w,) for w in [*LETTERS, "</s>"]} | {
        ngram for n in range(2, longest + 1) for ngram in reference.kept[n]}
    for history in [(), ("<s>",), ("a",), ("a", "b"), ("<s>", "c"), ("c", "c", "d"), ("<s>", "a", "b")]:
        for word in [*LETTERS, "</s>"]:
            expected = reference.probability((*history, word)[-longest:])
            assert math.exp(model.score(history, word)) == pytest.approx(expected, rel=1e-9)


@settings(max_examples=60, deadline=None)
@given(sentences(), st.integers(1, 4), st.sampled_from([None, "<unk>"]), st.sampled_from(["abcde", "ab", None]))
def test_probabilities_sum_to_one_after_every_history(
    text: list[list[str]], order: int, unknown_word: str | None, vocabulary: str | None
) -> None:
    model = estimate(text, order, vocabulary, unknown_word=unknown_word)
    assert sums(model) == pytest.approx([1.0] * len(sums(model)), abs=1e-12)


@pytest.mark.parametrize(("name", "min_counts"), [("lmplz", ()), ("lmplz_pruned", (1, 2, 2))])
def test_kenlm_gives_the_same_model(name: str, min_counts: tuple[int, ...]) -> None:
    theirs = tables_of(read_arpa(GOLDEN / f"{name}.arpa"))
    ours = tables_of(estimate(read_sentences([GOLDEN / "sentences.txt"]), 3, unknown_word="<unk>",
                              min_counts=min_counts))
    for their_table, our_table in zip(theirs, ours, strict=True):
        assert their_table.keys() == our_table.keys()
        for ngram in their_table.keys() - {("<s>",)}:  # kenlm: log-probability 0
            assert our_table[ngram] == pytest.approx(their_table[ngram], abs=1e-6), ngram
    assert ours[1]["<s>",] == pytest.approx(theirs[1]["<s>",], abs=1e-6)


def test_discounts_of_the_corpus_are_those_that_kenlm_prints(shared: Path) -> None:
    sentences = read_sentences([shared / "corpora" / "speechocean762" / "train" / "text"], ids=True)
    text, = encode([sentences], unknown_word="<unk>")
    _, discounts = estimate_encoded(text, 3)
    printed = [(0.629766, 0.914124, 1.84968), (0.778749, 1.07749, 1.62162), (0.878704, 1.30679, 1.46831)]
    found = [(d.once, d.twice, d.more) for d in discounts]
    np.testing.assert_allclose(found, printed, rtol=1e-5)


def test_perplexity_on_the_corpus_is_below_that_of_its_witten_bell_models(shared: Path) -> None:
    corpus = shared / "corpora" / "speechocean762"
    vocabulary = read_vocabulary(corpus / "lexicon" / "lexicon.txt")
    train = list(read_sentences([corpus / "train" / "text"], ids=True))
    for order, dev, test in ((2, 131.18, 121.11), (3, 139.67, 121.42)):
        model = estimate(train, order, vocabulary)
        assert perplexity(model, read_sentences([corpus / "dev" / "text"], ids=True)).perplexity < dev
        assert perplexity(model, read_sentences([corpus / "test" / "text"], ids=True)).perplexity < test


def test_discounts_fall_back_where_counts_of_counts_are_wanting() -> None:
    assert not estimate_discounts(np.array([1] * 20 + [2] * 8 + [3] * 4 + [4] * 2)).is_fallback
    for counts in ([], [7, 8, 9], [1, 1, 2, 3], [1] + [2] * 2 + [3] * 50 + [4]):
        found = estimate_discounts(np.array(counts, np.int64))
        assert (found.once, found.twice, found.more, found.is_fallback) == (0.5, 1.0, 1.5, True)


def test_the_order_of_the_sentences_does_not_matter(tmp_path: Path) -> None:
    text = [list("abca"), list("abd"), list("ca"), list("aab")]
    for name, ordered in (("a", text), ("b", text[::-1])):
        write_arpa(estimate(ordered, 3), tmp_path / f"{name}.arpa.gz")
    assert (tmp_path / "a.arpa.gz").read_bytes() == (tmp_path / "b.arpa.gz").read_bytes()


def test_without_unknown_word_ngrams_with_other_words_are_left_out_but_count_as_neighbours() -> None:
    text = [["a", "x", "b"], ["a", "y", "b"], ["b", "a"]]
    model = estimate(text, 2, "ab")
    log_probs, _ = tables_of(model)
    assert set(log_probs) == {("<s>",), ("</s>",), ("a",), ("b",), ("<s>", "a"), ("<s>", "b"), ("b", "</s>"),
                              ("b", "a"), ("a", "</s>")}
    # b stands after <s> and after a word of no vocabulary, a after <s> and b, </s> after a and b: two each.
    assert [model.score((), word) for word in ("a", "b", "</s>")] == pytest.approx([math.log(1 / 3)] * 3)


def test_a_sentence_shorter_than_the_order_lowers_it() -> None:
    assert estimate([["a"], ["b"]], 5).order == 3


@pytest.mark.parametrize(("order", "min_counts", "message"), [
    (0, (), "n-gram order 0: expected 1 or more"), (-1, (), "n-gram order -1"),
    (3, (1, 3, 2), "n-gram cutoffs 1, 3, 2: expected numbers from 1 that do not fall"),
    (3, (0,), "n-gram cutoffs 0"), (2, (1, 1, 1), "3 n-gram cutoffs for a model of order 2"),
])
def test_orders_and_cutoffs_that_cannot_be_are_refused(order: int, min_counts: tuple[int, ...], message: str) -> None:
    with pytest.raises(InputError, match=message):
        estimate([["a"]], order, min_counts=min_counts)
