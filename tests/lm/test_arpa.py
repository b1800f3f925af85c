"""ARPA files: what is read and written, and what is refused."""

import gzip
import math
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings

from asr_kd.core.errors import InputError
from asr_kd.lm.arpa import NgramModel, read_arpa, write_arpa
from tests.graph.toy import ARPA
from tests.lm.models import models, sums


def test_values_are_natural_logarithms_and_missing_backoffs_are_zero(arpa_path: Path) -> None:
    model = read_arpa(arpa_path)
    assert model.words == ["<s>", "</s>", "A", "B", "C", "D", "ELSEWHERE"]
    assert [len(ngrams) for ngrams in model.orders] == [7, 5, 2]
    assert model.orders[0].log_probs[2] == pytest.approx(-0.6 * math.log(10))
    assert model.orders[0].backoffs[4:6] == pytest.approx([-0.35 * math.log(10), 0.0])
    np.testing.assert_array_equal(model.orders[2].words, [[0, 2, 3], [2, 3, 4]])


def test_gzip_is_the_same_model(arpa_path: Path, tmp_path: Path) -> None:
    packed = tmp_path / "toy.arpa.gz"
    packed.write_bytes(gzip.compress(ARPA.encode()))
    assert read_arpa(packed).digest == read_arpa(arpa_path).digest


def test_digest_follows_the_content(arpa_path: Path) -> None:
    before = read_arpa(arpa_path).digest
    arpa_path.write_text(ARPA.replace("-0.35 A B C", "-0.36 A B C"))
    assert read_arpa(arpa_path).digest != before


@pytest.mark.parametrize(
    ("old", "new", "line", "message"),
    [
        ("ngram 2=5", "ngram 2=6", 23, "ngram 2=6, but there are 5"),
        ("ngram 2=5", "ngram 2=4", 23, "ngram 2=4, but there are 5"),
        ("ngram 2=5", "ngram 4=5", 4, "expected 'ngram 2=COUNT'"),
        ("-0.6 A -0.25", "nan A -0.25", 10, "log-probability nan"),
        ("-0.6 A -0.25", "0.6 A -0.25", 10, "log-probability 0.6"),
        ("-0.6 A -0.25", "-inf A -0.25", 10, "log-probability -inf"),
        ("-0.6 A -0.25", "-0.6 A nan", 10, "backoff nan"),
        ("-0.6 A -0.25", "x A -0.25", 10, "expected a number"),
        ("-0.6 A -0.25", "-0.6\t\t-0.25", 10, "an empty word between two tabs"),
        ("-0.6 A -0.25", "-0.6\t \t-0.25", 10, "an empty word between two tabs"),
        ("-0.6 A -0.25", "-1e39 A -0.25", 10, "log-probability -1e39 is below -100000; write -99"),
        ("-0.6 A -0.25", "-0.6 A -1e39", 10, "backoff -1e39 is not from -100000 to 100000"),
        ("-0.6 A -0.25", "-0.6 A 1e300", 10, "backoff 1e300 is not from -100000 to 100000"),
        ("-0.6 A -0.25", "-0_6 A -0.25", 10, "expected a number, found '-0_6'"),
        ("-0.6 A -0.25", "-0.6 A\x0b -0.25", 10, "control character U+000B at column 7"),
        ("ngram 2=5", "ngram 2=" + 5000 * "9", 4, "expected \\1-grams:"),
        ("-0.6 A -0.25", "-0.6 A -0.25 -0.1", 10, "expected a log-probability, 1 word(s)"),
        ("-0.35 A B C", "-0.35 A B C -0.1", 25, "expected a log-probability, 3 word(s), found"),
        ("-0.9 B -0.1", "-0.9 A -0.1", 11, "'A' stands here a second time"),
        ("-0.3 B C", "-0.3 A B", 20, "'A B' stands here a second time"),
        ("-0.3 B C", "-0.3 B UNSEEN", 20, "'UNSEEN' has no unigram"),
        ("-0.35 A B C", "-0.35 C D C", 25, "history 'C D' of this n-gram is not among the 2-grams"),
        ("-0.5 A B -0.45", "-0.5 A B", 18, "'A B' has no backoff"),
        ("\\2-grams:", "\\3-grams:", 16, "expected \\2-grams:"),
        ("\\end\\", "", 27, "ends before \\end\\"),
        ("\\data\\", "", 27, "ends before"),
        ("</s>", "STOP", None, "no unigram </s>"),
    ],
)
def test_damage_is_refused_with_its_line(
    arpa_path: Path, old: str, new: str, line: int | None, message: str
) -> None:
    arpa_path.write_text(ARPA.replace(old, new))
    with pytest.raises(InputError) as error:
        read_arpa(arpa_path)
    assert message in str(error.value)
    if line is not None:
        assert str(error.value).startswith(f"{arpa_path}:{line}: ")


def test_an_ideographic_space_is_a_word(shared: Path) -> None:
    model = read_arpa(shared / "cases/arpa/u3000_unigram.arpa")
    assert model.words == ["<unk>", "<s>", "</s>", "red", "green", "blue", "\u3000"]
    assert model.orders[0].backoffs[-1] == pytest.approx(-0.125 * math.log(10))


def test_missing_and_truncated_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        read_arpa(tmp_path / "absent.arpa")
    packed = tmp_path / "cut.arpa.gz"
    packed.write_bytes(gzip.compress(ARPA.encode())[:-20])
    with pytest.raises(InputError, match="damaged gzip|ends before"):
        read_arpa(packed)


@settings(max_examples=60, deadline=None)
@given(models())
def test_what_is_written_is_read_back(model: NgramModel) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "lm.arpa"
        write_arpa(model, path)
        back = read_arpa(path)
        write_arpa(back, Path(folder) / "again.arpa")
        assert path.read_bytes() == (Path(folder) / "again.arpa").read_bytes()
    assert (back.words, back.order, back.digest) == (model.words, model.order, model.digest)
    for ours, theirs in zip(model.orders, back.orders, strict=True):
        np.testing.assert_array_equal(ours.words, theirs.words)
        np.testing.assert_allclose(theirs.log_probs, ours.log_probs, atol=2e-7)
        np.testing.assert_allclose(theirs.backoffs, ours.backoffs, atol=2e-7)
    assert sums(back) == pytest.approx([1.0] * len(sums(back)), abs=1e-5)


def test_gzip_by_name_with_the_same_bytes_each_time(arpa_path: Path, tmp_path: Path) -> None:
    model = read_arpa(arpa_path)
    for name in ("a.arpa.gz", "b.arpa.gz", "c.arpa"):
        write_arpa(model, tmp_path / name)
    assert (tmp_path / "a.arpa.gz").read_bytes() == (tmp_path / "b.arpa.gz").read_bytes()
    assert gzip.decompress((tmp_path / "a.arpa.gz").read_bytes()) == (tmp_path / "c.arpa").read_bytes()
    assert "-0.1000000\t<s> A B\n" in (tmp_path / "c.arpa").read_text()
    assert "-1.2000000\tD\n" in (tmp_path / "c.arpa").read_text()


def test_scores_back_off_as_the_file_says(arpa_path: Path) -> None:
    model, ten = read_arpa(arpa_path), math.log(10)
    assert model.score(["<s>", "A"], "B") == pytest.approx(-0.1 * ten)
    assert model.score(["<s>", "A"], "C") == pytest.approx((-0.15 - 0.25 - 0.7) * ten)
    assert model.score(["C", "B", "D"], "A") == pytest.approx(-0.6 * ten)
    assert model.score([], "D") == pytest.approx(-1.2 * ten)
