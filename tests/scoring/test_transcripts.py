import gzip
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asr_kd.core.errors import InputError
from asr_kd.scoring.transcripts import (
    read_transcripts,
    read_utt2spk,
    trn_speaker,
    with_kaldi_ids,
    write_transcripts,
)

IDS = st.text("abc019-_", min_size=1, max_size=6)
WORDS = st.lists(st.text("ABÅ'(){}é;", min_size=1, max_size=4).filter(lambda word: word != "{"), max_size=5)


@given(words=st.dictionaries(IDS, WORDS, min_size=1, max_size=5), kind=st.sampled_from(["text", "trn"]))
def test_what_is_written_reads_back(tmp_path_factory: pytest.TempPathFactory, words: dict, kind: str) -> None:
    path = tmp_path_factory.mktemp("transcripts") / f"hyp.{kind}"
    write_transcripts(path, words, format=kind)
    if kind == "text" and all(w and w[-1].startswith("(") and w[-1].endswith(")") for w in words.values()):
        return  # such Kaldi text looks like trn, and is read as the docstring says
    if kind == "trn" and any(w and w[0].startswith(";;") for w in words.values()):
        return  # a comment in trn
    back = read_transcripts(path)
    assert (back.words, back.format) == (words, kind)


def test_trn_is_known_by_its_lines_or_its_name(tmp_path: Path) -> None:
    (tmp_path / "by_lines").write_text("HELLO WORLD (s1-u1)\n(s1-u2)\n;; a comment\n")
    assert read_transcripts(tmp_path / "by_lines").words == {"s1-u1": ["HELLO", "WORLD"], "s1-u2": []}
    (tmp_path / "text").write_text("u1 HELLO (WORLD)\nu2\n")
    assert read_transcripts(tmp_path / "text").words == {"u1": ["HELLO", "(WORLD)"], "u2": []}
    (tmp_path / "by_name.trn").write_text("u1 HELLO\n")
    with pytest.raises(InputError, match=r"by_name.trn:1: .*no \(id\)"):
        read_transcripts(tmp_path / "by_name.trn")


def test_compressed_transcripts_are_read(tmp_path: Path) -> None:
    with gzip.open(tmp_path / "text.gz", "wt") as file:
        file.write("u1 A B\n")
    assert read_transcripts(tmp_path / "text.gz").words == {"u1": ["A", "B"]}


def test_kaldi_and_trn_ids_of_the_same_utterance_meet(tmp_path: Path) -> None:
    speakers = {"u-1": "s-1", "s2-u2": "s2"}
    write_transcripts(tmp_path / "x.trn", {"u-1": ["A"], "s2-u2": ["B"]}, format="trn", speakers=speakers)
    transcripts = read_transcripts(tmp_path / "x.trn")
    assert set(transcripts.words) == {"s-1-u-1", "s2-u2"}
    assert with_kaldi_ids(transcripts, speakers) == {"u-1": ["A"], "s2-u2": ["B"]}


def test_speaker_of_a_trn_id_stands_before_the_first_hyphen() -> None:
    assert [trn_speaker(i) for i in ("1272-128104-0000", "plain", "-x")] == ["1272", None, None]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("text", b"u1 A\nu2 B\nu1 C\n", r"text:3: duplicate utterance id u1 \(first on line 1\)"),
        ("text", b"u1 A\nu2 \xff\n", r"text:2: not UTF-8"),
        ("text", b"\n \n", "no transcript"),
        ("x.trn", b"A { B / C } (u1)\n", r"x.trn:1: alternatives"),
    ],
)
def test_damaged_transcripts_are_refused_by_line(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message):
        read_transcripts(tmp_path / name)


def test_words_that_the_format_cannot_hold_are_refused_and_nothing_is_left(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="'A B' is not one word"):
        write_transcripts(tmp_path / "text", {"u1": ["A B"]})
    with pytest.raises(InputError, match="brackets"):
        write_transcripts(tmp_path / "x.trn", {"u(1)": ["A"]}, format="trn")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("u1 s1\nu2\n", "utt2spk:2: expected `UTT SPEAKER`, found 1 fields"),
        ("u1 s1\nu1 s2\n", "utt2spk:2: duplicate"),
        ("", "no utterance"),
    ],
)
def test_damaged_utt2spk_is_refused(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "utt2spk").write_text(content)
    with pytest.raises(InputError, match=message):
        read_utt2spk(tmp_path / "utt2spk")
