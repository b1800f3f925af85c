import itertools
import json

import numpy as np
import pytest
from scipy.stats import norm

from asr_kd.bootstrap.questions import clustered_questions, phone_questions, position_questions, stress_questions
from asr_kd.bootstrap.tree_growing import TreeConfig, grow_tree, merge_bottom_up
from asr_kd.bootstrap.tree_statistics import TreeStatistics, gaussian_objective
from asr_kd.core.errors import InputError
from asr_kd.hmm.topology import standard_topology
from asr_kd.hmm.tree import PDF_CLASS, DecisionTree, TreeBuilder, monophone_tree
from asr_kd.lexicon.phones import PhoneTable

PHONES = PhoneTable.build(["A", "B", "C"], position_dependent=False)
TOPOLOGY = standard_topology(PHONES)
A, B, C, SIL = (PHONES.ids[p] for p in ("A", "B", "C", "SIL"))


def row(mean: float, count: int = 1000, variance: float = 1.0, dim: int = 2) -> np.ndarray:
    return np.concatenate([[count], np.full(dim, count * mean), np.full(dim, count * (variance + mean**2))])


def statistics(rows: dict[tuple[int, int, int, int], np.ndarray]) -> TreeStatistics:
    keys = np.array(list(rows))
    return TreeStatistics(keys[:, :3], keys[:, 3], np.stack(list(rows.values())))


def hand_made() -> TreeStatistics:
    """A's first state sounds different after B than after C, its last state before B than before C; B, C do not."""
    rows = {}
    for left, right in itertools.product((B, C), (B, C)):
        rows[left, A, right, 0] = row(5.0 if left == B else -5.0)
        rows[left, A, right, 1] = row(20.0)
        rows[left, A, right, 2] = row(41.0 if right == B else 39.0)
    for phone in (B, C):
        for pdf_class in range(3):
            rows[A, phone, A, pdf_class] = row(0.0)
    for pdf_class in range(5):
        rows[0, SIL, 0, pdf_class] = row(60.0 + 3 * pdf_class)
    return statistics(rows)


def questions() -> list[tuple[int, ...]]:
    return [(A,), (B,), (C,), (SIL,)]


def test_objective_is_the_log_likelihood_of_the_data() -> None:
    x = np.random.default_rng(0).normal(3.0, 2.0, (50, 4))
    sums = np.concatenate([[50], x.sum(0), (x**2).sum(0)])
    assert gaussian_objective(sums, 0.01) == pytest.approx(norm.logpdf(x, x.mean(0), x.std(0)).sum())
    assert gaussian_objective(np.zeros(9), 0.01) == 0.0


def test_tree_finds_the_contexts_that_matter() -> None:
    tree, sums, report = grow_tree(hand_made(), PHONES, TOPOLOGY, questions(), TreeConfig(num_leaves=100))
    first = {left: tree.pdf_id((left, A, B), 0) for left in (B, C)}
    assert first[B] != first[C]
    assert tree.pdf_id((B, A, B), 0) == tree.pdf_id((B, A, C), 0)
    assert tree.pdf_id((B, A, B), 2) != tree.pdf_id((B, A, C), 2)
    assert tree.pdf_id((B, A, B), 2) == tree.pdf_id((C, A, B), 2)
    assert len({tree.pdf_id((A, B, A), c) for c in range(3)}) == 1
    assert len({tree.pdf_id((0, SIL, 0), c) for c in range(5)}) == 5
    # 5 of A, 1 each of B and C, 5 of SIL, 1 of SPN, which was not seen.
    assert (report.num_pdfs, report.num_seen_pdfs, tree.num_pdfs) == (13, 12, 13)
    np.testing.assert_allclose(sums[first[B]], row(5.0) * 2)
    assert sums[tree.pdf_id((0, PHONES.ids["SPN"], 0), 0), 0] == 0


def test_first_split_has_the_largest_gain() -> None:
    tree, _, report = grow_tree(hand_made(), PHONES, TOPOLOGY, questions(),
                                TreeConfig(num_leaves=len(PHONES.root_groups) + 1, cluster_threshold=0.0))
    root = int(tree.roots[A, 0])
    assert (tree.keys[root], tree.question_sets[tree.questions[root]]) == (PDF_CLASS, (0, 1))
    whole = hand_made().sums[hand_made().windows[:, 1] == A]
    late = hand_made().pdf_classes[hand_made().windows[:, 1] == A] == 2
    gain = (gaussian_objective(whole[late].sum(0), 0.01) + gaussian_objective(whole[~late].sum(0), 0.01)
            - gaussian_objective(whole.sum(0), 0.01))
    assert report.gain_per_frame == pytest.approx(gain / report.num_frames)


def test_splits_below_the_minimum_gain_are_not_made() -> None:
    _, _, report = grow_tree(hand_made(), PHONES, TOPOLOGY, questions(), TreeConfig(num_leaves=100, min_gain=1e9))
    assert (report.leaves_split, report.gain_per_frame) == (len(PHONES.root_groups), 0.0)


