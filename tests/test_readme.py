"""The README's Python, run as it stands."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_the_python_of_the_readme_runs() -> None:
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert len(blocks) == 2 and "speechbrain" in blocks[1]
    check = """
logits = student(minibatch.inputs)
after = objective(logits, minibatch)
assert brain.optimizer_step == 8, brain.optimizer_step
assert after < before, (before, after)
"""
    # In a process of its own: SpeechBrain leaves lazy modules in sys.modules that fail when hypothesis looks at them.
    code = "\n".join([blocks[0], "before = objective(student(minibatch.inputs), minibatch)", blocks[1], check])
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
