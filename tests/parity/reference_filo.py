"""FiLo++ and FiLo written a second time, in plain PyTorch and float64: padded prompts, one after another, one image at a
time. Nothing here is shared with the C++ code but the names of the parameters."""
import math

import torch
import torch.nn.functional as F
from torchvision.ops import deform_conv2d

POSITIONS = ["top left", "top", "top right", "left", "center", "right", "bottom left", "bottom", "bottom right"]


class PaddedTextEncoder:
    """CLIP's text tower on embeddings, [prompts, 77, D], each padded to the full context."""

    def __init__(self, model, tokenizer):
        text = model.text_model
        self.config = text.config
        self.weights = {name: value.detach().double() for name, value in text.state_dict().items()}
        self.projection = model.text_projection.weight.detach().double()
        self.tokenizer = tokenizer

    def suffix(self, text):
        return self.tokenizer(text, add_special_tokens=False)["input_ids"]

    def __call__(self, context, suffixes):
        """context: [n, D] learnable vectors or None; suffixes: lists of token ids. -> [prompts, C]"""
        embedding = self.weights["embeddings.token_embedding.weight"]
        start, end = self.tokenizer.bos_token_id, self.tokenizer.eos_token_id
        length = self.config.max_position_embeddings
        rows, ends = [], []
        for suffix in suffixes:
            parts = [embedding[start : start + 1]] + ([] if context is None else [context])
            parts += [embedding[torch.tensor(suffix, dtype=torch.long)], embedding[end : end + 1]]
            row = torch.cat(parts)
            ends.append(len(row) - 1)
            rows.append(torch.cat([row, embedding[end].expand(length - len(row), -1)]))
        x = torch.stack(rows) + self.weights["embeddings.position_embedding.weight"]
        for layer in range(self.config.num_hidden_layers):
            x = x + self.attention(self.norm(x, f"encoder.layers.{layer}.layer_norm1"), layer)
            x = x + self.mlp(self.norm(x, f"encoder.layers.{layer}.layer_norm2"), layer)
        x = self.norm(x, "final_layer_norm")
        return x[torch.arange(len(rows)), torch.tensor(ends)] @ self.projection.T

    def linear(self, x, name):
        return F.linear(x, self.weights[name + ".weight"], self.weights[name + ".bias"])

    def norm(self, x, name):
        return F.layer_norm(x, x.shape[-1:], self.weights[name + ".weight"], self.weights[name + ".bias"],
                            self.config.layer_norm_eps)

    def attention(self, x, layer):
        name = f"encoder.layers.{layer}.self_attn."
        n, length, width = x.shape
        heads = self.config.num_attention_heads
        q, k, v = (self.linear(x, name + p + "_proj").view(n, length, heads, width // heads).transpose(1, 2) for p in "qkv")
        scores = q @ k.transpose(2, 3) / math.sqrt(width // heads)
        scores = scores.masked_fill(torch.ones(length, length).triu(1).bool(), float("-inf"))
        return self.linear((scores.softmax(-1) @ v).transpose(1, 2).reshape(n, length, width), name + "out_proj")

    def mlp(self, x, layer):
        h = self.linear(x, f"encoder.layers.{layer}.mlp.fc1")
        h = h * torch.sigmoid(1.702 * h) if self.config.hidden_act == "quick_gelu" else F.gelu(h)
        return self.linear(h, f"encoder.layers.{layer}.mlp.fc2")


def unit(x):
    return x / x.norm(dim=-1, keepdim=True)


def bodies(spec, descriptions, cls):
    """The texts before a template: normal ones, abnormal ones."""
    prompts, entry = spec["prompts"], descriptions["classes"][cls]
    name = entry.get("prompt_name", cls.replace("_", " ")) if prompts["class_names"] else "object"
    generic = prompts["generic_states"]
    normal = [s.replace("{}", name) for s in (descriptions["states"]["normal"] if generic else ["normal {}"])]
    abnormal = []
    if prompts["descriptions"] != "none":
        abnormal += [f"abnormal {name} with {d}" for d in entry["descriptions"]]
    if generic:
        abnormal += [s.replace("{}", name) for s in descriptions["states"]["abnormal"]]
    return normal, abnormal or [f"anomalous {name}"]


def region(x, y):
    return POSITIONS[min(int(y * 3), 2) * 3 + min(int(x * 3), 2)]


def paper_positions(spec, boxes):
    mode = spec["prompts"]["positions"]
    if mode == "none":
        return [None]
    if mode == "all":
        return POSITIONS
    inside = [[min(max(side, 0), 1) for side in b["box"]] for b in boxes or []]
    found = {region((b[0] + b[2]) / 2, (b[1] + b[3]) / 2) for b in inside if b[0] < b[2] and b[1] < b[3]}
    return [p for p in POSITIONS if p in found] or ["center"]


def at(position):
    return "" if position is None else f" at {position}"


def keep(normal, abnormal):
    """The filter: boolean masks over two sets of cosine distances."""
    low, high = max(normal.min(), abnormal.min()), min(normal.max(), abnormal.max())
    kept = []
    for distances in (normal, abnormal):
        mask = ~((distances >= low) & (distances <= high))
        if not mask.any():
            mask[distances.argmin()] = True
        kept.append(mask)
    return kept


def shift(parameters, prefix, g):
    h = torch.relu(F.linear(g, parameters[prefix + "meta_net.linear1.weight"], parameters[prefix + "meta_net.linear1.bias"]))
    return F.linear(h, parameters[prefix + "meta_net.linear2.weight"], parameters[prefix + "meta_net.linear2.bias"])


def upsample(x, size):
    return F.interpolate(x, size=(size, size), mode="bilinear", align_corners=True)


def paper_kernel(spec, parameters, prefix, grid, kernel):
    padding = (kernel[0] // 2, kernel[1] // 2)
    weight = parameters[prefix + ".weight"]
    if not spec["mdci"]["deformable"]:
        return F.conv2d(grid, weight, padding=padding)
    offset = F.conv2d(grid, parameters[prefix + ".offset.weight"], parameters[prefix + ".offset.bias"], padding=padding)
    mask = None
    if spec["mdci"]["modulated"]:
        mask = torch.sigmoid(F.conv2d(grid, parameters[prefix + ".mask.weight"], parameters[prefix + ".mask.bias"], padding=padding))
    return deform_conv2d(grid, offset, weight, None, padding=padding, mask=mask)


def gaussian(x, sigma, radius, mirror):
    taps = torch.exp(-0.5 * (torch.arange(-radius, radius + 1, dtype=torch.float64) / sigma) ** 2)
    taps = taps / taps.sum()
    size = x.shape[-1]
    line = torch.arange(size)
    if mirror == "symmetric":
        places = torch.cat([line, line.flip(0)]).repeat(2 * radius // size + 3)
        middle = 2 * size * ((2 * radius // size + 3) // 2)
        places = places[middle - radius : middle + size + radius]
    else:
        places = torch.cat([line[1 : radius + 1].flip(0), line, line[-radius - 1 : -1].flip(0)])
    rows = sum(tap * x[..., places[i : i + size], :] for i, tap in enumerate(taps))
    return sum(tap * rows[..., :, places[i : i + size]] for i, tap in enumerate(taps))


def suppress(x, boxes, factor, truncate):
    if boxes is None:
        return x
    size, inside = x.shape[-1], torch.zeros(x.shape[-2:], dtype=torch.bool)
    for box in boxes:
        x0, y0, x1, y1 = (v * size for v in box["box"])
        if truncate:  # negative bounds count from the end, as the published code has it
            inside[int(y0) : int(y1), int(x0) : int(x1)] = True
            continue
        for row in range(size):
            for column in range(size):
                inside[row, column] |= y0 <= row + 0.5 < y1 and x0 <= column + 0.5 < x1
    return torch.where(inside, x, x * factor)


def few_shot_map(spec, features, memory, side):
    """The distance of each patch to the nearest of the memory's, summed over the layers: [S, S]."""
    few = 0
    for layer in spec["layers"]:
        bank = unit(memory[f"qkv.{layer}"].flatten(0, 1))
        distance = (1 - unit(features[f"qkv.{layer}"]) @ bank.T).min(1).values
        few = few + upsample(distance.reshape(1, 1, side, side), spec["image_size"])[0, 0]
    return few


def forward_paper(spec, descriptions, encoder, parameters, features, cls, boxes=None, memory=None, training=False, patches_only=False):
    """One image. features: {"global": [C], "qkv.L": [P, C_v], "vv.L": ...}, float64."""
    g0 = features["global"]
    normal, abnormal = bodies(spec, descriptions, cls)
    domain = descriptions["classes"][cls].get("domain", "industrial")
    positions = paper_positions(spec, boxes)
    settings = spec["prompts"]
    sets = {"normal": [body + "." for body in normal], "abnormal": [body + at(p) + "." for body in abnormal for p in positions]}
    encoded = {"normal": [], "abnormal": []}
    if settings["fixed_template"]:
        for kind, texts in sets.items():
            encoded[kind].append(encoder(None, [encoder.suffix(f"A {domain} photo of {text}") for text in texts]))
    if settings["learnable_template"] and settings["method"] != "none":
        for kind, texts in sets.items():
            context = parameters[f"prompts.{kind}.vectors"]
            if settings["method"] == "cocoop":
                context = context + shift(parameters, f"prompts.{kind}.", unit(g0))
            encoded[kind].append(encoder(context, [encoder.suffix(text) for text in texts]))
    t = {kind: unit(torch.cat(parts)) for kind, parts in encoded.items()}
    kept = [torch.ones(len(t["normal"])).bool(), torch.ones(len(t["abnormal"])).bool()]
    if settings["filter"]:
        kept = keep(1 - t["normal"] @ unit(g0), 1 - t["abnormal"] @ unit(g0))
    tn, ta = unit(t["normal"][kept[0]].mean(0)), unit(t["abnormal"][kept[1]].mean(0))
    pair = torch.stack([tn, ta])

    size, maps = spec["image_size"], []
    side = int(math.sqrt(features[f"qkv.{spec['layers'][0]}"].shape[0]))
    to_grid = lambda tokens: tokens.T.reshape(1, -1, side, side)
    compare = lambda grid: (100 * torch.einsum("bchw,kc->bkhw", grid / grid.norm(dim=1, keepdim=True).clamp_min(1e-12), pair)).softmax(1)
    for layer in spec["layers"]:
        y = F.linear(features[f"qkv.{layer}"], parameters[f"linear.{layer}.weight"], parameters[f"linear.{layer}.bias"])
        maps.append(upsample(compare(to_grid(y)), size))
    kernels = spec["mdci"]["kernels"]
    for layer in spec["layers"] if kernels else []:
        if layer < spec["vv_from"]:
            continue
        grid = to_grid(features[f"vv.{layer}"])
        summed = sum(compare(paper_kernel(spec, parameters, f"mdci.{layer}.{h}x{w}", grid, (h, w))) for h, w in kernels)
        maps.append(upsample(summed / len(kernels), size))
    maps = torch.cat(maps)  # [stages, 2, S, S]

    g = g0 if training else g0 + F.silu(parameters["adapter.linear2.weight"] @ torch.relu(parameters["adapter.linear1.weight"] @ g0))
    logits = pair @ unit(g) / 0.07
    out = {"text.normal": tn, "text.abnormal": ta, "maps.normal": maps[:, 0], "maps.abnormal": maps[:, 1], "logits": logits,
           "kept": torch.cat(kept)}
    if training:
        return out
    vl = (maps[:, 1].mean(0) + 1 - maps[:, 0].mean(0)) / 2
    m = suppress(vl, boxes, 0.7, False)
    if memory is not None:
        few = few_shot_map(spec, features, memory, side)
        few = suppress(few / len(spec["layers"]), boxes, 0.7, False)
        m = few if patches_only else (m + few) / 2
    m = gaussian(m, 4.0, 16, "symmetric")
    if patches_only:
        return out | {"map": m, "score": m.max()}
    return out | {"map": m, "score": logits.softmax(0)[1] + m.max()}


def forward_release(spec, descriptions, encoder, parameters, features, cls, boxes=None, memory=None, training=False):
    g = features["global"]
    if not training:
        h = F.silu(F.linear(torch.relu(F.linear(g, parameters["adapter.fc.0.weight"])), parameters["adapter.fc.2.weight"]))
        g = h + g
    g = g / g.norm()
    normal, abnormal = bodies(spec, descriptions, cls)
    texts = {"normal": [b + "." for b in normal], "abnormal": [f"{b} at {p}." for b in abnormal for p in POSITIONS]}
    size, text = spec["image_size"], {}
    for kind in texts:
        prefix = kind + "_prompt_learner."
        context = parameters[prefix + "ctx"] + shift(parameters, prefix, g)
        text[kind] = unit(encoder(context, [encoder.suffix(t) for t in texts[kind]]))
    asked = list(range(9))
    if boxes is not None:
        words = descriptions["classes"][cls]["descriptions"] + ["anomaly", "damage", "broken", "defect", "contamination"]
        boxes = [box for box in boxes if any(word in box.get("phrase", word) for word in words)]
    if not training and spec["prompts"]["positions"] != "all":
        best, best_score, centre = None, 0, (size // 2, size // 2)
        for box in boxes or []:
            score = float(str(box["score"])[:4])
            if score >= best_score:
                best, best_score = box["box"], score
        if best is not None:
            centre = ((best[0] + best[2]) / 2 * size, (best[1] + best[3]) / 2 * size)
        low, high = size // 3, 2 * size // 3
        spans = [(0, low), (low + 1, high - 1), (high, size - 1)]
        found = [r * 3 + c for r, ys in enumerate(spans) for c, xs in enumerate(spans)
                 if xs[0] <= centre[0] <= xs[1] and ys[0] <= centre[1] <= ys[1]]
        asked = found[:1] or asked
    chosen = torch.cat([text["abnormal"][p::9] for p in asked])
    tn, ta = text["normal"].mean(0), chosen.mean(0)
    pair = torch.stack([tn / tn.norm(), ta / ta.norm()])
    pair = pair / pair.norm()
    products = pair @ g

    maps = []
    side = int(math.sqrt(features[f"qkv.{spec['layers'][0]}"].shape[0]))
    compare = lambda y: upsample((100 * unit(y) @ pair.T).T.reshape(1, 2, side, side), size).softmax(1)
    for i, layer in enumerate(spec["layers"]):
        maps.append(compare(F.linear(features[f"qkv.{layer}"], parameters[f"decoder_linear.fc.{i}.weight"],
                                     parameters[f"decoder_linear.fc.{i}.bias"])))
    for i, layer in enumerate(l for l in spec["layers"] if l >= spec["vv_from"]):
        grid = features[f"vv.{layer}"].T.reshape(1, -1, side, side)
        y = sum(F.conv2d(grid, parameters[f"decoder_cov.fc_{h}{w}.{i}.weight"], parameters[f"decoder_cov.fc_{h}{w}.{i}.bias"],
                         padding="same") for h, w in spec["mdci"]["kernels"])
        maps.append(compare(y[0].flatten(1).T))
    maps = torch.cat(maps)
    out = {"text.normal": pair[0], "text.abnormal": pair[1], "maps.normal": maps[:, 0], "maps.abnormal": maps[:, 1],
           "logits": products / 0.07}
    if training:
        return out
    m = torch.stack([gaussian((a - n + 1) / 2, 4.0, 1, "reflect") for n, a in maps]).mean(0)
    return out | {"score": (products[1] + m.max()) / 2, "map": suppress(m, boxes, 0.7, True), "undamped": m}


def losses_paper(outputs, masks):
    """Lists over the images; -> focal, dice, local, global."""
    focal = dice = 0
    for out, mask in zip(outputs, masks):
        for n, a in zip(out["maps.normal"], out["maps.abnormal"]):
            p = torch.where(mask > 0, a, n)
            focal = focal + (-((1 - p) ** 2) * p.log()).mean() / len(masks)
            for m, target in ((a, mask), (n, 1 - mask)):
                dice = dice + (1 - (2 * (m * target).sum() + 1) / (m.sum() + target.sum() + 1)) / len(masks)
    return focal, dice


def losses_release(outputs, masks):
    focal = dice = 0
    for out, mask in zip(outputs, masks):
        for n, a in zip(out["maps.normal"], out["maps.abnormal"]):
            key = torch.stack([1 - mask, mask]).clamp(1e-5, 1 - 1e-5)
            p = (key * torch.stack([n, a])).sum(0) + 1e-5
            focal = focal + (-((1 - p) ** 2) * p.log()).mean() / len(masks)
            for m, target in ((a, mask), (n, 1 - mask)):
                rows = (2 * (m * target).sum(1) + 1) / (m.sum(1) + target.sum(1) + 1)
                dice = dice + (1 - rows.sum() / len(rows)) / len(masks)
    return focal, dice


def losses(profile, outputs, masks):
    focal, dice = (losses_paper if profile == "paper" else losses_release)(outputs, masks)
    labels = torch.tensor([int(mask.max() > 0) for mask in masks])
    return {"loss.focal": focal, "loss.dice": dice, "loss.local": focal + dice,
            "loss.global": F.cross_entropy(torch.stack([out["logits"] for out in outputs]), labels)}
