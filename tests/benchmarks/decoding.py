"""Search, determinisation and lattice sizes on utterances of a run directory; one thread, ratios to the audio's length.

    python -m tests.benchmarks.decoding runs/speechocean762 --hmm tri --graph graph --features mfcc --utterances 100

Beams are those of the Kaldi figures in ../shared/golden/README.md (beam 11, max-active 2,500, lattice-beam 6).
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from asr_kd.decoding.graph import DecodingGraph
from asr_kd.decoding.n_best import n_best
from asr_kd.decoding.rescoring import best_paths
from asr_kd.decoding.search import SearchConfig
from asr_kd.decoding.split import decode_split
from asr_kd.features.frame_store import FrameStore
from asr_kd.hmm.gmm_scores import gmm_scorer
from asr_kd.hmm.model import HmmModel
from asr_kd.lattices.store import LatticeStore
from asr_kd.scoring.weights import INSERTION_PENALTIES, LM_WEIGHTS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="run directory")
    parser.add_argument("--hmm", default="tri", help="stage with the model, whose Gaussians score")
    parser.add_argument("--graph", default="graph", help="stage with its graph")
    parser.add_argument("--features", default="mfcc", help="stage with the model's features")
    parser.add_argument("--split", default="dev")
    parser.add_argument("--utterances", type=int, default=100, help="evenly spaced over the split")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    hmm = HmmModel.load(arguments.run / arguments.hmm)
    graph = DecodingGraph.load(arguments.run / arguments.graph, hmm.digest)
    store = FrameStore.open(arguments.run / arguments.features / arguments.split)
    every = max(len(store.ids) // arguments.utterances, 1)
    ids = store.ids[::every][: arguments.utterances]
    print(json.dumps(measure(hmm, graph, store, ids), indent=1))


def measure(hmm: HmmModel, graph: DecodingGraph, store: FrameStore, ids: list[str]) -> dict[str, float]:
    """CPU seconds per second of audio of each part, arcs per frame, bytes per utterance."""
    figures: dict[str, float] = {"utterances": len(ids)}
    shift = store.recipe["frame_shift"] / 1000
    seconds = 0.0
    for kind in ("states", "words"):
        with tempfile.TemporaryDirectory() as folder:
            config = SearchConfig.model_validate({"lattices": kind})
            summary = decode_split(graph, ids, gmm_scorer(hmm, store), config, Path(folder), 1, shift)
            seconds = summary["frames"] * shift
            figures[f"bytes_per_utterance_{kind}"] = round(summary["lattices"]["bytes"] / len(ids))
            figures[f"arcs_per_frame_{kind}"] = summary["lattices"]["arcs_per_frame"]
            for part in ("score", "search", "determinization"):
                figures[f"{part}_real_time_factor"] = summary[f"{part}_real_time_factor"]
            if kind == "words":
                figures.update(_uses(LatticeStore.open(Path(folder)), seconds))
    return {**figures, "audio_seconds": round(seconds, 1)}


def _uses(store: LatticeStore, seconds: float) -> dict[str, float]:
    """What reading, rescoring and expanding the word lattices costs."""
    weights = [(weight, penalty) for weight in LM_WEIGHTS for penalty in INSERTION_PENALTIES]
    spent = np.zeros(4)
    state_arcs = 0
    for first in (True, False):  # the first round compiles
        for utterance_id in store.ids[: 1 if first else None]:
            clock = [time.thread_time()]
            lattice = store.word_lattice(utterance_id)
            clock.append(time.thread_time())
            best_paths(lattice, weights)
            clock.append(time.thread_time())
            n_best(lattice, 100, 13.0)
            clock.append(time.thread_time())
            expanded = lattice.expand()
            clock.append(time.thread_time())
            if not first:
                spent += np.diff(clock)
                state_arcs += expanded.num_arcs
    names = ("read", f"rescore_{len(weights)}_weights", "n_best_100", "expand")
    frames = 100 * seconds
    return {**{f"{name}_real_time_factor": round(float(value) / seconds, 6)
               for name, value in zip(names, spent, strict=True)},
            "arcs_per_frame_expanded": round(state_arcs / frames, 3)}


if __name__ == "__main__":
    main()
