"""One training under several inference settings, whole: `inference.py NAME` runs the check of that name. It starts from the folder that
demo.py leaves."""

import json
import subprocess
import sys

import yaml

from demo import FILO, SOURCE, check, new_home, stages

BOXES = "boxes/{data}.json"
POINTS = [
    {"name": "as trained"},
    {"name": "said again", "evaluate.filter": True, "evaluate.positions": "boxes", "evaluate.boxes": "none"},
    {"name": "without filter", "evaluate.filter": False},
    {"name": "all positions", "evaluate.positions": "all"},
    {"name": "with boxes", "evaluate.boxes": "file", "model.boxes.file": BOXES},
    {"name": "with boxes, off", "evaluate.boxes": "file", "model.boxes.file": BOXES, "model.boxes.suppression": 1},
    {"name": "blurred", "evaluate.gaussian_sigma": 16},
    {"name": "one shot", "evaluate.shots": 1},
    {"name": "three shots", "evaluate.shots": 3},
]


def filo(home, *words):
    done = subprocess.run([FILO, *words], cwd=home, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=500)
    check(done.returncode == 0, f"{' '.join(words)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout


def one_training_is_evaluated_in_many_ways():
    """Guards that what stands in `evaluate` acts, trains nothing again, and draws other few-shot images by its seed alone."""
    home = new_home("inference-home")
    more = ["--family", "boards", "--seed", "7", "--size", "112", "--train", "3", "--good", "3", "--defective", "4", "--classes", "display"]
    filo(home, "dataset", "generate", *more, "--out", "more")
    filo(home, "dataset", "add", "more", "--name", "more-boards", "--workspace", "demo/workspace")
    (home / "boxes").mkdir()
    dataset = json.loads((home / "demo/workspace/datasets/more-boards.json").read_text())
    boxes = {image["path"]: [{"box": [0, 0, 0.4, 0.4], "score": 0.9}] for image in dataset["images"] if image["split"] == "test"}
    (home / "boxes/more-boards.json").write_text(json.dumps(boxes))
    experiment = yaml.safe_load((SOURCE / "configs/experiments/demo-smallest.yaml").read_text())
    experiment.update(name="inference", data={"parts": "generated-parts", "more": "more-boards"}, include=POINTS)
    experiment.update(folds=[{"train": "parts", "test": "more"}], seeds={"train": [0], "evaluate": [0, 1]})
    experiment["tables"] = [{"rows": "name", "metrics": ["image_auroc", "pixel_auroc"]}]
    experiment["train"]["main"]["epochs"] = 1
    (home / "inference.yaml").write_text(yaml.safe_dump(experiment))
    printed = filo(home, "run", "inference.yaml", "--workspace", "demo/workspace")
    print(printed[printed.rindex("name") :])

    kinds = [spec["kind"] for spec, _ in stages(home / "demo/workspace").values()]
    check(kinds.count("train") == 1, f"{kinds.count('train')} trainings")
    report = json.loads(filo(home, "report", "inference", "--workspace", "demo/workspace", "--format", "json"))
    trials = {(trial["axis_values"]["name"], trial["axis_values"]["evaluate.seed"]): trial for trial in report["trials"]}
    map_of = lambda name, seed=0: trials[name, seed]["metrics"]["pixel_auroc"]
    check(trials["as trained", 0]["evaluate"] == trials["said again", 1]["evaluate"], "what was trained, said again, is another evaluation")
    for name in [point["name"] for point in POINTS[2:]]:
        check(map_of(name) != map_of("as trained"), f"{name}: the maps are as those of the model as trained")
    check(map_of("with boxes") != map_of("with boxes, off"), "suppression does not act")
    check(map_of("one shot", 0) != map_of("one shot", 1), "another seed drew the same image")
    check(abs(map_of("three shots", 0) - map_of("three shots", 1)) < 1e-6, "all three images, drawn in another order, make another memory")
    for (name, seed), trial in trials.items():
        low, high = trial["metrics"]["intervals"]["pixel_auroc"]
        check(low <= map_of(name, seed) <= high, f"{name}: {map_of(name, seed)} is not in {low} to {high}")


if __name__ == "__main__":
    globals()[sys.argv[1]]()
