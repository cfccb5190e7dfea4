#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""make bench: boot the release host, run the benchmarks of tools/testing/bench in it,
and say what mainline's code and the module's cost.

Two boots. In the first QEMU counts instructions: what is compared there is the same
on any machine. The second runs two CPUs at once, in wall time, for what only shows
when they contend; nothing but its ratios means anything elsewhere.

A figure is the median of its repetitions, a spread the largest less the smallest of
them in per cent of it, of the side where that is larger. What a size would cost that
takes too long to be run is computed from the next smaller one, and its note says so.

--profile adds a boot in which the measured calls are interrupted each so many
instructions, and a table of the functions that they were in then: their shares of the
samples, times what an operation costs without interruptions.
"""

import argparse
import csv
import dataclasses
import os
import pathlib
import shutil
import signal
import statistics
import subprocess
import sys
import time

import test

COLUMNS = ("benchmark", "size", "unit", "mainline", "module", "ratio", "spread", "note")
# Of a profile: what goes into a function itself, and into it and what it calls.
PROFILE_COLUMNS = ("benchmark", "function", "mainline", "module", "mainline_with_calls",
                   "module_with_calls")
# Functions that take less of an operation, on both sides, are summed up. In per cent.
PROFILE_LEAST = 1.0
# Among a program's arguments, see tools/testing/bench/bench_profile.h.
PROFILE_WORD = "profile"
SIDES = ("mainline", "module")
REPETITIONS = 9
# Seconds for the longest that a program has nothing to say.
SILENCE = 600
RUNS = test.CACHE / "bench-runs"
# What two runs of the same code may differ by, in per cent.
TOLERANCE = 2.0

INSTRUCTIONS, WALL = "instructions", "wall"

ONE_SET = "instructions"
EACH = "instructions an operation"
LENGTHS = ("4K", "16K", "64K", "256K", "1M", "4M", "16M", "64M", "256M", "1G", "4G", "16G",
           "64G", "256G", "1T")
DIFFERING = tuple(str(4 ** n * 2) for n in range(8))


@dataclasses.dataclass
class Row:
    name: str
    program: str
    sizes: tuple
    unit: str = ONE_SET
    clock: str = INSTRUCTIONS
    note: str = ""
    # Mainline has no such thing.
    alone: bool = False
    # Mainline's side is something else that never enters the kernel.
    in_userspace: bool = False
    # The ratio that it's meant to have at least, by size where sizes differ in that.
    reach: float | dict = 1.0
    # What the module's side is meant to be at most, whatever mainline's is.
    most: float | None = None

    def profile_size(self):
        """Samples are of a row, so that there must be one figure that they're shares of."""
        if not self.unit.startswith("instructions") or self.alone:
            return None
        return self.sizes[0] if len(self.sizes) == 1 else "1G" if self.in_userspace else None

    def shortfall(self, line):
        """What a line of the table doesn't reach of what it's meant to, in words."""
        size, ratio = line["size"], line["ratio"]
        reach = self.reach.get(size, 1.0) if isinstance(self.reach, dict) else self.reach
        if self.most is not None and float(line["module"]) > self.most:
            return "has %s, and is to have %g at most" % (line["module"], self.most)
        if ratio not in ("", "inf") and float(ratio) < reach:
            return "has a ratio of %s, and %g is to be reached" % (ratio, reach)
        return ""

    def profile_sides(self):
        return SIDES[1:] if self.in_userspace else SIDES


CONVERSIONS = ["gmem_%s_%s" % (verb, policy) for verb in ("convert", "share")
               for policy in ("preserve", "zero", "none")]
# By size. No other is behind as long as it's no more than mainline's.
SLOT = {"1G": 1000, "1T": 10000}
# Bytes of a store that has nothing but blocks.
UNIFORM = 4095
BATCH = "mainline: PRIVATE by 512 calls"
RUNNING = BATCH + ", wall time, beside a vCPU that runs"
REPLAY = "mainline: PRIVATE by single calls"
ASLEEP = "without the time asleep"

