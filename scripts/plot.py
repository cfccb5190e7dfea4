#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""plot.py FOLDER: draw what FOLDER/bench.csv has as SVG files in FOLDER. Run by
plot.sh, which brings matplotlib. The same figures give the same files."""

import csv
import pathlib
import sys

import matplotlib

matplotlib.use("svg")
matplotlib.rcParams.update({
    "svg.hashsalt": "kvm-memattr",
    "svg.fonttype": "none",
    "font.size": 9,
    "axes.grid": True,
    "grid.alpha": 0.3,
})

from matplotlib import pyplot  # noqa: E402, the backend comes first

SIDES = {"mainline": "#7f7f7f", "module": "#d9541e"}
UNITS = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


def number(size):
    return int(size[:-1]) * UNITS[size[-1]] if size[-1] in UNITS else int(size)


def save(figure, path):
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None, "Creator": None})
    pyplot.close(figure)


def lines(axes, rows):
    """Both sides of the rows, log-log; what was not measured but computed is hollow."""
    for side, colour in SIDES.items():
        points = [(number(row["size"]), float(row[side]),
                   "%s: computed" % side in row["note"]) for row in rows]
        axes.plot([x for x, _, _ in points], [y for _, y, _ in points], color=colour, label=side)
        for computed in (False, True):
            here = [(x, y) for x, y, how in points if how == computed]
            if here:
                axes.plot(*zip(*here), "o", color=colour, markersize=4,
                          markerfacecolor="white" if computed else colour,
                          label="%s, computed" % side if computed else None)
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_ylabel(rows[0]["unit"])
    axes.set_xticks([number(row["size"]) for row in rows], [row["size"] for row in rows])
    axes.legend(fontsize=8)


def growth_length(rows, path):
    figure, axes = pyplot.subplots(figsize=(7, 4))
    lines(axes, rows)
    axes.set_xlabel("length of the range")
    axes.set_title("Setting PRIVATE on a range")
    save(figure, path)


def growth_fragmentation(sets, lookups, path):
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(9, 4))
    for axes, rows, title in ((left, sets, "Setting PRIVATE on 256 MiB"),
                              (right, lookups, "Looking a page up")):
        lines(axes, rows)
        axes.set_xlabel("pages that differ before")
        axes.set_title(title)
    # A lookup's cost has no orders of magnitude to show.
    right.set_yscale("linear")
    right.set_ylim(bottom=0)
    save(figure, path)


def ratios(rows, path):
    """Mainline divided by the module: a bar to the right is the module's lead."""
    names = [("%s %s" % (row["benchmark"], row["size"])).rstrip(" -") for row in rows]
    values = [float(row["ratio"]) for row in rows]
    finite = [value for value in values if value not in (0.0, float("inf"))]
    top, bottom = max(finite + [1.0]) * 8, min(finite + [1.0]) / 8
    figure, axes = pyplot.subplots(figsize=(7, 0.27 * len(rows) + 1.2))
    for place, (row, value) in enumerate(zip(rows, values)):
        shown = min(max(value, bottom), top)
        axes.barh(place, shown - 1, left=1, height=0.6,
                  color=SIDES["module"] if value >= 1 else SIDES["mainline"])
        text = "∞" if value == float("inf") else "%.3g" % value if value < 1000 else "%.0f" % value
        axes.annotate(text, (shown, place), xytext=(3 if value >= 1 else -3, 0),
                      textcoords="offset points", va="center", fontsize=7,
                      ha="left" if value >= 1 else "right")
    axes.axvline(1, color="black", linewidth=0.8)
    axes.set_xscale("log")
    axes.set_xlim(bottom / 2, top * 4)
    axes.set_yticks(range(len(rows)), names)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_xlabel("mainline divided by the module; more than 1: the module costs less")
    save(figure, path)


def main():
    folder = pathlib.Path(sys.argv[1])
    with (folder / "bench.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))

    def named(name):
        return [row for row in rows if row["benchmark"] == name]

    compared = [row for row in rows if not row["benchmark"].startswith("growth_") and row["ratio"]]
    if compared:
        ratios(compared, folder / "ratios.svg")
    if named("growth_length"):
        growth_length(named("growth_length"), folder / "growth-length.svg")
    if named("growth_fragmentation") and named("growth_fragmentation_lookup"):
        growth_fragmentation(named("growth_fragmentation"), named("growth_fragmentation_lookup"),
                             folder / "growth-fragmentation.svg")


if __name__ == "__main__":
    main()
