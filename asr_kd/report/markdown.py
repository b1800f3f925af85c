"""RESULTS.md: a table per split that a reader can check, each figure beside the command that made it."""

from collections.abc import Sequence
from itertools import groupby

from asr_kd.report.comparisons import ResultRow
from asr_kd.report.passes import is_of_pass, pass_curves, passes_table
from asr_kd.report.tables import ABSENT, interval, markdown_table, number, p_value
from asr_kd.report.training_lattices import training_lattices_table
from asr_kd.scoring.bootstrap import Comparison

PASSES_DRAWING = "passes.svg"


def render_results(recipe: str, rows: Sequence[ResultRow]) -> str:
    """The text of RESULTS.md for the recipe of that name."""
    parts = [
        f"# Results of `recipes/{recipe}`",
        f"Made by `asr-kd results recipes/{recipe}` from the files in `counts/`; not to be edited. WER is the "
        "mean over seeds of errors / words. Frame accuracy is against a network's own targets: of networks trained on "
        "sequences alignments of the network before. Intervals (95 %) and two-sided p-values are by bootstrap over "
        "speakers, 10,000 draws, the same for all systems of a split. Differences are in % absolute, negative "
        "where the first system makes fewer errors.",
    ]
    for split, of_split in groupby(rows, key=lambda row: row.split):
        systems = [row for row in of_split if not is_of_pass(row)]
        elsewhere = {row.id for row in rows if row.split != split}
        alone = [row for row in systems if row.id not in elsewhere]
        if len(alone) == len(systems):
            alone = []
        parts += _render_split(split, [row for row in systems if row not in alone]) if systems else []
        if alone:
            parts += [f"Grids and trials, scored on {split} alone:", _systems_table(alone)]
    curves = pass_curves(rows)
    if curves:
        parts += [
            "## Sequence training, pass by pass",
            "Pass 0 is the start. Criterion (a frame; smbr: expected accuracy, 0 to 1) and frame accuracy are those of "
            "the training speakers held out, dev WER that of each pass, means over seeds.",
            f"![Criterion, frame accuracy and dev WER by pass]({PASSES_DRAWING})",
            passes_table(curves),
        ]
    lattices = training_lattices_table(rows)
    if lattices is not None:
        parts += [
            "## Training lattices",
            "WER by the weights of the search, oracle WER that of the paths nearest to the transcripts, both before "
            "numerators were added; arcs of word lattices. Means over seeds.",
            lattices,
        ]
    return "\n\n".join(parts) + "\n"


def _render_split(split: str, rows: list[ResultRow]) -> list[str]:
    parts = [f"## {split}", f"{rows[0].words:,} words, {len(rows[0].counts[0].speakers)} speakers."]
    if rows[0].counts[0].partial:
        parts.append(
            "**PARTIAL**: only a part of the split was scored; these are not the figures of the split."
        )
    parts.append(_systems_table(rows))
    if any(row.comparisons for row in rows):
        parts += ["Paired differences:", _comparisons_table(rows)]
    if any(row.shares for row in rows):
        parts += [
            "Share of the gap closed, (CE − student) / (CE − teacher), where CE − teacher is significantly above zero:",
            _shares_table(rows),
        ]
    return parts


def _systems_table(rows: list[ResultRow]) -> str:
    heading = ["id", "WER %", "95 %", "seeds", "WER per seed", "frame accuracy %", "parameters", "bytes",
               "train CPU min", "real-time factor", "LM weight, penalty", "run", "command"]  # fmt: skip
    cells = [
        [
            f"`{row.id}`",
            number(row.wer.value, 2),
            interval(row.wer.low, row.wer.high, 1),
            ", ".join(str(counts.seed) for counts in row.counts),
            ", ".join(number(counts.total.wer, 2) for counts in row.counts),
            number(row.mean("frame_accuracy"), 2),
            number(row.largest("params")),
            number(row.largest("bytes")),
            number(row.mean("train_minutes"), 1),
            number(row.mean("real_time_factor"), 3),
            "; ".join(dict.fromkeys(_weights(row))) or ABSENT,
            ", ".join(sorted({counts.run for counts in row.counts if counts.run})) or ABSENT,
            "<br>".join(f"`{command}`" for command in row.commands) or ABSENT,
        ]
        for row in rows
    ]
    return markdown_table(heading, cells, left={0, 11, 12})


def _comparisons_table(rows: list[ResultRow]) -> str:
    """Every compared pair once, though both of its rows name it."""
    pairs: dict[frozenset[str], tuple[str, str, Comparison]] = {}
    for row in rows:
        for other, found in row.comparisons.items():
            pairs.setdefault(frozenset((row.id, other)), (row.id, other, found))
    cells = [
        [
            f"`{first}` − `{second}`",
            number(found.difference, 2, sign=True),
            interval(found.low, found.high, 2, sign=True),
            p_value(found.p_value),
        ]
        for first, second, found in pairs.values()
    ]
    return markdown_table(["systems", "difference", "95 %", "p"], cells, left={0})


def _shares_table(rows: list[ResultRow]) -> str:
    cells = [
        [
            f"`{row.id}`",
            f"`{share.baseline}`",
            f"`{share.teacher}`",
            number(100 * share.estimate.value),
            interval(100 * share.estimate.low, 100 * share.estimate.high, 0),
        ]
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
