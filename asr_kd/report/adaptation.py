"""ADAPTATION.md: what adaptation to seconds of speech gains, by what moves, what teaches, and how much speech."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from asr_kd.core.files import atomic_file
from asr_kd.report.comparisons import ResultRow
from asr_kd.report.drawing import svg_figure
from asr_kd.report.gate_trials import render_gate_trials
from asr_kd.report.tables import code, markdown_table, number, p_value
from asr_kd.scoring.adaptation_gate import GateConfig
from asr_kd.scoring.bootstrap import Comparison
from asr_kd.scoring.gate_trials import GateTrials
from asr_kd.scoring.system_counts import AdaptationCounts
from asr_kd.scoring.teaching import TAUGHT_BY, learns_transcripts
from asr_kd.scoring.wer import pool

ADAPTATION_DRAWING, FORGETTING_DRAWING = "adaptation.svg", "forgetting.svg"
_AMOUNTS = {"10 seconds": 10.0, "1 minute": 60.0, "10 minutes": 600.0}
_AMOUNT = re.compile(r"-[0-9]+(s|min)(?=-|$)")  # in the id of a system
_DEV, _HOME = "dev", "home"  # how the names of sets begin: to choose by, and to tell what is forgotten


@dataclass(frozen=True)
class SpeakerChanges:
    """Speakers whose errors fell, stayed and rose, mean over seeds, and the worst change, in % absolute."""

    better: int
    same: int
    worse: int
    worst: float


@dataclass(frozen=True)
class AdaptedRow:
    """The row of an adapted system, that of the same network as it was on the same set, and WERs of the seeds that both
    have, before and after, in percent."""

    row: ResultRow
    plain: ResultRow
    before: float
    after: float

    @staticmethod
    def of(row: ResultRow, plain: ResultRow) -> "AdaptedRow":
        """Compare two rows."""
        seeds = {counts.seed for counts in row.counts} & {counts.seed for counts in plain.counts}
        before, after = (pool(counts.total for counts in one.counts if counts.seed in seeds).wer
                         for one in (plain, row))
        return AdaptedRow(row, plain, before, after)

    @property
    def facts(self) -> AdaptationCounts:
        """How it was adapted."""
        facts = self.row.counts[0].adaptation
        assert facts is not None
        return facts

    @property
    def change(self) -> Comparison | None:
        """The paired comparison of both, in % absolute."""
        return None if self.row.roles.plain is None else self.row.comparisons.get(self.row.roles.plain)

    @property
    def gain(self) -> float:
        """Errors less, in % relative."""
        return 100 * (1 - self.after / self.before)


def adapted_rows(rows: Iterable[ResultRow]) -> list[ResultRow]:
    """The rows of adapted systems."""
    return [row for row in rows if row.counts[0].adaptation is not None]


def speaker_changes(adapted: ResultRow, plain: ResultRow) -> SpeakerChanges:
    """Compare each speaker's errors, pooled over the seeds that both have."""
    seeds = {counts.seed for counts in adapted.counts} & {counts.seed for counts in plain.counts}
    changes = []
    for speaker in adapted.counts[0].speakers:
        before, after = (
            [counts.speakers[speaker] for counts in row.counts if counts.seed in seeds] for row in (plain, adapted))
        words = sum(one.words for one in before)
        if words:
            changes.append(100 * (sum(one.errors for one in after) - sum(one.errors for one in before)) / words)
    found = np.array(changes)
    return SpeakerChanges(int((found < 0).sum()), int((found == 0).sum()), int((found > 0).sum()),
                          float(found.max(initial=0.0)))


