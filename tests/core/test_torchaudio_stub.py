import os
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]


def run_python(code: str, *path: Path) -> str:
    """What a fresh interpreter prints: the stub must come before any other import of torchaudio."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (*path, REPOSITORY)))}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    return done.stdout.strip()


def test_torchaudio_and_speechbrain_can_be_imported_and_used() -> None:
    code = """
from asr_kd.core.torchaudio_stub import import_torchaudio
torchaudio = import_torchaudio()
assert import_torchaudio() is torchaudio
import speechbrain, torch, torchaudio.transforms
print(tuple(torchaudio.transforms.Resample(16000, 8000)(torch.zeros(1, 160)).shape))
"""
    assert run_python(code) == "(1, 80)"


def test_a_torchaudio_that_works_is_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "torchaudio").mkdir()
    (tmp_path / "torchaudio" / "__init__.py").write_text("healthy = True\n")
    code = """
import sys
from asr_kd.core.torchaudio_stub import import_torchaudio
print(import_torchaudio().healthy, "torchaudio._extension" in sys.modules)
"""
    assert run_python(code, tmp_path) == "True False"
