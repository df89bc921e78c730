"""Bundles: `export: [bundle]` through `filo run`, and what their users do with them. Starts from the folder that demo.py leaves."""

import json
import pathlib
import shutil
import subprocess

import yaml
from safetensors import safe_open

from boxes import of_experiment
from demo import FILO, HOME, SCRATCH, SOURCE, WORKER, check, new_home, outcome


def predict(checkpoint, class_name, image):
    command = [WORKER, "predict", "--checkpoint", checkpoint, "--class", class_name, "--image", image, "--json"]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    check(done.returncode == 0, f"predict over {checkpoint}: {done.stderr}")
    return json.loads(done.stdout)


def main():
    """Guards: each training is exported once and none is run again; a bundle gives the same scores where there is no
    workspace, no CLIP folder and no experiment."""
    home = new_home("export-home")
    shutil.copytree(HOME / "demo/workspace", home / "demo/workspace", dirs_exist_ok=True)
    before = outcome(home / "demo/workspace")
    experiment = yaml.safe_load((SOURCE / "configs/experiments/demo-smallest.yaml").read_text())
    experiment.update(name="with-bundles", export=["bundle"])
    (home / "with-bundles.yaml").write_text(yaml.safe_dump(experiment))
    command = [FILO, "run", "with-bundles.yaml", "--workspace", "demo/workspace"]
    done = subprocess.run(command, cwd=home, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=500)
    check(done.returncode == 0, f"filo run: {done.stdout}{done.stderr}")
    check({key: value for key, value in outcome(home / "demo/workspace").items() if key in before} == before, "what was done is done no more")
    exports = of_experiment(home, "with-bundles", "export")
    trainings = of_experiment(home, "with-bundles", "train")
    check(sorted(spec["inputs"]["train"] for _, spec, _ in exports) == sorted(key for key, _, _ in trainings), "an export of each training")

    away = SCRATCH / "export-away"
    shutil.rmtree(away, ignore_errors=True)
    images = {}
    for name in ("generated-parts", "generated-boards"):
        dataset = json.loads((home / f"demo/workspace/datasets/{name}.json").read_text())
        image = next(one for one in dataset["images"] if one["split"] == "test" and one["mask"])
        images[name] = image["class"], pathlib.Path(dataset["root"]) / image["path"]
    for number, (key, spec, result) in enumerate(exports):
        check(result["artifacts"] == {"bundle": "bundle"}, f"artifacts of {key}: {result['artifacts']}")
        bundle = away / str(number)
        shutil.copytree(home / "demo/workspace/stages" / key / "bundle", bundle)
        sums = subprocess.run(["sha256sum", "--check", "--strict", "SHA256SUMS"], cwd=bundle, capture_output=True, text=True)
        listed = {line.split(": ")[0] for line in sums.stdout.splitlines()}
        there = {str(path.relative_to(bundle)) for path in bundle.rglob("*") if path.is_file()} - {"SHA256SUMS"}
        check(sums.returncode == 0 and listed == there, f"sha256sum --check: {sums.stdout}{sums.stderr}; files {there}")
        with safe_open(bundle / "params.safetensors", "pt") as tensors:
            check(len(tensors.keys()) > 10, "the safetensors package opens the parameters")
        check(str(home) not in (bundle / "settings.json").read_text(), "a bundle names no path of where it was made")
        settings = json.loads((bundle / "settings.json").read_text())
        trained_on = settings["trained_on"] if isinstance(settings["trained_on"], list) else [settings["trained_on"]]
        class_name, image = images[trained_on[0]["name"] if isinstance(trained_on[0], dict) else trained_on[0]]
        expected = predict(home / "demo/workspace/stages" / spec["inputs"]["train"] / "checkpoint", class_name, image)
        clip = home / "demo/weights"
        clip.rename(home / "demo/elsewhere")
        try:
            check(predict(bundle, class_name, image) == expected, "a bundle scores as its checkpoint does")
        finally:
            (home / "demo/elsewhere").rename(clip)
    print(f"{len(exports)} bundles: sums hold, scores are the checkpoints'")


if __name__ == "__main__":
    main()