def render_adaptation(place: str, rows: Sequence[ResultRow], trials: Sequence[GateTrials] = ()) -> str:
    """The text of the page of the recipe at `place`; `trials`: of the gate."""
    adapted = _with_plain(rows)
    parts = [f"# Adaptation in {code(place)}", *_advice(adapted), _introduction(place)]
    splits = list(dict.fromkeys(pair.row.split for pair in adapted))
    for split in splits:
        of_split = [pair for pair in adapted if pair.row.split == split]
        transductive = any(pair.facts.transductive for pair in of_split)
        parts += [f"## {split}{' (transductive)' if transductive else ''}", _table(of_split)]
    if seconds_curves(rows):
        parts += ["## Gain against seconds of speech",
                  f"![Errors less, in %, by seconds of adaptation speech]({ADAPTATION_DRAWING})"]
    if forgetting_points(rows):
        parts += ["## What is gained there, and forgotten at home",
                  f"![Errors at home against errors in the other domain]({FORGETTING_DRAWING})"]
    if trials:
        parts += render_gate_trials(trials, GateConfig())
    return "\n\n".join(parts) + "\n"


def seconds_curves(rows: Sequence[ResultRow]) -> dict[str, dict[str, list[tuple[float, float, float, float]]]]:
    """Split -> name of a curve -> (seconds, relative gain in percent, its interval's low and high end), by seconds.

    A curve's name is the id of its systems without the amount of speech; one amount alone makes no curve.
    """
    curves: dict[str, dict[str, list[tuple[float, float, float, float]]]] = {}
    for pair in _with_plain(rows):
        change = pair.change
        if change is None or pair.facts.transductive or change.low is None or change.high is None:
            continue
        name = _AMOUNT.sub("", pair.row.id)
        scale = -100 / pair.before
        curves.setdefault(pair.row.split, {}).setdefault(name, []).append(
            (pair.facts.seconds, change.difference * scale, change.high * scale, change.low * scale))
    return {split: {name: sorted(points) for name, points in of_split.items() if len(points) > 1}
            for split, of_split in curves.items() if any(len(points) > 1 for points in of_split.values())}


def draw_adaptation(
    path: Path, curves: Mapping[str, Mapping[str, Sequence[tuple[float, float, float, float]]]]
) -> None:
    """Draw the gain against seconds with intervals, a panel for each split."""
    with atomic_file(path, "wb") as file, svg_figure(file, 5.5 * len(curves), 5.0) as figure:
        places = figure.subplots(1, len(curves), squeeze=False)[0]
        for place, (split, of_split) in zip(places, curves.items(), strict=True):
            for index, (name, points) in enumerate(of_split.items()):
                seconds, gains, lows, highs = (np.array(values) for values in zip(*points, strict=True))
                place.errorbar(seconds * 1.03 ** index, gains, yerr=[gains - lows, highs - gains], marker="o",
                               markersize=4, capsize=3, color=f"C{index % 10}", label=name)
            place.axhline(0.0, color="black", linewidth=0.8)
            place.set_xscale("log")
            place.set_xlabel("seconds of adaptation speech")
            place.set_ylabel("errors less, % relative")
            place.set_title(split, fontsize=10)
            place.grid(alpha=0.3)
            place.legend(fontsize=6)


def forgetting_points(rows: Sequence[ResultRow]) -> dict[str, list[tuple[str, float, float]]]:
    """Split -> (system, change of its errors, change of those on a set of speech from home), in % relative.

    Of systems adapted to a domain that were scored on both; home's sets are called `home...`.
    """
    changes: dict[str, dict[str, float]] = {}
    for pair in _with_plain(rows):
        name = pair.row.id.removeprefix(f"{pair.row.roles.plain}-")
        changes.setdefault(name, {})[pair.row.split] = -pair.gain
    points: dict[str, list[tuple[str, float, float]]] = {}
    for name, of_split in changes.items():
        for home in (split for split in of_split if split.startswith(_HOME)):
            for split in (split for split in of_split if not split.startswith(_HOME)):
                points.setdefault(split, []).append((name, of_split[split], of_split[home]))
    return points


def draw_forgetting(path: Path, points: Mapping[str, Sequence[tuple[str, float, float]]]) -> None:
    """Draw the change at home against the change in the other domain, a panel for each set of that domain."""
    with atomic_file(path, "wb") as file, svg_figure(file, 7.0 * len(points), 5.0) as figure:
        places = figure.subplots(1, len(points), squeeze=False)[0]
        for place, (split, of_split) in zip(places, points.items(), strict=True):
            for name, there, home in of_split:
                place.plot(there, home, marker="o", markersize=5, linestyle="none", color="C0")
                place.annotate(name, (there, home), xytext=(5, 3), textcoords="offset points", fontsize=6)
            place.axhline(0.0, color="black", linewidth=0.8)
            place.axvline(0.0, color="black", linewidth=0.8)
            place.margins(x=0.25)
            place.set_xlabel(f"change of errors on {split}, % relative")
            place.set_ylabel("change of errors at home, % relative")
            place.grid(alpha=0.3)


