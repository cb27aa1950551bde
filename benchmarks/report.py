"""The figures of docs/performance.md: tables between its marks, and the picture."""

import json
import platform
import re
from dataclasses import asdict
from datetime import date
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any

import torch

from benchmarks.measure import Row

ROOT = Path(__file__).resolve().parent.parent
PAGE, PICTURE = ROOT / "docs" / "performance.md", ROOT / "docs" / "performance.png"
KEPT = ROOT / "saved" / "benchmark.json"
MODULES = {"pytorch-ignite": "ignite"}
PACKAGES = ("torch", "torchvision", "tensorboard", "lightning", "accelerate", "pytorch-ignite", "numpy")


def keep(tables: dict[str, dict[str, Row]]) -> None:
    """Put the figures aside, for a time when a part of them is measured again."""
    KEPT.write_text(
        json.dumps({name: {key: asdict(row) for key, row in rows.items()} for name, rows in tables.items()})
    )


def kept() -> dict[str, dict[str, Row]]:
    found = json.loads(KEPT.read_text()) if KEPT.exists() else {}
    return {name: {key: Row(**row) for key, row in rows.items()} for name, rows in found.items()}


def table(rows: dict[str, Row]) -> str:
    """Contenders by their ratio to the bare loop: its median and range, and what else was measured."""
    lines = ["| contender | / bare loop | range | us a step | peak MB | loss of epoch 1 |", "|---|---|---|---|---|---|"]
    for name, row in sorted(rows.items(), key=lambda item: item[1].ratio):
        shown = f"**{name}**" if name.startswith("template") else name
        lines.append(
            f"| {shown} | {row.ratio:.2f} | {min(row.ratios):.2f} to {max(row.ratios):.2f} | "
            f"{1e3 * median(row.milliseconds):,.0f} | {median(row.megabytes):.0f} | {median(row.losses):.4f} |"
        )
    return "\n".join(lines)


def lever_table(tables: dict[str, dict[str, tuple[float, float]]]) -> str:
    """Levers by rows, workloads by columns."""
    names = list(dict.fromkeys(name for found in tables.values() for name in found))
    lines = [f"| the step | {' | '.join(tables)} |", "|---" * (1 + len(tables)) + "|"]
    for name in names:
        cells = [f"{found[name][1]:.2f}" if name in found else "" for found in tables.values()]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def machine() -> str:
    """Where and with what the figures were made."""
    cores = torch.get_num_threads()
    model = re.search(r"model name\s*: (.+)", Path("/proc/cpuinfo").read_text()) if _is_linux() else None
    versions = ", ".join(f"{name} {version(name)}" for name in PACKAGES if find_spec(MODULES.get(name, name)))
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    processor = model[1] if model else platform.processor()
    return f"{date.today()}, {processor}, {cores} cores, {gpu}; Python {platform.python_version()}, {versions}."


def _is_linux() -> bool:
    return platform.system() == "Linux"


def write(tables: dict[str, dict[str, Row]], verdict: str, started: Any, levers: dict[str, Any]) -> None:
    """Put everything into the page."""
    figures = {name: table(rows) for name, rows in tables.items()}
    figures |= {"machine": machine(), "limits": f"```text\n{verdict}\n```"}
    figures |= {"start": f"```text\n{started.text}\n```", "levers": lever_table(levers)}
    put(figures)
    draw(tables, PICTURE)


def put(figures: dict[str, str]) -> None:
    """Into the page, each between the marks of its name."""
    page = PAGE.read_text(encoding="utf-8")
    for name, text in figures.items():
        page = replaced(page, name, text)
    PAGE.write_text(page, encoding="utf-8")


def replaced(page: str, name: str, text: str) -> str:
    """The page with another text between the marks of this name."""
    pattern = rf"(<!-- figures: {name} -->\n).*?(<!-- /figures -->)"
    assert re.search(pattern, page, re.DOTALL), f"{PAGE} has no marks for {name!r}"
    return re.sub(pattern, lambda found: f"{found[1]}{text}\n{found[2]}", page, flags=re.DOTALL)


def draw(tables: dict[str, dict[str, Row]], path: Path) -> None:
    """Ratios as bars, with their ranges; a panel for each workload."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    heights = [len(rows) for rows in tables.values()]
    figure, panels = pyplot.subplots(
        len(tables), figsize=(8, 0.32 * sum(heights) + 1.1 * len(tables)), height_ratios=heights, squeeze=False
    )
    for panel, (name, rows) in zip(panels[:, 0], tables.items(), strict=True):
        ordered = sorted(rows.items(), key=lambda item: -item[1].ratio)
        ratios = [row.ratio for _, row in ordered]
        lows = [max(0.0, ratio - min(row.ratios)) for ratio, (_, row) in zip(ratios, ordered, strict=True)]
        highs = [max(0.0, max(row.ratios) - ratio) for ratio, (_, row) in zip(ratios, ordered, strict=True)]
        colours = ["tab:green" if title.startswith("template") else "lightgrey" for title, _ in ordered]
        titles = [title for title, _ in ordered]
        panel.barh(titles, ratios, xerr=[lows, highs], color=colours, error_kw={"elinewidth": 1})
        panel.axvline(1.0, color="black", linewidth=1)
        panel.set_title(f"{name}: seconds a step / those of a bare loop over tensors in memory", fontsize=9)
        panel.tick_params(labelsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=110, metadata={"Software": None})
    pyplot.close(figure)
