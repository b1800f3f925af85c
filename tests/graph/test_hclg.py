"""HCLG against an enumeration of what a toy language allows."""

import itertools
import math
import shutil
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from asr_kd.core.errors import InputError
from asr_kd.graph.fst import Fst
from asr_kd.graph.grammar_fst import build_grammar
from asr_kd.graph.hclg import GraphConfig, build_graph, compose_graph, push_special
from tests.graph.toy import ARPA, Toy

Paths = dict[tuple[tuple[int, ...], tuple[str, ...]], list[float]]
LONGEST = 9


def language_model_paths(sentence: tuple[str, ...]) -> Iterator[float]:
    """Costs of all ways of backing off (allowed even where a longer n-gram is known), from the text of the ARPA."""
    probs: dict[tuple[str, ...], float] = {}
    backoffs: dict[tuple[str, ...], float] = {}
    for line in ARPA.splitlines():
        fields = line.split()
        if len(fields) > 1 and fields[0][0] == "-":
            numeric = fields[-1][0] == "-"
            key = tuple(fields[1:-1] if numeric else fields[1:])
            probs[key], backoffs[key] = float(fields[0]), float(fields[-1]) if numeric else 0.0

    def follow(history: tuple[str, ...], rest: tuple[str, ...]) -> Iterator[float]:
        if not rest:
            yield 0.0
            return
        if history + rest[:1] in probs:
            for cost in follow((history + rest[:1])[-2:], rest[1:]):
                yield cost - probs[history + rest[:1]] * math.log(10)
        if history:
            for cost in follow(history[1:], rest):
                yield cost - backoffs.get(history, 0.0) * math.log(10)

    return follow(("<s>",), (*sentence, "</s>"))


def hmm_paths(toy: Toy, phones: list[int]) -> Iterator[tuple[tuple[int, ...], float]]:
    """Transition-ids (no self-loops) and cost of all ways through the HMMs of a phone sequence."""
    hmm = toy.hmm
    log_probs = hmm.transitions.scaled_log_probs(1.0, 0.1)
    padded = [0, *phones, 0]
    options: list[list[tuple[tuple[int, ...], float]]] = []
    for i, phone in enumerate(phones, 1):
        window = padded[i - 1 : i + 2] if hmm.tree.context_width == 3 else [phone]
        states = hmm.topology.states(phone)
        found: list[tuple[tuple[int, ...], float]] = []

        def walk(number: int, tids: tuple[int, ...], cost: float, states=states, window=window, phone=phone,
                 found=found) -> None:
            if number == len(states):
                found.append((tids, cost))
                return
            pdf = hmm.tree.pdf_id(tuple(window), states[number].pdf_class)
            for arc, (to, _) in enumerate(states[number].arcs):
                if to != number:
                    tid = hmm.transitions.transition_id(phone, number, pdf, arc)
                    walk(to, (*tids, tid), cost - log_probs[tid])

        walk(0, (), 0.0)
        options.append(found)
    for choice in itertools.product(*options):
        yield tuple(tid for tids, _ in choice for tid in tids), sum(cost for _, cost in choice)


def enumerate_language(toy: Toy) -> Paths:
    """All paths of up to LONGEST transition-ids, from the definitions alone."""
    lexicon = toy.hmm.lexicon
    p_silence = lexicon.silence_probability
    paths: Paths = defaultdict(list)
    longest = LONGEST // 2
    for length in range(longest + 1):
        for entries in itertools.product(toy.entries, repeat=length):
            if sum(len(pron) for _, pron, _ in entries) > longest:
                continue
            sentence = tuple(word for word, _, _ in entries)
            lm_costs = list(language_model_paths(sentence))
            for silences in itertools.product([False, True], repeat=length + 1):
                phones: list[int] = [lexicon.phones.optional_silence] if silences[0] else []
                cost = 0.0
                for (_, pron, probability), silence in zip(entries, silences[1:], strict=True):
                    phones += [*lexicon.phones.in_word(pron)] + [lexicon.phones.optional_silence] * silence
                    cost -= math.log(probability)
                cost -= sum(math.log(p_silence if silence else 1 - p_silence) for silence in silences)
                for tids, hmm_cost in hmm_paths(toy, phones) if phones else [((), 0.0)]:
                    if len(tids) <= LONGEST:
                        paths[tids, sentence] += [cost + hmm_cost + lm_cost for lm_cost in lm_costs]
    return paths


