"""Scripts (scp) of Kaldi archives."""

from pathlib import Path

import pytest

from asr_kd.core.errors import InputError
from asr_kd.core.kaldi_scripts import read_script


@pytest.mark.parametrize("digits", [20, 5000])
def test_an_offset_that_no_archive_has_is_refused(tmp_path: Path, digits: int) -> None:
    (tmp_path / "x.scp").write_text(f"a x.ark:5\nutt x.ark:{'9' * digits}\n")
    with pytest.raises(InputError, match=f"x.scp:2: utt: no archive has an offset of {digits} digits"):
        list(read_script(tmp_path / "x.scp"))
