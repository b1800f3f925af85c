"""DISTILLATION.md: what each way of teaching is worth, what it costs, and how its training went."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from asr_kd.core.files import atomic_file
from asr_kd.report.comparisons import ResultRow, ShareOfGap
from asr_kd.report.declarations import Declarations
from asr_kd.report.drawing import draw_panels
from asr_kd.report.soft_targets import soft_targets_table
from asr_kd.report.tables import ABSENT, code, interval, markdown_table, number, p_value, seeds_count
from asr_kd.scoring.bootstrap import Comparison, Verdict

CURVES_DRAWING = "distillation.svg"
GRID_DRAWING = "distillation-grid.svg"
_VERDICTS: tuple[tuple[str, Verdict | None], ...] = (
    ("Fewer errors than the plain student", "fewer errors"),
    ("No difference shown", "no difference shown"),
    ("More errors", "more errors"),
    ("No verdict", None),
)

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
    students = [row for row in rows if row.split == split and row.roles.role == "student" and row.pass_of is None]
    return sorted(students, key=lambda row: row.wer.value)


def render_distillation(place: str, rows: Sequence[ResultRow], declarations: Declarations | None = None) -> str:
    """The text of the page of the recipe at `place`.

    Claims are of the split on which systems are judged; rows on the split for tuning alone belong to grids.
    """
    declarations = declarations or Declarations()
    tuned_on, judged_on, headline = declarations.tuned_on, declarations.judged_on, declarations.headline
    judged = {row.id: row for row in distilled(rows, judged_on)}
    tuned = {row.id: row for row in distilled(rows, tuned_on)}
    untaught = [row for row in rows if row.roles.role in ("baseline", "teacher") and row.pass_of is None]
    references = [row for row in untaught if row.split == judged_on]
    trials = same_trials(rows, tuned_on)
    elsewhere = {*judged, *(row.id for row in references)}
    elsewhere |= {row.id for kinds in trials.values() for row in kinds.values()}
    grid = [row for name, row in tuned.items() if name not in elsewhere]
    others = [row for row in untaught if row.split == tuned_on and row.id not in elsewhere]
    parts = [f"# Distillation in {code(place)}", _introduction(place)]
    if judged:
        parts += [f"## Students on {judged_on}", _students_table(list(judged.values()), rows, tuned_on, headline)]
    if any(_other_shares(row, headline) for row in judged.values()):
        parts += ["The same distance from other networks without a teacher:",
                  _other_shares_table(judged.values(), headline)]
    if any(_is_claim(row) for row in judged.values()):
        parts += ["## What helps and what does not", _verdict_lists(judged)]
    if references:
        parts += ["## Networks without a teacher, and teachers", _references_table(references)]
    soft_targets = soft_targets_table([*judged.values(), *tuned.values()])
    if soft_targets:
        parts += ["## Soft targets", _SOFT_TARGETS, soft_targets]
    if trials:
        parts += [f"## The same trials for each kind of student, on {tuned_on} only", _trials_table(trials)]
    if grid:
        parts += [f"## Grids, on {tuned_on} only", "Differences are printed without verdict.",
                  _students_table(grid, rows, tuned_on, headline)]
    if grid_curves(rows, tuned_on):
        parts += [f"![Frame accuracy of the grids' students by epoch, a panel for each family]({GRID_DRAWING})"]
    if others:
        parts += [f"## Others without a teacher, on {tuned_on} only",
                  _references_table(sorted(others, key=lambda row: row.wer.value))]
    if learning_curves(rows, tuned_on):
        parts += ["## Curves", f"![Frame accuracy, λ, gradients and projector by epoch]({CURVES_DRAWING})"]
    return "\n\n".join(parts) + "\n"


def _introduction(place: str) -> str:
    return (
        f"Made by {code(f'asr-kd results {place}')}; do not edit. Share: the part of the distance from the student by "
        "cross-entropy on the same audio to the teacher, with its 95 % interval. Differences are to the plain student "
        "of the same teacher, in % absolute, negative where fewer errors are made. p is by paired bootstrap over "
        "speakers and seeds, without correction. Verdicts are given on the recipe's claims alone, by Holm's "
        "correction over all of them. Seeds: the number of trainings behind a row; one seed carries no verdict. "
        "Training minutes are CPU minutes of all trainings of the student. Its teacher's minutes stand below; those "
        "of soft targets and lattices are not counted. Frame accuracy is against a network's own targets: networks "
        "trained on sequences are held to alignments of the network before them and do not compare with other rows."
    )


_SOFT_TARGETS = (
    "What a cache leaves out, and its size. A line bears the name of one of the students that learn from it. Lost "
    "mass: the teacher's probability on the pdfs that are not kept, mean over frames. The divergence lacks at most "
    "as many nats a frame as the table says, for a student that does not tell these pdfs apart (where their logits "
    "differ by up to s: T · lost mass · s more). Its gradient by the logits is wrong by at most the L1 norm given, "
    "for any student."
)


def same_trials(rows: Sequence[ResultRow], tuned_on: str) -> dict[str, dict[str, ResultRow]]:
    """Trial -> plain system -> its row on `tuned_on`, of the trials that several kinds made; best trials first."""
    trials: dict[str, dict[str, ResultRow]] = {}
    for row in rows:
        roles = row.roles
        if row.split == tuned_on and row.pass_of is None and roles.trial is not None and roles.plain is not None:
            trials.setdefault(roles.trial, {})[roles.plain] = row
    shared = {trial: kinds for trial, kinds in trials.items() if len(kinds) > 1}
    return dict(sorted(shared.items(), key=lambda item: min(row.wer.value for row in item[1].values())))


def learning_curves(rows: Sequence[ResultRow], split: str) -> dict[str, dict[str, dict[int, float]]]:
    """System -> measure -> epoch -> mean over seeds, of the students trained on frames.

    Where some were scored on other splits too, the accuracy of these only.
    """
    curves: dict[str, dict[str, dict[int, float]]] = {}
    judged = {row.id for row in rows if row.split != split} or {row.id for row in rows}
    for row in rows:
        seeds = [counts.epochs for counts in row.counts if counts.epochs]
        if row.split != split or not seeds or row.roles.role == "teacher":
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


def grid_curves(rows: Sequence[ResultRow], tuned_on: str) -> dict[str, dict[str, dict[int, float]]]:
    """Family -> system -> epoch -> held-out frame accuracy, of the students on `tuned_on` that a family holds.

    The plain student that they vary is the first of each family.
    """
    title = next(iter(_MEASURES))
    students = sorted(distilled(rows, tuned_on), key=lambda row: row.id)
    curves = {row.id: curve[title] for row in students
              for curve in learning_curves([row], tuned_on).values() if title in curve}
    families: dict[str, dict[str, dict[int, float]]] = {}
    for row in students:
        plain = row.roles.plain
        if row.roles.family is not None and plain in curves and row.id in curves:
            family = f"{plain}: {row.roles.family}"
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


def _against_plain(row: ResultRow) -> Comparison | None:
    return None if row.roles.plain is None else row.comparisons.get(row.roles.plain)


def _is_claim(row: ResultRow) -> bool:
    """True where the comparison with the plain student is among the recipe's claims."""
    return row.roles.plain in row.corrected


