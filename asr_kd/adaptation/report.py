"""The report of an adaptation: what was gained and lost, as JSON and as one page of Markdown."""

from typing import Any

from asr_kd.adaptation.adaptation_set import AdaptationOutcome
from asr_kd.adaptation.gate import Change
from asr_kd.adaptation.recognition import Recognition


def describe_outcome(outcome: AdaptationOutcome) -> dict[str, Any]:
    """The content of `report.json`."""
    evidence = outcome.evidence
    return {
        "active": not outcome.refusals,
        "refusals": outcome.refusals,
        "seconds": round(evidence.seconds, 2),
        "utterances": evidence.utterances,
        "epochs": outcome.epochs,
        "held_out_losses": [round(loss, 5) for loss in outcome.fold_losses],
        "target": _describe_change(evidence.held_out),
        "canary": _describe_change(evidence.canary),
        "misfit": None if evidence.misfit is None else round(evidence.misfit, 3),
        "doubt": None if evidence.doubt is None else round(evidence.doubt, 3),
    }


def outcome_rows(report: dict[str, Any]) -> list[tuple[str, str, str, str]]:
    """The table of a report: what was measured, before, after, and the change."""
    rows = []
    for name, title in (("target", "target, utterances not adapted on"), ("canary", "canary, other speakers")):
        change = report[name]
        if change is None:
            rows.append((title, "not judged", "", ""))
            continue
        measure = "WER" if change["measure"] == "errors" else "expected errors"
        rows.append((f"{title}: {measure}", f"{change['before']:.1f} %", f"{change['after']:.1f} %",
                     f"{change['relative']:+.1f} %"))
        if change["measure"] == "errors":
            rows.append((f"{title}: deletions", str(change["deletions_before"]), str(change["deletions_after"]), ""))
    return rows


def render_report(name: str, report: dict[str, Any]) -> str:
    """One page of Markdown for people; `name`: of the speaker or set."""
    lines = [f"# Adaptation to {name}", "", "**active**" if report["active"] else "**refused**: it is not used", ""]
    lines += [f"- {reason}" for reason in report["refusals"]] + ([""] if report["refusals"] else [])
    lines += ["| | before | after | change |", "|---|--:|--:|--:|"]
    lines += [f"| {' | '.join(row)} |" for row in outcome_rows(report)]
    lines += ["", f"{report['seconds']:.1f} s in {report['utterances']} utterances, {report['epochs']} epochs."]
    target = report["target"]
    if target is not None:
        lines.append(f"Probability that errors of this speech fall, by bootstrap over its utterances: "
                     f"{target['probability_of_gain']:.2f}.")
        if target["measure"] != "errors":
            lines.append("There were no transcripts: expected errors are what the network itself thinks likely. They "
                         "tell less than errors do; `docs/adaptation.md` says how well both agree.")
    return "\n".join(lines) + "\n"


def _describe_change(change: Change | None) -> dict[str, Any] | None:
    if change is None:
        return None
    measure = "errors" if change.has_transcripts else "expected_errors"
    facts: dict[str, Any] = {
        "measure": measure, "before": _rate(change.before, measure), "after": _rate(change.after, measure),
        "relative": round(100 * change.relative_change(), 2),
        "probability_of_gain": round(change.probability_of_gain(), 4),
        "deletion_factor": round(change.deletion_factor(), 3),
        "words_before": change.before.num_words, "words_after": change.after.num_words,
    }
    if measure == "errors":
        before, after = change.before.errors, change.after.errors
        facts |= {"words": before.words, "errors_before": before.errors, "errors_after": after.errors,
                  "deletions_before": before.deletions, "deletions_after": after.deletions}
    return facts


def _rate(recognition: Recognition, measure: str) -> float:
    return round(recognition.errors.wer if measure == "errors" else recognition.expected_error_rate, 3)
