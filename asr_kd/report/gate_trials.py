"""The section of ADAPTATION.md on the gate: how often it is right, with good adaptations and under attack."""

from collections.abc import Sequence

from asr_kd.report.tables import code, markdown_table, number
from asr_kd.scoring.adaptation_gate import GateConfig
from asr_kd.scoring.gate_trials import HONEST, GateTrial, GateTrials, TrialShares, agreement, shares
from asr_kd.scoring.teaching import TAUGHT_BY


def render_gate_trials(trials: Sequence[GateTrials], gate: GateConfig) -> list[str]:
    """Paragraphs and tables: shares made active by a gate of these bounds, for each network and split."""
    parts = ["## The gate", (
        "Networks were adapted to a speaker's first utterances, as they are (honest) and under attack; what an adapter "
        "does to the speaker's other utterances was looked up afterwards. An honest adaptation is a good one if it "
        "makes at least 2 % fewer errors there. What is silent or clipped is dropped before anything is adapted, and "
        "counts as not active. WER is pooled over those that were made active; better, worse: how many of them make "
        "fewer errors on the other utterances, and more; worst: the largest loss of a speaker, in % absolute. Bounds "
        "were chosen on dev.")]
    for of_network in trials:
        for split in sorted({trial.split for trial in of_network.trials}):
            found = [trial for trial in of_network.trials if trial.split == split]
            parts += [f"### {code(of_network.id)} on {split}, seed {of_network.seed}", _table(found, gate),
                      _agreements(found), f"Command: {code(of_network.command)}"]
    return parts


def _table(trials: Sequence[GateTrial], gate: GateConfig) -> str:
    attacks = [trial for trial in trials if trial.kind != HONEST]
    honest = [trial for trial in trials if trial.kind == HONEST]
    rows = [_row("all attacks", shares(attacks, gate)), _row("good", shares([t for t in honest if t.is_good], gate))]
    for teaching in sorted({trial.teaching for trial in honest}):
        own = [trial for trial in honest if trial.teaching == teaching]
        rows += [_row(f"honest, {TAUGHT_BY[teaching]}", shares(own, gate)),
                 _row(f"honest, {TAUGHT_BY[teaching]}, no gate", shares(own, None))]
    rows += [_row(kind, shares([trial for trial in attacks if trial.kind == kind], gate))
             for kind in sorted({trial.kind for trial in attacks})]
    heading = ["adaptations", "tried", "active", "share", "before", "WER", "better", "worse", "worst"]
    return markdown_table(heading, rows, {0})


def _row(name: str, found: TrialShares) -> list[str]:
    row = [name, str(found.trials), str(found.active), f"{found.share:.1f} %"]
    if not found.active:
        return [*row, "", "", "", "", ""]
    return [*row, number(found.wer_before, 2), number(found.wer_after, 2), str(found.better), str(found.worse),
            number(found.worst, 1, sign=True)]


def _agreements(trials: Sequence[GateTrial]) -> str:
    """How far the change that the gate sees goes with the true one, by what teaches."""
    lines = []
    for teaching in sorted({trial.teaching for trial in trials}):
        correlation, count = agreement([one for one in trials if one.kind == HONEST and one.teaching == teaching])
        lines.append(f"{TAUGHT_BY[teaching]}: {correlation:.2f} ({count} speakers)")
    return "Correlation of the change that the gate sees with the true one, honest trials: " + "; ".join(lines) + "."
