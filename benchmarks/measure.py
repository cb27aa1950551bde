"""Two processes that take turns: a contender, and the bare loop beside it.

On a shared machine whole runs cannot be compared to a few percent: the bare loop differs from itself by half. So both
run at once, and each is stopped (SIGSTOP) while the other has its turn of a second. What the machine does besides
meets both, and a ratio is that of the seconds a step, over turns that stand side by side.
"""

import mmap
import os
import pty
import signal
import struct
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parent.parent
FLOOR, AS_WRITTEN = "bare loop", "bare loop, memory given back"
TURN_SECONDS, TURNS = 1.0, 4  # of each side, for one ratio
LEAST_STEPS = 6  # of a turn: two or three long ones tell little
PAUSE_SECONDS = 0.5


class Meter:
    """What a process tells of its training while it runs: a page of shared memory, written by it and read from outside.

    Steps done, whether it is within a train phase, epochs done, and the mean loss of the first of them.
    """

    FORMAT = "qqqd"

    def __init__(self, path: Path):
        with open(path, "r+b") as file:
            self._page = mmap.mmap(file.fileno(), struct.calcsize(self.FORMAT))

    def read(self) -> tuple[int, bool, int, float]:
        steps, is_inside, epochs, loss = struct.unpack(self.FORMAT, self._page[:])
        return steps, bool(is_inside), epochs, loss

    def step(self) -> None:
        self._put(0, self.read()[0] + 1)

    def is_inside(self) -> bool:
        return self.read()[1]

    def start_epoch(self) -> None:
        self._put(1, 1)

    def end_epoch(self) -> None:
        self._put(1, 0)

    def loss(self, mean: float) -> None:
        """The mean loss of the epoch that has ended."""
        epochs = self.read()[2]
        if epochs == 0:
            struct.pack_into("d", self._page, 24, mean)
        self._put(2, epochs + 1)

    def _put(self, place: int, value: int) -> None:
        struct.pack_into("q", self._page, 8 * place, value)


class Contender:
    """A process that trains until it is closed, at the end of its `with` block. It stands still unless it has its turn.

    `peak_megabytes`: the peak of its resident set, once it is closed.
    """

    def __init__(self, name: str, workload: str, page: Path):
        page.write_bytes(bytes(struct.calcsize(Meter.FORMAT)))
        self._meter = Meter(page)
        self._terminal, inside = pty.openpty()  # for its progress bar
        command = [sys.executable, str(ROOT / "benchmarks" / "contenders.py"), name, workload, str(page)]
        self._process = subprocess.Popen(  # noqa: S603
            command, stdin=inside, stdout=inside, stderr=inside, cwd=ROOT, start_new_session=True
        )
        os.close(inside)
        self._said = b""
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    def _listen(self) -> None:
        try:
            while part := os.read(self._terminal, 1 << 16):
                self._said = (self._said + part)[-4000:]
        except OSError:  # its end has closed the terminal
            pass

    def warm_up(self) -> float:
        """Let it train its first epoch; the mean loss of that."""
        self._signal(signal.SIGCONT)
        while self._meter.read()[2] == 0:
            self._check()
            time.sleep(0.05)
        self._signal(signal.SIGSTOP)
        return self._meter.read()[3]

    def turn(self) -> tuple[int, float]:
        """Whole steps, and the seconds that they took within train phases; what validation and saving take does not
        count."""
        self._signal(signal.SIGCONT)
        steps = first = self._meter.read()[0]
        while steps == first:  # what is left of a step that the last turn has cut off
            time.sleep(0.001)
            self._check()
            steps = self._meter.read()[0]
        first, seconds, last, done = steps, 0.0, time.perf_counter(), 0
        while seconds < TURN_SECONDS or steps - first < LEAST_STEPS or steps == done:
            done, is_inside = steps, self._meter.read()[1]
            time.sleep(0.001)
            now = time.perf_counter()
            if now - last > PAUSE_SECONDS:  # the whole machine stood still: this turn tells nothing
                first, seconds = steps, 0.0
            elif is_inside:
                seconds += now - last
            last = now
            self._check()
            steps = self._meter.read()[0]
        self._signal(signal.SIGSTOP)
        return steps - first, seconds

    def __enter__(self) -> "Contender":
        return self

    def __exit__(self, *exception: object) -> None:
        if self._process.returncode is None:
            self._signal(signal.SIGKILL)
            _, _, usage = os.wait4(self._process.pid, 0)
            self._process.returncode = -signal.SIGKILL
            self.peak_megabytes = usage.ru_maxrss / 1024
        os.close(self._terminal)

    def _signal(self, number: int) -> None:
        os.killpg(self._process.pid, number)

    def _check(self) -> None:
        if self._process.poll() is not None:
            self._listener.join(1.0)
            sys.exit(f"{self._process.args} has ended:\n{self._said.decode(errors='replace')}")


@dataclass
class Row:
    """What one contender has shown, a value a round. `ratios`: of its seconds a step to the bare loop's beside it."""

    ratios: list[float] = field(default_factory=list)
    milliseconds: list[float] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    megabytes: list[float] = field(default_factory=list)

    @property
    def ratio(self) -> float:
        return median(self.ratios)


def side_by_side(workload: str, names: list[str], rounds: int) -> dict[str, Row]:
    """Every contender in each round, by turns with the bare loop of the round; the bare loop itself is one of them, so
    that its row shows how far two processes of the same program are apart here."""
    rows = {name: Row() for name in (FLOOR, *names)}
    for number in range(1, rounds + 1):
        with tempfile.TemporaryDirectory() as folder, Contender(FLOOR, workload, Path(folder) / "floor.page") as floor:
            floor.warm_up()
            for name, row in rows.items():
                with Contender(name, workload, Path(folder) / "own.page") as own:
                    row.losses.append(own.warm_up())
                    pace, floor_pace = by_turns(own, floor)
                row.ratios.append(pace / floor_pace)
                row.milliseconds.append(1e3 * pace)
                row.megabytes.append(own.peak_megabytes)
                print(f"{workload} {number}: {name:26} {1e3 * pace:9.3f} ms a step {row.ratios[-1]:6.3f}", flush=True)
    return rows


def by_turns(own: Contender, floor: Contender) -> tuple[float, float]:
    """Seconds a step of each, over TURNS turns of each."""
    totals = {own: [0, 0.0], floor: [0, 0.0]}
    for number in range(TURNS):
        for side in (own, floor) if number % 2 else (floor, own):
            steps, seconds = side.turn()
            totals[side][0] += steps
            totals[side][1] += seconds
    own_pace, floor_pace = (seconds / max(steps, 1) for steps, seconds in totals.values())
    return own_pace, floor_pace


def in_a_terminal(command: list[str]) -> None:
    """Run a command to its end, with a terminal for its progress bar."""
    master, slave = pty.openpty()
    process = subprocess.Popen(command, stdin=slave, stdout=slave, stderr=slave, cwd=ROOT)  # noqa: S603
    os.close(slave)
    said = b""
    try:
        while part := os.read(master, 1 << 16):
            said = (said + part)[-4000:]
    except OSError:
        pass
    os.close(master)
    if process.wait() != 0:
        sys.exit(f"{' '.join(command)} has failed:\n{said.decode(errors='replace')}")
