"""The stage that makes a language model."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from asr_kd.core.config import Config, Name
from asr_kd.core.errors import InputError
from asr_kd.core.stages import StageContext
from asr_kd.lm.arpa import write_arpa
from asr_kd.lm.text import read_manifest_sentences, read_sentences, read_vocabulary
from asr_kd.lm.training import LanguageModelConfig, train_language_model
from asr_kd.stages.prepare import LANGUAGE_MODEL, LEXICON, TEXTS


class LanguageModelStageConfig(Config):
    """Texts and settings of an n-gram model over the lexicon's words.

    The text is the transcripts of `split`, or the file `text` of the preparing stage in their place; `extra` are more
    texts of that stage, each with a model of its own, mixed by what predicts the transcripts of `dev` best.
    """

    split: Name = "train"
    text: Name | None = None
    extra: list[Name] = []
    dev: Name | None = "dev"
    model: LanguageModelConfig = LanguageModelConfig()


def train(
    inputs: Mapping[str, Path], config: LanguageModelStageConfig, output: Path, context: StageContext
) -> dict[str, Any]:
    """`lm.arpa.gz`; its perplexity and out-of-vocabulary words on `dev` are in the summary."""
    manifests = inputs["manifests"]
    text = read_manifest_sentences(manifests, config.split)
    model, report = train_language_model(
        text if config.text is None else read_sentences([_text(manifests, config.text)]),
        [read_sentences([_text(manifests, name)]) for name in config.extra],
        read_vocabulary(manifests / LEXICON), config.model,
        dev=None if config.dev is None else read_manifest_sentences(manifests, config.dev),
    )
    write_arpa(model, output / LANGUAGE_MODEL)
    return report.as_dict()


def _text(manifests: Path, name: str) -> Path:
    """A text that the preparing stage left."""
    copied = manifests / TEXTS / name
    return copied if copied.is_file() else manifests / name


def find_language_model(inputs: Mapping[str, Path]) -> Path:
    """The ARPA file of the input language_model, else the one that the preparing stage left."""
    folder = inputs.get("language_model", inputs["manifests"])
    for name in (LANGUAGE_MODEL, "lm.arpa"):
        if (folder / name).is_file():
            return folder / name
    raise InputError(f"{folder}: no language model there (expected {LANGUAGE_MODEL}); name the corpus's own in the "
                     "preparing stage, or let a stage language-model make one")
