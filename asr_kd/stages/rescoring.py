"""Words from kept lattices under other weights or another language model: what `asr-kd rescore` does."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from asr_kd.core.errors import InputError
from asr_kd.core.files import atomic_folder, write_json
from asr_kd.core.opening import resolved
from asr_kd.core.own_folders import FolderKind, check_replaceable
from asr_kd.decoding.lm_rescoring import rescore_lm_split
from asr_kd.decoding.n_best import check_number
from asr_kd.decoding.outputs import (
    check_model,
    n_best_split,
    oracle_split,
    timed_words,
    write_n_best,
    write_timed_words,
)
from asr_kd.decoding.rescoring import check_weights
from asr_kd.decoding.split import open_decoded, rescore_split
from asr_kd.hmm.model import HmmModel
from asr_kd.kaldi_lattices.archive import write_lattices
from asr_kd.lattices.store import LatticeStore
from asr_kd.lm.arpa import read_arpa
from asr_kd.scoring.notation import refuse_notation
from asr_kd.scoring.transcripts import read_transcripts, write_transcripts
from asr_kd.scoring.wer import check_ids
from asr_kd.stages.folder_kinds import HMM_MODEL, LATTICES, require_kind

HYPOTHESES, WORDS, N_BEST, ARCHIVE, RESCORING = "text", "words.ctm", "n_best.jsonl", "lattices.ark", "rescoring.json"
_RESCORING_FOLDER = FolderKind("rescoring", (RESCORING, HYPOTHESES), closed=False, keys=("lm_weight",))


def rescore_lattices(
    lattices: Path,
    output: Path,
    lm_weight: float = 12.0,
    insertion_penalty: float = 0.0,
    old_lm: Path | None = None,
    new_lm: Path | None = None,
    references: Path | None = None,
    model: Path | None = None,
    n_best: int = 0,
    kaldi: bool = False,
    workers: int | None = None,
) -> dict[str, Any]:
    """Best words of a decoded folder's lattices; nothing is searched again. Returns `rescoring.json`'s content.

    `output` gets `text`; with `new_lm`, whose costs replace those of `old_lm` (the graph's), the new lattices too; with
    the HMM `model` `words.ctm` (times and confidences); with `n_best` `n_best.jsonl`; with `kaldi` `lattices.ark` and
    `lattices.scp` in Kaldi's binary form. `references` (Kaldi's text or trn) adds the least errors of any path; a
    reference without lattice counts as deletions, lattices without reference are refused.

    InputError for what does not belong together, and for missing or damaged lattices.
    """
    if (old_lm is None) != (new_lm is None):
        raise InputError("another language model takes two: that of the lattices (old_lm) and the new one (new_lm)")
    check_weights(lm_weight, insertion_penalty)
    check_number(n_best)
    check_replaceable(Path(output), _RESCORING_FOLDER)
    source = Path(lattices)
    require_kind(source, LATTICES, "--lattices")
    require_kind(model, HMM_MODEL, "--model")
    if resolved(output) == resolved(source):
        raise InputError(f"{output}: holds the lattices, which would be lost; give another folder")
    store, _ = open_decoded(source)
    if store.kind == "states" and (new_lm is not None or model is not None or n_best):
        raise InputError(f"{source}: lattices of states, word lattices are needed for another language model, word "
                         "times and n-best lists; decode with lattices: words")
    spoken = None
    if references is not None:
        read = read_transcripts(references, ids=set(store.ids))
        refuse_notation(read.words, str(references), bracketed=read.format == "trn")
        spoken = read.words
        check_ids(spoken, dict.fromkeys(store.ids, ()), str(source))
    hmm = None if model is None else HmmModel.load(model)
    if hmm is not None:
        check_model(source, store, hmm)
    with atomic_folder(Path(output), _RESCORING_FOLDER) as folder:
        summary: dict[str, Any] = {"lm_weight": lm_weight, "insertion_penalty": insertion_penalty}
        if old_lm is not None and new_lm is not None:
            summary["lm"] = rescore_lm_split(source, read_arpa(old_lm), read_arpa(new_lm), folder, workers)
            source = folder
        words = rescore_split(source, [lm_weight], [insertion_penalty], workers)[lm_weight, insertion_penalty]
        write_transcripts(folder / HYPOTHESES, words)
        summary["utterances"] = len(words)
        if hmm is not None:
            timed = timed_words(source, hmm, lm_weight, insertion_penalty, workers)
            summary["timed_words"] = write_timed_words(folder / WORDS, timed)
        if n_best:
            rows = n_best_split(source, n_best, lm_weight, insertion_penalty, workers, hmm)
            summary["n_best"] = write_n_best(folder / N_BEST, rows)
        if kaldi:
            found = LatticeStore.open(source)
            pairs = ((utterance_id, found[utterance_id]) for utterance_id in found)
            write_lattices(folder / ARCHIVE, pairs, scp=folder / "lattices.scp")
        if spoken is not None:
            summary["oracle"] = _oracle(source, spoken, workers)
        write_json(folder / RESCORING, summary)
    return summary


def _oracle(folder: Path, references: Mapping[str, Sequence[str]], workers: int | None) -> dict[str, Any]:
    """The least errors among all paths of each lattice, in total."""
    errors = oracle_split(folder, references, workers).values()
    counts = {name: sum(getattr(one, name) for one in errors) for name in ("insertions", "deletions", "substitutions")}
    total = sum(map(len, references.values()))
    wer = 100 * sum(counts.values()) / total if total else 0.0
    return {**counts, "words": total, "wer": round(wer, 2)}
