"""Logs of stages."""

from pathlib import Path

import pytest

from asr_kd.core.log import get_logger, log_to_file


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full to write to")
def test_a_log_on_a_full_disk_says_nothing_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    with log_to_file(Path("/dev/full")):
        get_logger("asr_kd.test").info("a line")
    assert capsys.readouterr().err == ""
