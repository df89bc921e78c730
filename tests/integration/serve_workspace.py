"""Workspaces for tests of `filo serve` that nothing ever ran in: an experiment of any size, its trials in all states, with events,
logs, results and heat maps. `serve_workspace.py FOLDER [TRIALS]` makes one to look at."""

import hashlib
import json
import math
import pathlib
import random
import struct
import sys
import time
import zlib

PLAN_FORMAT = 2
RESOURCES = {"ranks": 1, "threads": 1, "gpus": 0, "memory": "1G", "time": "01:00:00"}
STATES = ["done", "done", "done", "done", "running", "failed", "blocked", "waiting", "cancelled", "stopped"]


def key_of(text):
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def write(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value) if not isinstance(value, str) else value)


def png(width, height, pixel):
    """A PNG of pixel(x, y) -> (r, g, b)."""
    rows = b"".join(b"\0" + b"".join(bytes(pixel(x, y)) for x in range(width)) for y in range(height))

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def heat_map(seed):
    """A grey product with a spot, beside a map that is warm where the spot is."""
    x0, y0 = 20 + seed * 13 % 50, 25 + seed * 29 % 45

    def pixel(x, y):
        at = x % 96
        inside = math.hypot(at - 48, y - 48) < 40
        spot = math.exp(-((at - x0) ** 2 + (y - y0) ** 2) / 120)
        if x < 96:
            grey = (140 if inside else 40) - int(90 * spot if inside else 0)
            return (grey, grey, grey + 8)
        return (int(255 * spot), int(120 * spot), int(120 * (1 - spot)))

    return png(192, 96, pixel)


class Stage:
    def __init__(self, workspace, name, kind, label, inputs=(), bare=False):
        self.key = key_of(name)
        self.kind = kind
        self.folder = pathlib.Path(workspace) / "stages" / self.key
        self.label = label
        self.inputs = inputs
        if not bare:
            write(self.folder / "spec.json", {"kind": kind, "format": 1, "label": label, "inputs": {}})
            (self.folder / "attempts").mkdir(exist_ok=True)

    def attempt(self, number=1, log="", events=(), end=None, claim="slurm test"):
        folder = self.folder / "attempts" / str(number)
        folder.mkdir(parents=True, exist_ok=True)
        write(folder / "claim.json", {"executor": claim, "host": "node1", "job": number})
        write(folder / "log.txt", log)
        write(folder / "events.jsonl", "".join(json.dumps(one) + "\n" for one in events))
        if end:
            write(folder / "end.json", end)

    def done(self, metrics, artifacts=None, number=1, **attempt):
        self.attempt(number, end={"outcome": "done", "cause": "exited", "reason": ""}, **attempt)
        write(self.folder / "result.json", {"stage": self.key, "kind": self.kind, "attempt": number, "world_size": 1, "seconds": 12.5,
                                            "metrics": metrics, "artifacts": artifacts or {}})

    def failed(self, reason, times=3):
        for number in range(1, times + 1):
            self.attempt(number, log=f"starting\n{reason}\n", events=[{"seq": 0, "time": time.time(), "event": "failed", "message": reason}],
                         end={"outcome": "failed", "cause": "exited", "reason": reason})


def training_events(steps, seed=0, total=None):
    rng = random.Random(seed)
    events = [{"seq": 0, "time": time.time(), "event": "started", "world_size": 2, "threads": 1, "device": "cpu"}]
    for step in range(1, steps + 1):
        dice, focal = 2.2 * math.exp(-step / 25) + 0.3 + rng.random() * 0.12, 1.1 * math.exp(-step / 18) + 0.05 + rng.random() * 0.05
        events.append({"seq": step, "time": time.time(), "event": "step", "phase": "main", "epoch": 1, "epochs": 1, "epoch_step": step, "steps": total or steps,
                       "step": step, "loss": dice + focal, "losses": {"dice": dice, "focal": focal}, "images_per_s": 30 + rng.random() * 4})
    return events


def metrics(rng, classes=()):
    def one():
        return {name: round(0.5 + rng.random() * 0.48, 4)
                for name in ("image_auroc", "image_ap", "image_f1_max", "pixel_auroc", "pixel_ap", "pixel_f1_max", "aupro")}

    return {**one(), **({"classes": {name: one() for name in classes}} if classes else {})}


