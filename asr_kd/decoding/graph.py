"""A decoding graph in the memory layout that the search wants."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numba import njit

from asr_kd.core.arrays import read_npy
from asr_kd.core.errors import InputError
from asr_kd.core.files import hash_file, hash_json, read_json, write_json
from asr_kd.core.reading import file_size, parsing
from asr_kd.core.text_tables import read_lines
from asr_kd.graph.fst import Fst
from asr_kd.hmm.model import HmmModel
from asr_kd.lexicon.lexicon import Lexicon

LEXICON = "lexicon.json"
_MOST_PDFS = 1 << 24


@dataclass(frozen=True)
class DecodingGraph:
    """HCLG for the search.

    begins: int32 (states + 1, 2), the first epsilon and the first emitting arc of each state; arc_ints: int32
    (arcs, 4), pdf (-1: epsilon), word, cost's bits, next state; arc_floats: the same memory as float32; levels:
    uint8 (states,), every epsilon arc leads to a higher level; finals: float32 (states,); transition_ids: int32
    (arcs,). `words[id]` is a word, 0 is none. The digests are those of the HMM, of the graph's description and of
    the language model.
    """

    path: str
    start: int
    begins: np.ndarray
    arc_ints: np.ndarray
    arc_floats: np.ndarray
    levels: np.ndarray
    finals: np.ndarray
    transition_ids: np.ndarray
    words: list[str]
    num_pdfs: int
    hmm_digest: str
    digest: str
    lm_digest: str

    @staticmethod
    def load(folder: Path, hmm_digest: str | None = None) -> "DecodingGraph":
        """Read what `build_graph` wrote. InputError: damaged files, or built with an HMM of another digest."""
        description = read_json(folder / "graph.json")
        with parsing(folder / "graph.json", "description of a graph", "build the graph again"):
            built_with, num_pdfs = str(description["hmm"]), int(description["num_pdfs"])
            lm_digest = str(description.get("lm", ""))
            if not 0 < num_pdfs <= _MOST_PDFS:
                raise ValueError(f"{num_pdfs} pdfs")
            # Graphs of before have a digest of HCLG.fst only.
            digests = {"HCLG.fst": description["fst"], "transition_pdfs.npy": description.get("transition_pdfs"),
                       "words.txt": description.get("words"), LEXICON: description.get("lexicon_file")}
        if hmm_digest is not None and hmm_digest != built_with:
            raise InputError(f"{folder}: the graph was built with HMM {built_with}, but the model is {hmm_digest}; "
                             "build the graph with this model")
        for name, digest in digests.items():
            if digest is None:
                continue
            file_size(folder / name)
            if hash_file(folder / name) != digest:
                raise InputError(f"{folder / name}: not the file that graph.json describes; build the graph again")
        pdfs = read_npy(folder / "transition_pdfs.npy", "table of pdfs", "build the graph again")
        if pdfs.ndim != 1 or pdfs.dtype.kind != "i":
            raise InputError(f"{folder / 'transition_pdfs.npy'}: damaged; build the graph again")
        fst = Fst.read(folder / "HCLG.fst")
        return DecodingGraph.from_fst(fst, pdfs, _read_words(folder / "words.txt"),
                                      num_pdfs, built_with, hash_json(description), str(folder), lm_digest)

    @staticmethod
    def from_fst(fst: Fst, transition_pdfs: np.ndarray, words: list[str], num_pdfs: int, hmm_digest: str = "",
                 digest: str = "", path: str = "graph", lm_digest: str = "") -> "DecodingGraph":
        """From HCLG and the pdf of each transition-id (`transition_pdfs[0]` is not used)."""
        fst = Fst.from_arcs(fst.start, fst.finals, fst.sources, fst.arcs)
        tids = fst.arcs["ilabel"].astype(np.int32)
        fst.check_costs(path)
        if tids.max(initial=0) >= len(transition_pdfs) or fst.arcs["olabel"].max(initial=0) >= len(words):
            raise InputError(f"{path}: transition-ids or words beyond the tables beside it; build the graph again")
        pdfs = np.where(tids > 0, transition_pdfs[tids], -1)
        if tids.min(initial=0) < 0 or pdfs.max(initial=-1) >= num_pdfs or (pdfs[tids > 0] < 0).any():
            raise InputError(f"{path}: pdfs outside 0..{num_pdfs - 1}; build the graph again")
        arcs = fst.arcs.copy()
        arcs["ilabel"] = pdfs
        begins = np.empty((fst.num_states + 1, 2), np.int32)
        begins[:, 0] = fst.offsets
        begins[:-1, 1] = fst.offsets[:-1] + np.bincount(fst.sources[tids == 0], minlength=fst.num_states)
        begins[-1, 1] = fst.num_arcs
        levels = _epsilon_levels(begins, arcs["nextstate"].copy())
        if levels is None or levels.max(initial=0) > 255:
            raise InputError(f"{path}: a cycle of epsilon arcs; the search needs a graph without")
        memory = arcs.view(np.int32).reshape(-1, 4)
        return DecodingGraph(path, fst.start, begins, memory, memory.view(np.float32), levels.astype(np.uint8),
                             fst.finals, tids, words, num_pdfs, hmm_digest, digest, lm_digest)


def write_lexicon(folder: Path, lexicon: Lexicon) -> None:
    """Write the lexicon that a graph was built with, or that utterances were decoded with, beside what it made.

    In a graph's folder `graph.json` gets the file's digest.
    """
    path, description = Path(folder) / LEXICON, Path(folder) / "graph.json"
    write_json(path, lexicon.as_json())
    if description.is_file():
        write_json(description, {**read_json(description), "lexicon_file": hash_file(path)})


def with_lexicon_of(folder: Path, hmm: HmmModel, words: list[str]) -> HmmModel:
    """`hmm` with the lexicon of a graph's folder, or of a decoding, of which `words` is the table.

    InputError: a lexicon that is damaged, that has other words than the table, or other phones than the model.
    """
    path = Path(folder) / LEXICON
    if path.is_file():
        with parsing(path, "lexicon", "make the folder again"):
            hmm = hmm.with_lexicon(Lexicon.from_json(read_json(path), hmm.phones))
    if [word for word in words if word != "#0"] != hmm.lexicon.words:
        raise InputError(f"{folder}: made with another lexicon than "
                         f"{path.name if path.is_file() else 'that of the model'}; make the folder again")
    return hmm


def _read_words(path: Path) -> list[str]:
    words: list[str] = []
    for number, line in read_lines(path):
        fields = line.split(" ")
        if len(fields) != 2 or fields[1] != str(len(words)):
            raise InputError(f"{path}:{number}: expected 'WORD {len(words)}', found {line!r}")
        words.append(fields[0])
    return words


@njit(cache=True)
def _epsilon_levels(begins, nextstates):  # type: ignore[no-untyped-def]
    """Length of the longest epsilon path into each state, None where epsilons form a cycle."""
    states = len(begins) - 1
    ways_in = np.zeros(states, np.int64)
    for s in range(states):
        for arc in range(begins[s, 0], begins[s, 1]):
            ways_in[nextstates[arc]] += 1
    levels = np.zeros(states, np.int64)
    queue = np.empty(states, np.int64)
    length = 0
    for s in range(states):
        if ways_in[s] == 0:
            queue[length] = s
            length += 1
    done = 0
    while done < length:
        s = queue[done]
        done += 1
        for arc in range(begins[s, 0], begins[s, 1]):
            t = nextstates[arc]
            levels[t] = max(levels[t], levels[s] + 1)
            ways_in[t] -= 1
            if ways_in[t] == 0:
                queue[length] = t
                length += 1
    return levels if length == states else None
