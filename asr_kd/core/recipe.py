"""Reading `recipe.yaml` into stages."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field

from asr_kd.core.config import Config, Name, Settings, build_config, nearest_name
from asr_kd.core.errors import InputError
from asr_kd.core.opening import resolved
from asr_kd.core.recipe_files import installed_folders, load_recipe
from asr_kd.core.stages import Stage, StageKind
from asr_kd.core.sweep import expand_sweeps

# A stage's name is that of its folder in the run directory.
_STAGE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
_SEED_FOLDER = re.compile(r"-seed\d+$")
_TAKEN_NAMES = {"logs"}
# Every generator of random numbers takes seeds of up to 18 digits.
_SEED = re.compile(r"[0-9]{1,18}")
# With more comparisons a table of claims is a search, and Holm's correction leaves nothing of it.
MOST_CLAIMS = 30


class _StageEntry(Config):
    run: str
    option: str | list[str] | None = None
    reads: dict[str, str] = {}
    settings: dict[str, Any] = {}

    @property
    def options(self) -> list[str]:
        """The options with any of which the stage is there; always where there are none."""
        return [self.option] if isinstance(self.option, str) else self.option or []


class _RecipeFile(Config):
    description: str
    options: dict[str, str] = {}
    claims: dict[Name, dict[Name, list[Name]]] = {}
    stages: dict[str, _StageEntry] = Field(min_length=1)
    fast: dict[str, dict[str, Any]] = {}


@dataclass(frozen=True)
class Claim:
    """A comparison of two systems on a split that the recipe declares to judge."""

    split: str
    system: str
    against: str


@dataclass(frozen=True)
class Recipe:
    """A recipe: its folder, its stages in the order in which they run, and its options with what each adds."""

    name: str
    folder: Path
    description: str
    stages: list[Stage]
    options: Mapping[str, str]

    def stage(self, name: str) -> Stage:
        """The stage of that name; InputError with the nearest valid name otherwise."""
        for stage in self.stages:
            if name in (stage.name, stage.folder):
                return stage
        known = [stage.name for stage in self.stages]
        raise InputError(f"recipe {self.name}: no stage {name!r}; {nearest_name(name, known)}")


def find_recipe(recipe: str) -> Path:
    """The folder of a recipe: a path to it (or to its recipe.yaml), or the name of one that is installed."""
    path = Path(recipe)
    if path.name == "recipe.yaml":
        path = path.parent
    if (path / "recipe.yaml").is_file():
        return path
    for root in installed_folders():
        installed = root / path.name
        if path.parent in (Path(), Path("recipes")) and (installed / "recipe.yaml").is_file():
            return installed
    raise InputError(f"{recipe}: no recipe there (expected a folder with recipe.yaml)")


def read_recipe(
    folder: Path,
    kinds: Mapping[str, StageKind],
    *,
    fast: bool = False,
    options: list[str] | None = None,
    overrides: list[str] | None = None,
    seed: int = 0,
) -> Recipe:
    """Read `folder/recipe.yaml` and its base; lay the `fast` overlay and overrides (`STAGE.key=value`) on top.

    A stage with an option (or several) is there only where `options` names it (or any of them). Stages may read only
    stages above them. A stage that depends on the seed, or reads one that does, carries it in its folder's name, so
    that several seeds share all other stages of a run directory. `NAME@N` among what a stage reads is stage NAME with
    seed N, whatever the run's seed; it and what it is made of become stages too, and do not make the reader depend on
    the run's seed.
    """
    if not _SEED.fullmatch(str(seed)):
        raise InputError(f"seed {seed}: expected a whole number from 0, of at most 18 digits")
    file, settings = _read_file(folder)
    _check_options(file, settings, options or [])
    entries = file.stages
    overlays = {name: settings.slice("fast", name) for name in settings.slice("fast").values} if fast else {}
    for name in overlays:
        if name not in entries:
            place = settings.place(("fast", name))
            raise InputError(f"{place}: fast.{name}: no such stage; {nearest_name(name, list(entries))}")

    def chosen(entry: _StageEntry) -> bool:
        return not entry.options or any(option in (options or []) for option in entry.options)

    by_stage: dict[str, list[str]] = {}
    for override in overrides or []:
        name, _, rest = override.partition(".")
        if name not in entries or not rest:
            raise InputError(f"--set {override}: expected STAGE.KEY=VALUE; {nearest_name(name, list(entries))}")
        if not chosen(entries[name]):
            raise InputError(f"--set {override}: {name} is there only with --option "
                             f"{' or '.join(entries[name].options)}")
        by_stage.setdefault(name, []).append(rest)
    names = [name for name, entry in entries.items() if chosen(entry)]
    built: dict[tuple[str, int], Stage] = {}

    def stage_of(name: str, of_seed: int) -> Stage:
        if (name, of_seed) not in built:
            own = settings.slice("stages", name, "settings")
            if name in overlays:
                own = own.merged(overlays[name])
            for override in by_stage.get(name, []):
                own = own.with_override(override, said=f"{name}.{override}")
            above = names[:names.index(name)]
            built[name, of_seed] = _stage(name, entries[name], own, settings, kinds, above, of_seed, stage_of)
        return built[name, of_seed]

    stages: dict[str, Stage] = {}
    for name in names:
        _add_with_inputs(stage_of(name, seed), stages)
    return Recipe(resolved(folder).name, folder, file.description, list(stages.values()), file.options)


def read_outline(folder: Path, kind: str) -> tuple[dict[str, Settings], tuple[Claim, ...]]:
    """The settings of all stages of a kind in the recipe in `folder`, whatever their options, by name; its claims.

    InputError: more than 30 claims, one twice or against itself.
    """
    file, settings = _read_file(folder)
    names = [name for name, entry in file.stages.items() if entry.run == kind]
    return {name: settings.slice("stages", name, "settings") for name in names}, _claims(file, settings)


def _read_file(folder: Path) -> tuple[_RecipeFile, Settings]:
    """The recipe in `folder`, sweeps expanded, and its settings with their places."""
    settings = expand_sweeps(load_recipe(folder / "recipe.yaml"))
    file = build_config(_RecipeFile, settings)
    _claims(file, settings)
    return file, settings


def _claims(file: _RecipeFile, settings: Settings) -> tuple[Claim, ...]:
    place = settings.place(("claims",))
    claims: dict[tuple[str, frozenset[str]], Claim] = {}
    for split, systems in file.claims.items():
        for system, others in systems.items():
            for other in others:
                pair = (split, frozenset((system, other)))
                if system == other:
                    raise InputError(f"{place}: claims: {system} is compared with itself on {split}")
                if pair in claims:
                    raise InputError(f"{place}: claims: {system} against {other} on {split} stands there twice")
                claims[pair] = Claim(split, system, other)
    if len(claims) > MOST_CLAIMS:
        raise InputError(f"{place}: claims: {len(claims)} comparisons, expected at most {MOST_CLAIMS}; declare those "
                         "that the results are to show, the others are printed without verdict")
    return tuple(claims.values())


def _add_with_inputs(stage: Stage, stages: dict[str, Stage]) -> None:
    """Add a stage behind all that it reads, by folder."""
    if stage.folder not in stages:
        for needed in stage.inputs.values():
            _add_with_inputs(needed, stages)
        stages[stage.folder] = stage


def _check_options(file: _RecipeFile, settings: Settings, wanted: list[str]) -> None:
    for name, entry in file.stages.items():
        for option in entry.options:
            if option not in file.options:
                raise InputError(f"{settings.place(('stages', name, 'option'))}: stages.{name}.option: {option!r} is "
                                 f"not among the recipe's options; {nearest_name(option, list(file.options))}")
        for input_name, reference in entry.reads.items():
            stage_name = reference.partition("@")[0]
            needed = file.stages[stage_name].options if stage_name in file.stages else []
            if needed and not (entry.options and set(entry.options) <= set(needed)):
                raise InputError(
                    f"{settings.place(('stages', name, 'reads', input_name))}: stages.{name}.reads.{input_name}: "
                    f"{stage_name!r} is there only with the option {' or '.join(map(repr, needed))}; give {name!r} "
                    "that option too")
    for option in wanted:
        if option not in file.options:
            known = nearest_name(option, list(file.options)) if file.options else "it has none"
            raise InputError(f"--option {option}: the recipe has no such option; {known}")


def _stage(
    name: str, entry: _StageEntry, own: Settings, settings: Settings, kinds: Mapping[str, StageKind],
    above: Sequence[str], seed: int, stage_of: Callable[[str, int], Stage],
) -> Stage:
    def fail(key: tuple[str, ...], message: str) -> InputError:
        return InputError(f"{settings.place(('stages', name, *key))}: {'.'.join(('stages', name, *key))}: {message}")

    if not _STAGE_NAME.fullmatch(name):
        raise fail((), "expected letters, digits, '_' and '-' as a stage's name")
    if _SEED_FOLDER.search(name):
        raise fail((), "a name that ends so is the folder of another stage's seed; name the stage otherwise")
    if entry.run not in kinds:
        raise fail(("run",), f"unknown kind of stage {entry.run!r}; {nearest_name(entry.run, list(kinds))}")
    kind = kinds[entry.run]
    if name in _TAKEN_NAMES | {other.publishes for other in kinds.values()}:
        raise fail((), "the run directory has a folder of that name already; name the stage otherwise")
    inputs: dict[str, Stage] = {}
    depends = kind.seeded
    for input_name, reference in entry.reads.items():
        stage_name, at, of_seed = reference.partition("@")
        allowed = (*kind.reads, *kind.may_read)
        if input_name not in allowed and not kind.reads_any:
            raise fail(("reads", input_name), f"{kind.name} reads no such input; {nearest_name(input_name, allowed)}")
        if stage_name not in above:
            raise fail(("reads", input_name),
                       f"{stage_name!r} is no stage above this one; {nearest_name(stage_name, above)}")
        if at and not _SEED.fullmatch(of_seed):
            raise fail(("reads", input_name),
                       f"{of_seed[:30]!r} is no seed; expected a whole number of at most 18 digits behind the @")
        inputs[input_name] = stage_of(stage_name, int(of_seed) if at else seed)
        depends = depends or not at and inputs[input_name].seed is not None
    for input_name in kind.reads:
        if input_name not in inputs:
            raise fail(("reads",), f"{kind.name} needs the input {input_name!r}")
    config = build_config(kind.config, own, prefix=name)
    if kind.check is not None:
        try:
            kind.check(config, inputs)
        except InputError as error:
            raise fail(("settings",), str(error)) from error
    return Stage(name, kind, config, inputs, seed if depends else None)