def save_plan(workspace, name, stages, trials=(), tables=(), experiment=None):
    """As filo writes it (docs/decisions/013); `trials`: (fold, axis values, training, evaluation)."""
    position = {one.key: i for i, one in enumerate(stages)}
    write(pathlib.Path(workspace) / "experiments" / name / "plan.json", {
        "format": PLAN_FORMAT, "name": name, "experiment": experiment or {}, "tables": list(tables), "searches": {}, "max_concurrent": 0, "resources": [RESOURCES],
        "stages": [[one.key, one.kind, one.label, [position[needed.key] for needed in one.inputs], 0] for one in stages],
        "trials": [[name, fold, values, position[train.key], position[evaluate.key], -1] for fold, values, train, evaluate in trials]})


def load_trials(workspace, name):
    """[{"train": key, "evaluate": key}] in the plan's order."""
    plan = json.loads((pathlib.Path(workspace) / "experiments" / name / "plan.json").read_text())
    return [{"train": plan["stages"][row[3]][0], "evaluate": plan["stages"][row[4]][0]} for row in plan["trials"]]


def make(folder, trials=24, name="ablation", seed=7, busy=None):
    """Returns {state: [positions of trials]}. The first trial is done, with curves, heat maps and a log. `busy`: only so many of the
    first trials are in all states; the others wait and have no folder yet."""
    workspace = pathlib.Path(folder)
    rng = random.Random(seed)
    folds = ["mvtec->visa", "visa->mvtec"]
    features = [Stage(workspace, f"{name} features {data}", "features", f"features {data}") for data in ("mvtec", "visa")]
    for one in features:
        one.done({"images": 1725}, log="encoded 1725 images\n")
    stages, listed, made = list(features), [], {}
    rows = max(1, trials // 2)
    for i in range(trials):
        fold, row = i % 2, i // 2
        values = {"model.prompts.filter": row % 2 == 0, "train.seed": row // 2}
        bare = busy is not None and i >= busy
        train = Stage(workspace, f"{name} train {i}", "train", f"train {('mvtec', 'visa')[fold]}", [features[fold]], bare)
        evaluate = Stage(workspace, f"{name} evaluate {i}", "evaluate", f"evaluate {folds[fold].replace('->', ' on ')}", [features[1 - fold], train], bare)
        state = "waiting" if bare else "done" if row == 0 else STATES[rng.randrange(len(STATES))]
        if state in ("done", "failed"):
            detailed = i < 20
            train.done({}, log="epoch 1 ended\n" * (300 if i == 0 else 1), events=training_events(120 if i == 0 else 30, i) if detailed else ())
        if state == "done":
            classes = ("bottle", "cable", "capsule") if i < 20 else ()
            artifacts = {}
            if i < 4:
                for n, one in enumerate(classes):
                    (evaluate.folder / "heat_maps" / one).mkdir(parents=True, exist_ok=True)
                    (evaluate.folder / "heat_maps" / one / f"{one}_test_bad_00{n}.png").write_bytes(heat_map(i + n))
                write(evaluate.folder / "interpretations.json", {one: {f"{one}/test/bad/00{n}.png": [{"description": "small dark spot", "position": "top left", "similarity": 0.2}]}
                                                                 for n, one in enumerate(classes)})
                artifacts = {"heat_maps": "heat_maps", "interpretations": "interpretations.json"}
            evaluate.done(metrics(rng, classes), artifacts, log="evaluated\n")
        elif state == "running":
            train.attempt(log="epoch 1\n", events=training_events(20, i, total=60))
        elif state == "failed":
            evaluate.failed("trainer: heat_maps/cable: cannot be written: No space left on device")
        elif state == "blocked":
            train.failed("settings: model.clip: found clip-tiny, expected weights of 24 layers")
        elif state in ("cancelled", "stopped"):
            write(train.folder / "request.json", {"want": "cancel" if state == "cancelled" else "stop",
                                                  "reason": "asked for by a test" if state == "cancelled" else "image_auroc 61.2 at epoch 4, rung 1 goes on from 70.3", "time": time.time()})
            train.attempt(log="epoch 1\n", events=training_events(5, i), end={"outcome": "cancelled" if state == "cancelled" else "stopped", "cause": "cancelled", "reason": ""})
        stages += [train, evaluate]
        listed.append((folds[fold], values, train, evaluate))
        made.setdefault(state, []).append(i)
    table = {"experiment": name, "title": "Table of the ablation", "rows": "model.prompts.filter", "columns": "fold", "metrics": ["image_auroc", "pixel_auroc"],
             "paper": {"true": {"mvtec->visa": [86.3, 96.4], "visa->mvtec": [92.1, 92.8]}, "false": {"mvtec->visa": [84.5, 95.9], "visa->mvtec": [91.0, None]}}, "note": "values of a test", "experiment_note": ""}
    save_plan(workspace, name, stages, listed, [table], {"name": name, "rows": rows})
    return made


if __name__ == "__main__":
    print(make(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 24))
