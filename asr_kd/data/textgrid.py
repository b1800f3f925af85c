"""Praat's TextGrid: interval tiers in the long text format."""

import math
from collections.abc import Iterable, Mapping
from pathlib import Path

from asr_kd.core.errors import InputError
from asr_kd.core.files import atomic_file

Interval = tuple[float, float, str]


def write_textgrid(path: Path, tiers: Mapping[str, Iterable[Interval]], duration: float, decimals: int = 4) -> None:
    """Write `textgrid_text` to a file (UTF-8), atomically."""
    text = textgrid_text(tiers, duration, decimals, path)
    with atomic_file(Path(path)) as file:
        file.write(text)


def textgrid_text(
    tiers: Mapping[str, Iterable[Interval]], duration: float, decimals: int = 4, path: Path | str = "TextGrid"
) -> str:
    """Interval tiers (name -> (start, end, label) in seconds) of an utterance of `duration` seconds, for Praat.

    What no interval covers becomes an interval with an empty label, as Praat wants it; times are rounded to
    `decimals`. InputError, which names `path`: intervals that overlap, go back in time, have no length or leave
    0..duration.
    """
    end = round(duration, decimals)
    if not math.isfinite(end) or end <= 0:
        raise InputError(f"{path}: a TextGrid needs a duration above 0 seconds, found {duration:g}")
    lines = ['File type = "ooTextFile"', 'Object class = "TextGrid"', "", "xmin = 0", f"xmax = {end:.{decimals}f}",
             "tiers? <exists>", f"size = {len(tiers)}", "item []:"]
    for number, (name, intervals) in enumerate(tiers.items(), start=1):
        whole = _without_gaps(path, name, intervals, end, decimals)
        lines += [f"    item [{number}]:", '        class = "IntervalTier"', f"        name = {_quoted(name)}",
                  "        xmin = 0", f"        xmax = {end:.{decimals}f}", f"        intervals: size = {len(whole)}"]
        for i, (start, stop, label) in enumerate(whole, start=1):
            lines += [f"        intervals [{i}]:", f"            xmin = {start:.{decimals}f}",
                      f"            xmax = {stop:.{decimals}f}", f"            text = {_quoted(label)}"]
    return "\n".join(lines) + "\n"


def _without_gaps(path: Path | str, name: str, intervals: Iterable[Interval], duration: float, decimals: int
                  ) -> list[Interval]:
    whole: list[Interval] = []
    at = 0.0
    for start, stop, label in intervals:
        begin, end = round(start, decimals), round(stop, decimals)
        if not at <= begin < end <= duration:
            raise InputError(f"{path}: tier {name}: {label!r} from {start:g} to {stop:g} s does not lie between "
                             f"{at:g} s and the end, {duration:g} s")
        if begin > at:
            whole.append((at, begin, ""))
        whole.append((begin, end, label))
        at = end
    return [*whole, (at, duration, "")] if at < duration else whole


def _quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'
