"""HCLG: lexicon, grammar, phonetic context and HMMs as one decoding graph."""

import logging
import time
from pathlib import Path
from typing import Any

import kaldifst
import numpy as np
from scipy import sparse

from asr_kd.core.arrays import write_npy
from asr_kd.core.bounds import TransitionScale
from asr_kd.core.config import Config
from asr_kd.core.errors import InputError
from asr_kd.core.files import atomic_file, hash_file, write_json
from asr_kd.core.log import get_logger
from asr_kd.core.word_forms import find_other_forms
from asr_kd.graph.epsilons import remove_epsilons_locally
from asr_kd.graph.fst import Fst
from asr_kd.graph.grammar_fst import Grammar, build_grammar
from asr_kd.graph.lexicon_fst import build_lexicon_fst
from asr_kd.graph.transition_fst import add_self_loops, build_transition_fst, without_disambiguation
from asr_kd.hmm.model import HmmModel
from asr_kd.hmm.topology import Topology
from asr_kd.hmm.transitions import TransitionModel
from asr_kd.hmm.tree import DecisionTree
from asr_kd.lexicon.lexicon import Lexicon
from asr_kd.lm.model import BEGIN, END, NgramModel

_LOG = get_logger(__name__)


class GraphConfig(Config):
    """Scales of the transition probabilities, and what to do with words of the LM that the lexicon lacks."""

    transition_scale: TransitionScale = 1.0
    self_loop_scale: TransitionScale = 0.1
    allow_missing_words: bool = True


def build_graph(hmm: HmmModel, model: NgramModel, folder: Path, config: GraphConfig | None = None) -> dict[str, Any]:
    """Build HCLG and write `HCLG.fst` (OpenFst), `words.txt` and `graph.json` to `folder`.

    Returns graph.json's content (sizes, digests of HMM, lexicon and LM, hash of the graph, what was dropped) with
    the CPU seconds taken.
    Words of the LM without pronunciation are left out and counted, or refused (InputError) where
    `config.allow_missing_words` is false, or where no word has one.
    """
    config = config or GraphConfig()
    begin = time.process_time()
    grammar = build_grammar(model, hmm.lexicon.words)
    grammar.fst.check_costs(str(model.path))
    _check_words(grammar, model, hmm.lexicon.words, config)
    fst = compose_graph(hmm.lexicon, grammar.fst, hmm.topology, hmm.tree, hmm.transitions, config)
    folder.mkdir(parents=True, exist_ok=True)
    fst.write(folder / "HCLG.fst")
    write_words(folder / "words.txt", hmm.lexicon.words)
    write_npy(folder / "transition_pdfs.npy", hmm.transitions.pdf_ids.astype(np.int32))
    summary = {
        "hmm": hmm.digest,
        "lexicon": hmm.lexicon.digest,
        "lm": model.digest,
        "num_pdfs": hmm.tree.num_pdfs,
        "states": fst.num_states,
        "arcs": fst.num_arcs,
        "epsilon_arcs": int((fst.arcs["ilabel"] == 0).sum()),
        "dropped_words": len(grammar.dropped_words),
        "dropped_ngrams": grammar.dropped_ngrams,
        "config": config.model_dump(),
        "fst": hash_file(folder / "HCLG.fst"),
        "transition_pdfs": hash_file(folder / "transition_pdfs.npy"),
        "words": hash_file(folder / "words.txt"),
    }
    write_json(folder / "graph.json", summary)
    return {**summary, "cpu_seconds": round(time.process_time() - begin, 2)}


