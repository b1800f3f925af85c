"""Our trees beside Kaldi's: `python -m tests.benchmarks.trees runs/speechocean762`.

Reads what the stages of a finished run of recipes/speechocean762 noted of their trees, and prints it beside what
Kaldi's build-tree logged on the same data (../shared/golden/README.md): gain per frame by splitting, its change by
clustering, leaves with data after clustering, pdfs after rounding.
"""

import argparse
from pathlib import Path

from asr_kd.core.files import read_json

# kind of stage: name, gain, change, leaves, pdfs
KALDI = {
    "triphone": ("tri1", 2.7246, -0.0811, 727, 728),
    "lda-mllt": ("tri2b", 3.1807, -0.0863, 924, 920),
    "speaker-adaptive": ("tri3b", 4.2879, -0.1002, 911, 912),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, help="run directory with the stages of the GMMs")
    run = parser.parse_args().run
    print(f"{'stage':<12}{'system':<8}{'':<7}{'gain':>8}{'change':>9}{'leaves':>8}{'pdfs':>6}")
    for path in sorted(run.glob("*/stage.json"), key=lambda p: list(KALDI).index(k) if (k := kind(p)) in KALDI else 99):
        if kind(path) not in KALDI:
            continue
        tree = read_json(path)["summary"]["tree"]
        name, *kaldi = KALDI[kind(path)]
        ours = (tree["gain_per_frame"], tree["clustering_change_per_frame"], tree["leaves_clustered"],
                tree["num_pdfs"])
        for who, (gain, change, leaves, pdfs) in (("ours", ours), ("Kaldi", kaldi)):
            print(f"{path.parent.name:<12}{name:<8}{who:<7}{gain:8.4f}{change:+9.4f}{leaves:8d}{pdfs:6d}")


def kind(path: Path) -> str:
    return str(read_json(path).get("kind"))


if __name__ == "__main__":
    main()
