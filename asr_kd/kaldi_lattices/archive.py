"""Kaldi's archives of lattices, `.ark` and `.scp`, one utterance at a time; text, binary and `.gz` are recognised."""

import contextlib
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TypeVar

from asr_kd.core.errors import InputError
from asr_kd.core.files import atomic_file
from asr_kd.core.kaldi_scripts import read_script, write_script
from asr_kd.core.reading import parsing
from asr_kd.core.text_tables import is_word
from asr_kd.kaldi_lattices import binary_form, text_form
from asr_kd.kaldi_lattices.byte_stream import ByteStream, line_at, open_stream
from asr_kd.kaldi_lattices.unsorted import LatticeFault, UnsortedLattice, sorted_lattice, sorted_word_lattice
from asr_kd.lattices.chains import join_chains
from asr_kd.lattices.lattice import Lattice
from asr_kd.lattices.word_lattice import WordLattice

_KEY_LIMIT = 4096
_BLANK_LINE = re.compile(rb"\n[ \t\r]*\n")
_Kind = TypeVar("_Kind", Lattice, WordLattice)


def read_lattices(path: Path, *, root: Path | None = None, trim: bool = False) -> Iterator[tuple[str, Lattice]]:
    """Yield (utterance id, lattice) of an `.ark` or `.scp` file; compact lattices get an arc a transition-id.

    States are sorted into topological order and by frame, an order that is both already is kept; the start is state
    0. Final states with an acoustic cost or transition-ids get arcs for these. States that no path reaches and dead
    ends are refused, or left out where `trim` is set. Paths in an scp are relative to `root` (default: its own
    folder) and must stay below it; pipes are refused.

    InputError, one line with file, line (text) or byte (binary) and utterance: cut off or damaged, a cycle, states
    off every path, a state reached after different numbers of frames, a cost that is not finite.
    """
    return _read(Path(path), root, lambda raw: sorted_lattice(raw, trim))


def read_word_lattices(
    path: Path, *, root: Path | None = None, trim: bool = False
) -> Iterator[tuple[str, WordLattice]]:
    """As `read_lattices`, with compact lattices as they are; of others, chains of arcs are joined to one."""

    def compact(raw: UnsortedLattice) -> WordLattice:
        lattice = sorted_word_lattice(raw, trim)
        lengths = lattice.ends - lattice.begins
        is_compact = lengths.max(initial=0) > 1 or lattice.final_ends.any() or lattice.final_acoustic_costs.any()
        return lattice if is_compact else join_chains(sorted_lattice(raw, trim))

    return _read(Path(path), root, compact)


def write_lattices(
    path: Path, lattices: Iterable[tuple[str, Lattice | WordLattice]], *, scp: Path | None = None, text: bool = False
) -> int:
    """Write (utterance id, lattice) pairs, binary or `text`, with `scp` also their index; returns their number.

    A Lattice is written as Kaldi's Lattice, a WordLattice as its CompactLattice; one archive should have one kind.
    The scp names the archive relative to its own folder where both are in one, so that the folder can be moved. Ids
    that are empty or hold white space, and lattices that break their rules, raise InputError; then nothing is left.
    """
    path = Path(path)
    lines = []
    with atomic_file(path, "wb") as file:
        for utterance_id, lattice in lattices:
            if not is_word(utterance_id):
                raise InputError(f"{path}: utterance id {utterance_id!r}: expected one word")
            fault = lattice.fault()
            if fault:
                raise InputError(f"{path}: {utterance_id}: {fault}")
            file.write(utterance_id.encode() + b" ")
            lines.append((utterance_id, file.tell()))
            file.write(f"\n{text_form.lattice_text(lattice)}\n".encode() if text
                       else binary_form.lattice_bytes(lattice))
    if scp is not None:
        write_script(scp, path, lines)
    return len(lines)


def _read(
    path: Path, root: Path | None, convert: Callable[[UnsortedLattice], _Kind]
) -> Iterator[tuple[str, _Kind]]:
    if path.suffix == ".scp":
        yield from _read_script(path, root, convert)
        return
    with open_stream(path) as stream:
        while (key := _read_key(stream)) is not None:
            yield key, _read_lattice(stream, key, convert)


def _read_script(
    path: Path, root: Path | None, convert: Callable[[UnsortedLattice], _Kind]
) -> Iterator[tuple[str, _Kind]]:
    with contextlib.ExitStack() as stack:
        streams: dict[Path, ByteStream] = {}
        for line in read_script(path, root):
            if line.archive.suffix == ".gz":
                raise InputError(f"{line.where}: {line.key}: no place in a compressed archive can be read; unpack "
                                 f"{line.archive}")
            if line.archive not in streams:
                stack.close()
                streams = {line.archive: stack.enter_context(open_stream(line.archive))}
            streams[line.archive].seek(line.offset)
            yield line.key, _read_lattice(streams[line.archive], line.key, convert)


def _read_key(stream: ByteStream) -> str | None:
    """The next utterance id, passed with the space behind it; None at the end of the file."""
    content = stream.look(_KEY_LIMIT)
    if not content.strip():
        if len(content) == _KEY_LIMIT:
            raise InputError(f"{stream.path}: byte {stream.position}: expected an utterance id")
        return None
    key = content.split(None, 1)[0]
    begin = content.index(key)
    behind = content[begin + len(key) : begin + len(key) + 1]
    if behind == b"":
        raise InputError(f"{stream.path}: byte {stream.position}: expected an utterance id and a lattice")
    stream.skip(begin + len(key) + (behind in b" \t"))
    try:
        return key.decode()
    except UnicodeDecodeError as error:
        raise InputError(f"{stream.path}: byte {stream.position}: the utterance id is not UTF-8") from error


def _read_lattice(stream: ByteStream, key: str, convert: Callable[[UnsortedLattice], _Kind]) -> _Kind:
    begin = stream.position
    is_text = stream.look(1).isspace()
    with parsing(f"{stream.path}: byte {begin}: {key}", "lattice"):
        try:
            return convert(_parsed(stream, is_text))
        except LatticeFault as fault:
            where = f": byte {begin}"
            if is_text:
                where = f":{line_at(stream.path, begin) + (0 if fault.line is None else fault.line + 1)}"
            raise InputError(f"{stream.path}{where}: {key}: {fault}") from fault


def _parsed(stream: ByteStream, is_text: bool) -> UnsortedLattice:
    mark = stream.look(len(binary_form.MAGIC))
    if mark == binary_form.MAGIC:
        return binary_form.parse_lattice(stream)
    if binary_form.MAGIC.startswith(mark):
        raise LatticeFault("cut off: the file ends here")
    if not is_text:
        raise LatticeFault("neither Kaldi's text form of a lattice (a new line) nor its binary form (OpenFst's "
                           "magic number)")
    return text_form.parse_lattice(_text_lines(stream))


def _text_lines(stream: ByteStream) -> list[str]:
    """The lines between the id's and the blank one that ends a lattice, which is passed."""
    content = stream.through(_BLANK_LINE)
    if content is None:
        raise LatticeFault("cut off: no blank line ends the lattice")
    stream.skip(len(content))
    rest, *lines = content.decode("utf-8", "replace").split("\n")
    if rest.strip():
        raise LatticeFault(f"{rest.strip()[:80]!r} behind the utterance id; expected a new line")
    return lines[:-2]
