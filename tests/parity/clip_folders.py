"""Small random CLIP folders, and running filo-worker: shared by the parity scripts."""

import json
import os
import subprocess
import tempfile
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from transformers import CLIPConfig, CLIPModel, CLIPTokenizerFast

SOURCE = Path(os.environ["FILO_SOURCE_DIR"])
WORKER = os.environ["FILO_WORKER"]
VOCABULARY = SOURCE / ".deps/bpe/bpe_simple_vocab_16e6.txt.gz"


def worker(*arguments, expect=0):
    """Runs filo-worker; returns its stderr. Fails unless it exits with `expect`."""
    result = subprocess.run([WORKER, *map(str, arguments)], capture_output=True, text=True)
    assert result.returncode == expect, f"{arguments}: exit {result.returncode}, expected {expect}: {result.stderr}"
    return result.stderr


def init_clip(folder, seed=1):
    worker("init-clip", "--size", "tiny", "--seed", seed, "--out", folder, "--vocabulary", VOCABULARY)
    return folder


def transformers_clip(folder, tokenizer_from, seed, vision, text, projection, dtype=torch.float32):
    """A folder that transformers itself writes, with sizes and an initialisation of its own."""
    torch.manual_seed(seed)
    model = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=projection)).eval()
    with torch.no_grad():
        for parameter in model.parameters():  # the default initialisation hides mistakes: biases 0, weights tiny
            parameter.add_(0.05 * torch.randn_like(parameter))
    model.to(dtype).save_pretrained(folder)
    CLIPTokenizerFast.from_pretrained(tokenizer_from).save_pretrained(folder)
    return folder


def small_towers(activation="quick_gelu"):
    vision = dict(hidden_size=48, intermediate_size=80, num_hidden_layers=7, num_attention_heads=3, image_size=24,
                  patch_size=6, hidden_act=activation)
    text = dict(hidden_size=40, intermediate_size=100, num_hidden_layers=3, num_attention_heads=5, hidden_act=activation)
    return vision, text


def open_clip_folder(folder, hugging_face, with_config=True):
    """The weights of a Hugging Face folder under OpenCLIP's names."""
    folder.mkdir()
    weights = load_file(hugging_face / "model.safetensors")
    config = json.loads((hugging_face / "config.json").read_text())
    text, vision = config["text_config"], config["vision_config"]
    out = {"logit_scale": weights["logit_scale"]}
    for tower, stem in (("text_model", "transformer"), ("vision_model", "visual.transformer")):
        layers = (text if tower == "text_model" else vision)["num_hidden_layers"]
        for i in range(layers):
            source, target = f"{tower}.encoder.layers.{i}.", f"{stem}.resblocks.{i}."
            for kind in ("weight", "bias"):
                parts = [weights[f"{source}self_attn.{part}_proj.{kind}"] for part in "qkv"]
                out[f"{target}attn.in_proj_{kind}"] = torch.cat(parts)
                for theirs, ours in (("self_attn.out_proj", "attn.out_proj"), ("layer_norm1", "ln_1"),
                                     ("layer_norm2", "ln_2"), ("mlp.fc1", "mlp.c_fc"), ("mlp.fc2", "mlp.c_proj")):
                    out[f"{target}{ours}.{kind}"] = weights[f"{source}{theirs}.{kind}"]
    for theirs, ours in (("vision_model.pre_layrnorm", "visual.ln_pre"), ("vision_model.post_layernorm", "visual.ln_post"),
                         ("text_model.final_layer_norm", "ln_final")):
        for kind in ("weight", "bias"):
            out[f"{ours}.{kind}"] = weights[f"{theirs}.{kind}"]
    out["token_embedding.weight"] = weights["text_model.embeddings.token_embedding.weight"]
    out["positional_embedding"] = weights["text_model.embeddings.position_embedding.weight"]
    out["text_projection"] = weights["text_projection.weight"].t().contiguous()
    out["visual.proj"] = weights["visual_projection.weight"].t().contiguous()
    out["visual.class_embedding"] = weights["vision_model.embeddings.class_embedding"]
    out["visual.conv1.weight"] = weights["vision_model.embeddings.patch_embedding.weight"]
    out["visual.positional_embedding"] = weights["vision_model.embeddings.position_embedding.weight"]
    save_file(out, folder / "open_clip_model.safetensors")
    if with_config:
        (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": {
            "embed_dim": config["projection_dim"], "quick_gelu": vision["hidden_act"] == "quick_gelu",
            "vision_cfg": {"image_size": vision["image_size"], "layers": vision["num_hidden_layers"],
                           "width": vision["hidden_size"], "patch_size": vision["patch_size"],
                           "head_width": vision["hidden_size"] // vision["num_attention_heads"],
                           "mlp_ratio": vision["intermediate_size"] / vision["hidden_size"]},
            "text_cfg": {"context_length": text["max_position_embeddings"], "vocab_size": text["vocab_size"],
                         "width": text["hidden_size"], "heads": text["num_attention_heads"],
                         "layers": text["num_hidden_layers"],
                         "mlp_ratio": text["intermediate_size"] / text["hidden_size"]}}}))
    for name in ("vocab.json", "merges.txt"):
        (folder / name).write_bytes((hugging_face / name).read_bytes())
    return folder


def assert_close(name, ours, theirs, tolerance=1e-4):
    assert ours.shape == theirs.shape, f"{name}: shape {tuple(ours.shape)}, expected {tuple(theirs.shape)}"
    difference = (ours.double() - theirs.double()).abs().max().item()
    scale = max(1.0, theirs.double().abs().max().item())
    assert difference <= tolerance * scale, f"{name}: differs by {difference:.2e} at scale {scale:.2e}"


class Folder:
    """A temporary folder for one script."""

    def __enter__(self):
        self.temporary = tempfile.TemporaryDirectory()
        return Path(self.temporary.name)

    def __exit__(self, *_):
        self.temporary.cleanup()
