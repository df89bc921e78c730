"""Image features against transformers (QKV path) and against plain PyTorch (V-V path, and the tensors that FiLo's code keeps)."""

import json

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from transformers import CLIPModel

from clip_folders import Folder, assert_close, init_clip, open_clip_folder, small_towers, transformers_clip, worker


def embed(model, pixels):
    vision = model.vision_model
    return vision.pre_layrnorm(vision.embeddings(pixels, interpolate_pos_encoding=True))


def attend(layer, q, k, v):
    """Attention written out, through the layer's output projection. q, k, v [B, N, D]."""
    heads = layer.self_attn.num_heads
    q, k, v = (t.unflatten(-1, (heads, -1)).transpose(1, 2) for t in (q, k, v))
    weights = torch.softmax(q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5, -1)
    return layer.self_attn.out_proj((weights @ v).transpose(1, 2).flatten(2))


def paper(model, pixels, layers, start):
    """Both streams, a new tensor at every step."""
    x, second, out = embed(model, pixels), None, {}
    for number, layer in enumerate(model.vision_model.encoder.layers, 1):
        attention = layer.self_attn
        h = layer.layer_norm1(x)
        q, k, v = attention.q_proj(h), attention.k_proj(h), attention.v_proj(h)
        if number >= start:
            second = (x if second is None else second) + attend(layer, v, v, v)
        x = x + attend(layer, q, k, v)
        x = x + layer.mlp(layer.layer_norm2(x))
        if number in layers:
            out[f"qkv.{number}"] = x[:, 1:].clone()
            if number >= start:
                out[f"vv.{number}"] = second[:, 1:].clone()
    out["global"] = model.visual_projection(model.vision_model.post_layernorm(x[:, 0]))
    return out


def release(model, pixels, layers, start):
    """The same with FiLo's in-place additions on tensors that were kept: whatever aliases, aliases."""
    state, kept = embed(model, pixels).clone(), {}
    for number, layer in enumerate(model.vision_model.encoder.layers, 1):
        dual = isinstance(state, list)
        vv, original = state if dual else (state, state)
        h = layer.layer_norm1(original)
        q, k, v = layer.self_attn.q_proj(h), layer.self_attn.k_proj(h), layer.self_attn.v_proj(h)
        attended = attend(layer, q, k, v)
        if dual:
            original += attended  # what was kept of the layer before changes with it
        else:
            original = original + attended
        original = original + layer.mlp(layer.layer_norm2(original))
        if number >= start:
            vv += attend(layer, v, v, v)  # at the start: the state kept before the split
            state = [vv, original]
        else:
            state = original
        if number in layers:
            kept[number] = state
    out = {}
    for number, value in kept.items():
        out[f"qkv.{number}"] = (value[1] if isinstance(value, list) else value)[:, 1:]
        if isinstance(value, list):
            out[f"vv.{number}"] = value[0][:, 1:]
    out["global"] = model.visual_projection(model.vision_model.post_layernorm(state[1][:, 0]))
    return out


def probe(folder, model_folder, pixels, *arguments):
    save_file({"pixels": pixels}, folder / "i.safetensors")
    worker("probe", "vision", "--model", model_folder, "--pixels", folder / "i.safetensors", "--out", folder / "o.safetensors", *arguments)
    return load_file(folder / "o.safetensors")


def compare(name, ours, theirs):
    assert sorted(ours) == sorted(theirs), f"{name}: tensors {sorted(ours)}, expected {sorted(theirs)}"
    for key in theirs:
        assert_close(f"{name}: {key}", ours[key], theirs[key])


def check(folder, model_folder, size, layers, start, reference=None):
    model = CLIPModel.from_pretrained(reference or model_folder, torch_dtype=torch.float32).eval()
    pixels = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(size))
    options = ("--layers", ",".join(map(str, layers)), "--vv-from", start)
    with torch.no_grad():
        ours = probe(folder, model_folder, pixels, "--profile", "paper", *options)
        compare(f"{model_folder.name} paper", ours, paper(model, pixels, layers, start))
        theirs = model.vision_model(pixels, output_hidden_states=True, interpolate_pos_encoding=True)
        assert_close("global", ours["global"], model.visual_projection(theirs.pooler_output))
        for layer in layers:
            assert_close(f"hidden state {layer}", ours[f"qkv.{layer}"], theirs.hidden_states[layer][:, 1:])
        accident = probe(folder, model_folder, pixels, "--profile", "filo-release", *options)
        compare(f"{model_folder.name} filo-release", accident, release(model, pixels, layers, start))
        if start - 1 in layers and start in layers:
            assert torch.equal(accident[f"qkv.{start - 1}"], accident[f"vv.{start}"])