ROWS = (
    Row("set_slot", "bench_set", ("2M", "1G", "64G", "1T"), reach=SLOT),
    Row("set_store", "bench_set", ("2M", "1G", "64G", "1T")),
    Row("clear_slot", "bench_set", ("2M", "1G"), reach=SLOT),
    Row("page_set", "bench_set", ("4K",), EACH, reach=0, most=3000),
    Row("page_clear", "bench_set", ("4K",), EACH, reach=0, most=3000),
    Row("restrict_page", "bench_set", ("4K",), EACH, note="mainline: page_set"),
    Row("grant_page", "bench_set", ("4K",), EACH, note="mainline: page_clear"),
    Row("random_pages", "bench_set", ("8G",), EACH),
    Row("noop", "bench_set", ("1G",), most=2000),
    Row("set_mapped", "bench_mapped", ("2M", "64M")),
    Row("clear_mapped", "bench_mapped", ("2M", "64M")),
    Row("lookup_uniform", "bench_lookup", ("8G",), EACH),
    Row("lookup_fragmented", "bench_lookup", ("8G",), EACH),
    Row("mem_uniform", "bench_memory", ("4G", "1T"), "bytes", most=UNIFORM),
    Row("mem_fragmented", "bench_memory", ("4G",), "bytes"),
    Row("mem_recovered", "bench_memory", ("4G",), "bytes", most=UNIFORM),
    Row("notifier_private_faults", "bench_mapped", ("64M",), "guest faults", most=0),
    *(Row(name, "bench_gmem", ("2M", "1G"), note="mainline: a copy", in_userspace=True,
          reach=10 if "preserve" in name else 0) for name in CONVERSIONS),
    Row("gmem_convert_preserve_unmapped", "bench_gmem", ("2M", "1G"), note="mainline: a copy",
        in_userspace=True, reach=10),
    *(Row(name + "_wall", "bench_gmem", ("2M", "1G"), "ns", WALL,
          "mainline: a copy, wall time") for name in CONVERSIONS),
    Row("gmem_convert_boundaries", "bench_gmem", ("0", "2", "32", "512", "8192"),
        note="pages of 1G, without memory, that are private before", alone=True),
    Row("batch_512", "bench_vsm", ("512",), note="NW; " + BATCH, reach=10),
    Row("batch_512_grant", "bench_vsm", ("512",), note="NW; " + BATCH),
    Row("batch_512_private", "bench_vsm", ("512",), note=BATCH),
    Row("batch_512_shared", "bench_vsm", ("512",), note=BATCH),
    Row("batch_512_private_wall", "bench_contention", ("512",), "ns", WALL, RUNNING, reach=10),
    Row("batch_512_shared_wall", "bench_contention", ("512",), "ns", WALL, RUNNING, reach=10),
    Row("vsm_replay_single", "bench_vsm", ("4G",), EACH, note=REPLAY),
    Row("vsm_replay_single_awake", "bench_vsm", ("4G",), EACH, note=REPLAY + "; " + ASLEEP),
    Row("vsm_replay_batch", "bench_vsm", ("4G",), EACH, note=REPLAY, reach=5),
    Row("vsm_replay_batch_awake", "bench_vsm", ("4G",), EACH, note=REPLAY + "; " + ASLEEP),
    Row("vsm_replay_memory", "bench_vsm", ("4G",), "bytes",
        note="mainline: PRIVATE where something is denied"),
    Row("vsm_replay_split", "bench_vsm", ("4G",), "blocks of 2 MiB",
        note="mainline: PRIVATE where something is denied"),
    Row("whole_layer", "bench_vsm", ("0", "32", "512", "8192"),
        note="pages of 256M that another layer restricts", alone=True),
    Row("get_runs", "bench_vsm", ("8G",), EACH, alone=True),
    Row("restore_runs", "bench_vsm", ("1G",), EACH, note="mainline: single calls"),
    Row("idle_fault", "bench_idle", ("-",), EACH, reach=0.98),
    Row("idle_create", "bench_idle", ("-",), reach=0.98),
    Row("idle_notifier", "bench_idle", ("-",), reach=0.98),
    Row("contention_fault", "bench_contention", ("4K",), "ns an operation", WALL, "wall time"),
    Row("contention_set", "bench_contention", ("2M",), "ns an operation", WALL, "wall time"),
    Row("growth_length", "bench_growth", LENGTHS),
    Row("growth_fragmentation", "bench_growth", DIFFERING, note="pages of 256M that differ"),
    Row("growth_fragmentation_lookup", "bench_growth", DIFFERING, EACH,
        note="pages of 256M that differ"),
)


