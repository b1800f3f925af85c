"""The tied-state decision tree: from a phone in context and a pdf class to a pdf."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from asr_kd.hmm.topology import Topology
from asr_kd.lexicon.phones import PhoneTable

PDF_CLASS = -1
_LEAF = -2


@dataclass(frozen=True)
class DecisionTree:
    """One binary tree per root group (or per root group and pdf class), all in flat arrays.

    Node n is a leaf where `keys[n] == -2`, and then `pdfs[n]` is its pdf; otherwise it asks whether the value at key
    `keys[n]` (a position in the window, or -1 for the pdf class) is in `question_sets[questions[n]]`, and goes on at
    `yes[n]` or `no[n]`. `roots[phone, pdf_class]` is the node to begin at (-1: no such phone or class). Several
    leaves may have the same pdf.
    """

    context_width: int
    central_position: int
    num_pdfs: int
    roots: np.ndarray
    keys: np.ndarray
    questions: np.ndarray
    yes: np.ndarray
    no: np.ndarray
    pdfs: np.ndarray
    question_sets: tuple[tuple[int, ...], ...]

    def pdf_id(self, window: Sequence[int], pdf_class: int) -> int:
        """The pdf of the central phone's `pdf_class` in `window` (phone ids, 0 beyond the utterance's edges).

        ValueError where the window has another width than the tree's, or the phone has no such class.
        """
        if len(window) != self.context_width:
            raise ValueError(f"window of {len(window)} phones, the tree asks for {self.context_width}")
        phone = window[self.central_position]
        if not (0 < phone < self.roots.shape[0] and 0 <= pdf_class < self.roots.shape[1]):
            raise ValueError(f"no phone {phone} with pdf class {pdf_class} in the tree")
        node = int(self.roots[phone, pdf_class])
        if node < 0:
            raise ValueError(f"phone {phone} has no pdf class {pdf_class}")
        while self.keys[node] != _LEAF:
            key = int(self.keys[node])
            value = pdf_class if key == PDF_CLASS else window[key]
            node = int((self.yes if value in self._sets[self.questions[node]] else self.no)[node])
        return int(self.pdfs[node])

    def check(self, topology: Topology) -> None:
        """ValueError where nodes lead back or out of the tree, or a phone's pdf class has no node."""
        nodes = len(self.keys)
        arrays = (self.questions, self.yes, self.no, self.pdfs)
        if not 0 <= self.central_position < self.context_width or any(a.shape != (nodes,) for a in arrays):
            raise ValueError("arrays of a decision tree that do not fit together")
        leaves = self.keys == _LEAF
        inner = np.flatnonzero(~leaves)
        keys, questions = self.keys[inner], self.questions[inner]
        below = np.stack([self.yes[inner], self.no[inner]])
        sound = (
            self.roots.ndim == 2 and len(self.roots) == topology.num_phones + 1
            and (self.roots >= -1).all() and (self.roots < nodes).all()
            and (self.pdfs[leaves] >= 0).all() and (self.pdfs[leaves] < self.num_pdfs).all()
            and (keys >= PDF_CLASS).all() and (keys < self.context_width).all()
            and (questions >= 0).all() and (questions < len(self.question_sets)).all()
            and (below > inner).all() and (below < nodes).all()  # nodes are added below others: no way leads back
        )
        if not sound:
            raise ValueError("a decision tree whose nodes, questions or pdfs are out of range")
        for phone in range(1, topology.num_phones + 1):
            classes = topology.num_pdf_classes(phone)
            if classes > self.roots.shape[1] or (self.roots[phone, :classes] < 0).any():
                raise ValueError(f"a decision tree without a root for phone {phone}")

    def possible_pdfs(self, phone: int, pdf_class: int) -> list[int]:
        """All pdfs that a phone's pdf class can have, whatever the context; sorted."""
        found, waiting = set(), [int(self.roots[phone, pdf_class])]
        while waiting:
            node = waiting.pop()
            key = int(self.keys[node])
            if key == _LEAF:
                found.add(int(self.pdfs[node]))
                continue
            known = {PDF_CLASS: pdf_class, self.central_position: phone}
            if key not in known or known[key] in self._sets[self.questions[node]]:
                waiting.append(int(self.yes[node]))
            if key not in known or known[key] not in self._sets[self.questions[node]]:
                waiting.append(int(self.no[node]))
        return sorted(found)

    @cached_property
    def context_positions(self) -> tuple[frozenset[int], ...]:
        """For each phone id the window positions (the central one left out) that its pdfs depend on."""
        cache: dict[int, frozenset[int]] = {}

        def below(node: int) -> frozenset[int]:
            if node not in cache:
                key = int(self.keys[node])
                own = frozenset() if key in (_LEAF, PDF_CLASS, self.central_position) else frozenset([key])
                cache[node] = own if key == _LEAF else own | below(int(self.yes[node])) | below(int(self.no[node]))
            return cache[node]

        return tuple(frozenset().union(*(below(int(root)) for root in row if root >= 0)) for row in self.roots)

    @cached_property
    def _sets(self) -> tuple[frozenset[int], ...]:
        return tuple(frozenset(s) for s in self.question_sets)

    def as_json(self) -> dict[str, Any]:
        """All of the tree as JSON values."""
        arrays = {name: getattr(self, name).tolist() for name in _ARRAYS}
        return {"context_width": self.context_width, "central_position": self.central_position,
                "num_pdfs": self.num_pdfs, **arrays, "question_sets": [list(s) for s in self.question_sets]}

    @staticmethod
    def from_json(value: dict[str, Any]) -> "DecisionTree":
        """The tree that `as_json` described."""
        arrays = {name: np.array(value[name], dtype=np.int32) for name in _ARRAYS}
        return DecisionTree(value["context_width"], value["central_position"], value["num_pdfs"], **arrays,
                            question_sets=tuple(tuple(s) for s in value["question_sets"]))


