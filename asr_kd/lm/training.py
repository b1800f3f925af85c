"""A recipe's language model: one of each text, mixed with weights chosen on a development text, pruned."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from pydantic import Field, model_validator

from asr_kd.core.config import Config
from asr_kd.core.errors import InputError
from asr_kd.lm.interpolation import check_weights, interpolate, tune_weights
from asr_kd.lm.kneser_ney import Discounts, check_order, estimate_encoded
from asr_kd.lm.model import NgramModel
from asr_kd.lm.perplexity import PerplexityReport, perplexity
from asr_kd.lm.pruning import prune
from asr_kd.lm.text import Sentences, encode


class LanguageModelConfig(Config):
    """Settings of an n-gram model with interpolated modified Kneser-Ney smoothing.

    min_counts: least occurrences of an n-gram to be kept, by order, the last for all higher ones; min_word_count: of a
    word, where no vocabulary is given; unknown_word: predicted in place of words outside the vocabulary. weights: of
    the text and of each extra text; none: chosen on the development text. prune_threshold or max_ngrams: see `prune`.
    """

    order: int = Field(3, ge=1)
    min_counts: list[int] = []
    min_word_count: int = Field(1, ge=1)
    unknown_word: Literal["<unk>", "<UNK>"] | None = None
    weights: list[float] | None = None
    prune_threshold: float | None = Field(None, ge=0)
    max_ngrams: int | None = Field(None, ge=1)

    @model_validator(mode="after")
    def _fits(self) -> "LanguageModelConfig":
        if self.prune_threshold is not None and self.max_ngrams is not None:
            raise ValueError("give prune_threshold or max_ngrams, not both")
        try:
            check_order(self.order, self.min_counts)
        except InputError as error:
            raise ValueError(str(error)) from None
        return self


@dataclass(frozen=True)
class ComponentReport:
    """The model of one text. oov: its words outside the vocabulary; dev: None without a development text."""

    sentences: int
    words: int
    oov: int
    ngrams: list[int]
    discounts: list[Discounts]
    weight: float
    dev: PerplexityReport | None


@dataclass(frozen=True)
class LanguageModelReport:
    """The model that was made, and its perplexity on the development text before and after pruning.

    vocabulary: the number of words that can be predicted, `</s>` among them.
    """

    vocabulary: int
    components: list[ComponentReport]
    ngrams_unpruned: list[int]
    ngrams: list[int]
    dev_unpruned: PerplexityReport | None
    dev: PerplexityReport | None

    def as_dict(self) -> dict[str, Any]:
        """Everything as JSON values, perplexities worked out."""
        value = asdict(self)
        value["dev_unpruned"], value["dev"] = _as_dict(self.dev_unpruned), _as_dict(self.dev)
        for component, of_component in zip(value["components"], self.components, strict=True):
            component["dev"] = _as_dict(of_component.dev)
        return value


def train_language_model(
    text: Sentences,
    extra: Sequence[Sentences] = (),
    vocabulary: Iterable[str] | None = None,
    config: LanguageModelConfig | None = None,
    dev: Iterable[Sequence[str]] | None = None,
) -> tuple[NgramModel, LanguageModelReport]:
    """A model of `text`, or a mixture with one model for each extra text, pruned if `config` says so.

    vocabulary: closed list of words, that each model gives a probability; None: the words of all texts. Mixture
    weights: config.weights, else those with the least perplexity on `dev`. Raises InputError for texts without words
    or without one of the vocabulary, extra texts with neither weights nor `dev`, weights that do not fit, and a `dev`
    of unknown words only.
    """
    config = config or LanguageModelConfig()
    dev = None if dev is None else list(dev)
    weights = _check_weights(config, len(extra) + 1, dev is not None)
    texts = encode([text, *extra], vocabulary, unknown_word=config.unknown_word, min_count=config.min_word_count)
    for number, one in enumerate(texts, 1):
        if one.oov == one.words:
            which = f"text {number} of {len(texts)}" if len(texts) > 1 else "the text"
            raise InputError(f"none of the {one.words} words of {which} is in the vocabulary of the language model; is "
                             "it of another language, or written in other letters?")
    estimated = [estimate_encoded(one, config.order, config.min_counts) for one in texts]
    models = [model for model, _ in estimated]
    if weights is None:
        weights = tune_weights(models, dev or [])
    whole = models[0] if len(models) == 1 else interpolate(models, weights)
    pruned = whole
    if config.prune_threshold is not None or config.max_ngrams is not None:
        pruned = prune(whole, threshold=config.prune_threshold, max_ngrams=config.max_ngrams)

    def measure(model: NgramModel) -> PerplexityReport | None:
        return None if dev is None else perplexity(model, dev)

    components = [
        ComponentReport(one.sentences, one.words, one.oov, _sizes(model), discounts, weight, measure(model))
        for one, (model, discounts), weight in zip(texts, estimated, weights, strict=True)
    ]
    before = measure(whole)
    report = LanguageModelReport(len(whole.words) - 1, components, _sizes(whole), _sizes(pruned), before,
                                 before if pruned is whole else measure(pruned))
    return pruned, report


def _check_weights(config: LanguageModelConfig, count: int, has_dev: bool) -> list[float] | None:
    """The weights given, or 1 for a single model; None where the development text is to choose them."""
    if config.weights is not None:
        return check_weights(config.weights, count)
    if count == 1:
        return [1.0]
    if not has_dev:
        raise InputError("extra texts need a development text that chooses their weights, or weights")
    return None


def _sizes(model: NgramModel) -> list[int]:
    return [len(ngrams) for ngrams in model.orders]


def _as_dict(report: PerplexityReport | None) -> dict[str, Any] | None:
    return None if report is None else report.as_dict()
