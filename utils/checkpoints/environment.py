"""What a run ran on: command, commit, versions, hardware."""

import os
import platform
import subprocess  # noqa: S404
import sys
from datetime import datetime
from importlib import metadata
from typing import Any

from utils.distributed.processes import job
from utils.paths import PROJECT_ROOT
from utils.secrets import redacted_arguments


def environment() -> dict[str, Any]:
    import torch  # here, since what finds and reads run directories needs none of it

    packages = ("torch", "torchvision", "tensorboard", "numpy")
    return {
        "time": datetime.now().astimezone().isoformat(timespec="seconds"),
        "argv": redacted_arguments(sys.argv),
        "host": platform.node(),
        "process": os.getpid(),
        "job": job(),
        "git_commit": _git("rev-parse", "HEAD"),
        "git_dirty": bool(_git("status", "--porcelain")),
        "versions": {"python": platform.python_version()} | {name: _version(name) for name in packages},
        "platform": platform.platform(),
        "cpu_threads": torch.get_num_threads(),
        "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
    }


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _git(*arguments: str) -> str | None:
    try:
        command = ["git", "-C", str(PROJECT_ROOT), *arguments]
        done = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace", check=True)  # noqa: S603
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()
