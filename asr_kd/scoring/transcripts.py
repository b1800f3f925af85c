"""Transcripts in and out: Kaldi text (`UTT word word`) and trn (`word word (spk-utt)`), and utt2spk."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from asr_kd.core.errors import InputError
from asr_kd.core.files import atomic_file, read_lines

Format = Literal["text", "trn"]

_TRN_LINE = re.compile(r"(?:(?P<words>.*)\s)?\s*\((?P<id>[^\s()]+)\)")


@dataclass(frozen=True, slots=True)
class Transcripts:
    """The words of each utterance, and the file's format."""

    words: dict[str, list[str]]
    format: Format


def read_transcripts(path: Path, format: Format | None = None) -> Transcripts:
    """Read a file of transcripts, `.gz` too.

    Where no format is given, it is trn if its name ends in `.trn` or every line ends in `(id)`, and Kaldi text else.
    A trn id is what stands between the last brackets; `;;` begins a comment there. InputError with file and line: an id
    twice, a trn line without id, alternatives `{ a / b }` in trn, no transcript at all.
    """
    path = Path(path)
    lines = [(number, line.strip()) for number, line in read_lines(path) if line.strip()]
    spoken = [(number, line) for number, line in lines if not line.startswith(";;")]
    looks_like_trn = ".trn" in path.suffixes[-2:] or (spoken and all(_TRN_LINE.fullmatch(line) for _, line in spoken))
    kind: Format = format or ("trn" if looks_like_trn else "text")
    if kind == "trn":
        entries = [(number, *_parse_trn(line, f"{path}:{number}")) for number, line in spoken]
    else:
        entries = [(number, *_parse_text(line)) for number, line in lines]
    if not entries:
        raise InputError(
            f"{path}: no transcript in the file; expected lines `UTT word word` or `word word (spk-utt)`"
        )
    words: dict[str, list[str]] = {}
    seen: dict[str, int] = {}
    for number, utterance, transcript in entries:
        if utterance in words:
            raise InputError(
                f"{path}:{number}: duplicate utterance id {utterance} (first on line {seen[utterance]})"
            )
        words[utterance], seen[utterance] = transcript, number
    return Transcripts(words, kind)


def write_transcripts(
    path: Path,
    words: Mapping[str, Sequence[str]],
    *,
    format: Format = "text",
    speakers: Mapping[str, str] | None = None,
) -> None:
    """Write transcripts sorted by id, atomically.

    In trn the id is `(spk-utt)` where `speakers` has the utterance and its id does not begin with `spk-` yet.
    InputError: a word or an id that the format cannot hold.
    """
    with atomic_file(Path(path)) as file:
        for utterance, transcript in sorted(words.items()):
            for token in (utterance, *transcript):
                if not token or len(token.split()) != 1 or token.split()[0] != token:
                    raise InputError(
                        f"{path}: utterance {utterance}: {token!r} is not one word without spaces"
                    )
            if format == "text":
                line = " ".join([utterance, *transcript])
            else:
                if "(" in utterance or ")" in utterance:
                    raise InputError(f"{path}: utterance {utterance}: trn cannot hold brackets in an id")
                line = " ".join([*transcript, f"({trn_id(utterance, (speakers or {}).get(utterance))})"])
            file.write(line + "\n")


def write_utt2spk(path: Path, speakers: Mapping[str, str]) -> None:
    """Write Kaldi's utt2spk sorted by utterance, atomically."""
    with atomic_file(Path(path)) as file:
        file.writelines(f"{utterance} {speaker}\n" for utterance, speaker in sorted(speakers.items()))


def trn_id(utterance: str, speaker: str | None) -> str:
    """`spk-utt`, as sclite finds the speaker in it; an id that begins so already, or has no speaker, stays."""
    return utterance if speaker is None or utterance.startswith(f"{speaker}-") else f"{speaker}-{utterance}"


def trn_speaker(identifier: str) -> str | None:
    """The speaker in a trn id `spk-utt` (before the first hyphen); None without one."""
    speaker, hyphen, _ = identifier.partition("-")
    return speaker if hyphen and speaker else None


def with_kaldi_ids(transcripts: Transcripts, speakers: Mapping[str, str]) -> dict[str, list[str]]:
    """Words by the ids of utt2spk: a trn id `spk-utt` becomes `utt` where utt2spk has that pair."""
    if transcripts.format == "text":
        return transcripts.words
    return {_kaldi_id(identifier, speakers): words for identifier, words in transcripts.words.items()}


def read_utt2spk(path: Path) -> dict[str, str]:
    """Read Kaldi's utt2spk; InputError with file and line on a malformed line or an id twice."""
    speakers: dict[str, str] = {}
    for number, line in read_lines(Path(path)):
        fields = line.split()
        if not fields:
            continue
        if len(fields) != 2:
            raise InputError(f"{path}:{number}: expected `UTT SPEAKER`, found {len(fields)} fields")
        if fields[0] in speakers:
            raise InputError(f"{path}:{number}: duplicate utterance id {fields[0]}")
        speakers[fields[0]] = fields[1]
    if not speakers:
        raise InputError(f"{path}: no utterance in the file; expected lines `UTT SPEAKER`")
    return speakers


def _kaldi_id(identifier: str, speakers: Mapping[str, str]) -> str:
    if identifier in speakers:
        return identifier
    for hyphen in re.finditer("-", identifier):
        utterance = identifier[hyphen.end() :]
        if speakers.get(utterance) == identifier[: hyphen.start()]:
            return utterance
    return identifier


def _parse_text(line: str) -> tuple[str, list[str]]:
    utterance, *words = line.split()
    return utterance, words


def _parse_trn(line: str, place: str) -> tuple[str, list[str]]:
    found = _TRN_LINE.fullmatch(line)
    if found is None:
        raise InputError(f"{place}: expected `word word (spk-utt)`, found no (id) at the end of the line")
    words = (found["words"] or "").split()
    if "{" in words:
        raise InputError(f"{place}: alternatives {{ a / b }} are not read; leave one of them")
    return found["id"], words
