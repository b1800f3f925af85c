"""DISTILLATION.md: what each way of teaching is worth, at what cost, and how it went."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from asr_kd.core.files import atomic_file
from asr_kd.report.comparisons import HEADLINE_TEACHER, ResultRow, ShareOfGap
from asr_kd.report.drawing import draw_panels
from asr_kd.report.passes import is_of_pass
from asr_kd.report.soft_targets import soft_targets_table
from asr_kd.report.tables import ABSENT, interval, markdown_table, number, p_value
from asr_kd.scoring.bootstrap import Comparison

CURVES_DRAWING = "distillation.svg"
GRID_DRAWING = "distillation-grid.svg"
# The plain way of teaching: no refinement, temperature or weight behind it.
_PLAIN = re.compile(r"(.+-kd(?:-fbank)?(?:-smbrteacher)?)(-.+)?")
_UNTAUGHT = re.compile(r"h?dnn\d|teacher")
_SIGNIFICANT = 0.05

_MEASURES = {
    "held-out frame accuracy, %": None,
    "weight of distillation, λ": "train_distillation_weight",
    "cosine of the two gradients": "train_gradient_cosine",
    "norm of the gradient of q · cross-entropy": "train_task_gradient_norm",
    "norm of the gradient of distillation": "train_distillation_gradient_norm",
    "σ of the noise on the teacher": "train_sigma",
    "a look at the gradients, ms a step": "train_weighing_ms",
    "largest singular value of the projector": "projector_largest_singular_value",
    "least singular value of the projector": "projector_least_singular_value",
}


def distilled(rows: Sequence[ResultRow], split: str) -> list[ResultRow]:
    """The students of a split that a teacher taught, best first."""
    found = [row for row in rows if row.split == split and _PLAIN.fullmatch(row.id) and not is_of_pass(row)]
    return sorted(found, key=lambda row: row.wer.value)


def render_distillation(recipe: str, rows: Sequence[ResultRow], tuned_on: str = "dev", judged_on: str = "test") -> str:
    """The text of the page; claims are of `judged_on`, rows that are on `tuned_on` alone belong to grids."""
    judged = {row.id: row for row in distilled(rows, judged_on)}
    untaught = [row for row in rows if _UNTAUGHT.match(row.id) and not is_of_pass(row) and not _PLAIN.fullmatch(row.id)]
    references = [row for row in untaught if row.split == judged_on]
    trials = same_trials(rows, tuned_on, judged_on)
    elsewhere = {*judged, *(row.id for row in references), *(row.id for of_one in trials.values() for row in
                                                             of_one.values())}
    grid = [row for row in distilled(rows, tuned_on) if row.id not in elsewhere]
    others = [row for row in untaught if row.split == tuned_on and row.id not in elsewhere]
    parts = [
        f"# Distillation in `recipes/{recipe}`",
        f"Made by `asr-kd results recipes/{recipe}`; not to be edited. Share: of the distance from the student by "
        "cross-entropy on the same audio to the teacher, with its 95 % interval; differences are to the plain student "
        "of the same teacher, in % absolute, negative where fewer errors are made; p by paired bootstrap over "
        "speakers, each student the mean of all its seeds. Seeds: the number of trainings behind a row. Training "
        "minutes are the student's own, of all its trainings; its teacher's, which any number of students share, stand "
        "below, soft targets and lattices are not in them. Frame accuracy is against a network's own targets: what "
        "sequences trained is held to alignments of the network before, and does not compare with other rows.",
        f"## Students on {judged_on}", _students_table(list(judged.values()), rows, tuned_on),
    ]
    if any(_from_others(row) for row in judged.values()):
        parts += ["The same distance from other networks without a teacher:", _other_shares_table(judged.values())]
    parts += ["## What helps and what does not", _verdicts(judged)]
    if references:
        parts += ["## Networks without a teacher, and teachers", _references_table(references)]
    of_caches = soft_targets_table([*judged.values(), *distilled(rows, tuned_on)])
    if of_caches:
        parts += [
            "## Soft targets",
            "What a cache leaves out, and its size. A line is called by one of the students that learn from it. Lost "
            "mass: the teacher's probability on the pdfs that are not kept, mean over frames. By it the divergence "
            "lacks at most so many nats a frame, for a student that tells none of these pdfs apart (where logits of "
            "them differ by up to s: T · lost mass · s more), and its gradient by the logits is wrong by at most so "
            "much (L1 norm, any student).", of_caches]
    if trials:
        parts += [f"## The same trials for each kind of student, on {tuned_on} only", _trials_table(trials)]
    if grid:
        parts += [f"## Grids, on {tuned_on} only", _students_table(grid, rows, tuned_on)]
        on_dev = {row.id: row for row in distilled(rows, tuned_on)}
        parts += [_verdicts({row.id: row for row in grid}, on_dev)]
    if grid_curves(rows, tuned_on, judged_on):
        parts += [f"![Frame accuracy of the grids' students by epoch, a panel for each family]({GRID_DRAWING})"]
    if others:
        parts += [f"## Others without a teacher, on {tuned_on} only",
                  _references_table(sorted(others, key=lambda row: row.wer.value))]
    if learning_curves(rows, tuned_on):
        parts += ["## Curves", f"![Frame accuracy, λ, gradients and projector by epoch]({CURVES_DRAWING})"]
    return "\n\n".join(parts) + "\n"


def same_trials(rows: Sequence[ResultRow], tuned_on: str, judged_on: str) -> dict[str, dict[str, ResultRow]]:
    """Trial -> kind of student -> its row on `tuned_on`: rows `KIND-TRIAL` that several kinds have, of kinds that were
    judged and are no variants of another; best trials first."""
    judged = {row.id for row in rows if row.split == judged_on}
    kinds = {name for name in judged if not any(name.startswith(f"{other}-") for other in judged)}
    found: dict[str, dict[str, ResultRow]] = {}
    for row in rows:
        if row.split == tuned_on and row.id not in judged and not is_of_pass(row):
            kind = next((kind for kind in kinds if row.id.startswith(f"{kind}-")), None)
            if kind is not None:
                found.setdefault(row.id.removeprefix(f"{kind}-"), {})[kind] = row
    shared = {trial: of_one for trial, of_one in found.items() if len(of_one) > 1}
    return dict(sorted(shared.items(), key=lambda item: min(row.wer.value for row in item[1].values())))


def learning_curves(rows: Sequence[ResultRow], split: str) -> dict[str, dict[str, dict[int, float]]]:
    """System -> measure -> epoch -> mean over seeds, of the students trained on frames; where some were scored on
    other splits too, the accuracy of these only."""
    curves: dict[str, dict[str, dict[int, float]]] = {}
    judged = {row.id for row in rows if row.split != split} or {row.id for row in rows}
    for row in rows:
        seeds = [counts.epochs for counts in row.counts if counts.epochs]
        if row.split != split or not seeds or row.id.startswith("teacher"):
            continue
        for title, name in _MEASURES.items():
            if name is None and row.id not in judged:
                continue
            values: dict[int, list[float]] = {}
            for epoch in (epoch for epochs in seeds for epoch in epochs):
                value = epoch.frame_accuracy if name is None else epoch.measures.get(name)
                if value is not None:
                    values.setdefault(epoch.number, []).append(value)
            if len({float(np.mean(of_epoch)) for of_epoch in values.values()}) > 1:  # what never changes is no curve
                curves.setdefault(row.id, {})[title] = {n: float(np.mean(values[n])) for n in sorted(values)}
    return curves


def grid_curves(rows: Sequence[ResultRow], tuned_on: str, judged_on: str) -> dict[str, dict[str, dict[int, float]]]:
    """Family -> system -> epoch -> held-out frame accuracy, of the students of one teacher on `tuned_on` that vary
    something of the plain one, which is the first of each family. A family is called by the letters behind the plain
    one's id: T, q, noisy."""
    title = next(iter(_MEASURES))
    curves = {row.id: curve[title] for row in distilled(rows, tuned_on)
              for curve in learning_curves([row], tuned_on).values() if title in curve}
    trials = {row.id for of_one in same_trials(rows, tuned_on, judged_on).values() for row in of_one.values()}
    families: dict[str, dict[str, dict[int, float]]] = {}
    for row in sorted(distilled(rows, tuned_on), key=lambda row: row.id):
        plain = _plain_of(row)
        if plain in curves and row.id in curves and row.id not in trials:
            name = re.match("[A-Za-z]+", row.id.removeprefix(f"{plain}-"))
            family = f"{plain}: {name[0] if name else row.id}"
            families.setdefault(family, {plain: curves[plain]})[row.id] = curves[row.id]
    return families


