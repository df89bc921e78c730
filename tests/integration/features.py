"""Feature caches where something goes wrong: `features.py NAME` runs the check of that name. They start from what the demo left
(FILO_SCRATCH/demo-home), in folders of their own, and compare with the cache that nobody disturbed."""

import json
import os
import resource
import shutil
import signal
import subprocess
import sys

import h5py
import numpy as np
import yaml
from safetensors.numpy import load_file

import stages
from demo import EXPERIMENT, FILO, SOURCE, WORKER, check, new_home, outcome
from stages import UNDISTURBED, Lab

SMALL = ("--shard-size", "400K")  # some samples of the demo each


def manifest_of(folder):
    return json.loads((folder / "manifest.json").read_text())


def content(folder):
    """{image: {tensor: array}}, as h5py reads it; also what the manifest says of each image."""
    manifest, found = manifest_of(folder), {}
    for sample in manifest["samples"]:
        with h5py.File(folder / manifest["shards"][sample["shard"]]["file"]) as shard:
            found[sample["image"]] = {name: shard[name][sample["row"]] for name in manifest["tensors"]}
            found[sample["image"]]["says"] = {key: sample.get(key) for key in ("class", "label", "split", "defect", "masked", "parts")}
    return found


def check_same_content(folder, expected):
    """Bit for bit."""
    found = content(folder)
    check(list(found) == list(expected), "other images, or in another order")
    for image, tensors in expected.items():
        check(list(found[image]) == list(tensors), f"{image} has {list(found[image])}")
        for name, value in tensors.items():
            check(np.array_equal(found[image][name], value) if name != "says" else found[image][name] == value, f"{image}: {name} differs")


def damage(folder, number=0):
    """Flips a byte of a map of the manifest's sample of that number; returns the shard."""
    manifest = manifest_of(folder)
    sample = manifest["samples"][number]
    shard = folder / manifest["shards"][sample["shard"]]["file"]
    with open(shard, "r+b") as file:
        file.seek(sample["offsets"][manifest["tensors"].index("qkv/6")] + 100)
        byte = file.read(1)
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte[0] ^ 4]))
    return shard, sample["image"]


class Building(Lab):
    """A features stage, with nothing built yet."""

    def __init__(self, name):
        super().__init__(name, "features")
        self.cache = self.workspace / "features" / self.key

    def start(self, **options):
        return super().start(options=SMALL, **options)


def filo(home, *arguments, code=0):
    done = subprocess.run([FILO, *arguments, "--workspace", "demo/workspace"], cwd=home, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=300)
    check(done.returncode == code, f"filo {' '.join(arguments)} ended with {done.returncode}, expected {code}:\n{done.stdout}{done.stderr}")
    return done.stdout + done.stderr


def whole_workspace(name):
    """A home with a copy of all that the demo's workspace has."""
    home = new_home(name)
    shutil.rmtree(home / "demo/workspace")
    shutil.copytree(UNDISTURBED, home / "demo/workspace")
    return home, home / "demo/workspace"


def a_build_is_the_same_on_any_number_of_ranks():
    """Guards shards of any size made by any number of ranks: one has the samples of another, and every shard opens in HDF5's own tools."""
    for ranks in (1, 3):
        lab = Building(f"built-by-{ranks}")
        lab.run(ranks=ranks)
        shards = manifest_of(lab.cache)["shards"]
        check(len(shards) > 4, f"shards: {shards}")
        check(not list(lab.cache.glob(".*")), "what was half written is still there")
        check_same_content(lab.cache, content(UNDISTURBED / "features" / lab.key))
        progress = lab.events("progress")
        check(progress[-1]["done"] == progress[-1]["total"] and progress[-1]["images_per_s"] > 0, f"told: {progress[-1]}")
        for shard in shards:
            for tool in (["h5ls", "-r"], ["h5dump", "-H"]):
                done = subprocess.run([*tool, lab.cache / shard["file"]], capture_output=True, text=True)
                check(done.returncode == 0 and "qkv" in done.stdout, f"{tool} says of {shard['file']}: {done.stderr}")