def _introduction(place: str) -> str:
    return (
        f"Made by {code(f'asr-kd results {place}')}; do not edit. WER before is that of the same network on the same "
        "speech without an adapter. Differences are in % absolute, negative where fewer errors are made, with their "
        "95 % interval by paired bootstrap over speakers and seeds; p is uncorrected. Speakers: how many make fewer "
        "errors, as many, more, pooled over seeds; worst: the largest loss of a speaker, in % absolute. Transductive: "
        "the network was adapted to the audio that is scored, never to its transcripts."
    )


def _advice(adapted: Sequence[AdaptedRow]) -> list[str]:
    """What to do with 10 seconds, a minute, ten minutes: what gained most on dev, where it was tried there."""
    tried = [pair for pair in adapted if not pair.facts.transductive and not pair.row.split.startswith(_HOME)]
    on_dev = {pair.row.id: pair.gain for pair in tried if pair.row.split.startswith(_DEV)}
    lines = []
    for amount, wanted in _AMOUNTS.items():
        for supervised in (True, False):
            fitting = [pair for pair in tried if not pair.row.split.startswith(_DEV)
                       and wanted / 2 <= pair.facts.seconds <= 2 * wanted
                       and learns_transcripts(pair.facts.teaching) == supervised]
            if fitting:
                lines.append(_advice_line(amount, max(fitting, key=lambda pair: on_dev.get(pair.row.id, pair.gain))))
    return ["\n".join(lines)] if lines else []


def _advice_line(amount: str, pair: AdaptedRow) -> str:
    what = "with" if learns_transcripts(pair.facts.teaching) else "without"
    how = f"adapt {', '.join(pair.facts.parameters)}, taught by {TAUGHT_BY[pair.facts.teaching]}"
    said = f"{how}: {pair.gain:.1f} % fewer errors"
    if pair.gain <= 0:
        said = f"leave the network as it is; {how}: {-pair.gain:+.1f} %"
    return f"- {amount} of speech {what} transcripts: {said} ({code(pair.row.id)}, {pair.row.split})."


def _table(adapted: Sequence[AdaptedRow]) -> str:
    heading = ["system", "moves", "numbers", "taught by", "s", "before", "WER", "relative", "difference", "p",
               "speakers", "worst", "refused", "seeds"]
    rows = []
    for pair in sorted(adapted, key=lambda pair: pair.after):
        facts, change, speakers = pair.facts, pair.change, speaker_changes(pair.row, pair.plain)
        rows.append([
            code(pair.row.id), ", ".join(facts.parameters), f"{facts.numbers:,}", TAUGHT_BY[facts.teaching],
            number(facts.seconds), number(pair.before, 2), number(pair.after, 2),
            number(-pair.gain, 1, sign=True) + " %",
            "" if change is None else (f"{change.difference:+.2f} ({change.low:+.2f} to {change.high:+.2f})"),
            "" if change is None or change.p_value is None else p_value(change.p_value),
            f"{speakers.better} / {speakers.same} / {speakers.worse}", number(speakers.worst, 1, sign=True),
            f"{facts.refused} of {facts.adapters}", str(len(pair.row.counts))])
    return markdown_table(heading, rows, {0, 1, 3})


def _with_plain(rows: Sequence[ResultRow]) -> list[AdaptedRow]:
    """Each adapted row with that of the same network as it was, on the same set."""
    plain = {(row.id, row.split): row for row in rows}
    return [AdaptedRow.of(row, plain[row.roles.plain, row.split]) for row in adapted_rows(rows)
            if row.roles.plain is not None and (row.roles.plain, row.split) in plain]
