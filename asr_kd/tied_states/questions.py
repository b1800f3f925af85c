"""Questions about phones for tree growing: clustered from the data, and from what is known of the phones."""

import numpy as np

from asr_kd.lexicon.phones import POSITIONS, PhoneTable
from asr_kd.tied_states.tree_statistics import TreeStatistics, gaussian_objective

Question = tuple[int, ...]


def phone_questions(phones: PhoneTable, statistics: TreeStatistics, variance_floor: float = 0.01,
                    generator: np.random.Generator | None = None) -> list[Question]:
    """All questions (sets of phone ids), without doubles: clustered, silence, stress, position."""
    found = [*clustered_questions(phones, statistics, variance_floor, generator), *silence_questions(phones),
             *stress_questions(phones), *position_questions(phones)]
    return list(dict.fromkeys(tuple(sorted(q)) for q in found if q))


def clustered_questions(phones: PhoneTable, statistics: TreeStatistics, variance_floor: float = 0.01,
                        generator: np.random.Generator | None = None) -> list[Question]:
    """The nodes of a binary clustering tree of the root groups, by their central states (`cluster-phones`).

    Each node is divided by 2-means in likelihood, best of ten starts.
    """
    generator = generator or np.random.default_rng(0)
    central = statistics.pdf_classes == 1
    group_of = np.full(len(phones.symbols), -1)
    for i, group in enumerate(phones.root_groups):
        group_of[list(group)] = i
    points = np.zeros((len(phones.root_groups), statistics.sums.shape[1]))
    np.add.at(points, group_of[statistics.windows[central, 1]], statistics.sums[central])
    questions, waiting = [], [np.arange(len(points))]
    while waiting:
        members = waiting.pop()
        questions.append(tuple(sorted(p for m in members for p in phones.root_groups[m])))
        if len(members) > 1:
            second = _two_means(points[members], variance_floor, generator)
            if second.any() and not second.all():
                waiting += [members[second], members[~second]]
            else:
                waiting += [members[i : i + 1] for i in range(len(members))]
    return questions


def silence_questions(phones: PhoneTable) -> list[Question]:
    """All silence phones; and, with positions, those of each position."""
    silence = sorted(phones.silence)
    by_position = [tuple(p for p in silence if phones.position(p) == position) for position in ("", *POSITIONS)]
    return [tuple(silence), *by_position]


def stress_questions(phones: PhoneTable) -> list[Question]:
    """Phones by their stress digit; those without digit only where a phone of their root has one."""
    stressed = [group for group in phones.root_groups if any(phones.stress(p) for p in group)]
    members = [p for group in stressed for p in group]
    return [tuple(p for p in members if phones.stress(p) == digit)
            for digit in sorted({phones.stress(p) for p in members})]


def position_questions(phones: PhoneTable) -> list[Question]:
    """Speech phones at the beginning, at the end, inside, and alone in the word."""
    if not phones.position_dependent:
        return []
    return [tuple(p for p in phones.speech if phones.position(p) == position) for position in POSITIONS]


def _two_means(points: np.ndarray, variance_floor: float, generator: np.random.Generator, tries: int = 10
               ) -> np.ndarray:
    """Choose the points of the second cluster: from random starts, single moves while the likelihood grows."""
    total = points.sum(axis=0)
    best, best_objective = np.zeros(len(points), dtype=bool), -np.inf
    for _ in range(1 if len(points) == 2 else tries):
        second = generator.permutation(len(points)) % 2 == 1
        objective = -np.inf
        while True:
            inside = points[second].sum(axis=0)
            now = gaussian_objective(np.stack([inside, total - inside]), variance_floor).sum()
            if now <= objective + 1e-6 * abs(objective if np.isfinite(objective) else 1.0):
                break
            objective = now
            moved = inside + np.where(second, -1.0, 1.0)[:, None] * points
            gains = (gaussian_objective(moved, variance_floor)
                     + gaussian_objective(total - moved, variance_floor) - now)
            sizes = np.where(second, second.sum(), len(points) - second.sum())
            gains[sizes == 1] = -np.inf
            move = int(np.argmax(gains))
            if gains[move] <= 0:
                break
            second[move] = not second[move]
        if objective > best_objective:
            best, best_objective = second.copy(), objective
    return best
