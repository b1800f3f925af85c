import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asr_kd.core.errors import InputError
from asr_kd.lexicon.graphemes import GraphemeConfig, spell
from asr_kd.lexicon.lexicon import Lexicon


@pytest.mark.parametrize(("word", "settings", "units"), [
    ("Tree", {}, "t r e e"),
    ("Tree", {"case": "keep"}, "T r e e"),
    ("Cafe\u0301", {}, "c a f \u00e9"),
    ("Stra\u00dfe", {}, "s t r a s s e"),
    ("\u039f\u0394\u039f\u03a3", {}, "\u03bf \u03b4 \u03bf \u03c3"),
    ("don\u2019t", {}, "d o n t"),
    ("don\u2019t", {"apostrophes": "keep"}, "d o n ' t"),
    ("well\u2010known", {}, "w e l l k n o w n"),
    ("well\u2010known", {"hyphens": "keep"}, "w e l l - k n o w n"),
    ("\u0928\u0940\u0932", {}, "\u0928 \u25cc\u0940 \u0932"),
    ("\u0928\u0940\u0932", {"combining_marks": "join"}, "\u0928\u0940 \u0932"),
    ("\u05e9\u05c1\u05b8\u05dc", {"combining_marks": "drop"}, "\u05e9 \u05dc"),
    ("\u0646\u0645\u06cc\u200c\u062e", {}, "\u0646 \u0645 \u06cc \u062e"),
    ("\u6f22\u5b57", {}, "\u6f22 \u5b57"),
    ("mp3", {"digits": {"3": "drei"}}, "m p d r e i"),
])
def test_words_of_any_script_are_spelt(word: str, settings: dict, units: str) -> None:
    assert spell(word, GraphemeConfig(**settings)) == tuple(units.split())


@pytest.mark.parametrize(("word", "fault"), [
    ("mp3", r"'mp3' has the digit '3'.*`digits`"),
    ("\u0663\u0646", "has the digit"),
    ("a&b", r"'a&b' has '&' \(U\+0026\), which is no letter"),
    ("--", "'--' has no letter"),
    ("'", "has no letter"),
    ("\u0301", "has no letter"),
])
def test_what_cannot_be_spelt_is_refused(word: str, fault: str) -> None:
    with pytest.raises(InputError, match=fault):
        spell(word)


@given(st.text(st.characters(categories=["L", "M"]), min_size=1, max_size=8))
def test_every_letter_and_mark_is_in_one_unit_whatever_the_form(word: str) -> None:
    if not any(unicodedata.category(c).startswith("L") for c in unicodedata.normalize("NFC", word)):
        return
    config = GraphemeConfig(case="keep", apostrophes="keep")
    units = spell(word, config)
    assert spell(unicodedata.normalize("NFD", word), config) == units
    if not any(c in "\u02bc" for c in word):
        assert "".join(units).replace("\u25cc", "") == unicodedata.normalize("NFC", word)


def test_graphemes_take_positions_and_share_no_roots_by_accident() -> None:
    words = ["\u0928\u0940\u0932", "\u0928\u0941\u0932", "\u0928"]
    lexicon = Lexicon.from_entries([(word, spell(word), 1.0) for word in words])
    first = lexicon.pronunciations_of[lexicon.word_id[words[0]]][0]
    assert [lexicon.phones.symbols[p] for p in first.phones] == ["\u0928_B", "\u25cc\u0940_I", "\u0932_E"]
    # SIL, SPN and a root for each of four graphemes.
    assert len(lexicon.phones.root_groups) == 6
    assert all(not lexicon.phones.stress(p) for p in lexicon.phones.speech)