def draw_grid_curves(path: Path, families: Mapping[str, Mapping[str, Mapping[int, float]]]) -> None:
    """An SVG with a panel for each of `grid_curves`."""
    with atomic_file(path) as file:
        draw_panels(file, list(families.items()), "epoch", legend_in_each=True)


def draw_learning_curves(path: Path, curves: Mapping[str, Mapping[str, Mapping[int, float]]]) -> None:
    """An SVG with a panel for each measure of `learning_curves`."""
    panels = [(title, {name: of_one[title] for name, of_one in curves.items() if title in of_one})
              for title in _MEASURES]
    with atomic_file(path) as file:
        draw_panels(file, [(title, lines) for title, lines in panels if lines], "epoch")


def _plain_of(row: ResultRow) -> str | None:
    """The id of the plain student of the same teacher, where the row is not it."""
    found = _PLAIN.fullmatch(row.id)
    return found[1] if found and found[2] else None


def _against_plain(row: ResultRow) -> Comparison | None:
    plain = _plain_of(row)
    return row.comparisons.get(plain) if plain else None


def _students_table(
    students: Sequence[ResultRow], rows: Sequence[ResultRow], tuned_on: str
) -> str:
    on_dev = {row.id: row for row in rows if row.split == tuned_on}
    tuned = [f"{tuned_on} WER %"] if any(row.split != tuned_on for row in students) else []
    heading = ["student", "seeds", "WER %", "95 %", *tuned, "frame accuracy %", "parameters", "train CPU min",
               "share %", "95 %", f"share to {HEADLINE_TEACHER} %", "95 %", "to plain", "p"]
    cells = []
    for row in students:
        shares = {share.teacher: share for share in row.shares if share.baseline == row.counts[0].baseline}
        own, headline = shares.get(row.counts[0].teacher or ""), shares.get(HEADLINE_TEACHER)
        against = _against_plain(row)
        cells.append([
            f"`{row.id}`", str(len(row.counts)), number(row.wer.value, 2), interval(row.wer.low, row.wer.high, 1),
            *([number(on_dev[row.id].wer.value if row.id in on_dev else None, 2)] if tuned else []),
            number(row.mean("frame_accuracy"), 2), number(row.largest("params")), number(row.mean("train_minutes"), 1),
            *(cell for share in (own, headline) for cell in (
                [ABSENT, ABSENT] if share is None else [number(100 * share.estimate.value), interval(
                    100 * share.estimate.low, 100 * share.estimate.high, 0)])),
            number(None if against is None else against.difference, 2, sign=True),
            ABSENT if against is None else p_value(against.p_value)])
    return markdown_table(heading, cells, left={0})


