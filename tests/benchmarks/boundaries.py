"""How close our phone boundaries are to those of a reference CTM.

    python -m tests.benchmarks.boundaries --model MODEL --features STORE --manifests FOLDER --split dev \
        --ctm ../shared/golden/kaldi_align/dev_phones.ctm

aligns the split with the model (a speaker-adapted one with transforms estimated from the transcripts) or, with
`--alignments FOLDER`, reads what was aligned, and prints the shares of phone starts within 20 and 50 ms. Phones without
those of silence are matched by edit distance; a reference phone that is not matched with an equal one is a miss, and
so are all phones of an utterance that has no alignment. Below that, where misses come from: how far off our starts are
after silence and after speech, by kind of phone, and how much silence either side has.
"""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rapidfuzz.distance import Levenshtein

from asr_kd.alignment.boundaries import phone_segments
from asr_kd.core.text_tables import read_lines
from asr_kd.hmm.model import HmmModel

SILENCE = ("SIL", "SPN")
TOLERANCES = (0.020, 0.050)
# Starts lie on a grid of 10 ms: what is exactly at the limit is within.
_ROUNDING = 1e-6
_KINDS = {
    "vowel": "AA AE AH AO AW AY EH ER EY IH IY OW OY UH UW", "stop": "B D G K P T", "affricate": "CH JH",
    "fricative": "DH F S SH TH V Z ZH HH", "nasal": "M N NG", "approximant": "L R W Y",
}


@dataclass(frozen=True)
class Segment:
    """A phone with its times in seconds."""

    phone: str
    start: float
    duration: float


@dataclass(frozen=True)
class Comparison:
    """Starts of all reference phones but silence: `offsets` are ours minus theirs in seconds, NaN where missed.

    `kinds` and `after_silence` describe the same phones; `silence` is the total of (ours, theirs) in seconds at the
    start, inside, and at the end of utterances.
    """

    offsets: np.ndarray
    kinds: np.ndarray
    after_silence: np.ndarray
    silence: dict[str, tuple[float, float]]
    utterances: int
    missing: int

    def share_within(self, tolerance: float, chosen: np.ndarray | None = None) -> float:
        """The share of starts at most `tolerance` seconds off, misses counted as beyond."""
        offsets = self.offsets if chosen is None else self.offsets[chosen]
        return float((np.abs(offsets) <= tolerance + _ROUNDING).mean()) if len(offsets) else float("nan")


def compare(ours: Mapping[str, Sequence[Segment]], reference: Mapping[str, Sequence[Segment]]) -> Comparison:
    """Our segments against those of every utterance of the reference."""
    offsets: list[float] = []
    kinds: list[str] = []
    after_silence: list[bool] = []
    silence = {where: [0.0, 0.0] for where in ("start", "inside", "end")}
    for utterance, theirs in reference.items():
        found = ours.get(utterance, [])
        speech, own_speech = ([s for s in segments if not _is_silence(s)] for segments in (theirs, found))
        starts = np.full(len(speech), np.nan)
        pairs = Levenshtein.opcodes([s.phone for s in own_speech], [s.phone for s in speech])
        for pair in pairs:
            if pair.tag == "equal":
                for i, j in zip(range(pair.src_start, pair.src_end), range(pair.dest_start, pair.dest_end),
                                strict=True):
                    starts[j] = own_speech[i].start - speech[j].start
        offsets.extend(starts)
        kinds.extend(_kind(s.phone) for s in speech)
        after_silence.extend(i == 0 or _is_silence(theirs[i - 1]) for i, s in enumerate(theirs) if not _is_silence(s))
        if found:
            for side, segments in enumerate((found, theirs)):
                for i, segment in enumerate(segments):
                    if _is_silence(segment):
                        where = "start" if i == 0 else "end" if i == len(segments) - 1 else "inside"
                        silence[where][side] += segment.duration
    return Comparison(np.array(offsets), np.array(kinds), np.array(after_silence, dtype=bool),
                      {where: (a, b) for where, (a, b) in silence.items()}, len(reference),
                      len(reference.keys() - ours.keys()))


