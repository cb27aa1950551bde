"""How long a mistake in a config takes to be told: `python benchmarks/config_errors.py`.

Whole commands, from start to exit, side by side with a bare `python -c pass` and `python -c "import torch"`; medians of
interleaved repeats. Exit code 1 if one takes longer than its limit in seconds.
"""

import json
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

ROOT = Path(__file__).resolve().parent.parent
REPEATS = 5
GOOD = str(ROOT / "config.json")
FILES = {
    "bad JSON": '{"name": "a",}',
    "bad YAML": "name: [",
    "a key at the top": {"extends": GOOD, "optimiser": "Adam"},
    "a bad value": {"extends": GOOD, "optimizer": {"args": {"lr": "1e-3"}}},
    "a misspelt loss": {"extends": GOOD, "loss": "nl_loss"},
}
LIMITS = {"a missing file": 0.3, "bad JSON": 0.3, "bad YAML": 0.3, "a key at the top": 0.3, "a bad value": 3.0}


def seconds(command, code):
    start = time.perf_counter()
    done = subprocess.run([sys.executable, *command], cwd=ROOT, capture_output=True)  # noqa: S603
    assert done.returncode == code, done.stderr.decode()
    return time.perf_counter() - start


def main():
    with TemporaryDirectory() as folder:
        commands = {"python": ["-c", "pass"], "import torch": ["-c", "import torch"]}
        commands["a missing file"] = ["train.py", "-c", f"{folder}/nothing.json"]
        for name, content in FILES.items():
            path = Path(folder, f"{name.replace(' ', '_')}.{'yaml' if name == 'bad YAML' else 'json'}")
            path.write_text(content if isinstance(content, str) else json.dumps(content))
            commands[name] = ["train.py", "-c", str(path)]
        found = {name: [] for name in commands}
        for _ in range(REPEATS):
            for name, command in commands.items():
                found[name].append(seconds(command, 0 if command[0] == "-c" else 2))
    medians = {name: median(values) for name, values in found.items()}
    print(f"{'mistake':20}{'seconds':>9}{'/ python':>10}{'/ torch':>10}{'limit':>8}")
    for name, value in medians.items():
        ratios = f"{value / medians['python']:10.1f}{value / medians['import torch']:10.2f}"
        print(f"{name:20}{value:9.2f}{ratios}{LIMITS.get(name, ''):>8}")
    sys.exit(any(medians[name] > limit for name, limit in LIMITS.items()))


if __name__ == "__main__":
    main()