def _from_others(row: ResultRow) -> list[ShareOfGap]:
    return [share for share in row.shares
            if share.baseline != row.counts[0].baseline and share.teacher == HEADLINE_TEACHER]


def _other_shares_table(students: Iterable[ResultRow]) -> str:
    return markdown_table(
        ["student", "from", f"share to {HEADLINE_TEACHER} %", "95 %"],
        [[f"`{row.id}`", f"`{share.baseline}`", number(100 * share.estimate.value),
          interval(100 * share.estimate.low, 100 * share.estimate.high, 0)]
         for row in students for share in _from_others(row)], left={0, 1})


def _trials_table(trials: Mapping[str, Mapping[str, ResultRow]]) -> str:
    """WER and frame accuracy of each trial, in bold the least WER of a kind."""
    kinds = sorted({kind for of_one in trials.values() for kind in of_one})
    best = {kind: min(of_one[kind].wer.value for of_one in trials.values() if kind in of_one) for kind in kinds}

    def cell(row: ResultRow | None, least: float) -> str:
        if row is None:
            return ABSENT
        wer = number(row.wer.value, 2)
        return f"{f'**{wer}**' if row.wer.value == least else wer} ({number(row.mean('frame_accuracy'), 1)})"

    return markdown_table(["trial", *(f"`{kind}`: WER % (frame accuracy %)" for kind in kinds)],
                          [[f"`{trial}`", *(cell(of_one.get(kind), best[kind]) for kind in kinds)]
                           for trial, of_one in trials.items()], left={0})


def _references_table(references: Sequence[ResultRow]) -> str:
    return markdown_table(
        ["network", "seeds", "WER %", "95 %", "frame accuracy %", "parameters", "train CPU min"],
        [[f"`{row.id}`", str(len(row.counts)), number(row.wer.value, 2), interval(row.wer.low, row.wer.high, 1),
          number(row.mean("frame_accuracy"), 2), number(row.largest("params")), number(row.mean("train_minutes"), 1)]
         for row in references], left={0})


def _verdicts(judged: Mapping[str, ResultRow], known: Mapping[str, ResultRow] | None = None) -> str:
    """Lists by the sign of the difference to plain distillation and its p-value, the best first; known: where the plain
    students are, if not among those judged."""
    verdicts: list[tuple[str, Callable[[Comparison], bool]]] = [
        ("Fewer errors than plain distillation, p < 0.05", lambda c: c.p_value < _SIGNIFICANT and c.difference < 0),
        ("No difference shown", lambda c: c.p_value >= _SIGNIFICANT),
        ("More errors, p < 0.05", lambda c: c.p_value < _SIGNIFICANT and c.difference > 0)]
    compared = [(row, against) for row in judged.values() if (against := _against_plain(row)) is not None]
    lines = []
    for title, fits in verdicts:
        found = sorted((pair for pair in compared if fits(pair[1])), key=lambda pair: pair[1].difference)
        lines.append(f"- {title}:{'' if found else ' none.'}")
        for row, against in found:
            plain = (known or judged).get(_plain_of(row) or "")
            minutes, before = row.mean("train_minutes"), None if plain is None else plain.mean("train_minutes")
            cost = f", {minutes / before:.1f} times the training time" if minutes and before else ""
            lines.append(f"  - `{row.id}`: {number(against.difference, 2, sign=True)}{cost}")
    return "\n".join(lines)
