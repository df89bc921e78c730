"""Makes one file of a live workspace bad at a time: `workspace.py --seconds N --seed S`.

Truncated, of a wrong type, of another version, not UTF-8, a folder in its place, no permission, gone. Three experiments
share the workspace: one is done, one runs on a cluster, and one, whose files are made bad, runs there too. No command may
crash or hang; whatever is not made bad goes on as before. Exit 0 = all held, else the findings, each with its file."""

import argparse
import json
import os
import pathlib
import random
import shutil
import subprocess
import sys
import tempfile
import time

SOURCE = pathlib.Path(os.environ["FILO_SOURCE_DIR"])
sys.path.insert(0, str(SOURCE / "tests/chaos"))
import made_up_slurm
from chaos import FILO, Place, check

NOBODY = 65534
WORDS = ("json.exception", "terminate called", "basic_string", "std::", "filesystem error", "Assertion", "AddressSanitizer", "runtime error")
LIVE = "victim"


def experiment(place, name, seed):
    path = place.folder / f"{name}.yaml"
    data = {"done": "parts, b: boards", "steady": "screws, b: plates", "victim": "nuts, b: rings"}[name]
    path.write_text(
        f"name: {name}\ndata: {{a: {data}}}\nfolds: [{{train: a, test: b}}]\n"
        f"model: {{clip: {place.folder / 'clip'}, image_size: 112, prompts: {{descriptions: none}}}}\n"
        f"resources: {{ranks: 1, memory: 1M}}\ntrain: {{seed: {seed}}}\n"
    )
    return path


class Bed:
    """The workspace, and a copy of it to start from each time."""

    def __init__(self, home):
        self.place = Place(home, seeds=1)
        self.workspace = self.place.workspace
        for name in ("screws", "plates", "nuts", "rings"):
            (self.workspace / "datasets" / f"{name}.json").write_text(
                json.dumps({"name": name, "digest": name[:4] * 4, "classes": {"bolt": {"train": 1, "test": 2}}}))
        self.slurm = home / "slurm"
        made_up_slurm.install(self.slurm)
        for name in ("one", "two"):
            (home / f"{name}.yaml").write_text(f"name: {name}\nslurm_bin: {self.slurm}\nworker: {self.place.environment['FILO_WORKER']}\nwatch: {{enabled: false}}\n")
        self.files = {name: experiment(self.place, name, seed) for seed, name in enumerate(("done", "steady", "victim"))}
        if os.geteuid() == 0:
            subprocess.run(["chown", "-R", str(NOBODY), home], check=True)
        self.user = {"user": NOBODY, "group": NOBODY, "extra_groups": []} if os.geteuid() == 0 else {}
        check(self.filo("run", self.files["done"])[0] == 0, "the experiment that is done")
        for name, cluster in (("steady", "one"), ("victim", "two")):
            code, _, error = self.filo("submit", self.files[name], "--cluster", home / f"{cluster}.yaml")
            check(code == 0, f"submit {name}: {error}")
        self.copy = home / "copy"
        subprocess.run(["cp", "-a", self.workspace, self.copy], check=True)
        subprocess.run(["cp", "-a", self.slurm, home / "slurm-copy"], check=True)
        self.steady_keys = self.keys("steady") | self.keys("done")
        self.counts = self.states("steady"), self.states("done")

    def keys(self, name):
        plan = json.loads((self.workspace / "experiments" / name / "plan.json").read_text())
        return {row[0] for row in plan["stages"]}

    def filo(self, *arguments):
        command = [FILO, *map(str, arguments), "--workspace", str(self.workspace)]
        try:
            done = subprocess.run(command, env=dict(self.place.environment, FILO_INDEX="none"), stdin=subprocess.DEVNULL, capture_output=True, timeout=60, **self.user)
        except subprocess.TimeoutExpired:
            return "hang", "", ""
        return done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")

    def states(self, name):
        code, out, _ = self.filo("status", name, "--json")
        return json.loads(out)[0]["counts"] if code == 0 else None

    def renew(self):
        subprocess.run(["chmod", "-R", "u+rwX", self.workspace], check=True)
        shutil.rmtree(self.workspace)
        subprocess.run(["cp", "-a", self.copy, self.workspace], check=True)
        shutil.rmtree(self.slurm)
        subprocess.run(["cp", "-a", self.place.folder / "slurm-copy", self.slurm], check=True)

    def concerns_others(self, path):
        """Whether the steady and the done experiments need the file."""
        parts = path.relative_to(self.workspace).parts
        if parts[0] == "stages":
            return len(parts) < 2 or parts[1] in self.steady_keys
        if parts[0] == "experiments":
            return len(parts) < 2 or parts[1] != LIVE
        if parts[0] == "slurm":
            return not (path.suffix == ".json" and '"two"' in (self.copy / path.relative_to(self.workspace)).read_text())
        return True


