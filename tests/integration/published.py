"""The five commands of docs/how-to/import-filo-checkpoint.md, as written there, with files that the test makes: a checkpoint and a
FiLo.py of the published ones' forms, random weights, a generated data set."""

import json
import os
import pathlib
import re
import shutil
import subprocess

import torch
from safetensors.torch import load_file

from demo import FILO, SCRATCH, SOURCE, WORKER, check

PAGE = (SOURCE / "docs/how-to/import-filo-checkpoint.md").read_text()
# The forms of models/FiLo.py, in other words; the last line would be seen if anything of it were run.
TEXTS = """
status_normal = ["{}", "flawless {}"]
status_abnormal_winclip = ["damaged {}", "{} with flaw"]
cls_map = {}
cls_map["relay board"] = "board"
cls_map["keypad"] = "board"
mvtec_anomaly_detail_gpt = {"candle": "uneven wax,cracks ,extra wax"}
visa_anomaly_detail_gpt = {
    "relay board": "bent pin,missing relay",
    "keypad": "worn key,missing key",  # its board's texts are those of both
}
open("was-run", "w").close()
"""


def run(home, *command, expected=0):
    environment = dict(os.environ, PATH=f"{pathlib.Path(FILO).parent}:{os.environ['PATH']}", FILO_WORKER=WORKER)
    done = subprocess.run(command, cwd=home, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=500)
    check(done.returncode == expected, f"{' '.join(map(str, command))} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout + done.stderr


def make_users_files(home):
    shutil.rmtree(home, ignore_errors=True)
    (home / "FiLo/models").mkdir(parents=True)
    (home / "FiLo/models/FiLo.py").write_text(TEXTS)
    clip = "weights/clip-vit-large-patch14-336"
    run(home, WORKER, "init-clip", "--size", "tiny", "--out", clip, "--vocabulary", SOURCE / ".deps/bpe/bpe_simple_vocab_16e6.txt.gz")
    run(home, WORKER, "probe", "init", "--model", clip, "--spec", SOURCE / "configs/models/filo-release.yaml", "--out", "given.safetensors")
    torch.save({"filo": load_file(home / "given.safetensors")}, home / "filo_vit_l14_336.pth")
    run(home, FILO, "dataset", "generate", "--family", "boards", "--classes", "relay_board,keypad", "--size", "96", "--train", "0",
        "--good", "2", "--defective", "2", "--out", "VisA")
    shutil.copy(next((home / "VisA").rglob("*.[jJ][pP]*[gG]"), None) or next((home / "VisA").rglob("*.png")), home / "candle.png")
    (home / "published.yaml").write_text(re.search(r"```yaml\n(.*?)```", PAGE, re.DOTALL).group(1))


def check_descriptions(home):
    import yaml

    made = yaml.safe_load((home / "filo-descriptions.yaml").read_text())
    check(made["classes"]["relay_board"]["descriptions"] == ["worn key", "missing key"], f"texts of one spoken name: {made}")
    check(made["classes"]["relay_board"]["detector_phrases"] == ["bent pin", "missing relay"], f"what its detector is asked for: {made}")
    check(made["classes"]["candle"]["descriptions"] == ["uneven wax", "cracks ", "extra wax"], f"letter by letter: {made}")
    check(not (home / "was-run").exists(), "something of FiLo.py was run")


def check_refusals(home):
    """Guards against numbers of a checkpoint under settings or weights that it does not belong to."""
    text = (home / "published.yaml").read_text()
    (home / "other.yaml").write_text(text.replace("name: published", "name: other").replace("train: {ch", "train: {seed: 1, ch") + "axes: {model.image_size: [336]}\n")
    message = run(home, FILO, "plan", "other.yaml", "--workspace", "workspace", expected=2)
    check("model.clip_activation" in message or "model.image_size" in message, message)
    (home / "other.yaml").write_text(text.replace("published/{train}", "nowhere"))
    message = run(home, FILO, "plan", "other.yaml", "--workspace", "workspace", expected=2)
    check("train.checkpoint: found nowhere, without settings.json" in message, message)
    run(home, WORKER, "init-clip", "--size", "tiny", "--seed", "7", "--out", "other-weights", "--vocabulary", SOURCE / ".deps/bpe/bpe_simple_vocab_16e6.txt.gz")
    message = run(home, WORKER, "predict", "--checkpoint", "published/mvtec", "--class", "candle", "--image", "candle.png", "--clip", "other-weights", expected=2)
    check("are not the ones the checkpoint was trained over" in message, message)


def main():
    home = SCRATCH / "published-home"
    make_users_files(home)
    commands = re.search(r"```sh\n(.*?)```", PAGE, re.DOTALL).group(1).strip().splitlines()
    check(len(commands) == 5, f"{len(commands)} commands, five expected")
    for command in commands:
        print(f"$ {command}\n{(said := run(home, *command.split()))}")
    check(re.search(r"mvtec->visa +\S+", said) or re.search(r"\d+\.\d", said), f"no table row in what filo run printed: {said}")
    check_descriptions(home)
    report = json.loads(run(home, FILO, "report", "published", "--workspace", "workspace", "--format", "json"))
    metrics = report["trials"][0]["metrics"]
    check(0 <= metrics["image_auroc"] <= 1 and metrics["pixel_auroc"] is not None, f"no row of the table: {metrics}")
    check(report["settings"]["model"]["clip_activation"] == "gelu", "the activation that the results were computed with")
    shown = run(home, FILO, "config", "show", "published.yaml")
    check("clip_activation: gelu" in shown, f"config show: {shown}")
    check_refusals(home)
    print("a published checkpoint: predict, and a row of a table")


if __name__ == "__main__":
    main()
