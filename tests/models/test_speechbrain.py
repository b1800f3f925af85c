"""The networks are ordinary modules: they train in a SpeechBrain recipe as they are."""

import subprocess
import sys
from pathlib import Path


def test_highway_network_trains_in_a_speechbrain_brain() -> None:
    # In a process of its own: SpeechBrain leaves lazy modules in sys.modules that fail when hypothesis looks at them.
    done = subprocess.run([sys.executable, "-m", "tests.models.speechbrain_recipe"], cwd=Path(__file__).parents[2],
                          capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    first, last = (float(loss) for loss in done.stdout.split()[-2:])
    assert last < 0.6 * first
