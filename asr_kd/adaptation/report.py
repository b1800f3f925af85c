"""The report of an adaptation: what was gained and lost, as JSON and as one page of Markdown."""

from typing import Any

from asr_kd.adaptation.adaptation_set import AdaptationOutcome


def describe_outcome(outcome: AdaptationOutcome) -> dict[str, Any]:
    """The content of `report.json`."""
    evidence = outcome.evidence
    return {
        "active": not outcome.refusals,
        "refusals": outcome.refusals,
        "epochs": outcome.epochs,
        "kl_weight": outcome.kl_weight,
        "part_losses": [round(loss, 5) for loss in outcome.part_losses],
        "tried": {f"{weight:g}": [round(loss, 5) for loss in losses] for weight, losses in outcome.tried.items()},
        **evidence.model_dump(mode="json"),
    }


def outcome_rows(report: dict[str, Any]) -> list[tuple[str, str, str, str]]:
    """The table of a report: what was measured, before, after, and the change."""
    rows = []
    for name, title in (("held_out", "target, utterances not adapted on"), ("canary", "canary, other speakers")):
        change = report[name]
        if change is None:
            rows.append((title, "not judged", "", ""))
            continue
        errors = change["errors"]
        measure = "expected errors" if errors is None else "WER"
        rows.append((f"{title}: {measure}", f"{change['before']:.1f} %", f"{change['after']:.1f} %",
                     f"{change['relative']:+.1f} %"))
        if errors is not None:
            rows.append((f"{title}: deletions", str(errors["deletions_before"]), str(errors["deletions_after"]), ""))
    return rows


def render_report(name: str, report: dict[str, Any]) -> str:
    """One page of Markdown for people; `name`: of the speaker or set."""
    lines = [f"# Adaptation to {name}", "", "**active**" if report["active"] else "**refused**: it is not used", ""]
    lines += [f"- {reason}" for reason in report["refusals"]] + ([""] if report["refusals"] else [])
    lines += ["| | before | after | change |", "|---|--:|--:|--:|"]
    lines += [f"| {' | '.join(row)} |" for row in outcome_rows(report)]
    lines += ["", f"{report['seconds']:.1f} s in {report['utterances']} utterances, {report['epochs']} epochs, "
              f"KL weight {report['kl_weight']:g}."]
    target = report["held_out"]
    if target is not None:
        lines.append(f"Probability that errors of this speech fall, by bootstrap over its utterances: "
                     f"{target['probability_of_gain']:.2f}.")
        if target["errors"] is None:
            lines.append("There were no transcripts: expected errors are what the network itself thinks likely. They "
                         "tell less than errors do; `docs/adaptation.md` says how well both agree.")
    return "\n".join(lines) + "\n"
