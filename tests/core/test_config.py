"""Settings: what is wrong is named with file, line, key and the nearest valid key."""

from pathlib import Path
from typing import Annotated

import pytest
from pydantic import Field, model_validator

from asr_kd.core.config import AddedLater, Config, ExecutionOnly, Settings, build_config, read_settings
from asr_kd.core.errors import InputError


class Network(Config):
    layers: int = Field(10, gt=0)
    rate: float = 0.1


class Pair(Config):
    low: int = 0
    high: int = 1

    @model_validator(mode="after")
    def _in_order(self) -> "Pair":
        if self.low > self.high:
            raise ValueError(f"low {self.low} is above high {self.high}")
        return self


class Whole(Config):
    name: str
    network: Network = Network()
    splits: list[str] = ["train"]


def settings_of(tmp_path: Path, text: str) -> Settings:
    path = tmp_path / "settings.yaml"
    path.write_text(text, encoding="utf-8")
    return read_settings(path)


def refusal(tmp_path: Path, text: str) -> str:
    with pytest.raises(InputError) as caught:
        build_config(Whole, settings_of(tmp_path, text))
    return str(caught.value)


def test_values_and_defaults_arrive(tmp_path: Path) -> None:
    whole = build_config(Whole, settings_of(tmp_path, "name: a\nnetwork:\n  rate: 1e-3\n"))
    assert whole == Whole(name="a", network=Network(layers=10, rate=0.001))


def test_unknown_key_names_line_and_nearest_key(tmp_path: Path) -> None:
    message = refusal(tmp_path, "name: a\nnetwork:\n  layesr: 3\n")
    assert "settings.yaml:3: network.layesr: unknown key; did you mean 'layers'?" in message


def test_wrong_type_names_what_was_expected(tmp_path: Path) -> None:
    message = refusal(tmp_path, "name: a\nnetwork:\n  layers: ten\n")
    assert "settings.yaml:3: network.layers: expected a valid integer, found 'ten'" in message


def test_a_number_in_quotes_is_not_a_number(tmp_path: Path) -> None:
    assert "expected a valid integer" in refusal(tmp_path, "name: a\nnetwork: {layers: '3'}\n")


def test_value_out_of_range_names_the_range(tmp_path: Path) -> None:
    message = refusal(tmp_path, "name: a\nnetwork:\n\n  layers: 0\n")
    assert "settings.yaml:4: network.layers: expected greater than 0, found 0" in message


def test_settings_that_do_not_fit_together_are_named_without_all_the_others() -> None:
    with pytest.raises(InputError) as error:
        build_config(Pair, Settings({"low": 3, "high": 2}, {}))
    assert str(error.value) == "settings: low 3 is above high 2"


def test_missing_key_is_named(tmp_path: Path) -> None:
    assert "name: missing" in refusal(tmp_path, "network: {layers: 3}\n")


def test_key_given_twice_is_refused(tmp_path: Path) -> None:
    assert "settings.yaml:2: name: given twice" in refusal(tmp_path, "name: a\nname: b\n")


@pytest.mark.parametrize("text", ["name: !!python/object/apply:os.system ['true']\n", "name: !odd x\n"])
def test_yaml_tags_are_refused(tmp_path: Path, text: str) -> None:
    assert "settings.yaml:1: name: not a plain value" in refusal(tmp_path, text)


def test_text_that_is_not_yaml_names_the_line(tmp_path: Path) -> None:
    assert "settings.yaml:2: not YAML" in refusal(tmp_path, "name: a\nb: [1\n")


def test_not_utf8_names_the_line(tmp_path: Path) -> None:
    path = tmp_path / "settings.yaml"
    path.write_bytes(b"name: a\n# caf\xe9\n")
    with pytest.raises(InputError, match="settings.yaml:2: not UTF-8"):
        read_settings(path)


def test_overlay_merges_mappings_and_replaces_the_rest(tmp_path: Path) -> None:
    base = settings_of(tmp_path, "name: a\nnetwork: {layers: 3, rate: 0.5}\nsplits: [x, y]\n")
    over = Settings({"network": {"layers": 4}, "splits": ["z"]}, {})
    assert build_config(Whole, base.merged(over)) == Whole(
        name="a", network=Network(layers=4, rate=0.5), splits=["z"]
    )


def test_override_names_itself_as_the_place(tmp_path: Path) -> None:
    base = settings_of(tmp_path, "name: a\n")
    assert build_config(Whole, base.with_override("network.rate=1e-5")).network.rate == 1e-5
    with pytest.raises(InputError, match="--set network.layers=x: network.layers: expected a valid integer"):
        build_config(Whole, base.with_override("network.layers=x"))
    with pytest.raises(InputError, match="expected KEY"):
        base.with_override("network.rate")


def test_an_anchor_that_holds_itself(tmp_path: Path) -> None:
    assert "an anchor that holds itself" in refusal(tmp_path, "network: &a {layers: *a}")


def test_an_override_is_named_as_it_was_given() -> None:
    settings = Settings({}, {}).with_override("network.layers=x", said="student.network.layers=x")
    with pytest.raises(InputError, match="^--set student.network.layers=x: "):
        build_config(Whole, Settings({"name": "a", **settings.values}, settings.places))


def test_an_override_reads_yaml_as_strictly_as_a_file(tmp_path: Path) -> None:
    base = settings_of(tmp_path, "name: a\n")
    for text in ("!!python/object/apply:os.system ['true']", "{layers: 1, layers: 2}", "[1"):
        with pytest.raises(InputError, match="--set network="):
            base.with_override(f"network={text}")


def test_settings_of_the_execution_are_left_out_of_the_result_settings_at_every_depth() -> None:
    class Inner(Config):
        rate: float = 0.5
        threads: Annotated[int, ExecutionOnly()] = Field(0, ge=0)

    class Outer(Config):
        one: Inner = Inner()
        many: list[Inner] = [Inner()]
        named: dict[str, Inner] = {"a": Inner()}
        maybe: Inner | None = None
        log: Annotated[bool, ExecutionOnly()] = True
        pair: tuple[int, int] = (1, 2)

    assert Outer(maybe=Inner(threads=3), log=False).result_settings() == {
        "one": {"rate": 0.5}, "many": [{"rate": 0.5}], "named": {"a": {"rate": 0.5}}, "maybe": {"rate": 0.5},
        "pair": [1, 2]}
    assert Outer().model_dump()["one"] == {"rate": 0.5, "threads": 0}
    with pytest.raises(InputError, match="one.threads: expected greater than or equal to 0, found -1"):
        build_config(Outer, Settings({"one": {"threads": -1}}, {}))


def test_a_group_of_settings_is_laid_over_the_default_of_its_field(tmp_path: Path) -> None:
    class Search(Config):
        beam: float = 15.0
        acoustic_scale: float = 0.083

    class Lattices(Config):
        search: Search = Search(acoustic_scale=0.1)

    (tmp_path / "recipe.yaml").write_text("search:\n  beam: 8.0\n")
    lattices = build_config(Lattices, read_settings(tmp_path / "recipe.yaml"))
    assert lattices.search == Search(beam=8.0, acoustic_scale=0.1)


def test_a_setting_that_came_later_counts_only_where_it_is_set() -> None:
    class Inner(Config):
        width: int = 3
        depth: Annotated[int, AddedLater()] = 1

    class Outer(Config):
        inner: Inner = Inner()
        name: str = "a"

    assert Outer().result_settings() == {"inner": {"width": 3}, "name": "a"}
    assert Outer(inner=Inner(depth=2)).result_settings() == {"inner": {"width": 3, "depth": 2}, "name": "a"}
