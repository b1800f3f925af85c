"""The README's Python, run as it stands."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_the_python_of_the_readme_runs() -> None:
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert len(blocks) == 2 and "speechbrain" in blocks[1]
    check = "\nassert all(parameter.isfinite().all() for parameter in student.parameters()), brain.step"
    # In a process of its own: SpeechBrain leaves lazy modules in sys.modules that fail when hypothesis looks at them.
    done = subprocess.run([sys.executable, "-c", "".join(blocks) + check], cwd=ROOT, capture_output=True, text=True,
                          timeout=300)
    assert done.returncode == 0, done.stderr
