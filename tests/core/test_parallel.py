"""Cores that a process may use, by its affinity and by the quotas of the control groups around it."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from asr_kd.core.config import Config
from asr_kd.core.parallel import available_cores
from asr_kd.core.recipe import read_recipe
from asr_kd.core.run_directory import RunDirectory
from asr_kd.core.runner import Runner, Selection
from asr_kd.core.stages import StageContext, StageKind


@pytest.fixture
def sixteen_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(16)))


def write_tree(root: Path, groups: str, mounts: str, **files: str) -> Path:
    """Write `proc` and `sys` below `root`; files: content by path below sys/fs/cgroup."""
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text(groups)
    (root / "proc/self/mountinfo").write_text(mounts)
    for name, content in files.items():
        path = root / "sys/fs/cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return root


V2 = ("22 1 0:20 / /proc rw - proc proc rw\n"
      "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n")
V1 = ("31 30 0:28 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
      "32 30 0:29 {} /sys/fs/cgroup/cpu,cpuacct rw shared:9 - cgroup cgroup rw,cpu,cpuacct\n")


@pytest.mark.parametrize(("files", "cores"), [
    ({}, 16),
    ({"a/b/cpu.max": "max 100000\n"}, 16),
    ({"a/b/cpu.max": "400000 100000\n"}, 4),
    ({"a/b/cpu.max": "150000 100000\n"}, 2),  # one and a half
    ({"a/b/cpu.max": "10000 100000\n"}, 1),
    ({"a/b/cpu.max": "9900000 100000\n"}, 16),  # more than there are
    ({"a/b/cpu.max": "800000 100000\n", "a/cpu.max": "300000 100000\n"}, 3),  # of the group around it
    ({"cpu.max": "200000 100000\n"}, 2),  # a container's own group is what it sees as the top
    ({"a/b/c/cpu.max": "200000 100000\n"}, 16),  # of another group
    ({"a/b/cpu.max": "rubbish\n"}, 16),
])
@pytest.mark.usefixtures("sixteen_cores")
def test_the_quota_of_the_own_control_group_and_of_those_around_it_limits_the_cores(
    tmp_path: Path, files: dict[str, str], cores: int
) -> None:
    assert available_cores(write_tree(tmp_path, "0::/a/b\n", V2, **files)) == cores


@pytest.mark.parametrize(("group", "mounted", "files", "cores"), [
    ("/", "/", {}, 16),
    ("/job", "/", {"cpu,cpuacct/job/cpu.cfs_quota_us": "-1\n", "cpu,cpuacct/job/cpu.cfs_period_us": "100000\n"}, 16),
    ("/job", "/", {"cpu,cpuacct/job/cpu.cfs_quota_us": "250000\n", "cpu,cpuacct/job/cpu.cfs_period_us": "50000\n"}, 5),
    ("/docker/f00", "/docker/f00", {"cpu,cpuacct/cpu.cfs_quota_us": "300000\n",
                                    "cpu,cpuacct/cpu.cfs_period_us": "100000\n"}, 3),
    ("/job", "/", {"memory/job/cpu.cfs_quota_us": "100000\n", "memory/job/cpu.cfs_period_us": "100000\n"}, 16),
])
@pytest.mark.usefixtures("sixteen_cores")
def test_quotas_of_version_1_are_those_of_the_cpu_controller(
    tmp_path: Path, group: str, mounted: str, files: dict[str, str], cores: int
) -> None:
    groups = f"5:memory:{group}\n4:cpu,cpuacct:{group}\n1:name=systemd:/elsewhere\n"
    assert available_cores(write_tree(tmp_path, groups, V1.format(mounted), **files)) == cores


@pytest.mark.usefixtures("sixteen_cores")
def test_without_control_groups_the_affinity_counts(tmp_path: Path) -> None:
    assert available_cores(tmp_path) == 16


def library_threads() -> set[int]:
    """Threads that each of the loaded numerical libraries would use."""
    return {library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"}


def test_a_stage_uses_one_thread_of_the_numerical_libraries(tmp_path: Path) -> None:
    seen: list[set[int]] = []

    def multiply(inputs: Mapping[str, Path], config: Config, output: Path, context: StageContext) -> None:
        np.ones((3, 3)) @ np.ones((3, 3))
        seen.append(library_threads())
        (output / "done").touch()

    (tmp_path / "recipe.yaml").write_text("description: x\nstages: {one: {run: multiply}}\n")
    recipe = read_recipe(tmp_path, {"multiply": StageKind("multiply", Config, multiply)})
    directory = RunDirectory(tmp_path / "run")
    directory.lock("test")
    with threadpool_limits(limits=2, user_api="blas"):
        Runner(recipe, directory, None, 1, "test", lambda line: None).run(Selection())
        assert library_threads() == {2}
    directory.unlock()
    assert seen == [{1}]


def test_a_command_and_its_children_use_one_thread_of_the_numerical_libraries() -> None:
    script = ("from asr_kd.cli.main import main; main(['--help']); import torch; from threadpoolctl import "
              "threadpool_info; import numpy; print({one['num_threads'] for one in threadpool_info()}, "
              "torch.get_num_threads())")
    environment = {**os.environ, "OMP_NUM_THREADS": "2", "OPENBLAS_NUM_THREADS": "2", "PYTHONPATH": os.getcwd()}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment, timeout=120)
    assert done.stdout.splitlines()[-1] == "{1} 1", done.stderr
