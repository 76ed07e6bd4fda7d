"""How the cost of each step grows: `python benchmarks/growth.py` writes benchmarks/records/growth.json and docs/growth.svg.

Samples, predictions, small calls, recipes, versions and lines of the ledger grow one at a time. Each step runs
alone in a process of its own, at each size. Measured are seconds, seconds of CPU, its own and its children's, and the most memory
that it took. A measured cell is stored below --work, so that the same command goes on after it was stopped; --full has the two
largest sizes of each, too.

The exponent of growth is that of the seconds of CPU between the two largest sizes, what the smallest size takes left out of both:
0 where nothing grows, 1 where twice the size takes twice as long. A step whose exponent exceeds that of its work is named.
"""

import argparse
import json
import math
import os
import resource
import shutil
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmark_tools import RECORDS, ROOT, clean_environment, measurement_facts, replace_section, save_record
from growth_records import RECORD_STEPS
from growth_samples import SAMPLE_STEPS
from growth_step import Step

from aeops.files import write_json
from aeops.machine.stored_json import read_json
from aeops.project import Project

STEPS = (*SAMPLE_STEPS, *RECORD_STEPS)
RECORD, DOCS, PICTURE = RECORDS / "growth.json", ROOT / "docs" / "scale.md", ROOT / "docs" / "growth.svg"
BEGIN = "<!-- growth: written by `python benchmarks/growth.py` -->"
END = "<!-- growth: end -->"
# The last two of each are measured by --full alone.
SIZES = {
    "samples": [5_000, 20_000, 100_000, 500_000, 1_000_000],
    "pictures": [100, 300, 1_000, 3_000, 5_000],
    "predictions": [1_000, 10_000, 100_000, 1_000_000, 10_000_000],
    "calls": [100, 500, 2_000, 10_000, 40_000],
    "recipes": [1, 5, 20, 50, 100],
    "versions": [1, 10, 40, 200, 1_000],
    "ledger lines": [1, 10, 100, 1_000, 10_000],
}
LARGE_SIZES = 2
SMALLEST_GROWTH = 0.15  # of the seconds at the smallest size: what grows by less than that does not grow
SMALLEST_EXPONENT = 0.05  # over all sizes: the seconds grow by less than half while the size grows a thousandfold
TOLERANCE = 0.15  # of an exponent
LEGEND_ROOM = 1.5  # of a panel's height, in which the names stand above the lines
CELL_SECONDS = 1800  # a cell that takes longer is stopped, and larger ones of its step are not tried


# ---------------------------------------------------------------- one cell, in a process of its own


def measure_cell(step: Step, size: int, root: Path) -> dict[str, float]:
    """Prepare a step and run it; return its seconds, its seconds of CPU and its peak memory in MiB."""
    work = step.prepare(root, size)
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the peak so far was that of the preparation
    cpu_before, started_at = cpu_seconds(), time.perf_counter()
    units = work() or 1
    seconds, cpu = time.perf_counter() - started_at, cpu_seconds() - cpu_before
    return {"seconds": round(seconds / units, 6), "cpu_seconds": round(cpu / units, 6), "peak_mib": round(peak_mib())}


def cpu_seconds() -> float:
    """Return the seconds of CPU of this process and of its children that have ended."""
    total = 0.0
    for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN):
        usage = resource.getrusage(who)
        total += usage.ru_utime + usage.ru_stime
    return total


