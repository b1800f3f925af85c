"""RESULTS.md: tables that a reader can check, each figure beside the command that made it."""

import re
from collections.abc import Sequence
from itertools import groupby

from asr_kd.report.comparisons import ResultRow
from asr_kd.report.declarations import Declarations
from asr_kd.report.passes import pass_curves, passes_table
from asr_kd.report.size import SIZE_DRAWING, sized_rows
from asr_kd.report.tables import ABSENT, code, interval, markdown_table, number, p_value, plain_text
from asr_kd.report.training_lattices import training_lattices_table
from asr_kd.scoring.bootstrap import DRAWS, FEWEST_SPEAKERS, Comparison

PASSES_DRAWING = "passes.svg"
_HASH = re.compile(r"[0-9a-f]{40}\+?")


def render_results(place: str, rows: Sequence[ResultRow], declarations: Declarations | None = None) -> str:
    """The text of RESULTS.md for the recipe at `place`."""
    declarations = declarations or Declarations()
    parts = [f"# Results of {code(place)}", _introduction(place, declarations)]
    if sized_rows(rows, declarations.judged_on):
        parts.append(f"![{declarations.judged_on} WER by number of parameters]({SIZE_DRAWING})")
    for split, of_split in groupby(rows, key=lambda row: row.split):
        every = list(of_split)
        systems = [row for row in every if row.pass_of is None]
        elsewhere = {row.id for row in rows if row.split != split}
        alone = [row for row in systems if row.id not in elsewhere]
        if len(alone) == len(systems):
            alone = []
        parts += _render_split(split, [row for row in systems if row not in alone], every) if systems else []
        if alone:
            parts += [f"Grids and trials, scored on {split} alone:", _systems_table(alone)]
    notes = _notes(rows)
    if notes:
        parts += ["## Notes", notes]
    curves = pass_curves(rows, declarations.tuned_on)
    if curves:
        parts += [
            "## Sequence training, pass by pass",
            "Pass 0 is the start. Criterion (a frame; smbr: expected accuracy, 0 to 1) and frame accuracy are those of "
            f"the training speakers held out, {declarations.tuned_on} WER that of each pass, means over seeds.",
            f"![Criterion, frame accuracy and {declarations.tuned_on} WER by pass]({PASSES_DRAWING})",
            passes_table(curves, declarations.tuned_on),
        ]
    lattices = training_lattices_table(rows, declarations.tuned_on)
    if lattices is not None:
        parts += [
            "## Training lattices",
            "WER by the weights of the search, oracle WER that of the paths nearest to the transcripts, both before "
            "numerators were added; arcs of word lattices. Means over seeds.",
            lattices,
        ]
    return "\n\n".join(parts) + "\n"


def _introduction(place: str, declarations: Declarations) -> str:
    return (
        f"Made by {code(f'asr-kd results {place}')} from the files in `counts/`; do not edit. WER is the mean over "
        "seeds of errors / words. Frame accuracy is against a network's own targets; networks trained on sequences "
        "have alignments of the network before them. Intervals (95 %) and two-sided p-values are by bootstrap over "
        f"speakers and seeds, {DRAWS:,} draws, the same speakers for all systems of a split. Differences are in % "
        "absolute, negative where the first system makes fewer errors. Verdicts are given on the recipe's "
        f"{len(declarations.claims)} claims alone, by Holm's correction over all of them; one seed, or fewer than "
        f"{FEWEST_SPEAKERS} speakers, carry no verdict. Revision: that of the code that trained a network or scored "
        "Gaussians; `≤` stands before the commit that brought the counts in where the revision itself was not recorded."
    )


def _render_split(split: str, rows: list[ResultRow], every: list[ResultRow]) -> list[str]:
    """rows: systems in the split's own table; every: grids, trials and passes too, of which claims may be made."""
    parts = [f"## {split}", f"{rows[0].words:,} words, {len(rows[0].counts[0].speakers)} speakers. {_oov(rows)}"]
    if rows[0].counts[0].partial:
        parts.append(
            "**PARTIAL**: only a part of the split was scored; these are not the figures of the split."
        )
    parts.append(_systems_table(rows))
    claims = [(row, other) for row in every for other in row.corrected if row.is_claim_of(other)]
    if claims:
        parts += ["Claims:", _claims_table(claims)]
    others = _other_pairs(rows)
    if others:
        parts += ["Other paired differences, without verdict:", _differences_table(others)]
    if any(row.shares for row in rows):
        parts += [
            "Share of the gap closed, (CE − student) / (CE − teacher), where CE − teacher is significantly above zero:",
            _shares_table(rows),
        ]
    return parts


