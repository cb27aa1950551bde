"""Take docs/tensorboard.png: a real TensorBoard on a finished run, seen by a real headless Chromium.

    python scripts/screenshot_tensorboard.py RUN_DIR docs/tensorboard.png

Needs requirements-docs.txt, chromium and chromedriver (Debian: chromium, chromium-driver).
RUN_DIR may be a folder of runs: all are drawn, and the pictures are those of the last by name.
"""

import argparse
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlencode
from urllib.request import urlopen

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from utils.errors import UserError  # noqa: E402
from utils.exit_codes import exit_code_of  # noqa: E402

CARDS = "loss/train", "loss/valid", "predictions/valid", "accuracy/train", "accuracy/valid", "ConfusionMatrix/valid"
IMAGES = CARDS[2::3]  # the last of each row of three
PATIENCE_SECONDS, SIZE = 60, {"width": 1400, "height": 900, "deviceScaleFactor": 1, "mobile": False}
VIEW = {"timeSeriesSettingsPaneOpened": False, "stepSelectorEnabled": False, "ignoreOutliers": False}
FLAGS = """--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking
    --disable-component-update --disable-sync --hide-scrollbars --disable-3d-apis""".split()
# Without 3D APIs (WebGL) TensorBoard draws each line as an SVG path, which can be waited for.
DRAWN = """const cards = [...document.querySelectorAll('metrics-pinned-view card-view')];
    const image = card => card.querySelector('.img-container img');
    return cards.length == arguments[0] && cards.every(card => image(card)
        ? image(card).complete && image(card).naturalWidth : card.querySelector('.series-view > svg > path[d]'))"""
BOTTOM = "return document.querySelector('metrics-pinned-view').getBoundingClientRect().bottom - 1 | 0"


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run_dir", type=Path, metavar="RUN_DIR")
    parser.add_argument("output", type=Path, metavar="PNG")
    args = parser.parse_args(argv)
    os.environ.update(no_proxy="*", NO_PROXY="*")  # all of it is on this machine
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # leaves through the with blocks, which end both
    with tensorboard(args.run_dir) as (address, runs):
        picture = screenshot(address, runs[-1])
    args.output.write_bytes(picture)
    print(f"{args.output}: {len(picture)} bytes")


@contextmanager
def tensorboard(run_dir):
    folders = {path.parent for path in run_dir.rglob("events.out.tfevents.*")}
    if not folders:
        raise UserError(f"RUN_DIR: {run_dir} is no folder with TensorBoard files (events.out.tfevents.*).")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "tensorboard.main", f"--logdir={run_dir}", "--host=127.0.0.1", f"--port={port}"]
    with tempfile.TemporaryFile() as log, subprocess.Popen(command, stdout=log, stderr=log) as server:  # noqa: S603
        try:
            deadline = time.monotonic() + PATIENCE_SECONDS
            while len(runs := served_runs(port)) < len(folders):
                if server.poll() is not None or time.monotonic() > deadline:
                    log.seek(0)
                    ending = log.read().decode(errors="replace").strip().rpartition("\n")[2]
                    raise UserError(f"tensorboard: it served {len(runs)} of {len(folders)} runs. {ending}")
                time.sleep(0.2)
            yield f"http://127.0.0.1:{port}/", runs
        finally:
            server.terminate()


def served_runs(port):
    try:
        with urlopen(f"http://127.0.0.1:{port}/data/runs", timeout=10) as answer:  # noqa: S310
            return sorted(json.load(answer))
    except (OSError, ValueError):  # not up yet
        return []


def screenshot(address, run):
    try:
        from selenium import common, webdriver
        from selenium.webdriver.support.wait import WebDriverWait
    except ImportError as error:
        raise UserError(f"selenium: {error}. Run: pip install -r requirements-docs.txt") from None
    options, chromedriver = webdriver.ChromeOptions(), shutil.which("chromedriver")
    options.binary_location = shutil.which("chromium") or ""
    if not options.binary_location or not chromedriver:
        raise UserError("chromium, chromedriver: not both on PATH. Debian: apt install chromium chromium-driver")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        for flag in [*FLAGS, f"--user-data-dir={profile}"]:
            options.add_argument(flag)
        try:
            with webdriver.Chrome(options, webdriver.ChromeService(chromedriver)) as driver:
                return drawn_cards(driver, WebDriverWait(driver, PATIENCE_SECONDS).until, address, run)
        except common.WebDriverException as error:
            raise UserError(f"chromium: {(error.msg or 'failed').splitlines()[0]}") from None


def drawn_cards(driver, wait_until, address, run):
    image = {"plugin": "images", "runId": f"defaultExperimentId/{run}", "sample": 0}
    pins = [{"tag": tag} | (image if tag in IMAGES else {"plugin": "scalars"}) for tag in CARDS]
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", SIZE)
    driver.get(f"{address}data/environment")  # a light page of this address, to store its settings
    driver.execute_script("localStorage.setItem('_tb_global_settings', arguments[0])", json.dumps(VIEW))
    driver.get(f"{address}?{urlencode({'smoothing': 0, 'pinnedCards': json.dumps(pins)})}#timeseries")
    wait_until(lambda _: driver.execute_script(DRAWN, len(CARDS)), f"not drawn in time: one of {', '.join(CARDS)}")
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", SIZE | {"height": driver.execute_script(BOTTOM)})
    seen = [b""]
    wait_until(lambda _: seen.append(driver.get_screenshot_as_png()) or seen[-1] == seen[-2], "never at rest")
    return seen[-1]


if __name__ == "__main__":
    sys.exit(exit_code_of(main))