def _students_table(
    students: Sequence[ResultRow], rows: Sequence[ResultRow], tuned_on: str, headline: str | None
) -> str:
    on_dev = {row.id: row for row in rows if row.split == tuned_on}
    tuned = [f"{tuned_on} WER %"] if any(row.split != tuned_on for row in students) else []
    to_headline = [] if headline is None else [f"share to {headline} %", "95 %"]
    judged = ["p, Holm", "verdict"] if any(_is_claim(row) for row in students) else []
    heading = ["student", "seeds", "WER %", "95 %", *tuned, "frame accuracy %", "parameters", "train CPU min",
               "share %", "95 %", *to_headline, "to plain", "p", *judged]
    cells = []
    for row in students:
        shares = {share.teacher: share for share in row.shares if share.baseline == row.roles.baseline}
        against = _against_plain(row)
        line = [f"`{row.id}`", seeds_count(len(row.counts)), number(row.wer.value, 2),
                interval(row.wer.low, row.wer.high, 1)]
        if tuned:
            line.append(number(on_dev[row.id].wer.value if row.id in on_dev else None, 2))
        line += [number(row.mean("frame_accuracy"), 2), number(row.largest("params")),
                 number(row.mean("train_minutes"), 1), *_share_cells(shares.get(row.roles.teacher or ""))]
        if headline is not None:
            line += _share_cells(shares.get(headline))
        line += [number(None if against is None else against.difference, 2, sign=True),
                 p_value(None if against is None else against.p_value)]
        if judged:
            line += _verdict_cells(row, against)
        cells.append(line)
    return markdown_table(heading, cells, left={0, len(heading) - 1} if judged else {0})


def _share_cells(share: ShareOfGap | None) -> list[str]:
    return [ABSENT, ABSENT] if share is None else share.cells


def _verdict_cells(row: ResultRow, against: Comparison | None) -> list[str]:
    """The corrected p-value against the plain student, and the verdict or the reason why there is none."""
    if against is None or row.roles.plain is None or not _is_claim(row):
        return [ABSENT, ABSENT]
    plain = row.roles.plain
    return [p_value(row.corrected[plain]), row.verdict(plain) or f"none: {against.undecidable}"]


def _other_shares(row: ResultRow, headline: str | None) -> list[ShareOfGap]:
    return [share for share in row.shares if share.baseline != row.roles.baseline and share.teacher == headline]


def _other_shares_table(students: Iterable[ResultRow], headline: str | None) -> str:
    cells = [[f"`{row.id}`", f"`{share.baseline}`", *_share_cells(share)]
             for row in students for share in _other_shares(row, headline)]
    return markdown_table(["student", "from", f"share to {headline} %", "95 %"], cells, left={0, 1})


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
        [[f"`{row.id}`", seeds_count(len(row.counts)), number(row.wer.value, 2), interval(row.wer.low, row.wer.high, 1),
          number(row.mean("frame_accuracy"), 2), number(row.largest("params")), number(row.mean("train_minutes"), 1)]
         for row in references], left={0})


def _verdict_lists(judged: Mapping[str, ResultRow]) -> str:
    """The students whose comparison with the plain one is a claim, by verdict, the best first."""
    compared = [(row, against) for row in judged.values()
                if _is_claim(row) and (against := _against_plain(row)) is not None]
    compared.sort(key=lambda pair: pair[1].difference)
    lines = []
    for title, verdict in _VERDICTS:
        members = [(row, against) for row, against in compared if row.verdict(row.roles.plain or "") == verdict]
        if not members and verdict is None:
            continue
        lines.append(f"- {title}:{'' if members else ' none.'}")
        for row, against in members:
            plain = judged.get(row.roles.plain or "")
            minutes = row.mean("train_minutes")
            before = None if plain is None else plain.mean("train_minutes")
            cost = f", {minutes / before:.1f} times the training time" if minutes and before else ""
            lines.append(f"  - `{row.id}`: {number(against.difference, 2, sign=True)}{cost}")
    return "\n".join(lines)
