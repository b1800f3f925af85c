"""The short form of the campaign (the long one: `python -m tests.fuzz --inputs 2000 --seed 1`)."""

from tests.fuzz.campaign import run_campaign
from tests.fuzz.kinds import KINDS


def test_damaged_inputs_of_every_kind_are_read_or_refused_in_one_line() -> None:
    results = list(run_campaign(range(1, 1 + 3 * len(KINDS))))
    assert {result.kind for result in results} == set(KINDS)
    assert [result for result in results if result.outcome == "fault"] == []
    assert sum(result.outcome == "refused" for result in results) > len(KINDS)
