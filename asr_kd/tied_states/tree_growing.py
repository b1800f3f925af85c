"""Growing the tied-state tree by likelihood gain, then clustering leaves back (Kaldi's `build-tree`)."""

import heapq
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from pydantic import Field

from asr_kd.core.config import Config
from asr_kd.core.errors import InputError
from asr_kd.core.parallel import one_blas_thread
from asr_kd.hmm.topology import Topology
from asr_kd.hmm.tree import PDF_CLASS, DecisionTree, TreeBuilder
from asr_kd.lexicon.phones import PhoneTable
from asr_kd.tied_states.questions import Question
from asr_kd.tied_states.tree_statistics import TreeStatistics, gaussian_objective


class TreeConfig(Config):
    """Kaldi's `build-tree` settings. `num_leaves` before clustering; a split must gain `min_gain`; leaves whose merging
    costs less than `cluster_threshold` are merged (None: less than the smallest split gained; 0: not at all), and then
    so many more that the number of pdfs is a multiple of `round_to` (1: none), where the roots allow it."""

    num_leaves: int = Field(default=1000, gt=0)
    min_gain: float = Field(default=300.0, ge=0)
    cluster_threshold: float | None = Field(default=None, ge=0)
    round_to: int = Field(default=8, gt=0)
    variance_floor: float = Field(default=0.01, gt=0)


@dataclass(frozen=True)
class TreeReport:
    """A report on growing a tree.

    Leaves after splitting, gain per frame (of all frames), its change by clustering and rounding, leaves with data
    after clustering (Kaldi's "non-empty clusters"), and after rounding pdfs and those with data.
    """

    leaves_split: int
    gain_per_frame: float
    clustering_change_per_frame: float
    leaves_clustered: int
    num_pdfs: int
    num_seen_pdfs: int
    num_frames: float


@one_blas_thread()
def grow_tree(statistics: TreeStatistics, phones: PhoneTable, topology: Topology, questions: Sequence[Question],
              config: TreeConfig) -> tuple[DecisionTree, np.ndarray, TreeReport]:
    """The tree, each pdf's statistics `(pdfs, 1 + 2 dim)` (zeros where a pdf was not seen), and a report.

    One root per root group, shared by its states; the pdf class is a question like others. Silence phones (whose
    statistics have no context) are split by phone and pdf class only. InputError if there is no data.
    """
    if statistics.num_frames == 0:
        raise InputError("no aligned frames to grow a tree from")
    splitter = _Splitter(statistics, phones, topology, questions, config)
    splitter.split()
    return splitter.cluster()


@dataclass
class _Leaf:
    node: int
    root: int
    rows: np.ndarray
    gain: float = 0.0
    key: int = 0
    question: int = -1


