"""The kinds of stage that a recipe may name."""

from dataclasses import replace

from asr_kd.core.stages import StageKind
from asr_kd.graph.hclg import GraphConfig
from asr_kd.stages import (
    checks,
    decoding,
    features,
    hmm,
    kaldi_corpus,
    language_model,
    networks,
    perturbation,
    prepare,
    scoring,
    sequence,
    speaker_adaptation,
    training_lattices,
)
from data_prep.demo import DemoConfig

STAGE_KINDS: dict[str, StageKind] = {
    kind.name: replace(kind, check=checks.in_order(kind.check, checks.check_splits))
    for kind in (
        StageKind("prepare-kaldi", kaldi_corpus.PrepareKaldiConfig, prepare.prepare_kaldi_stage,
                  outside=kaldi_corpus.kaldi_files, check=kaldi_corpus.check_kaldi,
                  check_outside=kaldi_corpus.check_kaldi_corpus, version=3),
        StageKind("prepare-demo", DemoConfig, prepare.prepare_demo_stage,
                  check_outside=prepare.check_demo, version=3),
        StageKind("speed-perturbation", perturbation.SpeedStageConfig, perturbation.add_speeds, reads=("manifests",)),
        StageKind("features", features.FeaturesConfig, features.extract, reads=("manifests",)),
        StageKind("monophone", hmm.MonophoneStageConfig, hmm.monophone, reads=("manifests", "features"),
                  check_outside=checks.check_words, version=2),
        StageKind("triphone", hmm.TriphoneStageConfig, hmm.triphone,
                  reads=("manifests", "features", "hmm", "alignments"), version=2),
        StageKind("lda-mllt", hmm.LdaMlltStageConfig, hmm.lda_mllt,
                  reads=("manifests", "features", "hmm", "alignments"), version=2),
        StageKind("speaker-adaptive", hmm.SpeakerAdaptiveStageConfig, hmm.speaker_adaptive,
                  reads=("manifests", "features", "hmm", "alignments")),
        StageKind("align", hmm.AlignStageConfig, hmm.align_split, reads=("manifests", "features", "hmm"),
                  may_read=("transforms", "network"), check=checks.check_align, version=2),
        StageKind("network", networks.NetworkStageConfig, networks.train_network,
                  reads=("features", "hmm", "alignments"),
                  may_read=("teacher", "teacher_features", "soft_targets"), check=networks.check_network,
                  check_outside=checks.check_held_out,
                  seeded=True, version=4),
        StageKind("soft-targets", networks.SoftTargetsStageConfig, networks.cache_soft_targets,
                  reads=("features", "hmm", "teacher"),
                  may_read=tuple(f"teacher_{number}" for number in range(2, 10)), version=5),
        StageKind("language-model", language_model.LanguageModelStageConfig, language_model.train,
                  reads=("manifests",), check=checks.check_language_model),
        StageKind("graph", GraphConfig, decoding.build, reads=("manifests", "hmm"),
                  may_read=("language_model", "alignments"), check=checks.check_graph),
        StageKind("first-pass", speaker_adaptation.FirstPassConfig, speaker_adaptation.first_pass,
                  reads=("graph", "features", "hmm")),
        StageKind("adapted-features", speaker_adaptation.AdaptedStageConfig, speaker_adaptation.adapt_features,
                  reads=("features", "hmm"), may_read=("train_transforms", "transforms")),
        StageKind("training-graphs", training_lattices.TrainingGraphsConfig, training_lattices.build_graphs,
                  reads=("manifests", "hmm"), may_read=("language_model",),
                  check_outside=checks.check_folds),
        StageKind("training-lattices", training_lattices.TrainingLatticesConfig, training_lattices.make_lattices,
                  reads=("manifests", "graphs", "features", "hmm", "network"), may_read=("alignments",)),
        StageKind("sequence-training", sequence.SequenceStageConfig, sequence.train_sequence,
                  reads=("features", "hmm", "lattices", "network"),
                  may_read=("alignments", "teacher", "teacher_features", "soft_targets"),
                  check=sequence.check_sequence_training,
                  check_outside=checks.check_held_out, seeded=True, version=3),
        StageKind("decode", decoding.DecodeConfig, decoding.decode,
                  reads=("graph", "features", "hmm"), may_read=("network", "transforms"),
                  check=checks.check_decode, version=3),
        StageKind("score", scoring.ScoreConfig, scoring.score_systems, reads=("manifests",), reads_any=True,
                  check=checks.check_score, publishes="counts", version=3),
    )
}
