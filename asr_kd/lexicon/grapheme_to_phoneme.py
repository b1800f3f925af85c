"""Pronunciations of unknown words, by a joint n-gram model trained on a lexicon (Phonetisaurus, an optional extra)."""

import math
import subprocess
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from asr_kd.core.errors import InputError, WorkError
from asr_kd.core.log import get_logger
from asr_kd.core.progress import ProgressBar
from asr_kd.core.text_tables import words_of
from asr_kd.lexicon.cmu_dictionary import dictionary_form
from asr_kd.lexicon.lexicon_file import Entry

logger = get_logger(__name__)

# Phonetisaurus joins letters and phones by these.
_RESERVED = ("}", "|", "_")
_ORDER = 7
_STEPS = 4  # programs that run one after the other


def guess_pronunciations(
    words: Iterable[str], lexicon: Mapping[str, Iterable[Sequence[str]]], variants: int = 1
) -> dict[str, list[Entry]]:
    """Up to `variants` pronunciations of each word, in the phones of `lexicon` (word -> pronunciations).

    Joint n-grams of order up to 7 over letters and phones (Novak, Minematsu, Hirose 2016), trained at each call: a
    minute for the CMU dictionary's 126,000 words, a second for 3,000. The probability of the best one is 1, that of
    others relative to it. Case does not count. A word with a character that no word of `lexicon` has is left out of
    the answer: nothing is known of it. InputError where Phonetisaurus is not installed or has no program for this
    machine.
    """
    forms = {word: dictionary_form(word) for word in words}
    pairs = {(dictionary_form(word), " ".join(pron)) for word, prons in lexicon.items() for pron in prons}
    examples = sorted((form, pron) for form, pron in pairs if not any(c in form + pron for c in _RESERVED))
    alphabet = {c for form, _ in examples for c in form}
    known = sorted({form for form in forms.values() if form and alphabet >= set(form)})
    if not known:
        return {}
    logger.info("grapheme-to-phoneme model of %d pronunciations for %d words", len(examples), len(known))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with ProgressBar(_STEPS, f"guessing how {len(known)} words are said", "steps") as bar:
            bar.update(0)
            _train(folder, examples, bar)
            guesses = _apply(folder, known, variants)
            bar.update(1)
    return {word: [Entry(word, pron, probability) for pron, probability in guesses[form]]
            for word, form in forms.items() if form in guesses}


def check_installed() -> dict[str, str]:
    """The environment that Phonetisaurus' programs run in; InputError where it is not installed."""
    try:
        from phonetisaurus import guess_environment
    except ImportError:
        raise InputError("grapheme-to-phoneme conversion needs Phonetisaurus, which comes with the "
                         "extra g2p: pip install 'asr-kd[g2p]'") from None
    environment: dict[str, str] = guess_environment()
    return environment


def _train(folder: Path, examples: Iterable[tuple[str, str]], bar: ProgressBar) -> None:
    (folder / "lexicon").write_text("".join(f"{word}\t{pron}\n" for word, pron in examples), encoding="utf-8")
    _run(folder, "phonetisaurus-align", "--input=lexicon", "--ofile=aligned", "--seq1_del=false", "--seq2_del=false")
    bar.update(1)
    lines = [line for line in (folder / "aligned").read_text(encoding="utf-8").split("\n") if line]
    if not lines:
        raise InputError("the lexicon's spellings and pronunciations cannot be aligned, so nothing can be learnt from "
                         "them; give the missing words' pronunciations in the lexicon")
    # The estimator dies of an order that no example has.
    order = min(_ORDER, 1 + max(len(words_of(line)) for line in lines))
    _run(folder, "estimate-ngram", "-o", str(order), "-t", "aligned", "-wl", "arpa")
    bar.update(1)
    _run(folder, "phonetisaurus-arpa2wfst", "--lm=arpa", "--ofile=fst")
    bar.update(1)


def _apply(folder: Path, words: Iterable[str], variants: int) -> dict[str, list[tuple[tuple[str, ...], float]]]:
    """Word -> (phones, probability relative to the best)."""
    (folder / "words").write_text("".join(f"{word}\n" for word in words), encoding="utf-8")
    output = _run(folder, "phonetisaurus-g2pfst", "--model=fst", "--wordlist=words", f"--nbest={variants}")
    guesses: dict[str, list[tuple[tuple[str, ...], float]]] = {}
    costs: dict[str, float] = {}
    for line in filter(None, output.split("\n")):
        word, cost, phones = line.split("\t")
        if words_of(phones):
            best = costs.setdefault(word, float(cost))
            guesses.setdefault(word, []).append((tuple(words_of(phones)), math.exp(min(0.0, best - float(cost)))))
    return guesses


def _run(folder: Path, program: str, *arguments: str) -> str:
    """Return the output of a program of the wheel."""
    environment = check_installed()
    binary = Path(environment["PATH"].split(":")[0]) / program
    try:
        done = subprocess.run([binary, *arguments], cwd=folder, env=environment, capture_output=True, check=False)
    except OSError as error:
        raise InputError(f"Phonetisaurus has no program for this machine ({binary}: {error.strerror}); give the "
                         "words' pronunciations in the lexicon") from None
    if done.returncode:
        last = done.stderr.decode("utf-8", errors="replace").strip().splitlines()[-1:]
        raise WorkError(f"{program} failed with code {done.returncode}: {' '.join(last)}")
    return done.stdout.decode("utf-8")
