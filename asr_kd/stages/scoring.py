"""The stage that scores: weights chosen on one split by rescoring kept lattices, then counts of every split."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import Field

from asr_kd.core.bounds import InsertionPenalty, LmWeight
from asr_kd.core.config import Config, Name
from asr_kd.core.errors import InputError
from asr_kd.core.files import read_json, write_json
from asr_kd.core.stages import StageContext
from asr_kd.decoding.split import rescore_split
from asr_kd.scoring.alignments import format_alignments
from asr_kd.scoring.system_counts import (
    AdaptationCounts,
    LatticeCounts,
    SoftTargetsCounts,
    SystemCounts,
    TrainingEpoch,
    TrainingLatticesCounts,
    TrainingPass,
    write_counts,
)
from asr_kd.scoring.system_roles import SystemRoles
from asr_kd.scoring.transcripts import write_transcripts, write_utt2spk
from asr_kd.scoring.weights import INSERTION_PENALTIES, LM_WEIGHTS, choose_weights
from asr_kd.scoring.wer import count_errors_by_speaker, total_errors
from asr_kd.stages.decoding import SYSTEM
from asr_kd.stages.prepare import VOCABULARY, read_references

_NO_SEED = 1


class ScoreConfig(Config):
    """The splits to score, the split on which weights are chosen, and the systems (each an input's name)."""

    splits: list[Name] = Field(["dev", "test"], min_length=1)
    choose_on: Name = "dev"
    lm_weights: list[LmWeight] = Field(list(LM_WEIGHTS), min_length=1)
    insertion_penalties: list[InsertionPenalty] = Field(list(INSERTION_PENALTIES), min_length=1)
    systems: dict[Name, SystemRoles] = Field(min_length=1)


def score_systems(
    inputs: Mapping[str, Path], config: ScoreConfig, output: Path, context: StageContext
) -> dict[str, Any]:
    """For each system `counts/ID.SEED.SPLIT.json`, its words and alignments; and the errors of every weight tried.

    `references/SPLIT` has what was counted against as Kaldi's `text` and `utt2spk`, as `asr-kd score` takes it.
    """
    missing = sorted(set(config.systems) - set(inputs))
    if missing:
        raise InputError(f"systems {', '.join(missing)} are scored, but no input has that name")
    references = {split: read_references(inputs["manifests"], split) for split in {*config.splits, config.choose_on}}
    for split, (texts, speakers) in references.items():
        write_transcripts(output / "references" / split / "text", texts)
        write_utt2spk(output / "references" / split / "utt2spk", speakers)
    summary: dict[str, dict[str, Any]] = {}
    vocabulary = _read_vocabulary(inputs["manifests"])
    for system, stage_input, decoded in _decoded_systems(inputs, config):
        tried = rescore_split(decoded / config.choose_on, config.lm_weights, config.insertion_penalties)
        grid = {pair: total_errors(references[config.choose_on][0], words) for pair, words in tried.items()}
        weight, penalty = choose_weights(grid)
        write_json(output / "weights" / f"{system}.json", [
            {"lm_weight": w, "insertion_penalty": p, "errors": errors} for (w, p), errors in sorted(grid.items())
        ])
        summary[system] = {"lm_weight": weight, "insertion_penalty": penalty}
        facts = read_json(decoded / SYSTEM)
        for split in config.splits:
            found = tried if split == config.choose_on else rescore_split(decoded / split, [weight], [penalty])
            words = found[weight, penalty]
            counts = _score_split(*references[split], words, output, SystemCounts(
                id=system, seed=_seed(stage_input, context), split=split, speakers={},
                command=context.command, run=context.run_name, lm_weight=weight, insertion_penalty=penalty,
                utterances=len(references[split][0]), real_time_factor=facts["real_time_factor"][split],
                revision=facts.get("revision", context.revision), oov_rate=vocabulary.oov_rates.get(split),
                closed_vocabulary=vocabulary.closed,
                **{key: facts[key] for key in ("frame_accuracy", "params", "bytes", "train_minutes")},
                adaptation=_adaptation(facts, split),
                **_training(facts),
            ))
            summary[system][split] = {"wer": round(counts.total.wer, 2), "words": counts.total.words}
    return summary


def _decoded_systems(
    inputs: Mapping[str, Path], config: ScoreConfig
) -> Iterator[tuple[str, str, Path]]:
    """Id, input and decoded splits of each system, passes as systems of their own."""
    for system, roles in config.systems.items():
        folders = {system: inputs[system]}
        if roles.each_pass:
            folders = {f"{system}-{folder.name}": folder for folder in sorted(inputs[system].glob("pass*"))}
            if not folders:
                raise InputError(f"{inputs[system]}: no passes of {system}; set each_pass where it is decoded too")
        for name, folder in folders.items():
            yield name, system, folder


def _seed(stage_input: str, context: StageContext) -> int:
    """The seed of what was decoded, which `NAME@N` sets apart from the run's.

    What depends on no seed has one number in every run, so that two runs of it do not pass for two seeds.
    """
    seed = context.input_seeds.get(stage_input, context.seed)
    return _NO_SEED if seed is None else seed


@dataclass(frozen=True)
class _Vocabulary:
    """Percent of the words of each split that are out of vocabulary, and whether it was made to hold them."""

    oov_rates: Mapping[str, float]
    closed: bool | None


def _read_vocabulary(manifests: Path) -> _Vocabulary:
    """Read the preparing stage's report on its vocabulary; empty where it wrote none."""
    if not (manifests / VOCABULARY).is_file():
        return _Vocabulary({}, None)
    report = read_json(manifests / VOCABULARY)
    return _Vocabulary({split: facts["oov_rate"] for split, facts in report["splits"].items()}, report["closed"])


def _training(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return the facts of a network's training that the counts hold."""
    if "curve" in facts:
        soft_targets = SoftTargetsCounts(**facts["soft_targets"]) if "soft_targets" in facts else None
        return {"epochs": tuple(TrainingEpoch(**one) for one in facts["curve"]), "soft_targets": soft_targets}
    if "passes" not in facts:
        return {}
    lattices = dict(facts["training_lattices"])
    lattices["splits"] = tuple(LatticeCounts(**one) for one in lattices["splits"])
    return {"passes": tuple(TrainingPass(**one) for one in facts["passes"]),
            "training_lattices": TrainingLatticesCounts(**lattices)}


def _adaptation(facts: Mapping[str, Any], split: str) -> AdaptationCounts | None:
    """How the network was adapted with which a split was decoded, if it was."""
    made = facts.get("adaptation", {}).get(split)
    return None if made is None else AdaptationCounts(**{**made, "parameters": tuple(made["parameters"])})


def _score_split(
    references: Mapping[str, list[str]], speakers: Mapping[str, str], words: Mapping[str, list[str]], output: Path,
    counts: SystemCounts,
) -> SystemCounts:
    counts = replace(counts, speakers=count_errors_by_speaker(references, words, speakers))
    write_counts(output / "counts", counts)
    name = counts.file_name.removesuffix(".json")
    write_transcripts(output / "hypotheses" / f"{name}.txt", words)
    blocks = format_alignments(references, words, speakers)
    (output / "alignments").mkdir(exist_ok=True)
    (output / "alignments" / f"{name}.txt").write_text("\n".join(blocks), encoding="utf-8")
    return counts