def enumerate_graph(toy: Toy, fst: Fst) -> Paths:
    """The same from the graph's arcs, self-loops left out."""
    words = toy.hmm.lexicon.words
    is_loop = toy.hmm.transitions.is_self_loop
    paths: Paths = defaultdict(list)

    def walk(state: int, tids: tuple[int, ...], spoken: tuple[str, ...], cost: float) -> None:
        if np.isfinite(fst.finals[state]):
            paths[tids, spoken].append(cost + float(fst.finals[state]))
        for arc in fst.arcs[fst.offsets[state] : fst.offsets[state + 1]]:
            tid, word = int(arc["ilabel"]), int(arc["olabel"])
            if tid and is_loop[tid]:
                continue
            if len(tids) + (tid > 0) <= LONGEST:
                walk(int(arc["nextstate"]), (*tids, tid) if tid else tids,
                     (*spoken, words[word]) if word else spoken, cost + float(arc["weight"]))

    walk(fst.start, (), (), 0.0)
    return paths


def graph_of(toy: Toy) -> Fst:
    grammar = build_grammar(toy.model, toy.hmm.lexicon.words)
    return compose_graph(toy.hmm.lexicon, grammar.fst, toy.hmm.topology, toy.hmm.tree, toy.hmm.transitions,
                         GraphConfig())


def test_every_path_has_the_sum_of_its_parts_and_there_is_no_other(toy: Toy) -> None:
    expected, found = enumerate_language(toy), enumerate_graph(toy, graph_of(toy))
    spoken = {sentence for _, sentence in expected}
    assert {("A", "B"), ("B", "A"), ("C", "C"), ("D", "A"), ()} <= spoken
    assert found.keys() == expected.keys()
    for key, costs in expected.items():
        # Minimisation rounds each cost to a multiple of 1/1024.
        assert sorted(found[key]) == pytest.approx(sorted(costs), abs=0.02), key


def test_self_loops_follow_each_forward_transition_at_their_scaled_cost(toy: Toy) -> None:
    fst, transitions = graph_of(toy), toy.hmm.transitions
    log_probs = transitions.scaled_log_probs(1.0, 0.1)
    rng = np.random.default_rng(1)
    expected = enumerate_language(toy)
    keys = sorted(expected)
    best: dict[tuple[int, ...], float] = {}
    for tids, words in keys:
        best[tids] = min(best.get(tids, math.inf), *expected[tids, words])
    for index in rng.choice(len(keys), 40):
        tids = keys[index][0]
        loops = rng.integers(0, 3, len(tids))
        stretched: list[int] = []
        for tid, count in zip(tids, loops, strict=True):
            stretched += [tid] + [int(transitions.self_loop_of[tid])] * count
        extra = sum(count * log_probs[transitions.self_loop_of[tid]] for tid, count in zip(tids, loops, strict=True))
        assert accepting_cost(fst, stretched) == pytest.approx(best[tids] - extra, abs=0.02)


def accepting_cost(fst: Fst, tids: list[int]) -> float:
    """Least cost of the graph's paths with exactly these input labels."""
    costs = closure(fst, {fst.start: 0.0})
    for tid in tids:
        following: dict[int, float] = {}
        for state, cost in costs.items():
            for arc in fst.arcs[fst.offsets[state] : fst.offsets[state + 1]]:
                if arc["ilabel"] == tid:
                    to, new = int(arc["nextstate"]), cost + float(arc["weight"])
                    following[to] = min(new, following.get(to, math.inf))
        costs = closure(fst, following)
    return min((cost + float(fst.finals[state]) for state, cost in costs.items()), default=math.inf)