def test_a_tree_without_data_is_refused() -> None:
    empty = TreeStatistics(np.zeros((0, 3), int), np.zeros(0, int), np.zeros((0, 5)))
    with pytest.raises(InputError, match="no aligned frames"):
        grow_tree(empty, PHONES, TOPOLOGY, questions(), TreeConfig())


def test_merging_joins_the_cheapest_pairs_only() -> None:
    points = np.stack([row(0.0), row(10.0), row(0.1), row(10.1), row(30.0)])
    assert merge_bottom_up(points, 100.0, 0.01).tolist() in ([0, 1, 0, 1, 4], [2, 3, 2, 3, 4])
    assert merge_bottom_up(points, 1e-9, 0.01).tolist() == [0, 1, 2, 3, 4]
    assert len(set(merge_bottom_up(points, np.inf, 0.01).tolist())) == 1


def test_clustering_merges_leaves_that_splitting_took_apart() -> None:
    rows = {(left, A, C, 0): row(mean) for left, mean in ((A, 0.0), (B, 9.0), (C, 0.3))}
    config = TreeConfig(num_leaves=len(PHONES.root_groups) + 2, min_gain=1.0, cluster_threshold=0.0)
    tree, _, _ = grow_tree(statistics(rows), PHONES, TOPOLOGY, [(A,), (A, B)], config)
    assert len({tree.pdf_id((left, A, C), 0) for left in (A, B, C)}) == 3
    config = config.model_copy(update={"cluster_threshold": 100.0})
    tree, _, report = grow_tree(statistics(rows), PHONES, TOPOLOGY, [(A,), (A, B)], config)
    assert tree.pdf_id((A, A, C), 0) == tree.pdf_id((C, A, C), 0) != tree.pdf_id((B, A, C), 0)
    assert -0.1 < report.clustering_change_per_frame < 0


def test_possible_pdfs_cover_all_contexts_and_nothing_else() -> None:
    tree, _, _ = grow_tree(hand_made(), PHONES, TOPOLOGY, questions(), TreeConfig(num_leaves=100))
    everything = range(PHONES.num_phones + 1)
    for phone in range(1, PHONES.num_phones + 1):
        for pdf_class in range(TOPOLOGY.num_pdf_classes(phone)):
            seen = {tree.pdf_id((left, phone, right), pdf_class) for left in everything for right in everything}
            assert sorted(seen) == tree.possible_pdfs(phone, pdf_class)
    assert tree.context_positions[A] == {0, 2} and tree.context_positions[SIL] == frozenset()


def test_json_round_trip_keeps_the_tree() -> None:
    tree, _, _ = grow_tree(hand_made(), PHONES, TOPOLOGY, questions(), TreeConfig(num_leaves=100))
    again = DecisionTree.from_json(json.loads(json.dumps(tree.as_json())))
    for window in itertools.product(range(PHONES.num_phones + 1), (A, B, C), range(PHONES.num_phones + 1)):
        assert [tree.pdf_id(window, c) for c in range(3)] == [again.pdf_id(window, c) for c in range(3)]


def test_pdf_id_refuses_what_the_tree_does_not_know() -> None:
    tree = monophone_tree(PHONES, TOPOLOGY)
    for window, pdf_class in (((A, A, A), 0), ((0,), 0), ((99,), 0), ((A,), 3), ((A,), -1)):
        with pytest.raises(ValueError):
            tree.pdf_id(window, pdf_class)


def test_builder_asks_about_the_pdf_class() -> None:
    builder = TreeBuilder(PHONES.num_phones, 3)
    root = builder.leaf(0)
    builder.roots[A, :] = root
    yes, no = builder.split(root, PDF_CLASS, (0,))
    builder.set_pdf(no, 1)
    tree = builder.build(3, 1, 2)
    assert [tree.pdf_id((B, A, C), c) for c in range(3)] == [0, 1, 1]


def test_clustered_questions_are_a_tree_of_the_root_groups() -> None:
    rows = {(0, phone, 0, 1): row(mean) for phone, mean in ((A, 0.0), (B, 0.5), (C, 30.0), (SIL, 90.0))}
    found = set(clustered_questions(PHONES, statistics(rows)))
    assert tuple(range(1, PHONES.num_phones + 1)) in found
    assert (A, B) in found and {(p,) for p in range(1, PHONES.num_phones + 1)} <= found
    assert not any({A, C} <= set(q) and B not in q for q in found)


def test_stress_and_position_questions() -> None:
    phones = PhoneTable.build(["IH", "IH0", "IH1", "T", "AA2"])
    stress = {tuple(sorted({phones.base(p) for p in q})) for q in stress_questions(phones)}
    assert stress == {("IH",), ("IH0",), ("IH1",), ("AA2",)}
    assert [{phones.position(p) for p in q} for q in position_questions(phones)] == [{"B"}, {"E"}, {"I"}, {"S"}]
    stats = statistics({(0, phones.ids["T_B"], 0, 1): row(1.0), (0, phones.ids["IH_B"], 0, 1): row(2.0)})
    every = phone_questions(phones, stats)
    assert len(every) == len(set(every)) and tuple(sorted(phones.silence)) in every
