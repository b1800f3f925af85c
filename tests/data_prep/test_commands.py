"""`asr-kd prepare`: commands and functions share their signatures."""

import inspect
from collections.abc import Callable

import pytest

from asr_kd.cli import prepare, validate
from asr_kd.data.validation import validate_manifest
from data_prep.demo import DemoConfig, prepare_demo
from data_prep.kaldi import prepare_kaldi


@pytest.mark.parametrize(("command", "function", "only_in_command"), [
    (prepare.kaldi, prepare_kaldi, set()),
    (prepare.demo, prepare_demo, set()),
    (validate.validate, validate_manifest, {"json"}),  # how the report is printed
])
def test_command_and_function_have_the_same_parameters_and_defaults(
    command: Callable[..., None], function: Callable[..., object], only_in_command: set[str]
) -> None:
    of_command, of_function = (inspect.signature(f).parameters for f in (command, function))
    assert set(of_command) - set(of_function) == only_in_command
    assert not set(of_function) - set(of_command)
    for name, parameter in of_function.items():
        assert of_command[name].default == parameter.default, name


def test_help_of_demo_names_every_setting() -> None:
    text = inspect.getdoc(prepare.demo) or ""
    for name in DemoConfig.model_fields:
        assert name in text or name.removesuffix("_minutes") + "_speakers" in text
