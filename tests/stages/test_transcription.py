"""`asr-kd graph` and `decode` from audio to words with times on a language of tones, and what they refuse."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from scipy.signal import resample_poly

from asr_kd.cli.main import main
from asr_kd.core.errors import InputError, WorkError
from asr_kd.core.files import list_files
from asr_kd.data.ctm import CtmWord, read_ctm
from asr_kd.data.manifest import read_manifest, write_manifest
from asr_kd.scoring import api
from asr_kd.stages.decoding import build_decoding_graph
from asr_kd.stages.transcription import decode_manifest
from tests.stages.tone_corpus import RECIPE, WORDS, ToneCorpus, write_tone_corpus


def write_unigram(path: Path, words: list[str]) -> Path:
    rows = ["-0.7 </s>", "-99 <s>", *(f"-1.2 {word}" for word in words)]
    path.write_text(f"\\data\\\nngram 1={len(rows)}\n\n\\1-grams:\n" + "\n".join(rows) + "\n\n\\end\\\n")
    return path


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> ToneCorpus:
    return write_tone_corpus(tmp_path_factory.mktemp("tones") / "corpus")


@pytest.fixture(scope="module")
def root(corpus: ToneCorpus) -> Path:
    """A folder with a run (manifests, features, a model) and a graph of all words."""
    root = corpus.folder.parent
    (root / "recipe").mkdir()
    (root / "recipe/recipe.yaml").write_text(RECIPE)
    assert main(["run", str(root / "recipe"), "--corpus", str(corpus.folder), "--run-dir", str(root / "run")]) == 0
    build_decoding_graph(root / "run/mono", write_unigram(root / "all.arpa", list(WORDS)), root / "graph")
    return root


def inputs(root: Path, **changes: Any) -> dict[str, Any]:
    return {"manifests": root / "run/prepare", "split": "train", "model": root / "run/mono", "graph": root / "graph",
            **changes}


def times(words: list[CtmWord]) -> list[tuple[str, float, float]]:
    return [(word.utterance, word.start, word.duration) for word in words]


def test_words_are_recognised_where_they_were_spoken(
    root: Path, corpus: ToneCorpus, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [part for name, value in inputs(root).items() for part in (f"--{name}", str(value))]
    assert main(["decode", *arguments, "--n-best", "3", "--output", str(tmp_path / "out")]) == 0
    assert "24 of 24 utterances" in capsys.readouterr().out
    found = api.score(corpus.folder / "train/text", [tmp_path / "out/text"])
    assert found.system.total.words > 80 and found.system.total.wer < 5
    words = read_ctm(tmp_path / "out/words.ctm")
    truth = {u: {word: start for word, start, _ in spoken} for u, spoken in corpus.words.items()}
    once = [w for w in words if [word for word, _, _ in corpus.words[w.utterance]].count(w.word) == 1]
    errors = [w.start + 0.0125 - truth[w.utterance][w.word] for w in once]
    assert len(once) > 40 and (np.abs(errors) < 0.03).mean() > 0.95
    rows = [json.loads(line) for line in (tmp_path / "out/n_best.jsonl").read_text().splitlines()]
    assert all(len(one["word_times"]) == len(one["words"]) for row in rows for one in row["hypotheses"])
    # A decoding may be replaced by another one.
    decode_manifest(**inputs(root), output=tmp_path / "out", lattices="states")
    assert not (tmp_path / "out/words.ctm").exists()


def test_audio_of_another_rate_and_number_of_channels_is_converted_when_asked(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    utterances = read_manifest(root / "run/prepare", "train")[:6]
    converted = []
    for utterance in utterances:
        samples, rate = soundfile.read(utterance.audio)
        path = tmp_path / f"{utterance.id}.wav"
        soundfile.write(path, np.stack([resample_poly(samples, 2, 1)] * 2, axis=1), 2 * rate, "PCM_16")
        converted.append(replace(utterance, audio=path, sampling_rate=2 * rate, channel=None, channels=2))
    for split, chosen in (("train", utterances), ("wide", converted)):
        write_manifest(tmp_path / "manifests", split, chosen)
    run = inputs(root, manifests=tmp_path / "manifests", split="wide")
    with pytest.raises(WorkError, match="sampling rate"):
        decode_manifest(**run, output=tmp_path / "refused")
    decode_manifest(**inputs(root, manifests=tmp_path / "manifests"), output=tmp_path / "narrow")
    arguments = [part for name, value in run.items() for part in (f"--{name}", str(value))]
    for command in (["decode"], ["align"]):
        options = [o for o in arguments if command == ["decode"] or o not in ("--graph", str(root / "graph"))]
        output = str(tmp_path / command[0])
        assert main([*command, *options, "--resample", "--mix-down", "--output", output]) == 0
        assert "6 of 6 utterances" in capsys.readouterr().out
    assert (tmp_path / "decode/text").read_text() == (tmp_path / "narrow/text").read_text()


def test_a_graph_brings_its_own_words(root: Path, tmp_path: Path) -> None:
    (tmp_path / "lexicon.txt").write_text("".join(f"z{word[::-1]} {phones}\n" for word, phones in WORDS.items()))
    renamed = write_unigram(tmp_path / "z.arpa", [f"z{word[::-1]}" for word in WORDS])
    build_decoding_graph(root / "run/mono", renamed, tmp_path / "graph", lexicon=tmp_path / "lexicon.txt")
    decode_manifest(**inputs(root), output=tmp_path / "own")
    decode_manifest(**inputs(root, graph=tmp_path / "graph"), output=tmp_path / "renamed")
    own, found = (read_ctm(tmp_path / name / "words.ctm") for name in ("own", "renamed"))
    assert [word.word for word in found] == [f"z{word.word[::-1]}" for word in own] and len(own) > 80
    assert times(found) == times(own)


def test_the_manifest_says_what_is_decoded_and_what_fails_is_counted(root: Path, tmp_path: Path) -> None:
    utterances = read_manifest(root / "run/prepare", "train")
    (tmp_path / "broken.wav").write_bytes(b"RIFF")
    broken = [replace(u, audio=tmp_path / "broken.wav") if u.id == "s0-u00" else u for u in utterances]
    write_manifest(tmp_path / "manifests", "train", broken)
    write_manifest(tmp_path / "manifests", "few", utterances[:3])
    summary = decode_manifest(**inputs(root, manifests=tmp_path / "manifests"), output=tmp_path / "all")
    assert summary["utterances"]["total"] == 24 and summary["utterances"]["dropped"] == {"no features": 1}
    features = root / "run/mfcc/train"
    few = decode_manifest(**inputs(root, manifests=tmp_path / "manifests", split="few"), features=features,
                          output=tmp_path / "few")
    assert few["utterances"]["total"] == few["utterances"]["kept"] == 3
    with pytest.raises(WorkError, match="not audio"):
        decode_manifest(**inputs(root, manifests=tmp_path / "manifests"), max_dropped=0.0, output=tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_what_does_not_belong_together_is_refused_before_any_work(root: Path, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full/thesis.tex").write_text("years of work")
    (tmp_path / "file").write_text("")
    before = list_files(tmp_path)
    cases: list[tuple[str, dict[str, Any]]] = [
        ("no split dev", {"split": "dev"}),
        ("is no decoding", {"output": tmp_path / "full"}),
        ("is a file, and is no decoding", {"output": tmp_path / "file"}),
        ("is no folder", {"output": tmp_path / "file/below"}),
        ("made of word lattices", {"lattices": "states", "n_best": 2}),
        ("beam: expected greater than or equal to 0.01", {"beam": -1.0}),
        ("LM weight", {"lm_weight": float("nan")}),
        ("insertion penalty", {"insertion_penalty": float("-inf")}),
        ("that is an HMM model, expected speaker transforms", {"transforms": root / "run/mono"}),
        ("that is a file, expected features", {"features": tmp_path / "file"}),
        ("no such file", {"network": tmp_path / "nowhere"}),
        ("no such file", {"graph": tmp_path / "nowhere"}),
    ]
    for message, changes in cases:
        with pytest.raises(InputError, match=message):
            decode_manifest(**{**inputs(root), "output": tmp_path / "out", **changes})
    assert list_files(tmp_path) == before