def check_refusals(folder, model_folder):
    def refused(pixels, says, layers="1,2", start=2):
        save_file({"pixels": pixels}, folder / "i.safetensors")
        message = worker("probe", "vision", "--model", model_folder, "--pixels", folder / "i.safetensors", "--out", folder / "none",
                         "--layers", layers, "--vv-from", start, expect=2)
        assert all(part in message for part in says), message

    fine = torch.zeros(1, 3, 24, 24)
    refused(torch.zeros(1, 3, 25, 25), says=["[1, 3, 25, 25]", "multiple of the patch, 6"])
    refused(torch.zeros(1, 4, 24, 24), says=["[1, 4, 24, 24]", "[any, 3, any, any]"])
    refused(fine.clone().fill_(float("nan")), says=["pixels", "NaN"])
    refused(fine, layers="8", says=["layers", "8", "1 to 7"])
    refused(fine, layers="2,2", says=["layer 2", "twice"])
    refused(fine, start=0, says=["vv_from", "found 0", "1 to 7"])
    weights = load_file(model_folder / "model.safetensors")
    name = "vision_model.encoder.layers.2.mlp.fc1.weight"

    def broken(change, says):
        tensors = {key: value.clone() for key, value in weights.items()}
        change(tensors)
        save_file(tensors, model_folder / "model.safetensors")
        refused(fine, says=says)

    broken(lambda t: t.pop(name), [name, "no such tensor", "[80, 48]"])
    broken(lambda t: t.update({name: t[name][:-1].clone()}), [name, "[79, 48]", "[80, 48]"])
    broken(lambda t: t[name][0].fill_(float("inf")), [name, "48 infinite"])
    broken(lambda t: t.update({"vision_model.encoder.layers.7.mlp.fc1.weight": t[name].clone()}), ["layers.7", "extra tensor"])
    (model_folder / "model.safetensors").write_bytes((model_folder / "model.safetensors").read_bytes()[:-4])
    refused(fine, says=["model.safetensors", "cut short"])
    save_file(weights, model_folder / "model.safetensors")
    config = json.loads((model_folder / "config.json").read_text())
    config["vision_config"]["num_attention_heads"] = 5
    (model_folder / "config.json").write_text(json.dumps(config))
    refused(fine, says=["config.json", "multiple of the number of heads"])


def main():
    torch.set_num_threads(1)
    with Folder() as folder:
        tiny = init_clip(folder / "tiny")
        check(folder, tiny, 56, [6, 12, 18, 24], 7)
        vision, text = small_towers()
        made = transformers_clip(folder / "made", tiny, 5, vision, text, 24)
        check(folder, made, 24, [3, 4, 6, 7], 4)   # the stored grid
        check(folder, made, 42, [2, 5, 6], 3)      # a finer grid
        check(folder, made, 18, [1, 7], 1)         # a coarser one; both streams from the start
        check(folder, open_clip_folder(folder / "open_clip", made), 30, [3, 5], 4, reference=made)
        wide = dict(vision, hidden_size=128, num_attention_heads=2, hidden_act="gelu")
        check(folder, transformers_clip(folder / "half", tiny, 6, wide, text, 16, torch.float16), 36, [2, 7], 2)
        wide = dict(vision, hidden_size=128, num_attention_heads=2, num_hidden_layers=2)
        deduced = transformers_clip(folder / "sixty-four", tiny, 7, wide, dict(text, hidden_size=64, num_attention_heads=1), 16)
        check(folder, open_clip_folder(folder / "bare", deduced, with_config=False), 24, [1, 2], 2, reference=deduced)
        check_refusals(folder, made)
    print("vision: equal")


main()
