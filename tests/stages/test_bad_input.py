"""What a recipe's stages refuse, each as one line, with the right exit code and nothing half-written."""

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import soundfile

from asr_kd.alignment.alignment_store import AlignmentStore, write_alignments
from asr_kd.cli.main import main
from asr_kd.core.errors import InputError
from asr_kd.core.stages import StageContext
from asr_kd.data.manifest import read_manifest
from asr_kd.features.frame_store import FrameStore, FrameStoreWriter
from asr_kd.hmm.model import HmmModel
from asr_kd.hmm.topology import standard_topology
from asr_kd.hmm.transitions import TransitionModel
from asr_kd.hmm.tree import monophone_tree
from asr_kd.lexicon.lexicon import Lexicon
from asr_kd.scoring.wer import count_errors_by_speaker, pool
from asr_kd.stages.model_inputs import refuse_transcripts
from asr_kd.stages.networks import aligned_pdf_ids, heard_by_teacher
from asr_kd.stages.prepare import read_references
from asr_kd.stages.speaker_adaptation import AdaptedStageConfig, adapt_features

ROOT = Path(__file__).parents[2]


@pytest.fixture
def hmm() -> HmmModel:
    lexicon = Lexicon.from_entries([("A", ["AH0"], 1.0), ("NO", ["N", "OW1"], 1.0)])
    topology = standard_topology(lexicon.phones)
    tree = monophone_tree(lexicon.phones, topology)
    return HmmModel(lexicon, topology, tree, TransitionModel.from_tree(topology, tree))


@pytest.fixture
def store(tmp_path: Path) -> FrameStore:
    with FrameStoreWriter(tmp_path / "store", 4, "float32", {"kind": "fbank", "frame_shift": 10.0}) as writer:
        writer.add("u1", "s1", np.zeros((7, 4), np.float32))
        writer.add("u2", "s1", np.ones((5, 4), np.float32))
    return FrameStore.open(tmp_path / "store")


def test_pdf_ids_stand_where_their_frames_stand(store: FrameStore, hmm: HmmModel, tmp_path: Path) -> None:
    ids = np.arange(1, 6, dtype=np.int32)
    write_alignments(tmp_path / "ali", {"u2": ids}, hmm)
    pdf_ids = aligned_pdf_ids(store, AlignmentStore.open(tmp_path / "ali"), hmm)
    begin, end = store.bounds("u2")
    assert (pdf_ids[begin:end] == hmm.transitions.pdf_ids[ids]).all()
    assert (np.delete(pdf_ids, np.arange(begin, end)) == -1).all()


def test_features_and_alignments_of_different_length_are_refused(
    store: FrameStore, hmm: HmmModel, tmp_path: Path
) -> None:
    write_alignments(tmp_path / "ali", {"u1": np.ones(6, np.int32)}, hmm)
    with pytest.raises(InputError, match="u1: 6 frames in .* 7 frames of features"):
        aligned_pdf_ids(store, AlignmentStore.open(tmp_path / "ali"), hmm)


def test_alignments_without_features_are_refused(store: FrameStore, hmm: HmmModel, tmp_path: Path) -> None:
    write_alignments(tmp_path / "ali", {"u3": np.ones(6, np.int32)}, hmm)
    with pytest.raises(InputError, match="utterance u3 .* has no features"):
        aligned_pdf_ids(store, AlignmentStore.open(tmp_path / "ali"), hmm)


RECIPE = """\
description: features of a small corpus
stages:
  prepare:
    run: prepare-kaldi
    settings: {splits: [train], lexicon: lexicon.txt, language_model: lm.arpa}
  mfcc:
    run: features
    reads: {manifests: prepare}
    settings: {features: {kind: mfcc, num_mel_bins: 23, store_dtype: float32, normalise_variance: false}}
  mono:
    run: monophone
    reads: {manifests: prepare, features: mfcc}
    settings: {training: {num_passes: 2, realign_passes: [1], num_gaussians: 20}}
  graph:
    run: graph
    reads: {manifests: prepare, hmm: mono}
"""
ARPA = "\\data\\\nngram 1=3\n\n\\1-grams:\n-0.3 </s>\n-99 <s>\n-0.3 A\n\n\\end\\\n"


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """A Kaldi data directory of twenty half-second utterances of noise, its lexicon and language model."""
    folder = tmp_path / "corpus"
    (folder / "train").mkdir(parents=True)
    (folder / "audio").mkdir()
    generator = np.random.default_rng(0)
    names = [f"u{i:02d}" for i in range(20)]
    for name in names:
        soundfile.write(folder / f"audio/{name}.wav", generator.normal(0, 0.1, 8000), 16000, "PCM_16")
    (folder / "train/wav.scp").write_text("".join(f"{n} audio/{n}.wav\n" for n in names))
    (folder / "train/text").write_text("".join(f"{n} A\n" for n in names))
    (folder / "train/utt2spk").write_text("".join(f"{n} s{n[1]}\n" for n in names))
    (folder / "lexicon.txt").write_text("A AH0\n")
    (folder / "lm.arpa").write_text(ARPA)
    (tmp_path / "recipe").mkdir()
    (tmp_path / "recipe/recipe.yaml").write_text(RECIPE)
    return folder


