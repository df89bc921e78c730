"""FiLo's .pth files as torch.save writes them; a pickle that wants to run something is refused and runs nothing."""

import io
import json
import os
import pickle
import zipfile
from collections import OrderedDict

import torch
from safetensors.torch import load_file

from clip_folders import Folder, worker


def state_dict(prefix=""):
    torch.manual_seed(0)
    module = torch.nn.Module()
    module.decoder_linear = torch.nn.Module()
    module.decoder_linear.fc = torch.nn.ModuleList([torch.nn.Linear(6, 4) for _ in range(2)])
    module.adapter = torch.nn.Sequential(torch.nn.Linear(4, 2, bias=False))
    module.clip_model = torch.nn.Linear(3, 3)
    module.extra = torch.nn.Linear(2, 2)
    state = module.state_dict()  # an OrderedDict with _metadata, as a real one
    shared = torch.arange(20, dtype=torch.float32)
    state["normal_prompt_learner.ctx"] = shared.view(4, 5).t()[1:]  # a view into a larger storage, not contiguous
    state["abnormal_prompt_learner.ctx"] = shared[3:9].half()
    if prefix:
        state = OrderedDict((prefix + name, value) for name, value in state.items())
    return state


def check(folder, saved, state):
    torch.save(saved, folder / "c.pth")
    worker("import-checkpoint", folder / "c.pth", "--model", folder / "model.yaml")
    ours = load_file(folder / "c/params.safetensors")
    theirs = {name.removeprefix("module."): value for name, value in state.items()}
    theirs = {name: value for name, value in theirs.items() if not name.startswith(("clip_model.", "extra."))}
    assert sorted(ours) == sorted(theirs), sorted(ours)
    for name, value in theirs.items():
        assert torch.equal(ours[name], value.float()), name


def check_settings(folder):
    settings = json.loads((folder / "c/settings.json").read_text())
    assert settings["model"]["prompts"]["vectors"] == 4, settings
    assert settings["model"]["mdci"]["kernels"] == [], settings
    assert settings["clip"]["digest"] == "" and settings["imported"]["file"].endswith("c.pth"), settings
    assert "bottle" in settings["descriptions"]["classes"], settings
    message = worker("import-checkpoint", folder / "c.pth", expect=2)
    assert "found decoder_linear of 2 layers, expected 4" in message and "--model" in message, message
    (folder / "there").mkdir()
    (folder / "there/mine.txt").write_text("mine")
    message = worker("import-checkpoint", folder / "c.pth", "--model", folder / "model.yaml", "--out", folder / "there", expect=2)
    assert "is no checkpoint" in message and (folder / "there/mine.txt").exists(), message


class Hostile:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


def refused(folder, write, says):
    write(folder / "bad.pth")
    message = worker("import-checkpoint", folder / "bad.pth", "--out", folder / "bad", expect=2)
    assert says in message and "bad.pth" in message and message.count("\n") == 1, message
    assert not (folder / "bad").exists()


def check_refusals(folder):
    witness = folder / "witness"
    refused(folder, lambda path: torch.save({"filo": Hostile(witness)}, path), "system")
    assert not witness.exists()
    refused(folder, lambda path: torch.save({"filo": {"adapter.fc.0.weight": Hostile(witness)}}, path), "system")
    assert not witness.exists()
    refused(folder, lambda path: torch.save({"filo": {"adapter.fc.0.weight": 3}}, path), "not a tensor")
    refused(folder, lambda path: torch.save({"filo": {"adapter.fc.0.weight": torch.tensor([float("nan")])}}, path), "NaN")
    refused(folder, lambda path: torch.save({"model": {"weight": torch.zeros(1)}}, path), "none of FiLo's parameters")
    refused(folder, lambda path: torch.save([1], path), "dictionary")
    refused(folder, lambda path: path.write_bytes(b"nonsense"), "not a file of torch.save")
    refused(folder, lambda path: path.write_bytes(pickle.dumps({"a": 1})), "not a file of torch.save")
    refused(folder, lambda path: torch.save({"filo": state_dict()}, path, _use_new_zipfile_serialization=False), "before PyTorch 1.6")
    buffer = io.BytesIO()
    torch.save({"filo": state_dict()}, buffer)
    refused(folder, lambda path: path.write_bytes(buffer.getvalue()[:-200]), "not a file of torch.save")

    def without_storage(path):
        with zipfile.ZipFile(buffer) as source, zipfile.ZipFile(path, "w") as target:
            for item in source.infolist():
                if not item.filename.endswith("/data/0"):
                    target.writestr(item.filename, source.read(item))

    refused(folder, without_storage, "not a file of torch.save")


def main():
    with Folder() as folder:
        (folder / "model.yaml").write_text(json.dumps({"profile": "filo-release", "layers": [1, 2], "vv_from": 2, "mdci": {"deformable": False},
                                                       "prompts": {"fixed_template": False, "filter": False}}))
        check(folder, {"filo": state_dict()}, state_dict())
        check(folder, state_dict("module."), state_dict("module."))
        check_settings(folder)
        check_refusals(folder)
    print("import-checkpoint: equal")


main()
