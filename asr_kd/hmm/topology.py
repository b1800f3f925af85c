"""HMM topologies: 3-state left-to-right phones, 5-state silence."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from asr_kd.lexicon.phones import PhoneTable


@dataclass(frozen=True)
class HmmState:
    """An emitting HMM state: its pdf class and its arcs, pairs of (state that it goes to, initial probability)."""

    pdf_class: int
    arcs: tuple[tuple[int, float], ...]


@dataclass(frozen=True)
class Topology:
    """The HMM of each phone.

    `entries` are the different HMMs, `entry_of[phone]` says which one a phone has (-1 for id 0). The final state of
    an HMM has the number `len(states(phone))`, no pdf and no arcs. HMMs begin in state 0.
    """

    entries: tuple[tuple[HmmState, ...], ...]
    entry_of: tuple[int, ...]

    def states(self, phone: int) -> tuple[HmmState, ...]:
        """The emitting states of a phone. IndexError for ids that are no phones."""
        if not 0 < phone < len(self.entry_of):
            raise IndexError(f"phone id {phone} is not in 1..{len(self.entry_of) - 1}")
        return self.entries[self.entry_of[phone]]

    def num_pdf_classes(self, phone: int) -> int:
        """Number of pdf classes of a phone."""
        return 1 + max(state.pdf_class for state in self.states(phone))

    @property
    def num_phones(self) -> int:
        return len(self.entry_of) - 1

    def as_json(self) -> dict[str, Any]:
        """All of the topology as JSON values."""
        entries = [[{"pdf_class": s.pdf_class, "arcs": [list(a) for a in s.arcs]} for s in e] for e in self.entries]
        return {"entries": entries, "entry_of": list(self.entry_of)}

    @staticmethod
    def from_json(value: dict[str, Any]) -> "Topology":
        """The topology that `as_json` described."""
        entries = tuple(tuple(HmmState(s["pdf_class"], tuple((int(to), float(p)) for to, p in s["arcs"])) for s in e)
                        for e in value["entries"])
        topology = Topology(entries, tuple(map(int, value["entry_of"])))
        topology.check()
        return topology

    def check(self) -> None:
        """ValueError where an arc, a pdf class or a phone's HMM is out of range."""
        for states in self.entries:
            for state in states:
                inside = all(0 <= to <= len(states) and 0 < probability <= 1 for to, probability in state.arcs)
                if not inside or not 0 <= state.pdf_class < len(states):
                    raise ValueError("an HMM whose arcs or pdf classes are out of range")
        if not all(0 <= entry < len(self.entries) and self.entries[entry] for entry in self.entry_of[1:]):
            raise ValueError("a phone without an HMM")


def standard_topology(phones: PhoneTable, speech_states: int = 3, silence_states: int = 5) -> Topology:
    """Bakis HMMs for speech phones, Kaldi's silence HMM for silence phones (`gen_topo.pl`)."""
    entries = (bakis_states(speech_states), silence_hmm_states(silence_states))
    return Topology(entries, (-1, *(int(i in phones.silence) for i in range(1, len(phones.symbols)))))


def bakis_states(num_states: int) -> tuple[HmmState, ...]:
    """Left to right without skips, self-loop probability 0.75."""
    return tuple(HmmState(i, ((i, 0.75), (i + 1, 0.25))) for i in range(num_states))


def silence_hmm_states(num_states: int) -> tuple[HmmState, ...]:
    """First and last state in order, the inner ones fully connected; a plain Bakis HMM below three states."""
    if num_states < 3:
        return bakis_states(num_states)
    last = num_states - 1
    p = 1.0 / (num_states - 1)
    first = HmmState(0, tuple((to, p) for to in range(last)))
    inner: Sequence[HmmState] = [HmmState(i, tuple((to, p) for to in range(1, num_states))) for i in range(1, last)]
    return (first, *inner, HmmState(last, ((last, 0.75), (num_states, 0.25))))
