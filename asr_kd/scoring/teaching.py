"""What teaches an adapted network, and what pages call it."""

from typing import Literal

Teaching = Literal["transcripts", "first-pass", "teacher", "both"]
"""What is learnt: forced alignments of transcripts, the network's own first pass, a teacher's soft targets, or forced
alignments by the teacher together with its soft targets."""


def learns_transcripts(teaching: Teaching) -> bool:
    """Return True where transcripts are learnt."""
    return teaching in ("transcripts", "both")


def learns_from_teacher(teaching: Teaching) -> bool:
    """Return True where a teacher's soft targets are learnt."""
    return teaching in ("teacher", "both")


TAUGHT_BY: dict[Teaching, str] = {
    "transcripts": "transcripts", "first-pass": "its own first pass", "teacher": "the teacher",
    "both": "transcripts and the teacher"}