def _oov(rows: list[ResultRow]) -> str:
    """The rate of out-of-vocabulary words of the split, or of each group of systems where they differ."""
    rates = dict.fromkeys((row.oov_rate, row.closed_vocabulary) for row in rows)
    if list(rates) == [(None, None)]:
        return "Out-of-vocabulary words were not counted."
    return " / ".join(_oov_phrase(rate, closed) for rate, closed in rates)


def _oov_phrase(rate: float | None, closed: bool | None) -> str:
    if rate is None:
        return "out-of-vocabulary words not counted"
    end = ", **closed vocabulary**: it holds every word of the split by construction" if closed else ""
    return f"{number(rate, 2)} % of the words are out of vocabulary{end}."


def _systems_table(rows: list[ResultRow]) -> str:
    heading = ["id", "WER %", "95 %", "seeds", "WER per seed", "frame accuracy %", "parameters", "bytes",
               "train CPU min", "real-time factor", "LM weight, penalty", "revision", "run", "command"]  # fmt: skip
    cells = [
        [
            f"`{row.id}`",
            number(row.wer.value, 2),
            interval(row.wer.low, row.wer.high, 1),
            _seeds(row),
            ", ".join(number(counts.total.wer, 2) for counts in row.counts),
            number(row.mean("frame_accuracy"), 2),
            number(row.largest("params")),
            ("≤ " if row.bytes_with_log else "") + number(row.largest("bytes")),
            number(row.mean("train_minutes"), 1),
            number(row.mean("real_time_factor"), 3),
            "; ".join(dict.fromkeys(_weights(row))) or ABSENT,
            ", ".join(_short(revision) for revision in row.revisions) or ABSENT,
            ", ".join(plain_text(run) for run in row.runs) or ABSENT,
            "<br>".join(code(command) for command in row.commands) or ABSENT,
        ]
        for row in rows
    ]
    return markdown_table(heading, cells, left={0, 11, 12, 13})


def _seeds(row: ResultRow) -> str:
    seeds = ", ".join(str(counts.seed) for counts in row.counts)
    return f"{seeds} (one seed)" if len(row.counts) == 1 else seeds


def _short(revision: str) -> str:
    """A revision as a table shows it."""
    exact = revision.removeprefix("<=")
    short = exact[:7] + ("+" if exact.endswith("+") else "") if _HASH.fullmatch(exact) else exact
    return plain_text(("≤ " if exact != revision else "") + short)


def _notes(rows: Sequence[ResultRow]) -> str:
    """The notes on rows, a line each."""
    lines = []
    if any(row.bytes_with_log for row in rows):
        lines.append("- `≤` before bytes: `model.json` was counted with its log of the training. The model alone has "
                     "fewer, and at least four a parameter.")
    unknown = sorted({row.id for row in rows if not row.declared})
    if unknown:
        lines.append("- Not scored by the recipe as it stands: " + ", ".join(f"`{name}`" for name in unknown) + ".")
    return "\n".join(lines)


def _claims_table(claims: list[tuple[ResultRow, str]]) -> str:
    cells = []
    for row, other in claims:
        comparison = row.comparisons[other]
        verdict = row.verdict(other) or f"none: {comparison.undecidable}"
        cells.append([*_difference_cells(row.id, other, comparison), p_value(row.corrected[other]), verdict])
    return markdown_table(["systems", "difference", "95 %", "p", "p, Holm", "verdict"], cells, left={0, 5})


def _other_pairs(rows: list[ResultRow]) -> list[tuple[str, str, Comparison]]:
    """Every compared pair that is no claim, once, though both of its rows name it."""
    pairs: dict[frozenset[str], tuple[str, str, Comparison]] = {}
    for row in rows:
        for other, comparison in row.comparisons.items():
            if other not in row.corrected:
                pairs.setdefault(frozenset((row.id, other)), (row.id, other, comparison))
    return list(pairs.values())


def _differences_table(pairs: list[tuple[str, str, Comparison]]) -> str:
    cells = [_difference_cells(*pair) for pair in pairs]
    return markdown_table(["systems", "difference", "95 %", "p"], cells, left={0})


def _difference_cells(first: str, second: str, comparison: Comparison) -> list[str]:
    return [
        f"`{first}` − `{second}`",
        number(comparison.difference, 2, sign=True),
        interval(comparison.low, comparison.high, 2, sign=True),
        p_value(comparison.p_value),
    ]


def _shares_table(rows: list[ResultRow]) -> str:
    cells = [
        [f"`{row.id}`", f"`{share.baseline}`", f"`{share.teacher}`", *share.cells]
        for row in rows
        for share in row.shares
    ]
    return markdown_table(["student", "CE", "teacher", "share %", "95 %"], cells, left={0, 1, 2})


def _weights(row: ResultRow) -> list[str]:
    return [
        f"{counts.lm_weight:g}, {ABSENT if counts.insertion_penalty is None else f'{counts.insertion_penalty:g}'}"
        for counts in row.counts
        if counts.lm_weight is not None
    ]
