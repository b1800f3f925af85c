"""The outcome of a run's stages, for the terminal."""

from collections.abc import Sequence

from asr_kd.core.stages import StageReport


def render_stages(reports: Sequence[StageReport]) -> str:
    """A table of stages with wall time, CPU time, peak memory and size."""
    width = max([len("stage"), *(len(r.stage) for r in reports)])
    lines = [f"{'stage':{width}}  {'outcome':12} {'wall s':>8} {'CPU s':>8} {'peak MiB':>9} {'MB':>8}"]
    for r in reports:
        if r.outcome in ("to build", "half done"):
            lines.append(f"{r.stage:{width}}  {r.outcome:12} {'–':>8} {'–':>8} {'–':>9} {'–':>8}"
                         f"{'  ' + r.reason if r.reason else ''}")
            continue
        lines.append(f"{r.stage:{width}}  {r.outcome:12} {r.wall_seconds:8.1f} {r.cpu_seconds:8.1f} "
                     f"{r.peak_memory_mib:9.0f} {r.megabytes:8.1f}{'  ' + r.reason if r.reason else ''}")
    total_wall, total_cpu = sum(r.wall_seconds for r in reports), sum(r.cpu_seconds for r in reports)
    peak = max([0.0, *(r.peak_memory_mib for r in reports)])
    size = sum(r.megabytes for r in reports)
    lines.append(f"{'total':{width}}  {'':12} {total_wall:8.1f} {total_cpu:8.1f} {peak:9.0f} {size:8.1f}")
    return "\n".join(lines)