def make_bad(path, chance):
    """What was done to the file, or folder."""
    kinds = ["gone", "no permission", "a folder"] if path.is_dir() else ["truncated", "type", "version", "bytes", "a folder", "no permission", "gone", "empty", "value"]
    kind = chance.choice(kinds)
    data = b"" if path.is_dir() else path.read_bytes()
    if kind == "truncated":
        path.write_bytes(data[: chance.randrange(len(data) + 1)])
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "type":
        path.write_text(chance.choice(["[]", "5", '"text"', "null", '{"executor": 5}', "[[[[", '{"format": "x"}', '{"stages": 7}']))
    elif kind == "version":
        path.write_bytes(data.replace(b'"format": 2', b'"format": 99').replace(b'"format":2', b'"format":99') + b"\n")
    elif kind == "bytes":
        at = chance.randrange(len(data) + 1)
        path.write_bytes(data[:at] + bytes(chance.randrange(128, 256) for _ in range(8)) + data[at:])
    elif kind == "value":  # one value of another type
        try:
            content = json.loads(data)
            key = chance.choice(sorted(content))
            content[key] = chance.choice([None, 5, -1e300, "text", [], {}, [[]], True, 2**63, "\x00", "\ud83d"])
            path.write_text(json.dumps(content))
        except (ValueError, TypeError, IndexError, UnicodeDecodeError):
            path.write_text("{}")
    elif kind == "no permission":
        path.chmod(0)
    elif path.is_dir():
        shutil.rmtree(path)
        if kind == "a folder":
            path.write_text("a file in the place of a folder")
    else:
        path.unlink()
        if kind == "a folder":
            path.mkdir()
    if os.geteuid() == 0 and path.exists():
        os.chown(path, NOBODY, NOBODY)
    return kind


def round_of(bed, chance, victim_stages):
    commands = [("status",), ("status", LIVE, "--json"), ("reconcile", "--json"), ("report", LIVE), ("report", LIVE, "--json"), ("logs", chance.choice(victim_stages)),
                ("plan", bed.files[LIVE]), ("cancel", chance.choice(victim_stages)), ("reconcile",), ("retry", LIVE), ("cancel", LIVE), ("reconcile", "--json"), ("dataset", "list")]
    for command in commands:
        code, out, error = bed.filo(*command)
        if code == "hang" or code < 0 or code > 100:
            yield f"filo {' '.join(map(str, command))}: exit code {code}: {error[-300:]}"
        for word in WORDS:
            if word in error or word in out:
                yield f"filo {' '.join(map(str, command))}: {word} in {(error + out)[-400:]}"
        if code not in (0, "hang") and not error.strip():
            yield f"filo {' '.join(map(str, command))}: exit code {code} without a word"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    chance = random.Random(options.seed)
    home = pathlib.Path(tempfile.mkdtemp(prefix="filo-fuzz-workspace-"))
    home.chmod(0o755)
    findings, rounds, kinds = [], 0, {}
    end = time.monotonic() + options.seconds
    try:
        bed = Bed(home / "place")
        victim_stages = sorted(bed.keys(LIVE))
        while time.monotonic() < end and len(findings) < 20:
            bed.renew()
            paths = sorted(p for p in bed.workspace.rglob("*") if p.name not in (".lock",) and p != bed.workspace)
            path = chance.choice(paths)
            others = bed.concerns_others(path)
            kind = make_bad(path, chance)
            kinds[kind] = kinds.get(kind, 0) + 1
            rounds += 1
            what = f"{path.relative_to(bed.workspace)} ({kind})"
            findings += [f"{what}: {finding}" for finding in round_of(bed, chance, victim_stages)]
            if not others and (bed.states("steady"), bed.states("done")) != bed.counts:
                findings.append(f"{what}: the other experiments are {bed.states('steady')}, {bed.states('done')}; they were {bed.counts}")
    finally:
        subprocess.run(["chmod", "-R", "u+rwX", home])
        shutil.rmtree(home, ignore_errors=True)
    print(f"{rounds} bad files, seed {options.seed}: " + ", ".join(f"{kind} {count}" for kind, count in sorted(kinds.items())) + f"; {len(findings)} findings")
    for finding in findings:
        print(finding)
    sys.exit(1 if findings or rounds == 0 else 0)


if __name__ == "__main__":
    main()