def a_build_that_was_disturbed_goes_on():
    """Guards kill -9, a damaged shard and a stop: what is whole stays, what is not is made again, by any number of ranks."""
    lab = Building("disturbed")
    process = lab.start()
    lab.wait_for("progress", 2, process)
    for rank in lab.ranks(process).values():
        os.kill(rank, signal.SIGKILL)
    process.wait(timeout=60)
    whole = sorted(path.name for path in lab.cache.glob("shard-*.h5"))
    check(whole and list(lab.cache.glob(".shard*")), f"nothing was whole, or nothing half written: {whole}")
    with open(lab.cache / whole[0], "r+b") as file:
        file.seek((lab.cache / whole[0]).stat().st_size // 2)
        file.write(b"damage")
    process = lab.start(ranks=3)
    lab.wait_for("started", 1, process)  # few batches are left
    lab.stop_rank(process, 1)
    told = lab.finish(process, 75)
    check("set aside, its images are encoded again" in told and whole[0] in told, told)
    lab.run(ranks=1)
    check((lab.cache / (whole[0] + ".damaged")).exists() and not (lab.cache / whole[0]).exists(), "the damaged shard was not set aside")
    check(whole[-1] in [shard["file"] for shard in manifest_of(lab.cache)["shards"]], "what was whole was made again")
    check_same_content(lab.cache, content(UNDISTURBED / "features" / lab.key))


def every_type_of_feature_is_what_its_name_says():
    """Guards conversions: float16, bfloat16 and int8 are NumPy's roundings of float32, the scale of int8 is a patch's largest value over 127,
    and what filo-release has under several names is stored once, with the same numbers."""
    found = {}
    for kind in ("f32", "f16", "bf16", "int8"):
        lab = Building(f"type-{kind}")
        lab.spec["feature_type"] = kind
        lab.write_spec(lab.spec)
        lab.run()
        found[kind] = content(lab.cache)
    for image, exact in found["f32"].items():
        for name, value in exact.items():
            if not name.startswith(("qkv/", "vv/")):
                continue
            check(value.dtype == np.float32, f"{name}: {value.dtype}")
            check(np.array_equal(found["f16"][image][name], value.astype(np.float16)), f"{image}: {name} as float16")
            bits = value.view(np.uint32)
            rounded = ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)  # to nearest, ties to even
            check(np.array_equal(found["bf16"][image][name], rounded), f"{image}: {name} as bfloat16")
            scale = found["int8"][image][name.replace("/", "_scale/")]
            check(np.allclose(scale, np.abs(value).max(axis=1) / 127, rtol=1e-6), f"{image}: the scale of {name}")
            back = found["int8"][image][name] * scale[:, None]
            check(np.abs(back - value).max(axis=1).max() <= 0.5001 * scale.max(), f"{image}: {name} as int8")
    lab = Building("aliased")
    lab.spec["profile"] = "filo-release"
    lab.write_spec(lab.spec)
    lab.run()
    manifest = manifest_of(lab.cache)
    check(manifest["layout"]["same_as"] == {"vv/12": "qkv/6", "vv/18": "qkv/6", "vv/24": "qkv/6"}, f"layout: {manifest['layout']}")
    check(manifest["tensors"] == ["global", "qkv/6", "qkv/12", "qkv/18", "qkv/24", "mask"], f"tensors: {manifest['tensors']}")


def a_full_disk_ends_a_build_and_the_next_one_goes_on():
    """Guards a shard for which there is no room: the stage names the file, what was whole stays, and where there is room again the next
    attempt goes on. By a limit on files, and on a small disk of its own where this user may mount one."""
    lab = Building("full-disk")
    process = lab.start()
    lab.wait_for("progress", 2, process)
    for rank in lab.ranks(process).values():
        resource.prlimit(rank, resource.RLIMIT_FSIZE, (100_000, 100_000))
    told = lab.finish(process, 1)
    check(".shard." in lab.events("failed")[0]["message"] if lab.events("failed") else ".shard." in told, told)
    check(list(lab.cache.glob("shard-*.h5")) and not (lab.cache / "manifest.json").exists(), "what was whole is gone, or it is called finished")
    lab.run()
    check_same_content(lab.cache, content(UNDISTURBED / "features" / lab.key))

    lab = Building("small-disk")
    lab.cache.mkdir(parents=True)
    (lab.stage / "attempts/1").mkdir(parents=True)
    lab.attempt = 1
    inside = f"mount -t tmpfs -o size=1m none {lab.cache} || exit 77; {' '.join(lab.command(lab.workspace))} --shard-size 400K; code=$?; ls {lab.cache}; exit $code"
    done = subprocess.run(["unshare", "-r", "-m", "sh", "-c", inside], cwd=lab.home, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120)
    if done.returncode == 77 or "unshare failed" in done.stderr:
        print("no small disk: this user may not mount one")
        return
    check(done.returncode == 1 and ".shard." in done.stderr and "No space left on device" in done.stderr, f"ended with {done.returncode}: {done.stderr}")
    check("shard-00000.h5" in done.stdout and "manifest.json" not in done.stdout, done.stdout)


