"""A toy language: homophones, a word with two pronunciations, back-off, a triphone tree."""

from dataclasses import dataclass

from asr_kd.hmm.model import HmmModel
from asr_kd.hmm.topology import Topology
from asr_kd.hmm.tree import DecisionTree, TreeBuilder
from asr_kd.lexicon.lexicon import Lexicon
from asr_kd.lm.arpa import NgramModel

ARPA = """
\\data\\
ngram 1=7
ngram 2=5
ngram 3=2

\\1-grams:
-99 <s> -0.3
-0.8 </s>
-0.6 A -0.25
-0.9 B -0.1
-0.7 C -0.35
-1.2 D
-1.5 ELSEWHERE

\\2-grams:
-0.2 <s> A -0.15
-0.5 A B -0.45
-0.4 A </s>
-0.3 B C
-0.9 C ELSEWHERE

\\3-grams:
-0.1 <s> A B
-0.35 A B C

\\end\\
"""

ENTRIES: list[tuple[str, list[str], float]] = [
    ("A", ["x"], 1.0), ("B", ["x"], 1.0), ("C", ["y"], 0.3), ("C", ["x", "y"], 0.7), ("D", ["y", "x"], 1.0)]


# Kaldi's usual kind: the likeliest pronunciation of each word has probability 1.
MAX_NORMALISED: list[tuple[str, list[str], float]] = [
    ("A", ["x"], 1.0), ("A", ["y", "y"], 0.05), ("B", ["x"], 1.0), ("C", ["y"], 0.4), ("C", ["x", "y"], 1.0),
    ("D", ["y", "x"], 1.0)]


@dataclass(frozen=True)
class Toy:
    hmm: HmmModel
    model: NgramModel
    entries: list[tuple[str, list[str], float]]


def triphone_tree(lexicon: Lexicon, topology: Topology) -> DecisionTree:
    """Both context sides asked about, for some states only."""
    phones = lexicon.phones
    x, y = phones.ids["x"], phones.ids["y"]
    builder = TreeBuilder(phones.num_phones, 3)
    leaves = []
    for phone in range(1, phones.num_phones + 1):
        for pdf_class in range(topology.num_pdf_classes(phone)):
            root = builder.leaf(-1)
            builder.roots[phone, pdf_class] = root
            if phone in (x, y) and pdf_class == 0:
                yes, no = builder.split(root, 0, [0, phones.optional_silence])
                leaves += [yes, *builder.split(no, 2, [x])]
            elif phone == x:
                leaves += builder.split(root, 2, [0, y])
            else:
                leaves.append(root)
    for pdf, leaf in enumerate(leaves):
        builder.set_pdf(leaf, pdf)
    return builder.build(3, 1, len(leaves))
