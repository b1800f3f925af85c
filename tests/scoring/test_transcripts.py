import gzip
import time
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
    if kind == "trn" and any(w and w[0].startswith(";;") for w in words.values()):
        with pytest.raises(InputError, match="begins with ;; is a comment"):
            write_transcripts(path, words, format=kind)
        return
    write_transcripts(path, words, format=kind)
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


def test_kaldi_text_whose_lines_end_in_brackets_is_kaldi_text(shared: Path, tmp_path: Path) -> None:
    case = shared / "cases/text/text"
    assert {key: len(words) for key, words in read_transcripts(case).words.items()} == {"u1": 4, "u2": 2}
    (tmp_path / "hyp").write_text("u1 yes (noise)\nu2 no (noise)\n")
    assert read_transcripts(tmp_path / "hyp").format == "text"
    (tmp_path / "hyp").write_text("the first (s1-u1)\nthe second (s1-u2)\n")
    assert read_transcripts(tmp_path / "hyp").format == "trn"


def test_lines_that_fit_both_formats_are_told_by_known_ids_or_refused(
    shared: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "hyp"
    path.write_text((shared / "cases/text/text").read_text())
    with pytest.raises(InputError, match=r"Kaldi text \(ids u1, u2\) or trn \(ids laughs, noise\); give the format"):
        read_transcripts(path)
    assert list(read_transcripts(path, ids={"u1", "u2", "u3"}).words) == ["u1", "u2"]
    assert "could be Kaldi text or trn; read as Kaldi text, whose ids are known" in caplog.text
    assert list(read_transcripts(path, ids={"noise"}).words) == ["laughs", "noise"]
    assert list(read_transcripts(path, "trn").words) == ["laughs", "noise"]


def test_a_trn_line_of_many_spaces_is_read_at_once(tmp_path: Path) -> None:
    path = tmp_path / "x.trn"
    spaces = 2_000_000 * " "
    path.write_text(f"a{spaces}b (u1)\n{spaces}(u2)\na (b" + 2_000_000 * " (" + "\n")
    begin = time.perf_counter()
    with pytest.raises(InputError, match=r"x.trn:3: .*no \(id\)"):
        read_transcripts(path)
    assert time.perf_counter() - begin < 5


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