class Wrong(Exception):
    """A run whose figures are not to be believed."""


class BenchBoot(test.Boot):
    """A machine that runs the benchmarks, each program a job, with the rows as its
    arguments. The programs load the module themselves. With profiles, each row is a job."""

    def __init__(self, clock, rows, folder, profile=False):
        programs = {}
        for row in rows:
            programs.setdefault((row.program, row.name if profile else ""), []).append(row.name)
        jobs = [test.Job("bench", " ".join(filter(None, (program, alone))),
                         " ".join(["/tests/" + program] + names + [PROFILE_WORD] * profile),
                         program)
                for (program, alone), names in programs.items()]
        super().__init__("release", "bench", "programs", [], jobs, folder, None, False)
        self.clock = clock
        self.rows = rows

    def script(self):
        # The seconds are the guest's: instructions are many in one of the host's.
        lines = ["load_kvm || exit", "load_module kvm_memattr_bench || exit"]
        lines += ["job %d %d %s" % (number, 3600, job.command)
                  for number, job in enumerate(self.jobs)]
        return "\n".join(lines).replace("|| exit", "|| { echo @@stop; reboot -f; }") + "\n"

    def run(self, report):
        os.environ["BOOT_CLOCK"] = self.clock
        test.SILENCE["release"] = SILENCE
        test.START_SILENCE = SILENCE
        # The same addresses in each run.
        os.environ["BOOT_PARAMS"] = "norandmaps"
        super().run(report)

    def check(self):
        """Every program ended well, and the kernel had nothing to complain about."""
        for number, job in enumerate(self.jobs):
            outcome = self.outcomes.get(number)
            if outcome is None or outcome.status != 0:
                said = outcome.lines if outcome else self.setup_error
                raise Wrong("%s failed: %s" % (job.name, " / ".join(said[-8:])))
        console = (self.folder / "console.log").read_text(errors="replace")
        splat = test.first_splat(console)
        if splat:
            raise Wrong("the kernel said: " + splat)

    def lines(self):
        return [line for number in range(len(self.jobs)) for line in self.outcomes[number].lines]


def plain(value):
    """A figure as a plain decimal, with as many places as mean anything."""
    if value is None:
        return ""
    if abs(value) >= 1000 or value == int(value):
        return str(round(value))
    return "%.1f" % value


def ratio(mainline, module):
    """Of the figures as they are printed, so that anybody can work it out again."""
    if not mainline or not module or float(mainline) <= 0 or float(module) < 0:
        return ""
    if float(module) == 0:
        return "inf"
    return "%.3f" % (float(mainline) / float(module))


@dataclasses.dataclass
class Figure:
    """What one side of a row costs."""
    values: list = dataclasses.field(default_factory=list)
    computed_from: str = ""
    sleeps: int = 0

    @property
    def value(self):
        return statistics.median(self.values)

    @property
    def spread(self):
        if self.computed_from or not self.value:
            return 0.0
        return (max(self.values) - min(self.values)) / abs(self.value) * 100

    def note(self, side):
        if self.computed_from:
            return "%s: computed from %s" % (side, self.computed_from)
        said = []
        if len(self.values) < REPETITIONS:
            said.append("%d repetition%s" % (len(self.values), "s"[len(self.values) == 1:]))
        if self.sleeps:
            said.append("sleeps")
        if min(self.values) < 0:
            said.append("below zero: something else gave memory back")
        return "%s: %s" % (side, ", ".join(said)) if said else ""


def collect(lines):
    """The figures that the programs have printed, by row, size and side."""
    figures = {}
    for line in lines:
        word, _, rest = line.partition(": ")
        if word == "bench":
            name, size, side, cost, operations = rest.split()
            figure = figures.setdefault((name, size, side), Figure())
            figure.values.append(int(cost) / int(operations))
        elif word == "slept":
            name, size, side, times = rest.split()
            figures[name, size, side].sleeps += int(times)
        elif word == "computed":
            name, size, side, smaller, times = rest.split()
            known = figures[name, smaller, side]
            figures[name, size, side] = Figure([known.value * int(times)],
                                               known.computed_from or smaller)
    return figures