class _Splitter:
    def __init__(self, statistics: TreeStatistics, phones: PhoneTable, topology: Topology,
                 questions: Sequence[Question], config: TreeConfig) -> None:
        self._statistics = statistics
        self._config = config
        num_classes = max(topology.num_pdf_classes(p) for p in range(1, topology.num_phones + 1))
        self._questions = {key: list(questions) for key in range(3)}
        self._questions[PDF_CLASS] = [tuple(range(n + 1)) for n in range(num_classes - 1)]
        asked = np.zeros((len(questions), len(phones.symbols)))
        for i, question in enumerate(questions):
            asked[i, list(question)] = 1.0
        classes = np.tril(np.ones((num_classes, num_classes)))[: num_classes - 1]
        self._asked = {0: asked, 1: asked, 2: asked, PDF_CLASS: classes}
        self._columns = {0: statistics.windows[:, 0], 1: statistics.windows[:, 1], 2: statistics.windows[:, 2],
                         PDF_CLASS: statistics.pdf_classes}
        self._silence = phones.silence
        self.builder = TreeBuilder(phones.num_phones, num_classes)
        self.leaves: list[_Leaf] = []
        self.gain = 0.0
        self.smallest = np.inf
        group_of = np.full(len(phones.symbols), -1)
        for i, group in enumerate(phones.root_groups):
            group_of[list(group)] = i
            node = self.builder.leaf(-1)
            for phone in group:
                self.builder.roots[phone, : topology.num_pdf_classes(phone)] = node
            self.leaves.append(_Leaf(node, i, np.empty(0, dtype=np.int64)))
        groups = group_of[statistics.windows[:, 1]]
        for leaf in self.leaves:
            leaf.rows = np.flatnonzero(groups == leaf.root)

    def split(self) -> None:
        """Best gain first, until there are enough leaves or no split gains enough."""
        queue = []
        for i, leaf in enumerate(self.leaves):
            self._find_split(leaf)
            queue.append((-leaf.gain, i))
        heapq.heapify(queue)
        while queue and len(self.leaves) < self._config.num_leaves:
            _, i = heapq.heappop(queue)
            leaf = self.leaves[i]
            if leaf.question < 0 or leaf.gain < self._config.min_gain:
                break
            self.gain += leaf.gain
            self.smallest = min(self.smallest, leaf.gain)
            yes_node, no_node = self.builder.split(leaf.node, leaf.key, self._questions[leaf.key][leaf.question])
            is_yes = self._asked[leaf.key][leaf.question][self._columns[leaf.key][leaf.rows]] > 0
            self.leaves[i] = _Leaf(yes_node, leaf.root, leaf.rows[is_yes])
            self.leaves.append(_Leaf(no_node, leaf.root, leaf.rows[~is_yes]))
            for j in (i, len(self.leaves) - 1):
                self._find_split(self.leaves[j])
                heapq.heappush(queue, (-self.leaves[j].gain, j))

    def cluster(self) -> tuple[DecisionTree, np.ndarray, TreeReport]:
        """Merge leaves of the same root bottom-up, then number the pdfs."""
        threshold = self._config.cluster_threshold
        threshold = (self.smallest if np.isfinite(self.smallest) else 0.0) if threshold is None else threshold
        sums = np.stack([self._statistics.sums[leaf.rows].sum(axis=0) for leaf in self.leaves])
        floor = self._config.variance_floor
        before = gaussian_objective(sums, floor).sum()
        cluster_of = np.arange(len(self.leaves))
        roots = np.array([leaf.root for leaf in self.leaves])
        seen = np.array([len(leaf.rows) > 0 for leaf in self.leaves])
        for root in np.unique(roots):
            members = np.flatnonzero((roots == root) & seen)
            if len(members) > 1 and threshold > 0:
                cluster_of[members] = members[merge_bottom_up(sums[members], threshold, floor)]
        clustered = len(np.unique(cluster_of[seen]))
        cluster_of = self._rounded(cluster_of, sums, np.where(seen, roots, -1))
        kept, pdfs = np.unique(cluster_of, return_inverse=True)
        pdf_sums = np.zeros((len(kept), sums.shape[1]))
        np.add.at(pdf_sums, pdfs, sums)
        for leaf, pdf in zip(self.leaves, pdfs.tolist(), strict=True):
            self.builder.set_pdf(leaf.node, pdf)
        frames = self._statistics.num_frames
        report = TreeReport(len(self.leaves), self.gain / frames,
                            float(gaussian_objective(pdf_sums, floor).sum() - before) / frames, clustered, len(kept),
                            int((pdf_sums[:, 0] > 0).sum()), frames)
        return self.builder.build(3, 1, len(kept)), pdf_sums, report

    def _rounded(self, cluster_of: np.ndarray, sums: np.ndarray, roots: np.ndarray) -> np.ndarray:
        """Clusters merged further, the cheapest pair of any root first, down to a multiple of `round_to`.

        `roots` (leaves,) is -1 for leaves without data, which are not merged. Source: Kaldi's
        `ClusterBottomUpCompartmentalized`.
        """
        surplus = len(np.unique(cluster_of)) % self._config.round_to
        points = np.zeros_like(sums)
        np.add.at(points, cluster_of, sums)
        compartments = [np.unique(cluster_of[roots == root]) for root in np.unique(roots[roots >= 0])]
        if surplus == 0 or sum(len(members) - 1 for members in compartments) < surplus:
            return cluster_of
        cluster_of = cluster_of.copy()
        candidates = [_cheapest_merge(points, members, self._config.variance_floor) for members in compartments]
        for _ in range(surplus):
            which = int(np.argmin([cost for cost, _, _ in candidates]))
            _, i, j = candidates[which]
            points[i] += points[j]
            cluster_of[cluster_of == j] = i
            compartments[which] = compartments[which][compartments[which] != j]
            candidates[which] = _cheapest_merge(points, compartments[which], self._config.variance_floor)
        return cluster_of

    def _find_split(self, leaf: _Leaf) -> None:
        sums = self._statistics.sums[leaf.rows]
        if len(leaf.rows) < 2:
            return
        total = sums.sum(axis=0)
        floor = self._config.variance_floor
        unsplit = gaussian_objective(total, floor)
        central = self._columns[1][leaf.rows]
        is_silence = int(central[0]) in self._silence
        for key in (PDF_CLASS, 1) if is_silence else (PDF_CLASS, 0, 1, 2):
            values = self._columns[key][leaf.rows]
            order = np.argsort(values, kind="stable")
            ordered = values[order]
            firsts = np.concatenate([[0], np.flatnonzero(np.diff(ordered)) + 1])
            if len(firsts) < 2:
                continue
            by_value = np.add.reduceat(sums[order], firsts, axis=0)
            yes = self._asked[key][:, ordered[firsts]] @ by_value
            gains = gaussian_objective(yes, floor) + gaussian_objective(total - yes, floor) - unsplit
            gains[(yes[:, 0] == 0) | (yes[:, 0] == total[0])] = 0.0
            best = int(np.argmax(gains))
            if gains[best] > leaf.gain:
                leaf.gain, leaf.key, leaf.question = float(gains[best]), key, best


