"""Sentences from files, and as word ids."""

import gzip
from pathlib import Path

import numpy as np
import pytest

from asr_kd.core.errors import InputError
from asr_kd.data.manifest import Utterance, write_manifest
from asr_kd.lm.text import encode, read_manifest_sentences, read_sentences, read_vocabulary


def test_sentences_are_the_words_of_each_line_with_or_without_ids(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("u1 A B\n\nu2\nu3  C \n")
    (tmp_path / "more.gz").write_bytes(gzip.compress(b"D E\n"))
    assert list(read_sentences([tmp_path / "text"], ids=True)) == [["A", "B"], ["C"]]
    assert list(read_sentences([tmp_path / "text", tmp_path / "more.gz"])) == [
        ["u1", "A", "B"], ["u2"], ["u3", "C"], ["D", "E"]]


def test_transcripts_of_a_split_are_sentences(tmp_path: Path) -> None:
    write_manifest(tmp_path, "train", [
        Utterance(f"u{i}", "s", text, tmp_path / "a.wav", 0.0, 1.0, 16000, recording="a", recording_duration=1.0)
        for i, text in enumerate(["A B", "C"])])
    assert list(read_manifest_sentences(tmp_path, "train")) == [["A", "B"], ["C"]]


@pytest.mark.parametrize(("content", "ids", "message"), [
    ("", False, "text: no words in it; expected the words of one sentence a line"),
    ("\n \n", False, "text: no words in it"),
    ("u1\nu2 \n", True, "text: no words in it; expected an utterance id and its words a line"),
    ("A\n<s> B </s>\n", False, "text:2: <s> or </s> in the text"),
    ("A\nB \udcff\n", False, "text:2: not UTF-8"),
])
def test_faulty_text_is_refused_with_its_line(tmp_path: Path, content: str, ids: bool, message: str) -> None:
    (tmp_path / "text").write_text(content, errors="surrogateescape")
    with pytest.raises(InputError) as error:
        list(read_sentences([tmp_path / "text"], ids))
    assert message in str(error.value) and "\n" not in str(error.value)


def test_a_missing_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="absent: no such file"):
        list(read_sentences([tmp_path / "absent"]))


@pytest.mark.parametrize("content", [
    "A\nB\n", "<eps> 0\nA 1\nB 2\n#0 3\n<s> 4\n</s> 5\n", "A\tAH\nB B IY\nA EY\n", ";;; CMU\nA EY\nA(2) AH\nB B IY\n",
])
def test_a_vocabulary_is_a_word_list_or_a_lexicon(tmp_path: Path, content: str) -> None:
    (tmp_path / "words").write_text(content)
    assert read_vocabulary(tmp_path / "words") == ["A", "B"]


def test_only_numbered_words_are_further_pronunciations(tmp_path: Path) -> None:
    (tmp_path / "words").write_text("A\nA(2)\nA(hem)\nB(1)\n")
    assert read_vocabulary(tmp_path / "words") == ["A", "A(hem)", "B(1)"]


def test_an_empty_vocabulary_is_refused(tmp_path: Path) -> None:
    (tmp_path / "words").write_text("<eps> 0\n")
    with pytest.raises(InputError, match="words: no word in it"):
        read_vocabulary(tmp_path / "words")
    with pytest.raises(InputError, match="the vocabulary of the language model is empty"):
        encode([[["A"]]], ["<s>"])


def test_ids_are_sentence_ends_unknown_word_and_words_sorted() -> None:
    first, second = encode([[["B", "A"], [], ["C"]], [["A", "D", "D"]]], unknown_word="<unk>", min_count=2)
    assert first.vocabulary == second.vocabulary == ["<s>", "</s>", "<unk>", "A", "D"]
    np.testing.assert_array_equal(first.tokens, [0, 2, 3, 1, 0, 2, 1])
    np.testing.assert_array_equal(second.tokens, [0, 3, 4, 4, 1])
    assert (first.sentences, first.words, first.oov) == (2, 3, 2)


def test_words_outside_a_closed_vocabulary_have_an_id_of_no_word() -> None:
    text, = encode([[["B", "X"]]], ["C", "B"])
    assert text.vocabulary == ["<s>", "</s>", "B", "C"]
    assert text.tokens.tolist() == [0, 2, 4, 1] and text.oov == 1


def test_texts_without_words_and_with_sentence_ends_are_refused() -> None:
    with pytest.raises(InputError, match="text 2 of 2 of the language model has no words"):
        encode([[["A"]], []])
    for words in (["<s>"], ["A", "</s>", "B"], ["</s>", "<s>", "A"]):
        with pytest.raises(InputError, match="holds <s> or </s> as words"):
            encode([[words]])
    with pytest.raises(InputError, match="no word occurs 2 times"):
        encode([[["A", "B"]]], min_count=2)