def run(corpus: Path, capsys: pytest.CaptureFixture[str], *options: str) -> tuple[int, str]:
    """Exit code and the last line of stderr; a failing run says one line beside what begins."""
    run_dir = corpus.parent / "run"
    code = main(["run", str(corpus.parent / "recipe"), "--corpus", str(corpus), "--run-dir", str(run_dir), *options])
    lines = capsys.readouterr().err.strip().splitlines()
    if code:
        assert sum(line.startswith("asr-kd: ") for line in lines) == 1
        assert not any("Traceback" in line for line in lines)
        assert not list(run_dir.glob(".*.tmp*"))
    return code, lines[-1] if lines else ""


def test_the_small_corpus_goes_through(corpus: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(corpus, capsys)[0] == 0


def test_words_without_pronunciation(corpus: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = corpus / "train/text"
    text.write_text(text.read_text().replace("u03 A", "u03 A ZYZZYVA"))
    code, message = run(corpus, capsys)
    assert code == 2 and "stage mono: " in message and "'ZYZZYVA' (u03)" in message
    assert run(corpus, capsys, "--set", "mono.training.map_unknown=true")[0] == 0


@pytest.mark.parametrize(
    ("damage", "words"),
    [(("ngram 1=3", "ngram 1=4"), ["ngram", "3"]), (("-0.3 A", "nan A"), ["nan"]), (("\\end\\\n", ""), ["end"])],
)
def test_a_faulty_language_model(
    corpus: Path, capsys: pytest.CaptureFixture[str], damage: tuple[str, str], words: list[str]
) -> None:
    (corpus / "lm.arpa").write_text(ARPA.replace(*damage))
    code, message = run(corpus, capsys)
    assert code == 2 and "stage prepare: " in message and "lm.arpa:" in message
    assert all(word in message for word in words)


def test_a_missing_audio_file_is_dropped_and_counted_and_too_many_fail(
    corpus: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (corpus / "audio/u07.wav").unlink()
    assert run(corpus, capsys)[0] == 0
    (corpus / "audio/u08.wav").write_bytes(b"")
    code, message = run(corpus, capsys)
    assert code == 1 and "2 of 20 utterances dropped" in message


def test_an_utterance_that_was_dropped_is_still_scored(corpus: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (corpus / "audio/u07.wav").unlink()
    assert run(corpus, capsys, "--until", "prepare")[0] == 0
    manifests = corpus.parent / "run/prepare"
    assert "u07" not in {u.id for u in read_manifest(manifests, "train")}
    words, speakers = read_references(manifests, "train")
    assert len(words) == 20 and words["u07"] == ["A"] and speakers["u07"] == "s0"
    hypotheses = {utterance: ["A"] for utterance in words if utterance != "u07"}
    counts = pool(count_errors_by_speaker(words, hypotheses, speakers).values())
    assert (counts.words, counts.deletions, counts.errors) == (20, 1, 1)


def test_a_missing_lexicon(corpus: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (corpus / "lexicon.txt").unlink()
    code, message = run(corpus, capsys)
    assert code == 2 and "lexicon.txt: not there" in message


def test_changed_audio_is_noticed(corpus: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(corpus, capsys)[0] == 0
    soundfile.write(corpus / "audio/u00.wav", np.full(8000, 0.1), 16000, "PCM_16")
    main(["run", str(corpus.parent / "recipe"), "--corpus", str(corpus), "--run-dir", str(corpus.parent / "run"),
          "--dry-run"])
    assert "outside file audio/u00.wav changed" in capsys.readouterr().out


@pytest.fixture
def small_disk(tmp_path: Path):  # type: ignore[no-untyped-def]
    """A file system of one MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = shutil.which("mount")
    if mount is None or subprocess.run([mount, "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)],
                                       capture_output=True).returncode:
        pytest.skip("no right to mount a tmpfs")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_is_said_and_with_room_the_run_goes_on(
    corpus: Path, small_disk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["run", str(corpus.parent / "recipe"), "--corpus", str(corpus), "--run-dir", str(small_disk / "run")]
    (small_disk / "filler").write_bytes(bytes(950_000))
    assert main(arguments) == 1
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("asr-kd: ") and ("disk full" in error or "No space left" in error)
    assert not list((small_disk / "run").glob(".*.tmp*"))
    (small_disk / "filler").unlink()
    assert main(arguments) == 0


def test_a_teacher_that_heard_other_audio_is_refused(store: FrameStore, tmp_path: Path) -> None:
    for name, frames, shift in (("other", 6, 10.0), ("slower", 5, 12.5)):
        recipe = {"kind": "fmllr", "frame_shift": shift}
        with FrameStoreWriter(tmp_path / name / "train", 3, "float32", recipe) as writer:
            writer.add("u1", "s1", np.zeros((frames, 3), np.float32))
            writer.add("u2", "s1", np.ones((5, 3), np.float32))
    with pytest.raises(InputError, match="not the same utterances and frames"):
        heard_by_teacher({"teacher_features": tmp_path / "other"}, "train", store)
    with pytest.raises(InputError, match="a frame every 12.5 ms, .* every 10 ms; give .* the same frame_shift"):
        heard_by_teacher({"teacher_features": tmp_path / "slower"}, "train", store)
    assert heard_by_teacher({}, "train", store) is store


def test_what_was_supervised_by_transcripts_is_refused_where_speech_is_scored() -> None:
    for supervision in (None, "first-pass"):
        refuse_transcripts(supervision, Path("fmllr/dev"))
    with pytest.raises(InputError, match="fmllr/dev: .* transcripts"):
        refuse_transcripts("transcript", Path("fmllr/dev"))


def test_a_graph_takes_the_place_of_a_graph_and_of_nothing_else(
    hmm: HmmModel, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hmm.save(tmp_path / "model")
    (tmp_path / "lm.arpa").write_text(ARPA)
    command = ["graph", "--model", str(tmp_path / "model"), "--lm", str(tmp_path / "lm.arpa"), "--output"]
    assert main([*command, str(tmp_path)]) == 2
    assert "exists and is no decoding graph; give a new folder" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["lm.arpa", "model"]
    for _ in range(2):
        assert main([*command, str(tmp_path / "graph")]) == 0
    (tmp_path / "lm.arpa").write_text(ARPA.replace(" A", " ZZZ"))
    assert main([*command, str(tmp_path / "graph")]) == 2
    assert "none of the 1 words of the LM is in the lexicon" in capsys.readouterr().err
    assert (tmp_path / "graph/HCLG.fst").is_file()


def test_transforms_of_one_split_from_two_inputs_are_refused(hmm: HmmModel, tmp_path: Path) -> None:
    for name in ("supervised", "own"):
        (tmp_path / name / "transforms/dev").mkdir(parents=True)
    hmm.save(tmp_path / "hmm")
    inputs = {"hmm": tmp_path / "hmm", "features": tmp_path, "train_transforms": tmp_path / "supervised",
              "transforms": tmp_path / "own"}
    context = StageContext("fmllr", 1, None, tmp_path, "run", "asr-kd run")
    with pytest.raises(InputError, match="transforms of the same split"):
        adapt_features(inputs, AdaptedStageConfig(), tmp_path / "out", context)


def test_a_corpus_without_a_lexicon_is_spelt(corpus: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = corpus.parent / "recipe/recipe.yaml"
    recipe.write_text(RECIPE.replace("lexicon: lexicon.txt, ", ""))
    code, message = run(corpus, capsys)
    assert code == 2 and "the recipe names no lexicon" in message
    recipe.write_text(RECIPE.replace("lexicon: lexicon.txt, ", "pronunciations: {source: graphemes}, "))
    assert run(corpus, capsys)[0] == 0
    assert "A 1.0 " in (corpus.parent / "run/prepare/lexicon.txt").read_text()