def table(rows, figures):
    """A dictionary for each line of the CSV."""
    found = []
    for row in rows:
        for size in row.sizes:
            sides = {side: figures.get((row.name, size, side))
                     for side in SIDES[row.alone:]}
            if None in sides.values():
                raise Wrong("no figure for %s %s" % (row.name, size))
            if not row.unit.startswith("instructions"):
                for figure in sides.values():
                    figure.sleeps = 0
            notes = [row.note] + [sides[side].note(side) for side in sides]
            line = {"benchmark": row.name, "size": size, "unit": row.unit,
                    "spread": "%.2f" % max(figure.spread for figure in sides.values()),
                    "note": "; ".join(filter(None, notes))}
            line.update({side: plain(sides[side].value) if side in sides else ""
                         for side in SIDES})
            line["ratio"] = ratio(line["mainline"], line["module"])
            found.append(line)
    return found


def print_table(lines, columns):
    width = {column: max([len(column)] + [len(line[column]) for line in lines])
             for column in columns}
    words = ("benchmark", "size", "unit", "note", "function")
    for line in [dict(zip(columns, columns))] + lines:
        print("  ".join(line[column].ljust(width[column]) if column in words
                        else line[column].rjust(width[column]) for column in columns).rstrip())


def write_csv(lines, columns, path):
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(lines)


def compare(lines, path):
    """The instructions of an earlier run: which differ by more than they may."""
    with path.open(newline="") as file:
        earlier = {(line["benchmark"], line["size"]): line for line in csv.DictReader(file)}
    clocks = {row.name: row.clock for row in ROWS}
    wrong, compared = [], 0
    for line in lines:
        before = earlier.get((line["benchmark"], line["size"]))
        if before is None or clocks[line["benchmark"]] == WALL:
            continue
        for side in SIDES:
            if not line[side] or not before[side]:
                continue
            now, then = float(line[side]), float(before[side])
            off = abs(now - then) / abs(then) * 100 if then else (100.0 if now else 0.0)
            compared += 1
            if off > TOLERANCE:
                wrong.append("%s %s, %s: %s, and %s before, %.1f per cent off"
                             % (line["benchmark"], line["size"], side, line[side], before[side],
                                off))
    print("# %d figures compared with %s, %d more than %g per cent off"
          % (compared, path, len(wrong), TOLERANCE))
    for text in wrong:
        print("# " + text)
    return compared > 0 and not wrong


def behind(rows, lines):
    """The lines that don't reach what they're meant to, each with its row."""
    by_name = {row.name: row for row in rows}
    return [(by_name[line["benchmark"]], line) for line in lines
            if by_name[line["benchmark"]].shortfall(line)]


def print_behind(rows, lines):
    for row, line in behind(rows, lines):
        print("# behind: %s %s %s" % (row.name, line["size"], row.shortfall(line)))


def profiled_rows(args, rows, lines):
    """Those that are asked for, or else those that are behind and can have a profile."""
    names = {row.name for row, _ in behind(rows, lines)}
    return [row for row in rows if args.bench or row.name in names and row.profile_size()]


def demangled(names):
    """The names of functions as a reader knows them, by any tool for that."""
    tool = shutil.which("llvm-cxxfilt") or shutil.which("c++filt")
    if not tool:
        return {name: name for name in names}
    names = list(names)
    plain_names = subprocess.run([tool], input="\n".join(names), check=True, text=True,
                                 stdout=subprocess.PIPE).stdout.splitlines()
    return {name: text.replace("kvm_memattr_main::", "")
            for name, text in zip(names, plain_names)}