def compose_graph(
    lexicon: Lexicon, grammar: Fst, topology: Topology, tree: DecisionTree, transitions: TransitionModel,
    config: GraphConfig,
) -> Fst:
    """min(det(Ha o C o min(det(L o G)))) with self-loops, as Kaldi's `mkgraph.sh`.

    Input labels are transition-ids, output labels word ids.
    """
    phones = lexicon.phones
    lg = _compose(build_lexicon_fst(lexicon).check_costs("the lexicon"), grammar)
    kaldifst.determinize_star(lg, use_log=True)
    kaldifst.minimize_encoded(lg)
    lg = push_special(Fst.from_kaldifst(lg)).to_kaldifst()
    _report("LG", lg)

    disambiguation = [phones.disambiguation_id(n) for n in range(lexicon.num_disambiguation + 1)]
    clg, windows = kaldifst.compose_context(disambiguation, tree.context_width, tree.central_position, lg)
    _report("CLG", clg)

    ha = build_transition_fst(windows, topology, tree, transitions, config.transition_scale)
    ha.check_costs("the transition model")
    hclg = _compose(ha, Fst.from_kaldifst(clg))
    kaldifst.determinize_star(hclg, use_log=True)
    _report("det(HCLG)", hclg)
    hclg = remove_epsilons_locally(without_disambiguation(Fst.from_kaldifst(hclg), transitions)).to_kaldifst()
    kaldifst.minimize_encoded(hclg)
    _report("min(HCLG)", hclg)
    return add_self_loops(Fst.from_kaldifst(hclg), transitions, config.self_loop_scale)


def push_special(fst: Fst, iterations: int = 200) -> Fst:
    """Push costs so that the probabilities out of each state sum to nearly the same (`fstpushspecial`).

    Path costs stay. Unlike pushing in the log semiring it bears models that are not normalised: the potentials are
    the dominant eigenvector of the transition matrix whose final states lead back to the start.
    """
    states = fst.num_states
    leave = np.exp(-fst.finals.astype(np.float64))
    rows = np.concatenate([fst.sources, np.arange(states)])
    columns = np.concatenate([fst.arcs["nextstate"], np.full(states, fst.start)])
    values = np.concatenate([np.exp(-fst.arcs["weight"].astype(np.float64)), leave])
    matrix = sparse.csr_array((values, (rows, columns)), (states, states))
    potential = np.ones(states)
    for _ in range(iterations):
        # The old value keeps cycles of the graph from swinging.
        potential = matrix @ potential + 0.1 * potential
        potential /= np.linalg.norm(potential)
    costs = -np.log(np.maximum(potential, 1e-300))
    arcs = fst.arcs.copy()
    arcs["weight"] = fst.arcs["weight"] + costs[fst.arcs["nextstate"]] - costs[fst.sources]
    return Fst(fst.start, (fst.finals + costs[fst.start] - costs).astype(np.float32), fst.offsets, arcs)


def write_words(path: Path, words: list[str]) -> None:
    """Write a symbol table as OpenFst's text format: `WORD ID` per line, `#0` last."""
    with atomic_file(path) as file:
        for number, word in enumerate([*words, "#0"]):
            file.write(f"{word} {number}\n")


def _compose(left: Fst, right: Fst) -> Any:
    first, second = left.to_kaldifst(), right.to_kaldifst()
    kaldifst.arcsort(first, "olabel")
    kaldifst.arcsort(second, "ilabel")
    return kaldifst.compose(first, second)


def _check_words(grammar: Grammar, model: NgramModel, words: list[str], config: GraphConfig) -> None:
    if not grammar.dropped_words:
        return
    other = str(find_other_forms(grammar.dropped_words, set(words)))
    forms = f"; the lexicon has {other}" if other else ""
    if len(grammar.dropped_words) == len(set(model.words) - {BEGIN, END}):
        raise InputError(f"{model.path}: none of the {len(grammar.dropped_words)} words of the LM is in the lexicon "
                         f"({grammar.dropped_words[0]!r}...){forms}; nothing could be recognised")
    named = ", ".join(grammar.dropped_words[:5])
    message = (f"{model.path}: {len(grammar.dropped_words)} words of the LM are not in the lexicon "
               f"({named}{', ...' if len(grammar.dropped_words) > 5 else ''}){forms}")
    if not config.allow_missing_words:
        raise InputError(f"{message}; add them to it, or set allow_missing_words to leave them out")
    level = logging.WARNING if forms else logging.INFO
    _LOG.log(level, "%s: left out, with %d n-grams", message, grammar.dropped_ngrams)


def _report(name: str, fst: Any) -> None:
    _LOG.debug("%s: %d states", name, fst.num_states)
