"""A recipe's declarations: the roles of its systems, and the comparisons that get a verdict."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from asr_kd.core.config import Config, Name, build_config, nearest_name
from asr_kd.core.errors import InputError
from asr_kd.core.recipe import Claim, read_outline
from asr_kd.scoring.system_roles import SystemRoles

_OF_PASS = re.compile(r"(.+)-pass(\d+)")


class _ScoredSystems(Config):
    """The part of a `score` stage's settings that declares systems, and the splits."""

    splits: list[Name] = ["dev", "test"]
    choose_on: Name = "dev"
    systems: dict[Name, SystemRoles] = {}


@dataclass(frozen=True)
class Declarations:
    """Roles of systems by id, roles of systems that were decoded after each pass, and the table of claims.

    Choices are made on the split `tuned_on`; systems are judged on `judged_on`.
    """

    systems: Mapping[str, SystemRoles] = field(default_factory=dict)
    each_pass: Mapping[str, SystemRoles] = field(default_factory=dict)
    claims: tuple[Claim, ...] = ()
    tuned_on: str = "dev"
    judged_on: str = "test"

    def roles(self, system: str) -> SystemRoles:
        """The roles of a system, or of the pass of one; none where the recipe does not score it."""
        if system in self.systems:
            return self.systems[system]
        pass_of = self.pass_of(system)
        return SystemRoles() if pass_of is None else self.each_pass[pass_of[0]]

    def declares(self, system: str) -> bool:
        """True where the recipe scores the system."""
        return system in self.systems or self.pass_of(system) is not None

    def pass_of(self, system: str) -> tuple[str, int] | None:
        """The system whose training went through this one, and after which pass; None for all others."""
        found = _OF_PASS.fullmatch(system)
        if found is None or found[1] not in self.each_pass:
            return None
        return found[1], int(found[2])

    @property
    def headline(self) -> str | None:
        """The teacher to which every student's share is told."""
        return next((name for name, roles in self.systems.items() if roles.headline), None)

    @property
    def references(self) -> list[str]:
        """The systems that every other one is compared with."""
        return [name for name, roles in self.systems.items() if roles.reference]


def read_declarations(recipe: Path) -> Declarations:
    """The declarations of the recipe in this folder, of all its options.

    InputError: a system that two stages declare differently, one that is named but not scored anywhere, two headline
    teachers, a claim of systems or of a split that the recipe does not score.
    """
    systems: dict[str, SystemRoles] = {}
    each_pass: dict[str, SystemRoles] = {}
    stages = []
    settings_of, claims = read_outline(recipe, "score")
    for stage, settings in settings_of.items():
        declared = {key: settings.values[key] for key in _ScoredSystems.model_fields if key in settings.values}
        scored = build_config(_ScoredSystems, type(settings)(declared, settings.places), prefix=stage)
        stages.append(scored)
        for name, roles in scored.systems.items():
            declared_roles = each_pass if roles.each_pass else systems
            if declared_roles.setdefault(name, roles) != roles:
                raise InputError(f"{settings.place(('systems', name))}: stage {stage} gives {name} other roles than "
                                 "the stage above that scores it too; give it the same in both")
    declarations = Declarations(systems, each_pass, claims, *_splits(stages))
    _check(recipe, declarations)
    scored_splits = list(dict.fromkeys(split for stage in stages for split in (stage.choose_on, *stage.splits)))
    for claim in claims:
        if claim.split not in scored_splits:
            hint = nearest_name(claim.split, scored_splits)
            raise InputError(f"{recipe}: claims names the split {claim.split!r}, which no stage of the recipe scores; "
                             f"{hint}")
    return declarations


def _splits(stages: list[_ScoredSystems]) -> tuple[str, str]:
    """The split on which weights are chosen, and the first other one that is scored."""
    if not stages:
        return "dev", "test"
    tuned_on = stages[0].choose_on
    others = [split for stage in stages for split in stage.splits if split != tuned_on]
    return tuned_on, others[0] if others else tuned_on


def _check(recipe: Path, declarations: Declarations) -> None:
    every_role = [*declarations.systems.items(), *declarations.each_pass.items()]
    named = [(name, other) for name, roles in every_role for other in roles.related]
    named += [(f"claims.{claim.split}", name) for claim in declarations.claims
              for name in (claim.system, claim.against)]
    for place, name in named:
        if not declarations.declares(name):
            hint = nearest_name(name, list(declarations.systems))
            raise InputError(f"{recipe}: {place} names the system {name!r}, which no stage of the recipe scores; "
                             f"{hint}")
    headlines = [name for name, roles in declarations.systems.items() if roles.headline]
    if len(headlines) > 1:
        raise InputError(f"{recipe}: {' and '.join(headlines)} are both declared headline; expected one teacher")
