"""NIST's sclite, run as a program."""

import re
import subprocess
from pathlib import Path

from asr_kd.scoring.wer import ErrorCounts, pool


def run_sclite(command: list[str], folder: Path, *arguments: str) -> dict[str, ErrorCounts]:
    """Counts per speaker as sclite prints them."""
    printed = subprocess.run(
        [*command, *arguments, "-o", "rsum", "stdout"], cwd=folder, capture_output=True, text=True, check=True
    ).stdout
    rows = re.findall(
        r"^\s*\| (\S+)\s*\|\s*\d+\s+(\d+)\s*\|((?:\s+\d+){6}) *\|(?:[^|]*\|)?$", printed, flags=re.MULTILINE
    )
    counts = {}
    for speaker, words, columns in rows:
        _, substitutions, deletions, insertions, _, _ = map(int, columns.split())
        counts[speaker] = ErrorCounts(int(words), substitutions, deletions, insertions)
    total = counts.pop("Sum")
    assert total == pool(counts.values())
    return counts
