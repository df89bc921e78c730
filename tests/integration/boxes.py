"""Boxes from a file, and training on several data sets, through `filo run`: `boxes.py NAME` runs the check of that name.
They start from the folder that demo.py leaves."""

import json
import os
import subprocess
import sys

import numpy
import yaml
from PIL import Image

from demo import FILO, HOME, SOURCE, check, new_home, outcome, stages

ONE_FOLD = [{"train": "parts", "test": "boards"}]


def run(home, name, changes, expected=0):
    """Runs demo-smallest with one fold, one epoch and `changes`; returns its output."""
    experiment = yaml.safe_load((SOURCE / "configs/experiments/demo-smallest.yaml").read_text())
    experiment.update(name=name, folds=changes.get("folds", ONE_FOLD))
    experiment["data"].update(changes.get("data", {}))
    experiment["model"]["boxes"] = changes.get("boxes", {"source": "none"})
    experiment["train"]["main"]["epochs"] = 1
    (home / f"{name}.yaml").write_text(yaml.safe_dump(experiment))
    command = [FILO, "run", f"{name}.yaml", "--workspace", "demo/workspace"]
    done = subprocess.run(command, cwd=home, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=500)
    check(done.returncode == expected, f"{name} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout + done.stderr


def of_experiment(home, name, kind):
    """The results of the experiment's stages of one kind."""
    plan = json.loads((home / f"demo/workspace/experiments/{name}/plan.json").read_text())
    key_at, kind_at = plan["stage_columns"].index("key"), plan["stage_columns"].index("kind")
    found = stages(home / "demo/workspace")
    return [(stage[key_at], *found[stage[key_at]]) for stage in plan["stages"] if stage[kind_at] == kind]


def write_boxes(home, folder, boxes_of):
    """One file for each data set: HOME/FOLDER/NAME.json with boxes_of(dataset, image) for every image."""
    (home / folder).mkdir()
    for name in ("generated-parts", "generated-boards"):
        dataset = json.loads((home / f"demo/workspace/datasets/{name}.json").read_text())
        boxes = {image["path"]: boxes_of(dataset, image) for image in dataset["images"] if image["split"] == "test"}
        (home / folder / f"{name}.json").write_text(json.dumps(boxes))


def around_the_defect(dataset, image):
    if image["mask"] is None:
        return []
    mask = numpy.asarray(Image.open(os.path.join(dataset["root"], image["mask"])).convert("L"))
    rows, columns = numpy.nonzero(mask)
    height, width = mask.shape
    box = [columns.min() / width, rows.min() / height, (columns.max() + 1) / width, (rows.max() + 1) / height]
    return [{"box": [float(side) for side in box], "score": 0.9, "phrase": "defect"}]


def boxes_pick_positions_and_suppress_what_lies_outside():
    """Guards the way of a box from its file to the map: one that covers the image changes nothing, one that is drawn around
    the true defect makes pixels easy to tell apart."""
    home = new_home("boxes-home")
    write_boxes(home, "whole", lambda *_: [{"box": [0, 0, 1, 1], "score": 0.9}])
    write_boxes(home, "defects", around_the_defect)
    run(home, "without", {})
    run(home, "whole", {"boxes": {"source": "file", "file": "whole/{data}.json"}})
    run(home, "defects", {"boxes": {"source": "file", "file": "defects/{data}.json", "suppression": 0.2}})
    results = {}
    trained = outcome(home / "demo/workspace")
    for name in ("without", "whole", "defects"):
        [(key, _, result)] = of_experiment(home, name, "evaluate")
        [(train_key, _, _)] = of_experiment(home, name, "train")
        results[name] = (result["metrics"], trained[train_key])
    check(results["whole"] == results["without"], "a box around the whole image changed parameters or metrics")
    plain, helped = (results[name][0]["pixel_auroc"] for name in ("without", "defects"))
    check(helped > plain + 0.1, f"pixel AUROC with boxes around the defects {helped:.3f}, without {plain:.3f}")
    [(_, _, result), _] = of_experiment(home, "defects", "boxes")
    check(result["metrics"]["images"] > 0, f"the boxes stage counted {result['metrics']}")
    print(f"pixel AUROC {plain:.3f} without boxes, {helped:.3f} with boxes around the defects")


def a_box_for_an_unknown_image_is_named():
    """Guards against a misspelt path, whose image would quietly go without its box."""
    home = new_home("misspelt-home")
    write_boxes(home, "boxes", lambda *_: [])
    path = home / "boxes/generated-parts.json"
    path.write_text(json.dumps({"washer/test/goood/000.png": [{"box": [0, 0, 1, 1], "score": 1}]}))
    printed = run(home, "misspelt", {"boxes": {"source": "file", "file": "boxes/{data}.json"}}, expected=1)
    check("washer/test/goood/000.png" in printed, f"the output does not name the image:\n{printed}")


def several_data_sets_are_trained_on_as_one():
    """Guards folds that train on more than one data set: every image of both is seen in an epoch."""
    home = new_home("several-home")
    more = ["dataset", "generate", "--family", "parts", "--seed", "7", "--size", "112", "--train", "1", "--good", "2"]
    subprocess.run([FILO, *more, "--defective", "3", "--classes", "washer,gear", "--out", "more"], cwd=home, check=True)
    add = ["dataset", "add", "more", "--name", "more-parts", "--workspace", "demo/workspace"]
    subprocess.run([FILO, *add], cwd=home, check=True)
    run(home, "several", {"data": {"more": "more-parts"}, "folds": [{"train": ["parts", "more"], "test": "boards"}]})
    images = sum(result["metrics"]["images"] for _, _, result in of_experiment(home, "several", "features")[:2])
    [(key, spec, _)] = of_experiment(home, "several", "train")
    check([one["name"] for one in spec["datasets"]] == ["generated-parts", "more-parts"], f"spec: {spec['datasets']}")
    lines = (home / f"demo/workspace/stages/{key}/attempts/1/events.jsonl").read_text().splitlines()
    steps = [event for event in map(json.loads, lines) if event["event"] == "step" and event["phase"] == "main"]
    check(len(steps) == -(-images // 4), f"{len(steps)} steps of 4 images over {images} images")
    [(_, _, result)] = of_experiment(home, "several", "evaluate")
    check(0 <= result["metrics"]["pixel_auroc"] <= 1, f"metrics: {result['metrics']}")


if __name__ == "__main__":
    globals()[sys.argv[1]]()