def profile_of(row, lines, figures):
    """A dictionary for each line of the CSV: the functions of a row, by what goes into
    them on the module's side, and a last one for all that are too small."""
    samples = {side: {} for side in SIDES}
    for line in lines:
        word, _, rest = line.partition(": ")
        if word == "profile":
            side, alone, total, function = rest.split(" ", 3)
            samples[side][function] = (int(alone), int(total))

    shares, cost = {}, dict.fromkeys(SIDES, 0)
    for side in row.profile_sides():
        _, everything = samples[side].pop("all", (0, 0))
        if not everything:
            raise Wrong("no sample of %s on the side of %s" % (row.name, side))
        cost[side] = figures[row.name, row.profile_size(), side].value
        for function, counts in samples[side].items():
            shares.setdefault(function, {})[side] = [count / everything for count in counts]

    names = demangled(shares)
    found, rest = [], {side: 0.0 for side in SIDES}
    for function, of in shares.items():
        of = {side: of.get(side, [0.0, 0.0]) for side in SIDES}
        if max(of[side][0] for side in SIDES) * 100 < PROFILE_LEAST:
            for side in SIDES:
                rest[side] += of[side][0]
            continue
        line = {"benchmark": row.name, "function": names[function]}
        for side in SIDES:
            line[side], line[side + "_with_calls"] = (round(share * cost[side])
                                                      for share in of[side])
        found.append(line)
    found.sort(key=lambda line: (-line["module"], -line["mainline"], line["function"]))
    found.append({"benchmark": row.name, "function": "(others)",
                  **{side: round(rest[side] * cost[side]) for side in SIDES},
                  **{side + "_with_calls": "" for side in SIDES}})
    return [{column: str(line[column]) for column in PROFILE_COLUMNS} for line in found]


def arguments():
    parser = argparse.ArgumentParser(description="Run the benchmarks in QEMU.")
    parser.add_argument("--out", type=pathlib.Path, help="folder for the CSV and the plots")
    parser.add_argument("--bench", default="", help="row,row (default: all)")
    parser.add_argument("--against", type=pathlib.Path, help="bench.csv of an earlier run")
    parser.add_argument("--profile", action="store_true",
                        help="say which functions the instructions go into, of the rows "
                        "in BENCH, or else of those that are behind what they're to reach")
    return parser.parse_args()


def boot_and_check(clock, rows, folder, profile=False):
    boot = BenchBoot(clock, rows, folder, profile)
    boot.run(test.report_job)
    try:
        boot.check()
    except Wrong as error:
        raise Wrong("%s\nconsole: %s, output: %s" % (error, boot.folder / "console.log",
                                                     boot.folder / "output.log"))
    return boot


def run(args):
    names = test.choose(args.bench, [row.name for row in ROWS], "row")
    rows = [row for row in ROWS if row.name in names]
    if args.against and not args.against.is_file():
        raise test.Problem("%s is not there" % args.against)
    for row in rows if args.profile and args.bench else ():
        if not row.profile_size():
            raise test.Problem("%s has no profile: it takes a row that is counted in "
                               "instructions and has one size" % row.name)
    test.prepare(["release"], None)

    folder = RUNS / time.strftime("%Y%m%d-%H%M%S-{}".format(os.getpid()))
    figures = {}
    for clock in (INSTRUCTIONS, WALL):
        here = [row for row in rows if row.clock == clock]
        if here:
            figures.update(collect(boot_and_check(clock, here, folder / clock).lines()))
    lines = table(rows, figures)
    profiles = []
    if args.profile:
        profiled = profiled_rows(args, rows, lines)
        boot = profiled and boot_and_check(INSTRUCTIONS, profiled, folder / PROFILE_WORD,
                                           profile=True)
        for number, row in enumerate(profiled):
            profiles += profile_of(row, boot.outcomes[number].lines, figures)

    test.drop_old_runs(RUNS)
    print_table(lines, COLUMNS)
    print_behind(rows, lines)
    if profiles:
        print()
        print_table(profiles, PROFILE_COLUMNS)
    if args.out:
        args.out.mkdir(parents=True, exist_ok=True)
        write_csv(lines, COLUMNS, args.out / "bench.csv")
        if profiles:
            write_csv(profiles, PROFILE_COLUMNS, args.out / "profile.csv")
        subprocess.run([test.TOP / "scripts" / "plot.sh", args.out], check=True, stdout=sys.stderr)
    return compare(lines, args.against) if args.against else True


def main():
    args = arguments()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        return 0 if run(args) else 1
    except (Wrong, test.Problem, subprocess.CalledProcessError) as error:
        print("!!! %s" % error, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