def of_two_builders_the_later_one_goes_on():
    """Guards two jobs for one cache, started by hand: the first one ends and says why, the cache is whole and built once."""
    lab = Building("two-builders")
    first = lab.start()
    lab.wait_for("progress", 1, first)
    log = lab.log
    second = lab.start()
    code = first.wait(timeout=120)
    check(code == 1 and "superseded by attempt 2" in log.read_text(), f"the first ended with {code}: {log.read_text()}")
    lab.finish(second)
    check_same_content(lab.cache, content(UNDISTURBED / "features" / lab.key))
    samples = 0
    for shard in lab.cache.glob("shard-*.h5"):
        with h5py.File(shard) as file:
            samples += len(file["label"])
    check(samples <= len(manifest_of(lab.cache)["samples"]) + 8, f"{samples} samples were made")


def a_damaged_shard_is_made_anew_and_its_reader_goes_on():
    """Guards damage that a training meets: the run sets the shard aside, makes it anew in its own stage and trains on, to the same numbers;
    and the same by hand, with filo features."""
    home, workspace = whole_workspace("damaged-home")
    train, spec = next((key, spec) for key, (spec, _) in stages.stages(workspace).items() if spec["kind"] == "train")
    features = spec["inputs"]["features"]
    expected = outcome(workspace)
    cache = workspace / "features" / features
    for key, (_, result) in stages.stages(workspace).items():
        if key == train or train in json.dumps(result or {}):
            shutil.rmtree(workspace / "stages" / key)
    shard, image = damage(cache, 3)
    process = subprocess.run([FILO, "run", EXPERIMENT, "--workspace", "demo/workspace"], cwd=home, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=300)
    check(process.returncode == 0, f"filo run ended with {process.returncode}:\n{process.stdout}{process.stderr}")
    end = json.loads((workspace / "stages" / train / "attempts/1/end.json").read_text())
    check(end["outcome"] == "stopped" and image in end["reason"] and "was set aside" in end["reason"], f"the end: {end}")
    check(shard.with_name(shard.name + ".damaged").exists(), "the shard was not set aside")
    check(outcome(workspace) == expected, "other numbers")
    check_same_content(cache, content(UNDISTURBED / "features" / features))

    check("every byte is as it was written" in filo(home, "features", "verify", features), "verify finds something")
    listed = filo(home, "features", "list")
    check(features in listed and "1 set aside" in listed and "demo" in listed, listed)
    shard, image = damage(cache, 5)
    told = filo(home, "features", "verify", features, code=1)
    check(shard.name in told and image in told and "qkv/6" in told and "filo features repair" in told, told)
    told = filo(home, "features", "repair", features[:6])
    check(f"set aside: {shard.name}" in told, told)
    check_same_content(cache, content(UNDISTURBED / "features" / features))
    check("there is nothing to repair" in filo(home, "features", "repair", features), "repair finds something")
    (cache / "manifest.json").write_text("{}")
    filo(home, "features", "repair", features)
    check_same_content(cache, content(UNDISTURBED / "features" / features))

    told = filo(home, "features", "gc", code=2)
    check("expected --yes" in told, told)
    shutil.rmtree(workspace / "experiments")
    told = json.loads(filo(home, "features", "gc", "--json"))
    check(features in told["caches"] and not told["removed"] and cache.exists(), f"gc says {told}")
    filo(home, "features", "gc", "--yes")
    check(not cache.exists() and not (workspace / "stages" / features / "result.json").exists(), "the cache is still there")


def a_local_copy_is_read_and_mended():
    """Guards resources.local_copy: ranks read the copy and train to the same parameters; damage of the copy is no damage of the cache."""
    lab = Lab("local-copy", "train")
    disk = lab.home / "disk"
    disk.mkdir()
    os.environ["LOCAL_DISK"] = str(disk)
    options = ["--local-copy", "$LOCAL_DISK/caches"]
    stages.stop_after(lab, "step", 1, options=options)
    (copy,) = disk.glob("caches/filo-features/*")
    damage(copy, 3)
    told = lab.run(code=75, options=options)
    check("this was a local copy, which is made again" in told and "caches/filo-features" in told, told)
    check((UNDISTURBED / "features" / lab.spec["inputs"]["features"] / "manifest.json").exists(), "the cache itself was touched")
    lab.run(options=options)
    lab.check_same_checkpoint()
    lab = Lab("no-variable", "train")
    told = lab.run(code=2, options=["--local-copy", "$NOT_THERE"])
    check("the environment of this job has no NOT_THERE" in told, told)


