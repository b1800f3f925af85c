"""Import torchaudio beside a CPU build of torch.

torchaudio's wheels link CUDA libraries, so beside a CPU torch `import torchaudio`, and with it `import speechbrain`,
dies over `libc10_cuda.so`. Its Python part (compliance.kaldi, transforms, resampling, SpecAugment) works without
the compiled one. Without that there is no `forced_align`, no `rnnt_loss`, no `ctc_decoder`.
"""

import importlib
import sys
from types import ModuleType
from typing import Any


def import_torchaudio() -> Any:
    """torchaudio: as it is where the plain import works, else with its compiled part stubbed out.

    Call it before anything else that imports torchaudio. Raises ImportError where it is not installed.
    """
    try:
        return importlib.import_module("torchaudio")
    except OSError:
        for name in [name for name in sys.modules if name.split(".")[0] == "torchaudio"]:
            del sys.modules[name]
        sys.modules["torchaudio._extension"] = _extension_stub()
        return importlib.import_module("torchaudio")


def _extension_stub() -> ModuleType:
    stub: Any = ModuleType("torchaudio._extension")
    stub._IS_TORCHAUDIO_EXT_AVAILABLE = False
    stub._IS_ALIGN_AVAILABLE = False
    stub._IS_RIR_AVAILABLE = False
    stub._check_cuda_version = lambda: None

    def fail_if_no_align(function: Any) -> Any:
        def fail(*_: Any, **__: Any) -> Any:
            raise RuntimeError(f"torchaudio's {function.__name__} needs its compiled part, which cannot be loaded")

        return fail

    stub.fail_if_no_align = fail_if_no_align
    return stub
