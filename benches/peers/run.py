"""glassbox beside TransformerLens (4.3, and 2.18) and scikit-learn: the same weights, prompts and metric, in turn, in one run.

Needs cargo and Python 3 with venv; makes what is missing under target/peers/: a virtual environment for each library from
requirements-*.txt, the models, their prompts, and glassbox itself. Every task is run on each side in turn, base runs included;
tasks are compared after each run, and numbers that differ by more than 1e-4 (of the largest, where that is above 1) end it with an error. Printed are medians, the
ratio of each peer's time to glassbox's (above 1: glassbox is faster), and the peak memory of processes that do one thing.

"no free cells": prompts of which every token differs, so that no cell of a sweep is known beforehand.
"""
import argparse
import csv
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
MEMORY = 2 << 30  # bytes that glassbox's batches may take: its default
TOLERANCE = 1e-4
# (row, task, pairs, repetitions); a peer's repetitions are fewer where it takes minutes
ROWS = [
    ("forward, all logits", "forward", "differ", 15),
    ("forward, recording the same sites", "record", "differ", 15),
    ("attribution patching, every site", "attribution", "differ", 7),
    ("attribution patching, all tokens differ", "attribution", "apart", 7),
    ("EAP, all edges", "edges", "differ", 5),
    ("EAP, all tokens differ", "edges", "apart", 5),
    ("head patches (z, all positions)", "heads", "differ", 3),
    ("head patches, no free cells", "heads", "apart", 3),
    ("resid_pre patches (layer x position)", "resid", "differ", 3),
    ("resid_pre patches, no free cells", "resid", "apart", 3),
    ("head x position patches", "head_positions", "differ", 3),
    ("head x position patches, no free cells", "head_positions", "apart", 3),
]
STRIDE = 18  # of the head x position cells, the peers run every 18th
SLOW = {"heads", "resid", "head_positions"}  # whole passes by the hundred: run by peers `--slow-repeats` times


class Worker:
    """A process that loads once and answers tasks."""

    def __init__(self, name, command, threads):
        self.name = name
        env = os.environ | {"PEER_THREADS": str(threads), "OMP_NUM_THREADS": str(threads)}
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env)
        self.loaded = self.answer()

    def answer(self):
        line = self.process.stdout.readline()
        if not line:
            sys.exit(f"{self.name} ended with {self.process.wait()}")
        return json.loads(line)

    def ask(self, **task):
        self.process.stdin.write(json.dumps(task) + "\n")
        self.process.stdin.flush()
        return self.answer()

    def end(self):
        self.process.stdin.close()
        self.process.wait()