def labels_without_masks_come_to_a_report():
    """Guards data sets as factories have them: defects without masks train and test; what is undefined is null, with the number of images
    and the reason in every format, and what is made of fewer images says so."""
    home = new_home("labels-home")
    for name, family in ("some", "parts"), ("none", "boards"):
        filo_here = [FILO, "dataset", "generate", "--family", family, "--seed", "7", "--size", "112", "--train", "1", "--good", "3", "--defective", "4"]
        subprocess.run([*filo_here, "--out", name], cwd=home, check=True, stdout=subprocess.DEVNULL)
    rows = (home / "none/split_csv/1cls.csv").read_text().splitlines()
    (home / "none/split_csv/1cls.csv").write_text("\n".join([rows[0]] + [row.rsplit(",", 1)[0] + "," for row in rows[1:]]) + "\n")
    masks = sorted((home / "some").glob("*/ground_truth/*/*"))
    for mask in masks[::2]:
        mask.unlink()
    told = filo(home, "dataset", "add", "some", "--name", "some-masks", code=2)
    check("--masks optional" in told, told)
    filo(home, "dataset", "add", "some", "--name", "some-masks", "--masks", "optional")
    told = filo(home, "dataset", "add", "none", "--name", "labels")
    check("16 " in told and "mask" in told, told)
    experiment = yaml.safe_load((SOURCE / EXPERIMENT).read_text())
    experiment.update(name="labels", data={"some": "some-masks", "none": "labels"})
    experiment["folds"] = [{"train": "some", "test": "none"}]
    (home / "labels.yaml").write_text(yaml.safe_dump(experiment))
    filo(home, "run", "labels.yaml")
    metrics = json.loads(filo(home, "report", "labels", "--format", "json"))["trials"][0]["metrics"]
    check(0 <= metrics["image_auroc"] <= 1 and metrics["pixel_auroc"] is None and metrics["without_mask"] == 16, f"metrics: {metrics}")
    reason = "no mask with a defect: 16 anomalous images have no mask"
    check(metrics["reasons"]["pixel_auroc"] == reason, f"reasons: {metrics['reasons']}")
    for form in ("md", "tex", "csv", "json", "html"):
        check(reason in filo(home, "report", "labels", "--format", form), f"{form} does not say why")

    trained, steps = next((key, spec) for key, (spec, _) in stages.stages(home / "demo/workspace").items() if spec["kind"] == "train")
    events = [json.loads(line) for line in (home / "demo/workspace/stages" / trained / "attempts/1/events.jsonl").read_text().splitlines()]
    images = {phase: max(e["steps"] for e in events if e["event"] == "step" and e["phase"] == phase) for phase in ("main", "adapter")}
    all_images, masked = 28, 28 - len(masks[::2])
    check(images == {"main": -(-masked // 4), "adapter": all_images // 4}, f"steps an epoch: {images}, of {masked} and {all_images} images")

    experiment.update(name="turned", folds=[{"train": "none", "test": "some"}])
    (home / "turned.yaml").write_text(yaml.safe_dump(experiment))
    told = filo(home, "plan", "turned.yaml", code=2)
    check("found no mask of the 16 anomalous images of data set labels" in told, told)
    experiment.update(name="tested", data={"some": "some-masks", "parts": "generated-boards"}, folds=[{"train": "parts", "test": "some"}])
    (home / "tested.yaml").write_text(yaml.safe_dump(experiment))
    filo(home, "run", "tested.yaml")
    told = filo(home, "report", "tested")
    check(f"pixel metrics leave out {len(masks[::2])} anomalous images that have no mask" in told, told)


def large_images_and_mosaics_come_to_a_report():
    """Guards tiling and mosaics as a user sets them: tiles and mosaics in caches of their own that h5py reads, maps of whole images in
    metrics, heat maps and predict, and the same numbers on any number of ranks."""
    caches, metrics = [], []
    for ranks in 1, 2:
        home = new_home(f"tiled-home-{ranks}")
        for name, size in ("parts", "112"), ("boards", "224"):
            here = [FILO, "dataset", "generate", "--family", name, "--seed", "7", "--size", size, "--train", "2", "--good", "3", "--defective", "2"]
            subprocess.run([*here, "--out", name], cwd=home, check=True, stdout=subprocess.DEVNULL)
            filo(home, "dataset", "add", name, "--name", f"{name}-{size}")
        experiment = yaml.safe_load((SOURCE / EXPERIMENT).read_text())
        experiment.update(name="tiled", data={"parts": "parts-112", "boards": "boards-224"})
        experiment["model"]["tiling"] = {"size": 112, "overlap": 0.25}
        experiment["train"]["augment"] = {"mosaic": {"rate": 0.5, "variants": 3}}
        experiment["evaluate"] = {"heat_maps": 1, "shots": 1}
        experiment["resources"]["ranks"] = ranks
        experiment["folds"] = experiment["folds"][:ranks]  # the other one once
        (home / "tiled.yaml").write_text(yaml.safe_dump(experiment))
        told = filo(home, "plan", "tiled.yaml")
        check(f"{5 if ranks == 1 else 8} distinct stages" in told, told)
        filo(home, "run", "tiled.yaml")
        workspace = home / "demo/workspace"
        caches.append({folder.name: content(folder) for folder in (workspace / "features").iterdir()})
        metrics.append({key: value for key, value in outcome(workspace).items() if isinstance(value, dict)})
    for key in caches[0]:
        check_same_content(workspace / "features" / key, caches[0][key])
    for key, value in metrics[0].items():
        for name in "image_auroc", "pixel_auroc", "aupro":
            check(abs(value[name] - metrics[1][key][name]) < 1e-3, f"{name} is {value[name]} on one rank, {metrics[1][key][name]} on two")
    check_tiles_and_mosaics(home, workspace)


def check_tiles_and_mosaics(home, workspace):
    """What the caches hold, what evaluations tell of tiles, and predict on an image that is cut."""
    of_kind = lambda kind: [(key, spec) for key, (spec, _) in stages.stages(workspace).items() if spec["kind"] == kind]
    features = {(spec["dataset"]["name"], spec.get("mosaics", 0)): manifest_of(workspace / "features" / key) for key, spec in of_kind("features")}
    counts = {name: len(manifest["samples"]) for name, manifest in features.items()}
    whole, classes = sum(1 for _ in (home / "parts").glob("*/test/*/*")), 4
    boards = len({part["image"] for sample in features["boards-224", 0]["samples"] for part in sample["parts"]})
    expected = {("parts-112", 0): whole, ("boards-224", 0): 9 * boards, ("parts-112", 3): 3 * classes, ("boards-224", 3): 3 * classes}
    check(counts == expected, f"samples: {counts}, expected {expected}")
    tiles = [sample for sample in features["boards-224", 0]["samples"] if sample["defect"] != "good"]
    by_image = {}
    for sample in features["boards-224", 0]["samples"]:
        by_image.setdefault(sample["parts"][0]["image"], []).append(sample["label"])
    check(all(any(labels) != all(labels) or not any(labels) for labels in by_image.values()), "every tile of an anomalous image is anomalous")
    check(tiles and all(sample["image"] == f"{sample['parts'][0]['image']}#xywh=" + ",".join(map(str, sample["parts"][0]["tile"])) for sample in tiles), "names")
    check(all(len(sample["parts"]) == 4 for sample in features["boards-224", 3]["samples"]), "a mosaic is of four")
    key = next(key for key, spec in of_kind("features") if spec["dataset"]["name"] == "boards-224" and "mosaics" not in spec)
    with h5py.File(workspace / "features" / key / features["boards-224", 0]["shards"][0]["file"]) as shard:
        check(json.loads(shard["parts"][0])[0]["size"] == [224, 224], "parts in the shard")

    for key, spec in of_kind("evaluate"):
        told = json.loads((workspace / "stages" / key / "result.json").read_text())["artifacts"]
        said = json.loads((workspace / "stages" / key / told["interpretations"]).read_text())
        cut = spec["dataset"]["name"] == "boards-224"
        entries = [entry for images in said.values() for entries in images.values() for entry in entries]
        check(entries and all(("tile" in entry) == cut for entry in entries), f"interpretations of {spec['dataset']['name']}")
    trained = next(key for key, spec in of_kind("train") if spec["dataset"]["name"] == "parts-112")
    image = home / "boards" / features["boards-224", 0]["samples"][0]["parts"][0]["image"]
    command = [WORKER, "predict", "--checkpoint", workspace / "stages" / trained / "checkpoint", "--class", features["boards-224", 0]["samples"][0]["class"]]
    command += ["--descriptions", SOURCE / "configs/descriptions/generated.yaml", "--out", "out", "--json", "--image", image]
    done = subprocess.run(command, cwd=home, capture_output=True, text=True)
    check(done.returncode == 0, done.stderr)
    result = json.loads(done.stdout)
    result = result[0] if isinstance(result, list) else result
    check("tile" in result["descriptions"][0], f"predict: {result}")
    map_size = load_file(home / result["map"])["map"].shape
    check(map_size == (224, 224), f"the map of an image of 224 x 224 in tiles of 112 is {map_size}")


if __name__ == "__main__":
    globals()[sys.argv[1]]()
