"""Interpolated modified Kneser-Ney smoothing.

Chen and Goodman 1998 (An empirical study of smoothing techniques for language modeling, TR-10-98), section 3.1;
conventions of kenlm's `lmplz`: counts of `<s>` n-grams, unigrams interpolated with the uniform distribution over the
vocabulary and `</s>`, cutoffs whose mass goes to the shorter history.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from asr_kd.core.errors import InputError
from asr_kd.lm.counts import NgramCounts, count_ngrams
from asr_kd.lm.model import NEVER, NgramModel, Ngrams
from asr_kd.lm.text import EncodedText, Sentences, encode

# lmplz --discount_fallback
FALLBACK = (0.5, 1.0, 1.5)


@dataclass(frozen=True)
class Discounts:
    """The discounts of n-grams counted once, twice, three times or more; is_fallback: the counts gave none."""

    once: float
    twice: float
    more: float
    is_fallback: bool


def estimate(
    sentences: Sentences,
    order: int = 3,
    vocabulary: Iterable[str] | None = None,
    *,
    unknown_word: str | None = None,
    min_counts: Sequence[int] = (),
    min_word_count: int = 1,
) -> NgramModel:
    """An n-gram model with interpolated modified Kneser-Ney smoothing.

    vocabulary: closed list of words, each of which gets a probability; None: the words seen `min_word_count` times.
    unknown_word: stands for all other words, and is predicted; without it n-grams with other words are left out.
    min_counts: least occurrences of an n-gram, by order, the last one for all higher orders.
    Raises InputError for a text or vocabulary without words, an order below 1, cutoffs that fall with the order.
    """
    check_order(order, min_counts)
    text, = encode([sentences], vocabulary, unknown_word=unknown_word, min_count=min_word_count)
    return estimate_encoded(text, order, min_counts)[0]


def estimate_encoded(
    text: EncodedText, order: int, min_counts: Sequence[int] = ()
) -> tuple[NgramModel, list[Discounts]]:
    """As `estimate`, of words as ids; with the discounts of each order."""
    check_order(order, min_counts)
    levels = count_ngrams(text, order)
    discounts = [estimate_discounts(level.adjusted) for level in levels]
    cutoffs = [1, *(_cutoff(min_counts, n) for n in range(2, len(levels) + 1))]
    kept = [level.occurrences >= cutoff if n else np.ones(len(level), bool)
            for n, (level, cutoff) in enumerate(zip(levels, cutoffs, strict=True))]

    vocabulary = text.vocabulary
    shorter = np.full(1, 1.0 / (len(vocabulary) - 1))
    tables, probabilities, backoffs = [np.zeros((1, 0), np.int32)], [], []
    for level, of_level, is_kept in zip(levels, discounts, kept, strict=True):
        probability, gamma = _interpolate(level, of_level, is_kept, shorter)
        tables.append(np.column_stack((tables[-1][level.histories], level.last_words)))
        probabilities.append(probability)
        backoffs.append(gamma)
        shorter = probability
    backoffs = [*backoffs[1:], np.ones(len(levels[-1]))]
    orders = [Ngrams(table[chosen], np.log(probability[chosen]), np.log(backoff[chosen]))
              for table, probability, backoff, chosen in zip(tables[1:], probabilities, backoffs, kept, strict=True)
              if chosen.any()]
    orders[0].log_probs[0] = NEVER
    return NgramModel("the estimated language model", vocabulary, orders), discounts


def estimate_discounts(adjusted: np.ndarray) -> Discounts:
    """Discounts of one order from its counts of counts (Chen and Goodman 1998, equation 26).

    Where n-grams of some count 1 to 4 are wanting, or a discount would not lie above 0 and at most at its count (small
    or artificial data), 0.5, 1 and 1.5. (`lmplz` lets count 4 be wanting, and so takes all from n-grams seen thrice.)
    """
    n1, n2, n3, n4 = (np.bincount(np.minimum(adjusted, 5), minlength=6)[1:5]).tolist()
    if min(n1, n2, n3, n4) > 0:
        share = n1 / (n1 + 2 * n2)
        found = [k - (k + 1) * share * more / fewer for k, fewer, more in ((1, n1, n2), (2, n2, n3), (3, n3, n4))]
        if all(0 < discount <= k for k, discount in enumerate(found, 1)):
            return Discounts(found[0], found[1], found[2], is_fallback=False)
    return Discounts(FALLBACK[0], FALLBACK[1], FALLBACK[2], is_fallback=True)


def check_order(order: int, min_counts: Sequence[int]) -> None:
    """InputError for an order below 1, cutoffs below 1 and cutoffs that fall with the order."""
    if order < 1:
        raise InputError(f"n-gram order {order}: expected 1 or more")
    if any(count < 1 for count in min_counts) or list(min_counts) != sorted(min_counts):
        raise InputError(f"n-gram cutoffs {', '.join(map(str, min_counts))}: expected numbers from 1 that do not fall "
                         "from order to order, else longer n-grams would lose their histories")
    if len(min_counts) > order:
        raise InputError(f"{len(min_counts)} n-gram cutoffs for a model of order {order}")


def _cutoff(min_counts: Sequence[int], order: int) -> int:
    return min_counts[min(order, len(min_counts)) - 1] if min_counts else 1


def _interpolate(
    level: NgramCounts, discounts: Discounts, kept: np.ndarray, shorter: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities of the n-grams of one order, and for each history what it leaves to the order below (1 where
    nothing follows)."""
    of_count = np.array([0.0, discounts.once, discounts.twice, discounts.more])
    counts = level.adjusted.astype(float)
    # What is cut off goes to the order below whole.
    taken = np.where(kept, of_count[np.minimum(level.adjusted, 3)], counts)
    totals = np.bincount(level.histories, counts, len(shorter))
    left = np.bincount(level.histories, taken, len(shorter))
    gamma = np.divide(left, totals, out=np.ones(len(shorter)), where=totals > 0)
    own = (counts - taken) / totals[level.histories]
    return own + gamma[level.histories] * shorter[level.suffixes], gamma