class Bench:
    """What is compared: the sides, and a table that fills."""

    def __init__(self, args):
        self.args, self.lines, self.found = args, [], []

    def python(self, name):
        """The interpreter of an environment with the libraries of requirements-NAME.txt."""
        given = getattr(self.args, f"venv_{name}")
        folder = Path(given) if given else self.args.work / f"venv-{name}"
        if not given and not (folder / "done").exists():
            say(f"making {folder}")
            run([sys.executable, "-m", "venv", "--clear", folder])
            run([folder / "bin/python", "-m", "pip", "install", "--quiet", "-r", HERE / f"requirements-{name}.txt"])
            (folder / "done").touch()
        return folder / "bin/python"

    def build(self):
        """The program, and the worker that links its library."""
        made = subprocess.run(["cargo", "build", "--release", "--bin", "glassbox", "--bench", "peer", "--message-format=json"],
                              cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout
        messages = [json.loads(line) for line in made.splitlines()]
        found = {m["target"]["name"]: m["executable"] for m in messages if m.get("executable")}
        self.program, self.worker = found["glassbox"], found["peer"]

    def model(self, shape):
        folder = self.args.work / shape
        if not (folder / "tokenizer.json").exists():
            say(f"making {folder}")
            run([self.python("tl4"), HERE / "make_model.py", shape, folder])
        return folder

    def ours(self, folder, threads=None):
        threads = threads or self.args.threads
        return Worker("glassbox", [self.worker, "--model", folder, "--threads", str(threads)], threads)

    def peer(self, name, folder):
        return Worker(name, [self.python(name), HERE / "peer.py", folder], self.args.threads)

    def wants(self, task):
        return not self.args.tasks or task in self.args.tasks

    def row(self, what, ours, peers, note=""):
        """`ours` and each of `peers` are lists of seconds of runs in turn."""
        cells = [f"{what:<44}", f"{show(statistics.median(ours)):>9}"]
        for seconds in peers:
            ratio = statistics.median(seconds) / statistics.median(ours)
            cells += [f"{show(statistics.median(seconds)):>9}", f"{ratio:6.1f}x"]
        self.line("  ".join(cells) + (f"  {note}" if note else ""))
        self.found.append(dict(row=what, glassbox=ours, peers=peers, note=note))

    def line(self, text):
        self.lines.append(text)
        say(text)

    # --- a shape ----------------------------------------------------------------------------------------------------

    def shape(self, shape):
        folder = self.model(shape)
        names = self.args.peers
        self.line(f"\n{shape}: {self.args.threads} threads, load {os.getloadavg()[0]:.1f} before")
        self.line("  ".join([f"{'':<44}", f"{'glassbox':>9}"] + [f"{n:>9}  {'ratio':>7}" for n in names]))
        if any(self.wants(task) for _, task, _, _ in ROWS) or self.wants("edges_ig"):
            self.tasks(folder, names)
        if shape == "gpt2" and self.wants("probes"):
            self.probes(folder)
        for special in (self.cold, self.peaks, self.threads):
            if self.wants(special.__name__):
                special(folder, names)

    def tasks(self, folder, names):
        ours, peers = self.ours(folder), [self.peer(name, folder) for name in names]
        passes = {}
        for what, task, pairs, repeats in ROWS:
            if not self.wants(task):
                continue
            repeats = max(1, round(repeats * self.args.repeats))
            if task in SLOW:  # warmed up by a pass, and then every turn counts, on every side
                for side in [ours, *peers]:
                    side.ask(task="forward", pairs=str(folder / f"{pairs}.jsonl"), memory=MEMORY)
            asked = dict(task=task, pairs=str(folder / f"{pairs}.jsonl"), stride=STRIDE, memory=MEMORY)
            times = [[] for _ in range(1 + len(peers))]
            for turn in range(repeats if task in SLOW else repeats + 1):  # of quick tasks the first is not counted
                answers = []
                for i, side in enumerate([ours, *peers]):
                    slow = task in SLOW and i > 0
                    if slow and turn >= self.args.slow_repeats:
                        continue
                    answer = side.ask(**asked)
                    answers.append(answer["values"])
                    if turn > 0 or task in SLOW:
                        times[i].append(answer["seconds"])
                for name, values in zip(names, answers[1:]):
                    mine = answers[0][::STRIDE] if task == "head_positions" else answers[0]
                    compare(f"{what}: {name}", mine, values)
            note = f"{len(answers[0]) if answers else 0} values"
            if task == "forward":
                passes = {i: statistics.median(seconds) for i, seconds in enumerate(times)}
            if task == "head_positions":
                cells = len(answers[0])
                note = f"{cells} cells; peers ran every {STRIDE}th, extrapolated"
                for i in range(1, len(times)):
                    base = 2 * passes.get(i, 0.0)
                    times[i] = [base + (seconds - base) * cells / -(-cells // STRIDE) for seconds in times[i]]
            elif task in SLOW:
                note = f"{len(answers[0])} cells"
            elif task == "edges":
                note = f"{len(answers[0])} edges"
            else:
                note = ""
            self.row(what, times[0], times[1:], note)
        if self.wants("edges_ig"):
            asked = dict(pairs=str(folder / "differ.jsonl"), memory=MEMORY)
            times = [[ours.ask(task=task, **asked)["seconds"] for task in ("edges", "edges_ig")] for _ in range(6)][1:]
            plain, ig = zip(*times)
            self.row("EAP-IG, 5 steps", list(ig), [], f"{statistics.median(ig) / statistics.median(plain):.1f} times our EAP")
        for side in [ours, *peers]:
            side.end()

    def probes(self, folder):
        ours = self.ours(folder)
        peer = Worker("scikit-learn", [self.python("sklearn"), HERE / "probes.py", folder], self.args.threads)
        times = [[], []]
        for turn in range(6):
            answers = [side.ask(task="probes") for side in (ours, peer)]
            compare("probes", answers[0]["values"], answers[1]["values"])
            if turn:
                for own, answer in zip(times, answers):
                    own.append(answer["seconds"])
        self.row("logistic probes, 13 x 2000 x 768", times[0], times[1:], "peer: scikit-learn")
        ours.end()
        peer.end()

    def cold(self, folder, names):
        """Whole processes: load, lens, attribution, head sweep; ours writes a report besides."""
        pairs, out = folder / "differ.jsonl", folder / "report"
        study = folder / "cold.toml"
        study.write_text(STUDY.format(model=folder, pairs=pairs))
        commands = [[self.program, "run", study, "--out", out, "--force", "--quiet", "--threads", str(self.args.threads)]]
        commands += [[self.python(name), HERE / "peer.py", folder, pairs] for name in names]
        times, peaks = [[] for _ in commands], [0] * len(commands)
        for turn in range(self.args.slow_repeats):
            answers = []
            for i, command in enumerate(commands):
                seconds, peaks[i], printed = whole(command, self.args.threads)
                times[i].append(seconds)
                answers.append(printed)
            mine = report(out)
            for name, printed in zip(names, answers[1:]):
                theirs = json.loads(printed)
                for what in mine:
                    compare(f"cold, {what}: {name}", mine[what], theirs[what])
        shutil.rmtree(out)
        self.row("whole process: lens, attribution, heads, report", times[0], times[1:], f"peak {mebi(peaks)} MiB")

    def peaks(self, folder, names):
        """Peak memory of processes that load and do one head sweep."""
        peaks = []
        for side in [self.ours(folder), *(self.peer(name, folder) for name in names)]:
            peaks.append(side.ask(task="heads", pairs=str(folder / "differ.jsonl"), memory=MEMORY)["peak"])
            side.end()
        model = (folder / "model.safetensors").stat().st_size
        bound = (model + 1.1 * MEMORY) / 1024
        shares = ", ".join(f"{peaks[0] / peak:.2f} of {name}" for name, peak in zip(names, peaks[1:]))
        self.line(f"{'peak memory of the head sweep (VmHWM)':<44}  {mebi(peaks)} MiB: {shares}; "
                  f"{peaks[0] / bound:.2f} of the model + 1.1 x --memory")
        self.found.append(dict(row="peak memory", glassbox=peaks[0], peers=peaks[1:]))
        if peaks[0] > bound:
            sys.exit("glassbox took more memory than it may")

    def threads(self, folder, _):
        sides = [self.ours(folder, threads) for threads in (1, 2)]
        asked = dict(task="heads", pairs=str(folder / "differ.jsonl"), memory=MEMORY)
        one, two = zip(*[[side.ask(**asked)["seconds"] for side in sides] for _ in range(4)][1:])
        self.row("head patches, --threads 2", list(two), [], f"{statistics.median(one) / statistics.median(two):.2f} times --threads 1")
        for side in sides:
            side.end()


STUDY = """title = "The same questions"
model = "{model}"
[task]
file = "{pairs}"
[[analysis]]
name = "lens"
[[analysis]]
name = "attribution"
[[analysis]]
name = "patch"
sites = ["z"]
by = ["head"]
direction = "denoise"
"""


def report(out):
    """The numbers of a report that the peers print too."""
    def column(table, name):
        with open(out / "tables" / f"{table}.csv", newline="") as file:
            return [float(row[name]) for row in csv.DictReader(file)]

    return dict(lens=column("lens", "logit_diff"), direct=column("attribution_head", "direct"), heads=column("patch_head", "effect"))


def whole(command, threads):
    """Runs a process: seconds from start to end, its peak memory in KiB, what it printed."""
    env = os.environ | {"PEER_THREADS": str(threads), "OMP_NUM_THREADS": str(threads)}
    begin = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env)
    printed = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"{command[0]} ended with {status}")
    return time.perf_counter() - begin, usage.ru_maxrss, printed


def compare(what, ours, theirs):
    """Both sides' numbers must agree to 1e-4, relative to the largest where that is above 1; what a peer calls no number is left out."""
    size = max(1.0, max(abs(x) for x in theirs if x == x))
    pairs = [(a, b) for a, b in zip(ours, theirs) if b == b]
    off = max(abs(a - b) for a, b in pairs) / size if len(ours) == len(theirs) else float("inf")
    if not off <= TOLERANCE:
        sys.exit(f"{what}: {len(ours)} and {len(theirs)} numbers differ by up to {off:.2e}, more than {TOLERANCE}")


def show(seconds):
    return f"{seconds * 1e3:.0f} ms" if seconds < 1 else f"{seconds:.2f} s"


def mebi(kibi):
    return " / ".join(str(k >> 10) for k in kibi)


def say(text):
    print(text, flush=True)


def run(command, **more):
    subprocess.run(command, check=True, **more)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--shapes", nargs="+", default=["gpt2", "llama"], choices=["gpt2", "llama"], help="shapes of models")
    add("--tasks", nargs="+", metavar="TASK", help="only these: forward record attribution edges edges_ig heads resid head_positions "
                                                   "probes cold peaks threads")
    add("--peers", nargs="*", default=["tl4", "tl218"], choices=["tl4", "tl218"], help="TransformerLens 4.3 and 2.18")
    add("--threads", type=int, default=2, help="threads of every side")
    add("--repeats", type=float, default=1.0, help="times the usual number of repetitions")
    add("--slow-repeats", type=int, default=2, metavar="N", help="repetitions of what takes a peer a minute or more")
    add("--work", type=Path, default=ROOT / "target/peers", metavar="DIR", help="where models and environments are kept")
    for name in ("tl4", "tl218", "sklearn"):
        add(f"--venv-{name}", metavar="DIR", help="an environment that has these libraries already")
    add("--json", type=Path, metavar="FILE", help="also write every measured second")
    bench = Bench(parser.parse_args())
    bench.args.work = bench.args.work.resolve()
    bench.build()
    for shape in bench.args.shapes:
        bench.shape(shape)
    if bench.args.json:
        bench.args.json.write_text(json.dumps(bench.found, indent=1) + "\n")


if __name__ == "__main__":
    main()
