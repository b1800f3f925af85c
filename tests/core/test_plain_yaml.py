"""YAML that is odd, hostile or of another version of the standard."""

import time
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from asr_kd.core.config import Settings, read_settings
from asr_kd.core.errors import InputError
from asr_kd.core.plain_yaml import MAX_DEPTH, Key, parse_yaml


def parsed(text: str) -> Any:
    return parse_yaml(text, "file", {})


def refusal(text: str) -> str:
    with pytest.raises(InputError) as error:
        parsed(text)
    return str(error.value)


@pytest.mark.parametrize(
    ("scalar", "value"),
    [
        # Numbers, dates and truth values of YAML 1.1, text in 1.2.
        ("190:20:30", "190:20:30"),
        ("1:30.5", "1:30.5"),
        ("yes", "yes"),
        ("no", "no"),
        ("on", "on"),
        ("Off", "Off"),
        ("y", "y"),
        ("1_000", "1_000"),
        ("0b11", "0b11"),
        ("2024-01-01", "2024-01-01"),
        ("2001-12-14t21:59:43.10-05:00", "2001-12-14t21:59:43.10-05:00"),
        ("=", "="),
        # The same in both, but for 1e-3, which is text to PyYAML.
        ("1e-3", 0.001),
        ("3E5", 300000.0),
        (".5", 0.5),
        ("1.", 1.0),
        ("-0", 0),
        ("+12", 12),
        ("0x1F", 31),
        ("0o17", 15),
        ("~", None),
        ("null", None),
        ("", None),
        ("true", True),
        ("False", False),
        ("'true'", "true"),
        ('"010"', "010"),
        ("1.2.3", "1.2.3"),
        ("1e", "1e"),
        ("-", None),
        ("9223372036854775807", 2**63 - 1),
        ("-9223372036854775808", -(2**63)),
        ("!!str 010", "010"),
        ("!!int 7", 7),
        ("!!float 7", 7),
    ],
)
def test_scalars_are_those_of_the_core_schema(scalar: str, value: Any) -> None:
    found = parsed(f"a: {scalar}\n")["a"] if scalar != "-" else parsed("-")[0]
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("scalar", "message"),
    [
        ("010", "file:1: a: 010 begins with a zero: 8-based in YAML 1.1, 10-based in 1.2"),
        ("-007", "begins with a zero"),
        ("9223372036854775808", "file:1: a: 9223372036854775808 is too large for an integer"),
        ("9" * 5000, "is too large for an integer"),
        ("0x" + "f" * 5000, "is too large for an integer"),
        ("1e400", "file:1: a: 1e400 is too large for a number"),
        ('!!int ""', "file:1: a: '' is no !!int"),
        ("!!int 1.5", "file:1: a: '1.5' is no !!int"),
        ("!!float x", "file:1: a: 'x' is no !!float"),
        ("!!bool 1", "file:1: a: '1' is no !!bool"),
        ("!!int true", "file:1: a: 'true' is no !!int"),
        ("!!timestamp 2024-01-01", "file:1: a: not a plain value (tag:yaml.org,2002:timestamp)"),
        ("!!binary aGk=", "file:1: a: not a plain value"),
        ("!!set {x}", "file:1: a: not a plain value"),
        ("!!python/object/apply:os.system [ls]", "file:1: a: not a plain value"),
        ("*nowhere", "file:1: a: not YAML: no anchor 'nowhere' above"),
        ('"\\ud800"', "not YAML"),
        ('"\\0"', "file:1: a: text that holds the character U+0000"),
        ('"\\e[2J"', "file:1: a: text that holds the character U+001B"),
        ("\ud800", "file:1: not YAML: holds the character U+D800"),
        ("\x00", "file:1: not YAML: holds the character U+0000"),
        ("1\n---\nb: 2", "file:2: not YAML: a second document"),
        ("{<<: {b: 1}}", "file:1: expected a plain key"),
        ("{? [1]: 2}", "file:1: expected a plain key"),
    ],
)
def test_what_is_no_plain_value_is_refused_in_one_line(scalar: str, message: str) -> None:
    assert message in refusal(f"a: {scalar}\n")


def test_aliases_that_stand_for_millions_of_values_are_refused_at_once() -> None:
    bomb = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    bomb += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
    tracemalloc.start()
    begin = time.monotonic()
    message = refusal("\n".join(bomb))
    memory = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert "more than 200,000 values" in message
    assert message.startswith("file:6: ")
    assert time.monotonic() - begin < 8
    assert memory < 400e6


@pytest.mark.parametrize("levels", [MAX_DEPTH + 1, 100_000])
@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ("{a: ", "}")])
def test_deep_nesting_is_refused(levels: int, opening: str, closing: str) -> None:
    assert f"nested more than {MAX_DEPTH} deep" in refusal(f"a: {opening * levels}1{closing * levels}")


def test_nesting_through_aliases_is_refused() -> None:
    lines = ["a0: &a0 [x]"] + [f"a{n}: &a{n} [*a{n - 1}]" for n in range(1, 200)]
    assert f"nested more than {MAX_DEPTH} deep" in refusal("\n".join(lines))


def test_an_alias_is_the_value_of_its_anchor_and_stands_where_that_stands() -> None:
    places: dict[Key, str] = {}
    values = parse_yaml("first: &x\n  deep: [1, 2]\nsecond: *x\n", "file", places)
    assert values == {"first": {"deep": [1, 2]}, "second": {"deep": [1, 2]}}
    assert places["second",] == "file:3"
    assert places["second", "deep"] == "file:2"


@pytest.mark.parametrize("value", ['!!int ""', "&a [*a]", "[" * 1000, '"\\0"', "\udcff", "1e999", "010"])
def test_an_override_is_bounded_as_a_file_is(value: str) -> None:
    with pytest.raises(InputError, match="^--set a.b="):
        Settings({}, {}).with_override(f"a.b={value}")


def test_an_override_of_a_key_without_end_is_refused() -> None:
    with pytest.raises(InputError, match="a key of more than"):
        Settings({}, {}).with_override(f"{'a.' * 100_000}b=1")


def test_a_file_too_large_for_settings_is_not_read_to_its_end(tmp_path: Path) -> None:
    path = tmp_path / "large.yaml"
    with open(path, "wb") as file:
        file.truncate(5_000_000_000)
    with pytest.raises(InputError, match="large.yaml"):
        read_settings(path)
    path.write_text("# text\n" * 2_000_000)
    with pytest.raises(InputError, match="more than 8,000,000 characters; expected a file of settings"):
        read_settings(path)