_ARRAYS = ("roots", "keys", "questions", "yes", "no", "pdfs")


class TreeBuilder:
    """Collects the nodes of a DecisionTree."""

    def __init__(self, num_phones: int, num_pdf_classes: int) -> None:
        self.roots = np.full((num_phones + 1, num_pdf_classes), -1, dtype=np.int32)
        self._nodes: list[list[int]] = []
        self._sets: dict[tuple[int, ...], int] = {}

    def leaf(self, pdf: int) -> int:
        """Add a leaf; returns its node."""
        self._nodes.append([_LEAF, -1, -1, -1, pdf])
        return len(self._nodes) - 1

    def set_pdf(self, node: int, pdf: int) -> None:
        """Give a leaf another pdf."""
        self._nodes[node][4] = pdf

    def split(self, node: int, key: int, question: Iterable[int]) -> tuple[int, int]:
        """Turn leaf `node` into a question; returns its (yes, no) leaves, which have the leaf's pdf."""
        number = self._sets.setdefault(tuple(sorted(question)), len(self._sets))
        pdf = self._nodes[node][4]
        yes, no = self.leaf(pdf), self.leaf(pdf)
        self._nodes[node] = [key, number, yes, no, -1]
        return yes, no

    def build(self, context_width: int, central_position: int, num_pdfs: int) -> DecisionTree:
        """The tree of all nodes added."""
        columns = np.array(self._nodes, dtype=np.int32).reshape(-1, 5).T.copy()
        keys, questions, yes, no, pdfs = columns
        return DecisionTree(context_width, central_position, num_pdfs, self.roots, keys, questions, yes, no, pdfs,
                            tuple(self._sets))


def monophone_tree(phones: PhoneTable, topology: Topology) -> DecisionTree:
    """A tree without context: each pdf class of each root group is a pdf (Kaldi's `gmm-init-mono --shared-phones`)."""
    builder = TreeBuilder(phones.num_phones, max(topology.num_pdf_classes(p) for p in range(1, phones.num_phones + 1)))
    num_pdfs = 0
    for group in phones.root_groups:
        for pdf_class in range(topology.num_pdf_classes(group[0])):
            builder.roots[list(group), pdf_class] = builder.leaf(num_pdfs)
            num_pdfs += 1
    return builder.build(1, 0, num_pdfs)