def peak_mib() -> float:
    """Return the most memory of this process since its peak was reset, or of a child of it."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmHWM:"):
            own = int(line.split()[1])
    return max(own, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss) / 1024


# ---------------------------------------------------------------- all cells


def run_cell(step: Step, size: int, root: Path, log: Path) -> dict[str, float]:
    """Measure a cell in a child process; one that took too long has `stopped_after`."""
    command = [sys.executable, __file__, "--cell", f"{step.axis}/{step.name}", "--size", str(size), "--root", str(root)]
    environment = clean_environment(PYTHONPATH=str(ROOT), DO_NOT_TRACK="1")
    with log.open("ab") as output:
        try:
            done = subprocess.run(
                command, env=environment, stdout=subprocess.PIPE, stderr=output, check=False, timeout=CELL_SECONDS
            )
        except subprocess.TimeoutExpired:
            return {"stopped_after": CELL_SECONDS}
    if done.returncode:
        raise SystemExit(f"{step.axis}, {step.name} at {size:,} ended with {done.returncode}: see {log}")
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return result


def measure_axis(axis: str, sizes: Sequence[int], work: Path) -> dict[str, dict[str, dict[str, float]]]:
    """Measure the steps of an axis at these sizes, those left out that are stored already.

    Returns:
        Name of the step -> size -> its figures.
    """
    steps = [step for step in STEPS if step.axis == axis]
    measured: dict[str, dict[str, dict[str, float]]] = defaultdict(dict)
    stopped = set()
    for size in sizes:
        folder = work / f"{axis.replace(' ', '-')}-{size}"
        store = work / f"{folder.name}.json"
        cells: dict[str, dict[str, float]] = read_json(store) if store.is_file() else {}
        if set(cells) != {step.name for step in steps}:
            shutil.rmtree(folder, ignore_errors=True)  # what a stopped run left; steps need those before them
            folder.mkdir(parents=True)
            for step in steps:
                if step.name in stopped:
                    break  # the next ones need it
                figures = run_cell(step, size, folder, work / "growth.log")
                cells.setdefault(step.name, figures)
                write_json(store, cells)
                print(f"{axis} {size:,}: {step.name} {figures}", flush=True)
                if "stopped_after" in figures:
                    stopped.add(step.name)
                    break
            shutil.rmtree(folder)
        for name, figures in cells.items():
            measured[name][str(size)] = figures
    return dict(measured)


# ---------------------------------------------------------------- exponents


def growth_exponent(figures: Mapping[str, Mapping[str, float]]) -> float | None:
    """Return the exponent of growth of a step's seconds of CPU; None of fewer than three sizes.

    >>> seconds = {size: {"cpu_seconds": 3 + (int(size) / 1000) ** 2} for size in ("1000", "5000", "20000")}
    >>> round(growth_exponent(seconds), 1)
    2.0
    >>> growth_exponent({size: {"cpu_seconds": 3.0} for size in ("1000", "5000", "20000")})
    0.0
    """
    points = sorted((int(size), cell["cpu_seconds"]) for size, cell in figures.items() if "cpu_seconds" in cell)
    if len(points) < 3:
        return None
    (first_size, first), (middle_size, middle), (last_size, last) = points[0], points[-2], points[-1]
    if last - first <= SMALLEST_GROWTH * first:
        return 0.0
    overall = math.log(last / first) / math.log(last_size / first_size)
    if overall < SMALLEST_EXPONENT:
        return 0.0
    if middle - first <= SMALLEST_GROWTH * first:  # what has grown until then may be noise
        return overall
    return math.log((last - first) / (middle - first)) / math.log((last_size - first_size) / (middle_size - first_size))


def build_record(measured: Mapping[str, Mapping[str, Any]], is_full: bool) -> dict[str, Any]:
    """Return the record: the figures of each cell, the exponents, and what grows faster than its work."""
    exponents: dict[str, dict[str, float | None]] = {}
    faster = []
    for step in STEPS:
        figures = measured.get(step.axis, {}).get(step.name)
        if figures is None:
            continue
        exponent = growth_exponent(figures)
        exponents.setdefault(step.axis, {})[step.name] = None if exponent is None else round(exponent, 2)
        if exponent is not None and exponent > step.work + TOLERANCE:
            faster.append(f"{step.name} ({step.axis})")
    facts = measurement_facts(Project(ROOT, ROOT / ".ae"), "python benchmarks/growth.py")
    return facts | {
        "full": is_full,
        "cores": len(os.sched_getaffinity(0)),
        "load_average": [round(load, 1) for load in os.getloadavg()],
        "cells": measured,
        "exponents": exponents,
        "faster_than_its_work": faster,
    }


# ---------------------------------------------------------------- the page


def format_seconds(seconds: float) -> str:
    """Return seconds with two digits that count.

    >>> format_seconds(0.0123), format_seconds(1.24), format_seconds(93.4)
    ('12 ms', '1.2 s', '93 s')
    """
    if seconds < 0.1:
        return f"{1000 * seconds:.2g} ms"
    return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"


def cell_text(figures: Mapping[str, float]) -> str:
    if "stopped_after" in figures:
        return f"over {figures['stopped_after']:,} s"
    return f"{format_seconds(figures['cpu_seconds'])}, {figures['peak_mib']:,.0f} MiB"


def summarize(record: Mapping[str, Any]) -> str:
    """Return the section of docs/scale.md: a table for what grows, and what grows faster than its work."""
    lines = []
    for axis, steps in record["cells"].items():
        sizes = sorted({int(size) for figures in steps.values() for size in figures})
        lines += [f"| {axis} | {' | '.join(f'{size:,}' for size in sizes)} | exponent |", "|---" * (len(sizes) + 2) + "|"]
        for name, figures in steps.items():
            cells = [cell_text(figures[str(size)]) if str(size) in figures else "" for size in sizes]
            exponent = record["exponents"][axis][name]
            lines.append(f"| {name} | {' | '.join(cells)} | {'' if exponent is None else f'{exponent:.2f}'} |")
        lines.append("")
    faster = ", ".join(record["faster_than_its_work"]) or "nothing"
    lines.append(f"Grows faster than its work: {faster}.")
    return "\n".join(lines)


def draw_growth(file: Path, record: Mapping[str, Any]) -> None:
    """Draw seconds of CPU and memory of every step over its size, on logarithmic scales, with two panels for what grows."""
    from aeops.drawing.style import REPORT_WIDTH, svg_axes

    axes_of = record["cells"]
    with svg_axes(file, REPORT_WIDTH, 9.6, columns=4, rows=math.ceil(len(axes_of) / 2)) as panels:
        for number, (axis, steps) in enumerate(axes_of.items()):
            seconds, memory = panels[2 * number], panels[2 * number + 1]
            _draw_panel(seconds, steps, "cpu_seconds", f"seconds of CPU, by {axis}")
            _draw_panel(memory, steps, "peak_mib", f"MiB, by {axis}")
            seconds.set(yscale="log")
            memory.set_ylim(0, LEGEND_ROOM * memory.get_ylim()[1])
            memory.legend(fontsize=6, loc="upper left", ncols=2)
        for panel in panels[2 * len(axes_of) :]:
            panel.set_axis_off()


def _draw_panel(panel: Any, steps: Mapping[str, Mapping[str, Mapping[str, float]]], figure: str, title: str) -> None:
    from aeops.drawing.palette import LABEL_COLOURS

    for number, (name, cells) in enumerate(steps.items()):
        points = sorted((int(size), cell[figure]) for size, cell in cells.items() if figure in cell)
        panel.plot(*zip(*points, strict=True), color=LABEL_COLOURS[number % len(LABEL_COLOURS)], marker=".", label=name)
    panel.set(xscale="log", title=title)


# ---------------------------------------------------------------- the program


def read_sizes(texts: Sequence[str]) -> dict[str, list[int]]:
    """Return the sizes that the command line names, such as `samples=400,800`, by their axes."""
    sizes = {}
    for text in texts:
        axis, _, numbers = text.partition("=")
        if axis not in SIZES:
            raise SystemExit(f"--sizes: expected one of {', '.join(SIZES)} and numbers, such as samples=400,800, got {text!r}")
        sizes[axis] = list(map(int, numbers.split(",")))
    return sizes


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--full", action="store_true", help="also the two largest sizes of each")
    parser.add_argument("--sizes", nargs="+", metavar="WHAT=N,N", help="these alone, such as samples=400,800")
    parser.add_argument("--work", type=Path, default=ROOT / ".ae" / "growth", help="scratch, and measured cells [%(default)s]")
    parser.add_argument("--out", type=Path, default=RECORD, help="JSON to write; docs/scale.md quotes the default [%(default)s]")
    parser.add_argument("--docs-only", action="store_true", help="only write docs/scale.md and the picture, from the record")
    parser.add_argument("--cell", help=argparse.SUPPRESS)
    parser.add_argument("--size", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--root", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.cell is not None:
        [step] = [step for step in STEPS if f"{step.axis}/{step.name}" == args.cell]
        print(json.dumps(measure_cell(step, args.size, args.root.resolve())))
        return
    if not args.docs_only:
        sizes = read_sizes(args.sizes) if args.sizes else {axis: numbers[:-LARGE_SIZES] for axis, numbers in SIZES.items()}
        if args.full:
            sizes = SIZES
        args.work.mkdir(parents=True, exist_ok=True)
        measured = {axis: measure_axis(axis, numbers, args.work.resolve()) for axis, numbers in sizes.items()}
        save_record(args.out, build_record(measured, args.full))
    if args.out == RECORD:
        record = read_json(RECORD)
        draw_growth(PICTURE, record)
        text = replace_section(DOCS.read_text(encoding="utf-8"), BEGIN, END, summarize(record), DOCS.name)
        DOCS.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