def closure(fst: Fst, costs: dict[int, float]) -> dict[int, float]:
    queue = list(costs)
    while queue:
        state = queue.pop()
        for arc in fst.arcs[fst.offsets[state] : fst.offsets[state + 1]]:
            to, new = int(arc["nextstate"]), costs[state] + float(arc["weight"])
            if arc["ilabel"] == 0 and new < costs.get(to, math.inf):
                costs[to] = new
                queue.append(to)
    return costs


def test_one_self_loop_per_state_and_hmm_state(toy: Toy) -> None:
    fst, transitions = graph_of(toy), toy.hmm.transitions
    sources, tids, to = fst.sources, fst.arcs["ilabel"], fst.arcs["nextstate"]
    looping = transitions.is_self_loop[tids]
    assert (sources[looping] == to[looping]).all()
    assert len(set(sources[looping].tolist())) == looping.sum()
    entering = (tids > 0) & ~looping
    loop_at = dict(zip(sources[looping].tolist(), tids[looping].tolist(), strict=True))
    assert all(loop_at[t] == transitions.self_loop_of[tid]
               for t, tid in zip(to[entering].tolist(), tids[entering].tolist(), strict=True))


def test_pushing_keeps_path_costs_and_evens_out_the_sums() -> None:
    rng = np.random.default_rng(0)
    rows = [(s, int(label), 0, float(rng.uniform(0, 3)), int(rng.integers(0, 5))) for s in range(5)
            for label in range(1, 4)]
    fst = Fst.from_lists(0, {4: 0.5, 2: 1.5}, rows)
    pushed = push_special(fst)
    for labels in itertools.product([1, 2, 3], repeat=4):
        before = accepting_cost(fst, list(labels))
        after = accepting_cost(pushed, list(labels))
        assert (before == after == math.inf) or after == pytest.approx(before, abs=1e-4)
    sums = [np.exp(-pushed.arcs["weight"][pushed.sources == s]).sum() + np.exp(-pushed.finals[s]) for s in range(5)]
    assert np.ptp(sums) < 1e-3 * sums[0]


def test_folder_holds_graph_words_and_digests(toy: Toy, tmp_path: Path) -> None:
    summary = build_graph(toy.hmm, toy.model, tmp_path / "graph")
    fst = Fst.read(tmp_path / "graph" / "HCLG.fst")
    assert (fst.num_states, fst.num_arcs) == (summary["states"], summary["arcs"])
    assert (summary["hmm"], summary["lexicon"], summary["lm"]) == (
        toy.hmm.digest, toy.hmm.lexicon.digest, toy.model.digest)
    assert summary["dropped_words"] == 1
    lines = (tmp_path / "graph" / "words.txt").read_text().splitlines()
    assert lines[0] == "<eps> 0" and lines[-1] == f"#0 {len(toy.hmm.lexicon.words)}"


def test_words_missing_from_the_lexicon_are_refused_on_demand(toy: Toy, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="1 words of the LM are not in the lexicon .ELSEWHERE"):
        build_graph(toy.hmm, toy.model, tmp_path / "graph", GraphConfig(allow_missing_words=False))
    assert not (tmp_path / "graph").exists()


def test_openfst_reads_what_is_written_and_damage_is_refused(toy: Toy, tmp_path: Path) -> None:
    import kaldifst

    fst = graph_of(toy)
    path = tmp_path / "HCLG.fst"
    fst.write(path)
    again = Fst.from_kaldifst(kaldifst.StdConstFst.read(str(path)))
    np.testing.assert_array_equal(again.arcs, fst.arcs)
    np.testing.assert_array_equal(again.finals, fst.finals)
    content = path.read_bytes()
    broken = tmp_path / "broken.fst"
    wrong_target = bytearray(content)
    wrong_target[-1] = 0x70
    for damaged in (content[:-1], content[:30], b"x" + content[1:], bytes(wrong_target)):
        broken.write_bytes(damaged)
        with pytest.raises(InputError, match="broken.fst"):
            Fst.read(broken)
    shutil.rmtree(tmp_path / "no", ignore_errors=True)
    with pytest.raises(InputError, match="no such file"):
        Fst.read(tmp_path / "no" / "HCLG.fst")
