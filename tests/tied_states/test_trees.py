import itertools
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from asr_kd.core.errors import InputError
from asr_kd.hmm.topology import standard_topology
from asr_kd.hmm.tree import PDF_CLASS, DecisionTree, TreeBuilder, monophone_tree
from asr_kd.lexicon.phones import PhoneTable
from asr_kd.tied_states.questions import clustered_questions, phone_questions, position_questions, stress_questions
from asr_kd.tied_states.tree_growing import TreeConfig, grow_tree, merge_bottom_up
from asr_kd.tied_states.tree_statistics import TreeStatistics, gaussian_objective

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
    tree, sums, report = grow_tree(hand_made(), PHONES, TOPOLOGY, questions(), TreeConfig(num_leaves=100, round_to=1))
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
                                TreeConfig(num_leaves=len(PHONES.root_groups) + 1, cluster_threshold=0.0, round_to=1))
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
    config = TreeConfig(num_leaves=len(PHONES.root_groups) + 2, min_gain=1.0, cluster_threshold=0.0,
                        round_to=1)
    tree, _, _ = grow_tree(statistics(rows), PHONES, TOPOLOGY, [(A,), (A, B)], config)
    assert len({tree.pdf_id((left, A, C), 0) for left in (A, B, C)}) == 3
    config = config.model_copy(update={"cluster_threshold": 100.0})
    tree, _, report = grow_tree(statistics(rows), PHONES, TOPOLOGY, [(A,), (A, B)], config)
    assert tree.pdf_id((A, A, C), 0) == tree.pdf_id((C, A, C), 0) != tree.pdf_id((B, A, C), 0)
    assert -0.1 < report.clustering_change_per_frame < 0


def test_possible_pdfs_cover_all_contexts_and_nothing_else() -> None:
    tree, _, _ = grow_tree(hand_made(), PHONES, TOPOLOGY, questions(), TreeConfig(num_leaves=100, round_to=1))
    everything = range(PHONES.num_phones + 1)
    for phone in range(1, PHONES.num_phones + 1):
        for pdf_class in range(TOPOLOGY.num_pdf_classes(phone)):
            seen = {tree.pdf_id((left, phone, right), pdf_class) for left in everything for right in everything}
            assert sorted(seen) == tree.possible_pdfs(phone, pdf_class)
    assert tree.context_positions[A] == {0, 2} and tree.context_positions[SIL] == frozenset()


def test_json_round_trip_keeps_the_tree() -> None:
    tree, _, _ = grow_tree(hand_made(), PHONES, TOPOLOGY, questions(), TreeConfig(num_leaves=100, round_to=1))
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


STRESSED = PhoneTable.build(["IH0", "IH1", "T", "S"])
STRESSED_TOPOLOGY = standard_topology(STRESSED)


def vowel(stress: int, position: str) -> int:
    return STRESSED.ids[f"IH{stress}_{position}"]


def test_a_root_shared_by_stresses_and_positions_is_split_by_what_matters() -> None:
    """Stress matters to the first state of the vowel, the position in the word to its last; T has one sound."""
    t = STRESSED.ids["T_I"]
    rows = {}
    for stress, position in itertools.product((0, 1), "BEIS"):
        for pdf_class, mean in enumerate((10.0 * stress, 40.0, 80.0 + 10.0 * (position == "E"))):
            rows[t, vowel(stress, position), t, pdf_class] = row(mean)
    for position, pdf_class in itertools.product("BEIS", range(3)):
        rows[0, STRESSED.ids[f"T_{position}"], 0, pdf_class] = row(0.0)
    stats = statistics(rows)
    tree, _, report = grow_tree(stats, STRESSED, STRESSED_TOPOLOGY, phone_questions(STRESSED, stats),
                                TreeConfig(num_leaves=50, min_gain=1.0, round_to=1))
    pdfs = {(s, p, c): tree.pdf_id((t, vowel(s, p), t), c) for s in (0, 1) for p in "BEIS" for c in range(3)}
    assert len({pdfs[s, p, 0] for s in (0, 1) for p in "BEIS"}) == 2
    assert all(pdfs[0, p, 0] != pdfs[1, p, 0] and pdfs[0, p, 0] == pdfs[0, "B", 0] for p in "BEIS")
    assert len({pdfs[s, p, 1] for s in (0, 1) for p in "BEIS"}) == 1
    assert {pdfs[s, p, 2] for s in (0, 1) for p in "BIS"}.isdisjoint({pdfs[s, "E", 2] for s in (0, 1)})
    assert len({pdfs[s, p, 2] for s in (0, 1) for p in "BEIS"}) == 2
    # 5 of the vowel, 1 of T, 1 each of S, SIL and SPN, which were not seen.
    assert (report.num_pdfs, report.num_seen_pdfs) == (9, 6)
    asked = {tree.question_sets[q] for q, key in zip(tree.questions, tree.keys, strict=True) if key == 1}
    assert all(set(q) in [set(q) for q in stress_questions(STRESSED) + position_questions(STRESSED)] for q in asked)


