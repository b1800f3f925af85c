"""Checks of what can be known of a recipe, its corpus and installed packages before work begins."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from asr_kd.core.config import Config, nearest_name
from asr_kd.core.errors import InputError
from asr_kd.core.stages import Stage
from asr_kd.core.text_tables import words_of
from asr_kd.features.config import FeatureConfig
from asr_kd.scoring.teaching import learns_transcripts
from asr_kd.scoring.transcripts import read_utt2spk
from asr_kd.stages.adapters import AdaptersStageConfig
from asr_kd.stages.decoding import DecodeConfig
from asr_kd.stages.features import FeaturesConfig
from asr_kd.stages.hmm import AlignStageConfig, MonophoneStageConfig
from asr_kd.stages.kaldi_corpus import PrepareKaldiConfig, read_split, unpronounced_words
from asr_kd.stages.language_model import LanguageModelStageConfig
from asr_kd.stages.librispeech import PrepareLibriSpeechConfig
from asr_kd.stages.networks import NetworkStageConfig
from asr_kd.stages.perturbation import SpeedStageConfig
from asr_kd.stages.prepare import DEMO_TEXT
from asr_kd.stages.scoring import ScoreConfig
from asr_kd.stages.sequence import SequenceStageConfig
from asr_kd.stages.speaker_adaptation import AdaptedStageConfig
from asr_kd.stages.training_lattices import TrainingGraphsConfig
from asr_kd.stages.utterance_sets import SetFeaturesConfig, UtteranceSetsConfig
from data_prep.demo import SPLITS as DEMO_SPLITS
from data_prep.demo import DemoConfig

Check = Callable[[Any, Mapping[str, Stage]], None]
_NAMED = 10


def in_order(*checks: Check | None) -> Check:
    """One check that makes several, those that are there, one after the other."""

    def check(config: Config, inputs: Mapping[str, Stage]) -> None:
        for made in checks:
            if made is not None:
                made(config, inputs)

    return check


def check_splits(config: Config, inputs: Mapping[str, Stage]) -> None:
    """InputError where a stage is to work on a split that an input does not have."""
    wanted: dict[str, str] = {}
    for name in ("split", "choose_on", "compare_with", "dev"):
        if isinstance(split := getattr(config, name, None), str):
            wanted[split] = name
    if isinstance(config, FeaturesConfig) and config.computes_prior:
        wanted[config.prior_split] = "prior_split"
    if isinstance(splits := getattr(config, "splits", None), list):
        wanted |= dict.fromkeys(splits, "splits")
    for name, stage in inputs.items():
        known = _splits_of(stage)
        decoded = isinstance(config, ScoreConfig) and isinstance(stage.config, DecodeConfig)
        if known is None or not (decoded or name in ("manifests", "features", "teacher_features")):
            continue
        for split, setting in wanted.items():
            if split not in known:
                raise InputError(
                    f"{setting}: {split!r} is no split of the input {name}, stage "
                    f"{stage.name!r}; {nearest_name(split, known)}"
                )


def check_features(config: FeaturesConfig, inputs: Mapping[str, Stage]) -> None:
    """InputError for settings of features that are made like others."""
    if "like" in inputs and config.features != FeatureConfig():
        raise InputError(
            f"features are set, and to be like those of stage {inputs['like'].name!r}; leave one of them out"
        )


def check_language_model(config: LanguageModelStageConfig, inputs: Mapping[str, Stage]) -> None:
    """InputError for a text that the preparing stage does not leave, and for weights that nothing
    chooses."""
    prepared = inputs["manifests"].config
    texts: list[str] | None = None
    if isinstance(prepared, PrepareKaldiConfig):
        texts = [Path(text).name for text in prepared.texts]
    elif isinstance(prepared, DemoConfig):
        texts = [DEMO_TEXT]
    for name in (*config.extra, *([config.text] if config.text is not None else [])):
        if texts is not None and name not in texts:
            raise InputError(
                f"the text {name!r} is none of those of stage "
                f"{inputs['manifests'].name!r}; name its file there under texts"
            )
    if config.extra and config.dev is None and config.model.weights is None:
        raise InputError(
            "extra texts need a development text that chooses their weights (dev), or model.weights"
        )


def check_graph(config: Config, inputs: Mapping[str, Stage]) -> None:
    """InputError for a decoding graph without a language model."""
    prepared = inputs["manifests"].config
    if "language_model" not in inputs and getattr(prepared, "language_model", None) is None:
        raise InputError(
            "no language model: read one from a stage language-model (reads: language_model), or "
            f"name the corpus's own under language_model of stage {inputs['manifests'].name!r}"
        )


def check_align(config: AlignStageConfig, inputs: Mapping[str, Stage]) -> None:
    """InputError for inputs of an alignment that do not go together."""
    if config.adapt and ("network" in inputs or "transforms" in inputs):
        raise InputError(
            "adapt is for Gaussians without transforms; leave network and transforms out"
        )
    _refuse_transforms_of_network(inputs)


def check_decode(config: DecodeConfig, inputs: Mapping[str, Stage]) -> None:
    """InputError for inputs of a search that do not go together, and for passes that are not
    kept."""
    _refuse_transforms_of_network(inputs)
    network = inputs["network"].config if "network" in inputs else None
    if config.each_pass and not (isinstance(network, SequenceStageConfig) and network.keep_passes):
        raise InputError(
            "each_pass is set, but no network with passes is among the inputs; set "
            "keep_passes in its training"
        )


def check_score(config: ScoreConfig, inputs: Mapping[str, Stage]) -> None:
    """InputError for a system that no input decodes, and for one that learnt from a split that is
    scored.

    A system is made of all stages above it. One with a `split` learns from it: that must be the
    training split, or one that is not scored. The weights of a language model's mixture may be
    tuned on the split that the system's own weights are chosen on, and on no other that is scored.
    """
    for system, roles in config.systems.items():
        if system not in inputs:
            raise InputError(f"system {system!r} is scored, but no input has that name")
        decoded = inputs[system].config
        if isinstance(decoded, DecodeConfig) and decoded.each_pass != roles.each_pass:
            raise InputError(
                f"system {system!r}: each_pass is {str(roles.each_pass).lower()}, but "
                f"{str(decoded.each_pass).lower()} in the stage {inputs[system].name!r} that decodes "
                "it; set the same in both"
            )
    evaluated = {*config.splits, config.choose_on}
    known = _splits_of(inputs["manifests"])
    is_tuned = known is None or config.choose_on in known  # else check_splits names the fault
    for system in config.systems:
        for stage in _above(inputs[system]):
            _refuse_scored_transcripts(system, stage, evaluated)
            split = _learns_from(stage.config)
            if split in evaluated and split != _training_split(stage):
                raise InputError(
                    f"system {system!r} is scored on {split}, but its stage "
                    f"{stage.name!r} learns from {split}; nothing that is scored may "
                    "reach a model"
                )
            tuned_on = getattr(stage.config, "dev", None)
            if is_tuned and tuned_on in evaluated - {config.choose_on}:
                raise InputError(
                    f"system {system!r} is scored on {tuned_on}, but its stage {stage.name!r} tunes "
                    f"mixture weights on {tuned_on}; tune them on {config.choose_on}"
                )


def _refuse_scored_transcripts(system: str, stage: Stage, evaluated: set[str]) -> None:
    """InputError where a network was adapted to transcripts of a split that is scored, or of a set of it; audio alone
    may be used.

    Of two sets of one split the decoding knows whether they have utterances in common, and refuses those.
    """
    config = stage.config
    if isinstance(config, AdaptersStageConfig) and learns_transcripts(config.teaching.teaching):
        sources = {name: one.split for above in _above(stage) if isinstance(above.config, UtteranceSetsConfig)
                   for name, one in above.config.sets.items()}
        for split in config.splits:
            if evaluated & {split, sources.get(split, split)}:
                raise InputError(
                    f"system {system!r} is scored on {sources.get(split, split)}, and its stage {stage.name!r} adapts "
                    f"to transcripts of {split}; adapt to other utterances than are scored (utterance-sets), or let a "
                    "teacher or a first pass teach"
                )


def _learns_from(config: Config) -> str | None:
    """The split that a stage learns from, if any."""
    if isinstance(config, FeaturesConfig):
        return config.prior_split if config.computes_prior else None
    return getattr(config, "split", None)


def check_held_out(
    config: NetworkStageConfig | SequenceStageConfig,
    inputs: Mapping[str, Stage],
    corpus: Path | None,
) -> None:
    """InputError where so many training speakers, or one that is named, cannot be held out."""
    speakers = _speakers(inputs["features"], config.split, corpus)
    held_out = config.training.held_out_speakers
    if speakers is None:
        return
    if isinstance(held_out, int):
        if 1 < len(speakers) <= held_out:
            raise InputError(
                f"training.held_out_speakers is {held_out}, but {config.split} has {len(speakers)} "
                "speakers; hold out about a tenth of them"
            )
        return
    perturbed = any(isinstance(s.config, SpeedStageConfig) for s in _above(inputs["features"]))
    for name in held_out if not perturbed else []:
        if name not in speakers:
            raise InputError(
                f"training.held_out_speakers names {name!r}, which is no speaker of "
                f"{config.split}; {nearest_name(name, sorted(speakers))}"
            )


def check_folds(
    config: TrainingGraphsConfig, inputs: Mapping[str, Stage], corpus: Path | None
) -> None:
    """InputError for more folds than there are training speakers."""
    speakers = _speakers(inputs["manifests"], config.split, corpus)
    if speakers is not None and "language_model" not in inputs and len(speakers) < config.folds:
        raise InputError(
            f"{len(speakers)} speakers cannot be parted into {config.folds} folds; set fewer folds"
        )


def check_words(
    config: MonophoneStageConfig, inputs: Mapping[str, Stage], corpus: Path | None
) -> None:
    """InputError that names training words which the lexicon will not have, unless they are trained
    as the unknown word."""
    prepared = inputs["manifests"].config
    if corpus is None or config.training.map_unknown:
        return
    if not isinstance(prepared, PrepareKaldiConfig):
        return
    texts = read_split(prepared, corpus, config.split).texts
    where: dict[str, str] = {}
    for utterance, text in texts.items():
        for word in words_of(text):
            where.setdefault(word, utterance)
    missing = unpronounced_words(prepared, corpus, where)
    if missing:
        named = ", ".join(f"{word!r} ({where[word]})" for word in missing[:_NAMED])
        more = f" and {len(missing) - _NAMED} more" if len(missing) > _NAMED else ""
        raise InputError(
            f"{len(missing)} words of the transcripts have no pronunciation: {named}{more}; add "
            f"them to the lexicon, or set training.map_unknown to train them as "
            f"{config.lexicon.unknown_word}"
        )


def _refuse_transforms_of_network(inputs: Mapping[str, Stage]) -> None:
    if {"network", "transforms"} <= inputs.keys():
        raise InputError(
            "transforms are for Gaussians; a network hears features that were adapted before"
        )


def _splits_of(stage: Stage) -> list[str] | None:
    """The splits that a stage leaves something of; None where that is not known."""
    config = stage.config
    if isinstance(config, PrepareKaldiConfig):
        return list(config.folders)
    if isinstance(config, DemoConfig):
        return list(DEMO_SPLITS)
    if isinstance(config, UtteranceSetsConfig):
        return list(config.sets)
    if isinstance(config, PrepareLibriSpeechConfig):
        return list(config.splits)
    if isinstance(config, SetFeaturesConfig):
        return _splits_of(stage.inputs["manifests"])
    if stage.kind.name == "features":
        return list(getattr(config, "splits", [])) or _splits_of(stage.inputs["manifests"])
    if isinstance(config, AdaptedStageConfig) and config.transforms_of:
        return list(config.transforms_of)
    if stage.kind.name == "adapted-features":
        sources = [
            stage.inputs[name]
            for name in ("train_transforms", "transforms")
            if name in stage.inputs
        ]
        return [split for source in sources for split in _splits_of(source) or []]
    if isinstance(splits := getattr(config, "splits", None), list):
        return list(splits)
    return [split] if isinstance(split := getattr(config, "split", None), str) else None


def _above(stage: Stage) -> Iterator[Stage]:
    """A stage and all that it is made of, each once."""
    waiting, seen = [stage], {stage.folder}
    while waiting:
        upstream = waiting.pop()
        yield upstream
        for needed in upstream.inputs.values():
            if needed.folder not in seen:
                seen.add(needed.folder)
                waiting.append(needed)


def _prepared(stage: Stage) -> PrepareKaldiConfig | DemoConfig | None:
    """The settings of the stage that made the manifests which a stage goes back to."""
    for upstream in _above(stage):
        if isinstance(upstream.config, PrepareKaldiConfig | DemoConfig):
            return upstream.config
    return None


def _training_split(stage: Stage) -> str:
    prepared = _prepared(stage)
    return prepared.train if isinstance(prepared, PrepareKaldiConfig) else "train"


def _speakers(stage: Stage, split: str, corpus: Path | None) -> set[str] | None:
    """The speakers of a split that a stage goes back to; None where the corpus does not say."""
    prepared = _prepared(stage)
    if isinstance(prepared, DemoConfig):
        return {str(number) for number in range(getattr(prepared, f"{split}_speakers"))}
    if prepared is None or corpus is None or split not in prepared.folders:
        return None
    return set(read_utt2spk(corpus / prepared.folders[split] / "utt2spk").values())
