"""How GMM training grows with the data: `python -m tests.benchmarks.bootstrap --features STORE --manifests FOLDER`.

Trains monophone, triphone, LDA+MLLT and speaker-adaptive models on the first quarter, half and all of a split's
utterances, each share in a process of its own, with Kaldi's numbers of Gaussians and leaves (`--divide` takes a part
of them, for a quick look). Prints CPU seconds of each training, alignments between them included, CPU seconds per hour
of speech, the largest resident memory, and what 80 hours would take at the last share's rate. The number of Gaussians
stays the same: time then grows with frames, memory should not.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

SHARES = (0.25, 0.5, 1.0)
STAGES = ("mono", "tri", "mllt", "sat")
HOURS = 80.0
Result = TypeVar("Result")


def main() -> None:
    assert __doc__
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--features", type=Path, required=True, help="frame store of MFCC")
    parser.add_argument("--manifests", type=Path, required=True)
    parser.add_argument("--split", default="train")
    parser.add_argument("--shares", type=float, nargs="+", default=list(SHARES))
    parser.add_argument("--divide", type=int, default=1, help="Gaussians and leaves by this")
    parser.add_argument("--workers", type=int)
    parser.add_argument("--one-share", type=float, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one_share is not None:
        print(json.dumps(measure(arguments, arguments.one_share)))
        return
    print(f"{'hours':>7}{'utterances':>12}" + "".join(f"{name + ' s':>9}" for name in STAGES)
          + f"{'all s':>9}{'s / hour':>10}{'peak MB':>9}")
    for share in arguments.shares:
        found = subprocess.run([sys.executable, "-m", "tests.benchmarks.bootstrap", *sys.argv[1:], "--one-share",
                                str(share)], check=True, stdout=subprocess.PIPE, text=True).stdout
        row = json.loads(found.splitlines()[-1])
        total = sum(row["cpu_seconds"].values())
        print(f"{row['hours']:>7.2f}{row['utterances']:>12}"
              + "".join(f"{row['cpu_seconds'][name]:>9.1f}" for name in STAGES)
              + f"{total:>9.1f}{total / row['hours']:>10.1f}{row['peak_megabytes']:>9.0f}", flush=True)
    expected = total / row["hours"] * HOURS / 3600
    print(f"{HOURS:.0f} hours at the last rate, Gaussians unchanged: {expected:.1f} CPU hours")


def measure(arguments: argparse.Namespace, share: float) -> dict[str, object]:
    """Train on the first part of the utterances; CPU seconds by stage, and peak memory."""
    from asr_kd.alignment.align import AlignConfig, align
    from asr_kd.bootstrap.lda_mllt import LdaMlltConfig, train_lda_mllt
    from asr_kd.bootstrap.monophone import MonophoneConfig, train_monophone
    from asr_kd.bootstrap.speaker_adaptive import SpeakerAdaptiveConfig, train_sat
    from asr_kd.bootstrap.triphone import TriphoneConfig, train_triphone
    from asr_kd.data.manifest import read_manifest
    from asr_kd.features.frame_store import FrameStore
    from asr_kd.lexicon.lexicon import Lexicon
    from asr_kd.tied_states.tree_growing import TreeConfig

    store = FrameStore.open(arguments.features)
    utterances = [u for u in read_manifest(arguments.manifests, arguments.split) if u.id in store]
    chosen = utterances[: round(share * len(utterances))]
    transcripts = {u.id: u.text.split() for u in chosen}
    lexicon = Lexicon.read(arguments.manifests / "lexicon.txt")
    workers, divide = arguments.workers, arguments.divide
    # The utterances of the other shares have features but no transcript.
    rest_left_out = AlignConfig(max_dropped=1.0)
    seconds: dict[str, float] = {}

    def timed(name: str, work: Callable[[], Result]) -> Result:
        begin = time.process_time()
        result = work()
        seconds[name] = seconds.get(name, 0.0) + time.process_time() - begin
        return result

    mono = timed("mono", lambda: train_monophone(
        store, transcripts, lexicon, MonophoneConfig(num_gaussians=1000 // divide), workers, store.recipe))
    aligned, _ = timed("mono", lambda: align(mono, store, transcripts, AlignConfig(
        boost_silence=1.25, max_dropped=1.0), workers))
    tri, _ = timed("tri", lambda: train_triphone(store, aligned, transcripts, mono, TriphoneConfig(
        num_gaussians=9000 // divide, tree=TreeConfig(num_leaves=1000 // divide)), workers))
    aligned, _ = timed("tri", lambda: align(tri, store, transcripts, rest_left_out, workers))
    mllt, _ = timed("mllt", lambda: train_lda_mllt(store, aligned, transcripts, tri, LdaMlltConfig(
        num_gaussians=10000 // divide, tree=TreeConfig(num_leaves=1200 // divide)), workers))
    aligned, _ = timed("mllt", lambda: align(mllt, store, transcripts, rest_left_out, workers))
    timed("sat", lambda: train_sat(store, aligned, transcripts, mllt, SpeakerAdaptiveConfig(
        num_gaussians=12000 // divide, tree=TreeConfig(num_leaves=1200 // divide)), workers))
    frames = sum(end - begin for begin, end in (store.bounds(u) for u in transcripts))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"hours": frames * store.recipe["frame_shift"] / 3.6e6, "utterances": len(transcripts),
            "cpu_seconds": seconds, "peak_megabytes": peak}


if __name__ == "__main__":
    main()
