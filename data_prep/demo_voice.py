"""Synthetic speech from espeak-ng, in a process of its own.

espeak-ng's output depends on everything that the process has said before, so a speaker is one fresh process that
makes one fixed sequence of calls. The library is GPL and comes with the optional wheel espeakng-loader; that process
(demo_espeak.py) alone loads it.
"""

import json
import struct
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from asr_kd.core.errors import InputError, WorkError


@dataclass(frozen=True, slots=True)
class Voice:
    """espeak-ng's voice (`en-us+f3`), rate in words per minute, pitch and its range from 0 to 100."""

    name: str
    rate: int
    pitch: int
    range: int


def speak(
    parts: Sequence[tuple[Voice, Sequence[str], float]], *, gap: float = 0.0
) -> tuple[int, list[list[np.ndarray]]]:
    """Speak the texts of each (voice, texts, seconds) in one fresh process, in order.

    A part stops after the text with which it has reached `seconds`, `gap` seconds counted with each text.
    Returns the sampling rate and, per part, the samples `(samples,)` int16 of each text spoken. Raises
    InputError where espeakng-loader is not installed.
    """
    request = {"speak": [{"voice": asdict(voice), "texts": list(texts), "seconds": seconds, "gap": gap}
                         for voice, texts, seconds in parts]}
    stream = _run(request)
    (rate,) = struct.unpack_from("<i", stream)
    position, spoken = 4, []
    for _ in parts:
        (count,) = struct.unpack_from("<i", stream, position)
        lengths = struct.unpack_from(f"<{count}i", stream, position + 4)
        position += 4 + 4 * count
        pieces = []
        for length in lengths:
            pieces.append(np.frombuffer(stream, "<i2", length, position))
            position += 2 * length
        spoken.append(pieces)
    return rate, spoken


def to_phonemes(voice: str, texts: Sequence[str]) -> list[str]:
    """espeak-ng's own phoneme names for each text: `h_@_l_'oU w_'3:_l_d`, words apart by a space."""
    answer = _run({"phonemes": {"voice": voice, "texts": list(texts)}})
    return [str(line) for line in json.loads(answer)]


def find_espeak() -> dict[str, str]:
    """Find espeak-ng's library and data; InputError where it is not installed."""
    try:
        import espeakng_loader
    except ImportError as error:
        raise InputError("the demo corpus needs espeak-ng: pip install 'asr-kd[demo]' "
                         "(espeakng-loader)") from error
    return {"library": espeakng_loader.get_library_path(), "data": espeakng_loader.get_data_path()}


def _run(request: Mapping[str, object]) -> bytes:
    paths = find_espeak()
    # Without site-packages: a speaker's process starts in a few hundredths of a second.
    command = [sys.executable, "-I", "-S", str(Path(__file__).with_name("demo_espeak.py"))]
    done = subprocess.run(command, input=json.dumps({**paths, **request}).encode(), capture_output=True, check=False)
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().rpartition("\n")[2]
        raise WorkError(f"espeak-ng failed with exit code {done.returncode}: {said}")
    return done.stdout
