"""The short form of the campaign (the long one: `python -m tests.fuzz --inputs 2000 --seed 1`)."""

from tests.fuzz.campaign import run_campaign


def test_damaged_inputs_of_every_kind_are_read_or_refused_in_one_line() -> None:
    results = list(run_campaign(range(1, 131)))
    assert [result for result in results if result.outcome == "fault"] == []
    kinds = {result.kind for result in results}
    assert len(kinds) > 50
    assert sum(result.outcome == "refused" for result in results) > len(kinds)
