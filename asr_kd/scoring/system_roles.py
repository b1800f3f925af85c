"""Roles of the systems that a recipe scores, as its `score` stages declare them."""

from typing import Annotated, Literal

from asr_kd.core.config import Config, ExecutionOnly, Name

# Scores do not depend on what they are compared with later: a changed role rebuilds nothing.
_Related = Annotated[Name | None, ExecutionOnly()]


class SystemRoles(Config):
    """The role of a scored system, and the ids of the systems that it is compared with.

    role: `student` where a teacher taught it, `baseline` for a network without a teacher, `teacher`; none for others
    (Gaussians). baseline: its own cross-entropy baseline. teacher: the teacher that it learnt from, or that its
    distance is measured to. plain: the system of the same kind without what this one adds. start: the system from
    which its sequence training set out. versus: other systems to compare it with. family: the name of a group of
    variants of one `plain`, drawn together. trial: the name of settings that several kinds of system tried, which
    stand side by side. headline: the teacher to which every student's share is told. reference: a system that every
    other one is compared with. each_pass: it was decoded after each pass of its sequence training; the passes are
    systems of their own, ID-pass1 and so on, with the same roles.
    """

    role: Annotated[Literal["student", "baseline", "teacher"] | None, ExecutionOnly()] = None
    baseline: _Related = None
    teacher: _Related = None
    plain: _Related = None
    start: _Related = None
    versus: Annotated[list[Name], ExecutionOnly()] = []
    family: _Related = None
    trial: _Related = None
    headline: Annotated[bool, ExecutionOnly()] = False
    reference: Annotated[bool, ExecutionOnly()] = False
    each_pass: bool = False

    @property
    def related(self) -> list[str]:
        """The ids of all systems that this one names, each once."""
        named = [self.baseline, self.teacher, self.plain, self.start, *self.versus]
        return list(dict.fromkeys(name for name in named if name is not None))
