"""Speech sampled from a known HMM-GMM, and random trees."""

import itertools
from dataclasses import dataclass

import numpy as np

from asr_kd.hmm.model import HmmModel
from asr_kd.hmm.transitions import TransitionModel
from asr_kd.hmm.tree import TreeBuilder

DIM = 6


@dataclass
class Sampled:
    """Sampled speech: features and words by utterance, and the phone of each frame."""

    features: dict[str, np.ndarray]
    transcripts: dict[str, list[str]]
    phones: dict[str, np.ndarray]


def sample_speech(model: HmmModel, count: int, generator: np.random.Generator) -> Sampled:
    """Utterances of two to five words, silence between them half of the time."""
    lexicon, gmm = model.lexicon, model.gmm
    assert gmm is not None
    words = ["ab", "ba", "ca", "c", "abc"]
    result = Sampled({}, {}, {})
    for number in range(count):
        transcript = [str(w) for w in generator.choice(words, size=generator.integers(2, 6))]
        phones: list[int] = []
        for word in ["", *transcript]:
            if word:
                prons = lexicon.pronunciations_of[lexicon.word_id[word]]
                phones.extend(prons[int(generator.integers(len(prons)))].phones)
            if generator.random() < 0.5:
                phones.append(lexicon.phones.optional_silence)
        frames, labels = [], []
        for phone in phones:
            states = model.topology.states(phone)
            state = 0
            while state < len(states):
                pdf = model.tree.pdf_id((phone,), states[state].pdf_class)
                frames.append(gmm.means[pdf] + generator.standard_normal(gmm.dim))
                labels.append(phone)
                arcs = states[state].arcs
                state = arcs[int(generator.choice(len(arcs), p=[p for _, p in arcs]))][0]
        utterance = f"utt{number:03d}"
        result.features[utterance] = np.array(frames, dtype=np.float32)
        result.transcripts[utterance] = transcript
        result.phones[utterance] = np.array(labels)
    return result


def random_triphone_model(model: HmmModel, seed: int) -> HmmModel:
    """The model with a random triphone tree, without GMMs."""
    generator = np.random.default_rng(seed)
    phones, topology = model.phones, model.topology
    builder = TreeBuilder(phones.num_phones, 5)
    pdfs = itertools.count()
    for group in phones.root_groups:
        leaves = [builder.leaf(0)]
        builder.roots[list(group), : topology.num_pdf_classes(group[0])] = leaves[0]
        keys = [-1, 1] if group[0] in phones.silence else [-1, 0, 1, 2]
        for _ in range(int(generator.integers(1, 7))):
            leaf = leaves.pop(int(generator.integers(len(leaves))))
            key = int(generator.choice(keys))
            values = np.arange(5) if key == -1 else np.arange(phones.num_phones + 1)
            leaves.extend(builder.split(leaf, key, values[generator.random(len(values)) < 0.5].tolist()))
        for leaf in leaves:
            builder.set_pdf(leaf, next(pdfs))
    tree = builder.build(3, 1, next(pdfs))
    return HmmModel(model.lexicon, model.topology, tree, TransitionModel.from_tree(model.topology, tree))
