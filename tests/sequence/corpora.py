"""A small corpus for tests of sequence training: frames, random lattices and random alignments by utterance."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from asr_kd.data.manifest import Source
from asr_kd.features.frame_store import FrameStore, FrameStoreWriter
from asr_kd.lattices.chains import join_chains
from asr_kd.lattices.store import LatticeStoreWriter
from asr_kd.lattices.training_lattices import TrainingLattices, TrainingUtterance, write_utterances
from asr_kd.sequence.config import CriterionConfig
from asr_kd.sequence.data import UtteranceData
from asr_kd.sequence.teacher_paths import TeacherPaths
from tests.lattices.random_lattice import random_lattice
from tests.sequence.brute_force import TABLE

DIM = 4
SPLICE = {"left": 1, "right": 1}
HMM = "the model's digest"


@dataclass(frozen=True)
class SequenceCorpus:
    """alignments: transition-ids by utterance."""

    store: FrameStore
    lattices: TrainingLattices
    alignments: dict[str, np.ndarray]

    def data(self, criterion: CriterionConfig | None = None, **settings: Any) -> UtteranceData:
        settings = {**SPLICE, "held_out_speakers": 2, **settings}
        return UtteranceData(self.store, self.lattices, TABLE, self.alignments, criterion or CriterionConfig(),
                             **settings)


def write_corpus(
    folder: Path, speakers: int = 6, utterances: int = 3, shortest: int = 8, seed: int = 0, copies: bool = False
) -> SequenceCorpus:
    """Utterances of `shortest` frames and more, no two alike; the pdf of a frame can be heard in it.

    copies: of each utterance another stands beside it that is said to be a copy at 1.1 times its speed.
    """
    rng = np.random.default_rng(seed)
    tones = rng.normal(0, 1, (len(TABLE.pdfs), DIM))
    names = [f"s{speaker}-{number}" for speaker in range(speakers) for number in range(utterances)]
    sources = {f"{name}_sp1.1": Source(name, name.split("-")[0]) for name in names if copies}
    names += sources
    alignments = {name: rng.integers(1, len(TABLE.pdfs), shortest + more).astype(np.int32)
                  for name, more in zip(names, rng.permutation(len(names)), strict=True)}
    with FrameStoreWriter(folder / "features", DIM, "float16", {"kind": "synthetic"}) as writer:
        for name, tids in alignments.items():
            heard = tones[TABLE.pdfs[tids]] + rng.normal(0, 0.3, (len(tids), DIM))
            speaker = name.split("-")[0] + ("_sp1.1" if name in sources else "")
            writer.add(name, speaker, heard.astype(np.float32), sources.get(name), 1.1 if name in sources else 1.0)
    known = {}
    with LatticeStoreWriter(folder / "lattices", {"hmm": HMM, "made_of": f"lattices {seed}"}) as lattices:
        for number, (name, tids) in enumerate(alignments.items()):
            lattices.add(name, join_chains(random_lattice(100 * seed + number, len(tids))))
            known[name] = TrainingUtterance(len(tids), 10, float(rng.uniform(0, 3)))
    write_utterances(folder / "lattices", known)
    return SequenceCorpus(FrameStore.open(folder / "features"),
                          TrainingLattices.open(folder / "lattices", HMM), alignments)


def teacher_scores(corpus: SequenceCorpus, seed: int = 7) -> dict[str, np.ndarray]:
    """Log-likelihoods (frames, pdfs) of a teacher, by utterance."""
    rng = np.random.default_rng(seed)
    return {name: rng.normal(0, 3, (len(tids), int(TABLE.pdfs.max()) + 1)).astype(np.float32)
            for name, tids in corpus.alignments.items()}


def teacher_paths(corpus: SequenceCorpus, scores: dict[str, np.ndarray], scale: float) -> TeacherPaths:
    return TeacherPaths.of(corpus.lattices, scores, TABLE.pdfs, scores.__getitem__, scale, "teacher")
