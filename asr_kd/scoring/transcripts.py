"""Transcripts in and out: Kaldi text (`UTT word word`) and trn (`word word (spk-utt)`), and utt2spk."""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from asr_kd.core.errors import InputError
from asr_kd.core.files import atomic_file
from asr_kd.core.log import get_logger
from asr_kd.core.text_tables import is_word, read_rows, read_table_lines, words_of

Format = Literal["text", "trn"]

_KALDI_NAMES = {"text", "text.gz"}
_DESCRIPTIONS: dict[Format, str] = {"text": "Kaldi text", "trn": "trn"}

logger = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Transcripts:
    """The words of each utterance, and the file's format."""

    words: dict[str, list[str]]
    format: Format


def read_transcripts(path: Path, format: Format | None = None, ids: Collection[str] = ()) -> Transcripts:
    """Read a file of transcripts, `.gz` too.

    Where no format is given, a name that ends in `.trn` says trn, the name `text` (Kaldi's) or an ending `.text` says
    Kaldi text, and else the lines do: trn if each of them ends in an `(id)` of its own and could not be Kaldi text;
    Kaldi text else. Lines that could be both are read in the format that has `ids` (the utterances that may occur),
    with a warning, or refused where that does not tell either. A trn id is what stands between the last brackets;
    `;;` begins a comment there.

    Alternatives `{ a / b }` and optional words `(uh)` stay words here; `scoring.notation` reads them. InputError with
    file and line: an id twice, a trn line without id, no transcript at all, a format that cannot be told.
    """
    path = Path(path)
    lines = [(number, line) for number, line in read_table_lines(path) if line]
    kind = format or _format_by_name(path) or _format_by_lines(path, [line for _, line in lines], ids)
    entries: Iterable[tuple[int, str, list[str]]]
    if kind == "trn":
        entries = ((number, *_parse_trn(line, f"{path}:{number}")) for number, line in _spoken(lines))
    else:
        entries = ((number, *_parse_text(line)) for number, line in lines)
    words: dict[str, list[str]] = {}
    seen: dict[str, int] = {}
    for number, utterance, transcript in entries:
        if utterance in words:
            raise InputError(
                f"{path}:{number}: duplicate utterance id {utterance} (first on line {seen[utterance]}), read as "
                f"{_DESCRIPTIONS[kind]}; correct the ids, or give the format if it is another"
            )
        words[utterance], seen[utterance] = transcript, number
    if not words:
        raise InputError(
            f"{path}: no transcript in the file; expected lines `UTT word word` or `word word (spk-utt)`"
        )
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
                if not is_word(token):
                    raise InputError(
                        f"{path}: utterance {utterance}: {token!r} is not one word without spaces"
                    )
            if format == "text":
                line = " ".join([utterance, *transcript])
            else:
                if "(" in utterance or ")" in utterance:
                    raise InputError(f"{path}: utterance {utterance}: trn cannot hold brackets in an id")
                line = " ".join([*transcript, f"({trn_id(utterance, (speakers or {}).get(utterance))})"])
                if line.startswith(";;"):
                    raise InputError(f"{path}: utterance {utterance}: a line of trn that begins with ;; is a comment")
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
    for number, fields in read_rows(Path(path)):
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


def _format_by_name(path: Path) -> Format | None:
    if ".trn" in path.suffixes[-2:]:
        return "trn"
    return "text" if path.name in _KALDI_NAMES or ".text" in path.suffixes[-2:] else None


def _format_by_lines(path: Path, lines: Sequence[str], ids: Collection[str]) -> Format:
    """The one format that all lines fit; InputError where they fit both and `ids` has utterances of both or none."""
    spoken = [line for line in lines if not line.startswith(";;")]
    trn_ids = [found[0] for found in map(_split_trn, spoken) if found is not None]
    if not spoken or len(trn_ids) < len(spoken):
        return "text"
    text_ids = [words_of(line)[0] for line in lines]
    bracketed = any(first.startswith("(") and first.endswith(")") for first in text_ids)
    if bracketed or len(set(text_ids)) < len(text_ids):
        return "trn"
    if len(set(trn_ids)) < len(trn_ids):
        return "text"
    fits: dict[Format, int] = {"text": sum(one in ids for one in text_ids), "trn": sum(one in ids for one in trn_ids)}
    if bool(fits["text"]) == bool(fits["trn"]):
        raise InputError(
            f"{path}: every line could be Kaldi text (ids {_first(text_ids)}) or trn (ids {_first(trn_ids)}); give the "
            "format (--ref-format, --format), or name the file `text` or `NAME.trn`"
        )
    kind: Format = "text" if fits["text"] else "trn"
    logger.warning("%s: lines could be Kaldi text or trn; read as %s, whose ids are known", path, _DESCRIPTIONS[kind])
    return kind


def _first(ids: Sequence[str]) -> str:
    return ", ".join(ids[:2]) + (", ..." if len(ids) > 2 else "")


def _spoken(lines: Iterable[tuple[int, str]]) -> list[tuple[int, str]]:
    return [(number, line) for number, line in lines if not line.startswith(";;")]


def _parse_text(line: str) -> tuple[str, list[str]]:
    utterance, *words = words_of(line)
    return utterance, words


def _parse_trn(line: str, place: str) -> tuple[str, list[str]]:
    found = _split_trn(line)
    if found is None:
        raise InputError(f"{place}: expected `word word (spk-utt)`, found no (id) at the end of the line")
    identifier, spoken = found
    return identifier, words_of(spoken)


def _split_trn(line: str) -> tuple[str, str] | None:
    """(id, words) of a trn line without spaces at its ends; None where it does not end in `(id)` after a space."""
    begin = line.rfind("(")
    identifier = line[begin + 1:-1]
    if begin < 0 or not line.endswith(")") or not is_word(identifier) or ")" in identifier:
        return None
    if begin > 0 and line[begin - 1] not in " \t":
        return None
    return identifier, line[:begin]
