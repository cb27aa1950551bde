"""What the choices are worth on a GPU; the tables of docs/performance.md: `python benchmarks/gpu.py`.

python benchmarks/gpu.py [--rounds 2] [WORKLOAD ... | levers]

Measured as `make bench` does it on the CPU; takes a quarter of an hour, a CUDA GPU, and Fashion-MNIST in data/.
"""

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import torch  # noqa: E402

from benchmarks import levers, report  # noqa: E402
from benchmarks.measure import side_by_side  # noqa: E402

ROWS = {
    "fashion_gpu": [
        "bare loop, no waiting",
        "template",
        "template, no workers",
        "template, not pinned",
        "hand-written, batched",
        "ignite, batched",
        "accelerate, batched",
        "lightning, batched",
        "hand-written, PIL",
    ],
    "resnet_gpu": [
        "bare loop, no waiting",
        "template",
        "template, channels_last",
        "template, bf16",
        "template, bf16, channels_last",
        "template, compile",
        "hand-written, PIL",
    ],
}
LEVERS = "levers"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", choices=[[], *ROWS, LEVERS], help=f"of {', '.join(ROWS)}, {LEVERS}; all")
    parser.add_argument("--rounds", type=int, default=2)
    args = parser.parse_args(arguments)
    if not torch.cuda.is_available():
        print("This machine has no CUDA GPU.")
        return 2
    for part in args.parts or [*ROWS, LEVERS]:
        if part == LEVERS:
            table = report.lever_table(levers.main(list(ROWS)))
        else:
            table = report.table(side_by_side(part, ROWS[part], args.rounds))
        print(f"\n{part}\n{table}", flush=True)
        report.put({part.removesuffix("_gpu") + "_gpu": table, "machine_gpu": report.machine()})
    return 0


if __name__ == "__main__":
    sys.exit(main())
