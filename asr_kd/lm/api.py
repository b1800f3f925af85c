"""The jobs of `asr-kd lm`, from files to files."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from asr_kd.core.config import Settings, build_config
from asr_kd.core.errors import InputError
from asr_kd.lm.arpa import read_arpa, write_arpa
from asr_kd.lm.interpolation import interpolate, tune_weights
from asr_kd.lm.model import NgramModel
from asr_kd.lm.perplexity import PerplexityReport, perplexity
from asr_kd.lm.pruning import prune
from asr_kd.lm.text import read_manifest_sentences, read_sentences, read_vocabulary
from asr_kd.lm.training import LanguageModelConfig, LanguageModelReport, train_language_model


@dataclass(frozen=True)
class WrittenModel:
    """A model made of others: n-grams by order, the weights of a mixture, perplexity on the development text."""

    ngrams: list[int]
    weights: list[float]
    dev: PerplexityReport | None

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "dev": None if self.dev is None else self.dev.as_dict()}


def train_files(
    output: Path,
    text: Sequence[Path] | None = None,
    extra: Sequence[Path] | None = None,
    dev: Sequence[Path] | None = None,
    ids: bool = False,
    manifests: Path | None = None,
    split: str | None = None,
    dev_split: str | None = None,
    vocabulary: Path | None = None,
    order: int = 3,
    min_counts: Sequence[int] | None = None,
    min_word_count: int = 1,
    unknown_word: str | None = None,
    weights: Sequence[float] | None = None,
    prune_threshold: float | None = None,
    max_ngrams: int | None = None,
) -> LanguageModelReport:
    """`train_language_model` from text files or the transcripts of a split to an ARPA file.

    ids: lines of `text` and `dev` begin with an utterance id. Every file of `extra` is a text of its own in the
    mixture. Raises InputError as the functions that it calls, and unless one text is given.
    """
    config = build_config(LanguageModelConfig, Settings(dict(
        order=order, min_counts=list(min_counts or []), min_word_count=min_word_count, unknown_word=unknown_word,
        weights=list(weights) if weights else None, prune_threshold=prune_threshold, max_ngrams=max_ngrams), {}))
    sentences = _read_text(text, ids, manifests, split, "--text")
    development = None
    if dev or dev_split:
        development = list(_read_text(dev, ids, manifests, dev_split, "--dev"))
    words = None if vocabulary is None else read_vocabulary(vocabulary)
    others = [read_sentences([path]) for path in extra or []]
    model, report = train_language_model(sentences, others, words, config, development)
    write_arpa(model, output)
    return report


def interpolate_files(
    output: Path,
    lm: Sequence[Path],
    weights: Sequence[float] | None = None,
    dev: Sequence[Path] | None = None,
    ids: bool = False,
    manifests: Path | None = None,
    dev_split: str | None = None,
) -> WrittenModel:
    """Mix ARPA files into one, by weights that are given or that `dev` chooses."""
    if len(lm) < 2:
        raise InputError("interpolation needs two language models or more (--lm A.arpa --lm B.arpa)")
    development = list(_read_text(dev, ids, manifests, dev_split, "--dev")) if dev or dev_split else None
    if not weights and development is None:
        raise InputError("interpolation needs weights (--weight, one for each model) or a development text (--dev)")
    models = [read_arpa(path) for path in lm]
    if not weights:
        weights = tune_weights(models, development or [])
    return _write(interpolate(models, weights), output, list(weights), development)


def prune_file(
    output: Path,
    lm: Path,
    threshold: float | None = None,
    max_ngrams: int | None = None,
    dev: Sequence[Path] | None = None,
    ids: bool = False,
    manifests: Path | None = None,
    dev_split: str | None = None,
) -> WrittenModel:
    """Entropy pruning of an ARPA file."""
    development = list(_read_text(dev, ids, manifests, dev_split, "--dev")) if dev or dev_split else None
    return _write(prune(read_arpa(lm), threshold=threshold, max_ngrams=max_ngrams), output, [], development)


def perplexity_of_files(
    lm: Path,
    text: Sequence[Path] | None = None,
    ids: bool = False,
    manifests: Path | None = None,
    split: str | None = None,
) -> PerplexityReport:
    """Perplexity of an ARPA file on text files or on the transcripts of a split."""
    sentences = _read_text(text, ids, manifests, split, "--text")
    return perplexity(read_arpa(lm), sentences)


def _write(
    model: NgramModel, output: Path, weights: list[float], development: list[list[str]] | None
) -> WrittenModel:
    report = None if development is None else perplexity(model, development)
    write_arpa(model, output)
    return WrittenModel([len(ngrams) for ngrams in model.orders], weights, report)


def _read_text(
    paths: Sequence[Path] | None, ids: bool, manifests: Path | None, split: str | None, option: str
) -> Iterator[list[str]]:
    if paths and split:
        raise InputError(f"{option} and a split of manifests are both given; which text is meant?")
    if paths:
        return read_sentences(paths, ids)
    split_option = "--dev-split" if option == "--dev" else "--split"
    if split is None:
        raise InputError(f"no text: give {option} FILE, or --manifests DIR and {split_option} NAME")
    if manifests is None:
        raise InputError(f"{split_option} {split} is a split of manifests; give their folder by --manifests DIR")
    return read_manifest_sentences(manifests, split)