def report(comparison: Comparison) -> str:
    """Shares within 20 and 50 ms of all phones and of parts of them, and silence."""
    offsets = comparison.offsets
    lines = [f"{comparison.utterances} utterances ({comparison.missing} without alignment), {len(offsets)} phones, "
             f"{int(np.isnan(offsets).sum())} unmatched",
             f"{'starts':<22}{'phones':>8}{'<= 20 ms':>10}{'<= 50 ms':>10}{'mean ms':>9}{'median':>8}"]
    parts = {"all": np.ones(len(offsets), dtype=bool), "after silence": comparison.after_silence,
             "after speech": ~comparison.after_silence}
    parts |= {f"{kind}": comparison.kinds == kind for kind in (*_KINDS, "other")}
    for name, chosen in parts.items():
        if chosen.any():
            matched = offsets[chosen & ~np.isnan(offsets)] * 1000
            lines.append(f"{name:<22}{chosen.sum():>8}"
                         + "".join(f"{100 * comparison.share_within(t, chosen):>10.2f}" for t in TOLERANCES)
                         + (f"{matched.mean():>+9.1f}{np.median(matched):>+8.0f}" if len(matched) else ""))
    for where, (own, theirs) in comparison.silence.items():
        lines.append(f"silence at the {where}: {own:.1f} s, reference {theirs:.1f} s" if where != "inside"
                     else f"silence inside: {own:.1f} s, reference {theirs:.1f} s")
    return "\n".join(lines)


def read_phone_ctm(path: Path) -> dict[str, list[Segment]]:
    """`utterance channel start duration phone` lines by utterance."""
    result: dict[str, list[Segment]] = {}
    for _, line in read_lines(path):
        utterance, _, start, duration, phone = line.split()
        result.setdefault(utterance, []).append(Segment(phone, float(start), float(duration)))
    return result


def segments_of(model: HmmModel, alignments: Mapping[str, np.ndarray], frame_shift: float = 0.01
                ) -> dict[str, list[Segment]]:
    """Phones with times of alignments (utterance -> transition-ids)."""
    result = {}
    for utterance in alignments:
        found = phone_segments(alignments[utterance], model.transitions)
        result[utterance] = [Segment(model.phones.symbols[p], s * frame_shift, n * frame_shift) for p, s, n in
                             zip(found.phones.tolist(), found.starts.tolist(), found.frames.tolist(), strict=True)]
    return result


def main() -> None:
    """Align (or read alignments), compare, print."""
    from asr_kd.alignment.align import align
    from asr_kd.alignment.alignment_store import AlignmentStore
    from asr_kd.bootstrap.adapted_alignment import align_adapted
    from asr_kd.data.manifest import read_manifest
    from asr_kd.features.frame_store import FrameStore

    assert __doc__
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--ctm", type=Path, required=True)
    parser.add_argument("--alignments", type=Path)
    parser.add_argument("--features", type=Path)
    parser.add_argument("--manifests", type=Path)
    parser.add_argument("--split", default="dev")
    arguments = parser.parse_args()
    model = HmmModel.load(arguments.model)
    alignments: Mapping[str, np.ndarray]
    if arguments.alignments:
        alignments = AlignmentStore.open(arguments.alignments, model)
    else:
        if arguments.features is None or arguments.manifests is None:
            parser.error("give --alignments, or --features and --manifests")
        store = FrameStore.open(arguments.features)
        transcripts = {u.id: u.text.split() for u in read_manifest(arguments.manifests, arguments.split)
                       if u.id in store}
        if model.is_speaker_adapted:
            alignments, transforms, drops = align_adapted(model, store, transcripts)
            print(f"fMLLR: {transforms.summary}")
        else:
            alignments, drops = align(model, store, transcripts)
        print(f"{drops.kept} of {drops.total} utterances aligned; dropped: {drops.by_reason}")
    print(report(compare(segments_of(model, alignments), read_phone_ctm(arguments.ctm))))


def _is_silence(segment: Segment) -> bool:
    return segment.phone.split("_")[0] in SILENCE


def _kind(phone: str) -> str:
    base = phone.split("_")[0].rstrip("0123456789")
    return next((kind for kind, members in _KINDS.items() if base in members.split()), "other")


if __name__ == "__main__":
    main()
