"""Every contender beside the bare loop; the tables and the picture of docs/performance.md: `make bench`.

python benchmarks/speed.py [--rounds N] [WORKLOAD ...]

Real Fashion-MNIST is read from data/. Takes 50 minutes; workloads that are named are measured again, and the others
taken from the last time. Exit code 1 if a limit is missed.
"""

import argparse
import sys
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks import levers, own_runs, report, startup  # noqa: E402
from benchmarks.measure import AS_WRITTEN, FLOOR, Row, side_by_side  # noqa: E402

OWN = ["template, as the bare loop", "template"]
PEERS = ["hand-written", "ignite", "accelerate", "lightning"]
ROWS = {
    "fashion": [
        AS_WRITTEN,
        "bare loop, fused",
        *OWN,
        "template, 2 workers",
        *(f"{peer}, {data}" for data in ("batched", "PIL") for peer in PEERS),
    ],
    "linear": [AS_WRITTEN, *OWN],
    "resnet": [AS_WRITTEN, *OWN, *(f"{peer}, PIL" for peer in PEERS)],
}
ROUNDS = {"fashion": 3, "linear": 5, "resnet": 5}  # more where what is to be told is less than the noise of one
DATA = ROOT / "data" / "FashionMNIST" / "raw"
SAME_LOSS = 0.05  # how far the losses of the first epoch may be apart
Check = tuple[str, float, float]  # what, found, the most that it may be


def checks(workload: str, rows: dict[str, Row]) -> list[Check]:
    """What is promised of a workload, and what was found."""
    bare = (FLOOR, AS_WRITTEN) if workload == "resnet" else ()  # which do not augment there
    comparable = [row for name, row in rows.items() if name not in bare]
    losses = [loss for row in comparable for loss in row.losses]
    found = [(f"{workload}: losses apart", max(losses) / min(losses) - 1, SAME_LOSS)]
    same, own = rows["template, as the bare loop"], rows["template"]
    if workload == "fashion":
        hand_written = median(rows["hand-written, PIL"].megabytes)
        found += [
            ("fashion: the same optimizer arguments, / bare loop", same.ratio, 1.10),
            ("fashion: what the template chooses, / as people write it", own.ratio / rows[AS_WRITTEN].ratio, 0.95),
            ("fashion: peak MB, more than hand-written", median(own.megabytes) - hand_written, 50),
        ]
    elif workload == "linear":
        found += [
            ("linear: the same optimizer arguments, / bare loop", same.ratio, 1.30),
            ("linear: MB grown from epoch 2 to 20", own_runs.growth(), 5),
        ]
    else:
        found += [
            ("resnet: what the template chooses, / bare loop", own.ratio, 1.03),
            ("resnet: share of an epoch without a batch", own_runs.wait_share(), 0.03),
        ]
    return found


def verdict(found: list[Check]) -> str:
    """A line for each; those that are missed say so."""
    return "\n".join(
        f"{'ok    ' if value <= limit else 'MISSED'} {what:64} {value:8.3f}   (at most {limit:.3g})"
        for what, value, limit in found
    )


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workloads", nargs="*", choices=[[], *ROWS], help=f"of {', '.join(ROWS)}; all")
    parser.add_argument("--rounds", type=int, help=f"of each workload; {', '.join(map(str, ROUNDS.values()))}")
    args = parser.parse_args(arguments)
    if not DATA.is_dir():
        print("data/FashionMNIST/raw is not there: python train.py -c configs/fashion_mnist.json --check says how.")
        return 2
    tables = report.kept() if args.workloads else {}
    for name in args.workloads or ROWS:
        tables[name] = side_by_side(name, ROWS[name], args.rounds or ROUNDS[name])
        report.keep(tables)
    found = [check for name, rows in tables.items() for check in checks(name, rows)]
    if set(tables) == set(ROWS):
        started = startup.measure()
        found.append(("start: seconds to the first step", started.first_step, started.limit))
        report.write(tables, verdict(found), started, levers.main([]))
    for name, rows in tables.items():
        print(f"\n{name}\n{report.table(rows)}")
    print(f"\n{verdict(found)}")
    return int(any(value > limit for _, value, limit in found))


if __name__ == "__main__":
    sys.exit(main())