def test_silence_is_split_by_state_and_phone_but_never_by_context() -> None:
    stats = hand_made()
    before_b = stats.windows[:, 1] == SIL
    assert (stats.windows[before_b][:, [0, 2]] == 0).all()
    tree, _, _ = grow_tree(stats, PHONES, TOPOLOGY, questions(), TreeConfig(num_leaves=100, min_gain=0.0, round_to=1))
    assert tree.context_positions[SIL] == frozenset()


@pytest.mark.parametrize("target", [6, 7, 9, 11])
def test_splitting_stops_at_the_target_number_of_leaves(target: int) -> None:
    config = TreeConfig(num_leaves=target, cluster_threshold=0.0, round_to=1)
    _, sums, report = grow_tree(hand_made(), PHONES, TOPOLOGY, questions(), config)
    assert report.leaves_split == report.num_pdfs == len(sums) == target


def test_pdfs_are_rounded_down_by_the_cheapest_merges() -> None:
    """13 pdfs (see above) become 12: of all pairs within a root the cheapest is merged."""
    full = grow_tree(hand_made(), PHONES, TOPOLOGY, questions(), TreeConfig(num_leaves=100, round_to=1))
    tree, sums, report = grow_tree(hand_made(), PHONES, TOPOLOGY, questions(), TreeConfig(num_leaves=100, round_to=12))
    assert (report.leaves_clustered, report.num_pdfs, report.num_seen_pdfs) == (12, 12, 11)
    assert report.num_frames == sums[:, 0].sum()
    # Two neighbouring states of SIL cost less than A's last states: they are farther apart, but half as many frames.
    assert len({tree.pdf_id((0, SIL, 0), c) for c in range(5)}) == 4
    assert len({tree.pdf_id((left, A, right), c) for left in (B, C) for right in (B, C) for c in range(3)}) == 5
    lost = report.clustering_change_per_frame - full[2].clustering_change_per_frame
    merged = gaussian_objective(row(0.0) + row(3.0), 0.01)
    assert lost * report.num_frames == pytest.approx(merged - 2 * gaussian_objective(row(0.0), 0.01))
    # Roots are never merged: five of them cannot become three.
    few = TreeConfig(num_leaves=len(PHONES.root_groups) + 1, cluster_threshold=0.0, round_to=100)
    assert grow_tree(hand_made(), PHONES, TOPOLOGY, questions(), few)[2].num_pdfs == len(PHONES.root_groups) + 1


Rows = dict[tuple[int, int, int, int], np.ndarray]


def slow_partition(rows: Rows, asked: list[tuple[int, ...]], num_leaves: int, min_gain: float
                   ) -> tuple[set[frozenset[tuple[int, int, int, int]]], float]:
    """The leaves by the definition alone: the best split of any leaf, again and again; and the sum of the gains."""

    def objective(keys: list[tuple[int, int, int, int]]) -> float:
        return float(gaussian_objective(sum(rows[k] for k in keys), 0.01)) if keys else 0.0

    leaves = [[k for k in rows if k[1] in group] for group in PHONES.root_groups]
    total = 0.0
    while len(leaves) < num_leaves:
        best: tuple[float, int, list, list] = (0.0, -1, [], [])
        for i, leaf in enumerate(leaves):
            for at, sets in ((0, asked), (1, asked), (2, asked), (3, [(0,), (0, 1), (0, 1, 2), (0, 1, 2, 3)])):
                for question in sets:
                    yes = [k for k in leaf if k[at] in question]
                    no = [k for k in leaf if k[at] not in question]
                    gain = objective(yes) + objective(no) - objective(leaf)
                    if yes and no and gain > best[0]:
                        best = (gain, i, yes, no)
        if best[1] < 0 or best[0] < min_gain:
            break
        total += best[0]
        leaves[best[1]] = best[2]
        leaves.append(best[3])
    return {frozenset(leaf) for leaf in leaves if leaf}, total


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.integers(6, 16))
def test_growing_equals_the_definition_on_random_statistics(seed: int, num_leaves: int) -> None:
    generator = np.random.default_rng(seed)
    contexts = itertools.product((0, A, B, SIL), (A, B, C), (0, B, C), range(3))
    rows = {key: row(generator.normal(0, 3), int(generator.integers(1, 200)), generator.uniform(0.5, 2))
            for key in contexts if generator.random() < 0.5}
    rows |= {(0, SIL, 0, c): row(generator.normal(0, 3)) for c in range(5)}
    asked = [(A,), (A, B), (B, C), (SIL,), (A, SIL), (0, 1)]
    tree, _, report = grow_tree(statistics(rows), PHONES, TOPOLOGY, asked,
                                TreeConfig(num_leaves=num_leaves, min_gain=5.0, cluster_threshold=0.0, round_to=1))
    leaves, gain = slow_partition(rows, asked, num_leaves, 5.0)
    pdfs: dict[int, set] = {}
    for key in rows:
        pdfs.setdefault(tree.pdf_id(key[:3], key[3]), set()).add(key)
    assert {frozenset(keys) for keys in pdfs.values()} == leaves
    assert report.gain_per_frame * report.num_frames == pytest.approx(gain)
