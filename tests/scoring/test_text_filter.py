import dataclasses
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asr_kd.core.errors import InputError
from asr_kd.core.files import hash_json
from asr_kd.scoring import api
from asr_kd.scoring.system_counts import SystemCounts, read_counts_folder, write_counts
from asr_kd.scoring.text_filter import FILTERS, TextFilter, find_filter
from asr_kd.scoring.wer import ErrorCounts

WORD = st.text(st.characters(codec="utf-8", exclude_categories=["Z", "C"]), min_size=1, max_size=6)


@given(st.lists(WORD, max_size=6))
def test_no_filter_leaves_every_word_as_it_is(words: list[str]) -> None:
    assert find_filter("none").words(words) == words


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("Yes,", "yes"), ("IT'S", "it's"), ("...", ""), ("U.S.", "u.s"), ("UM", ""), ("Hmm?", ""), ("uh-huh", "uh-huh"),
        ("go-", ""), ("-ing", ""), ("twenty-one", "twenty-one"), ("[noise]", "[noise]"), ("ÄRGER!", "ärger"),
    ],
)
def test_spoken_words(word: str, expected: str) -> None:
    assert find_filter("spoken").word(word) == expected


def test_case_filters_change_case_alone() -> None:
    assert find_filter("lower").words(["Um,", "GO-"]) == ["um,", "go-"]
    assert find_filter("upper").words(["Um,", "go-"]) == ["UM,", "GO-"]


@pytest.mark.parametrize("word", ["(uh)", "{", "/", "}", "@"])
def test_notation_that_is_not_supported_is_refused_but_for_none(word: str) -> None:
    assert find_filter("none").word(word) == word
    with pytest.raises(InputError, match=r"ref: utterance u1: text filter spoken-1: .* not supported"):
        find_filter("spoken").texts({"u1": ["a", word]}, "ref")


def test_a_filter_that_is_changed_needs_a_new_version() -> None:
    # Whoever changes a filter: raise its version, then pin what it does here.
    pinned = {name: (one.version, hash_json(dataclasses.asdict(one))[:12]) for name, one in FILTERS.items()}
    assert pinned == {
        "none": (1, "c02b97c529c1"), "lower": (1, "168b8d4244b4"), "upper": (1, "174e6a8e7df3"),
        "spoken": (1, "d19d8b8932c7"),
    }


def test_an_unknown_filter_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(InputError, match="'kaldi': no such filter; expected one of none, lower, upper, spoken"):
        find_filter("kaldi")


def test_the_filter_is_applied_to_both_sides_and_named_in_the_score(tmp_path: Path) -> None:
    (tmp_path / "ref").write_text("u1 Yes, um I DO\n")
    (tmp_path / "hyp").write_text("u1 yes i do uh\n")
    plain = api.score(tmp_path / "ref", [tmp_path / "hyp"])
    assert (plain.text_filter, plain.words, plain.system.total.errors) == ("none-1", 4, 4)
    # The number of words expected is that of the reference as it is written.
    filtered = api.score(tmp_path / "ref", [tmp_path / "hyp"], filter="spoken", words=4)
    assert (filtered.text_filter, filtered.words, filtered.system.total.errors) == ("spoken-1", 3, 0)
    assert not filtered.partial
    assert json.loads(json.dumps(filtered.as_dict()))["text_filter"] == "spoken-1"


def test_counts_of_another_filter_or_alignment_never_stand_beside_the_usual_ones(tmp_path: Path) -> None:
    usual = SystemCounts(id="a", seed=1, split="dev", speakers={"s": ErrorCounts(3, 1, 0, 0)})
    others = [
        dataclasses.replace(usual, text_filter="spoken-1"), dataclasses.replace(usual, alignment="sclite"),
        dataclasses.replace(usual, text_filter="lower-2", alignment="sclite", partial=True),
    ]
    names = [one.set_name for one in others]
    assert names == ["dev-spoken-1", "dev-sclite", "dev-partial-lower-2-sclite"]
    for one in (usual, *others):
        write_counts(tmp_path, one)
    assert {one.file_name for one in read_counts_folder(tmp_path)} == {
        "a.1.dev.json", *(f"a.1.{name}.json" for name in names)
    }


def test_the_identity_is_known_by_its_parts() -> None:
    assert TextFilter("other", 3).is_identity and not FILTERS["lower"].is_identity