def merge_bottom_up(points: np.ndarray, threshold: float, variance_floor: float) -> np.ndarray:
    """Merge the pair that costs least as long as that is below `threshold`; returns each point's representative.

    `points` (n, 1 + 2 dim); source: Kaldi's `ClusterBottomUp`.
    """
    sums = points.copy()
    representative = np.arange(len(points))
    alive = np.ones(len(points), dtype=bool)
    own = gaussian_objective(sums, variance_floor)
    costs = np.full((len(points), len(points)), np.inf)

    def update(i: int) -> None:
        others = np.flatnonzero(alive & (np.arange(len(points)) != i))
        costs[i, others] = own[i] + own[others] - gaussian_objective(sums[others] + sums[i], variance_floor)
        costs[others, i] = costs[i, others]

    for i in range(len(points)):
        update(i)
    while True:
        i, j = (int(k) for k in np.unravel_index(np.argmin(costs), costs.shape))
        if not costs[i, j] < threshold:
            return representative
        sums[i] += sums[j]
        own[i] = gaussian_objective(sums[i], variance_floor)
        alive[j] = False
        costs[j, :] = costs[:, j] = np.inf
        representative[representative == j] = i
        update(i)


def _cheapest_merge(points: np.ndarray, members: np.ndarray, variance_floor: float) -> tuple[float, int, int]:
    """Cost and indices of the two of `members` (rows of `points`) that are merged at the least cost."""
    if len(members) < 2:
        return np.inf, -1, -1
    first, second = np.triu_indices(len(members), k=1)
    own = gaussian_objective(points[members], variance_floor)
    costs = own[first] + own[second] - gaussian_objective(points[members[first]] + points[members[second]],
                                                         variance_floor)
    best = int(np.argmin(costs))
    return float(costs[best]), int(members[first[best]]), int(members[second[best]])
