"""The same training step the plain way: PyTorch, transformers and torchvision, every prompt padded to 77 tokens, one image.

    python bench/peer.py --profile filo-release --prompts 142 [--json]

Random weights and features of ViT-L/14@336 at 518 x 518; what `filo-worker bench step` measures, part by part."""
import argparse
import json
import resource
import time

import torch
import torch.nn.functional as F
from torchvision.ops import deform_conv2d
from transformers import CLIPTextConfig, CLIPTextModelWithProjection

KERNELS = [(1, 1), (3, 3), (5, 5), (7, 7), (1, 5), (5, 1)]
SIDE, WIDTH, CHANNELS, IMAGE, VECTORS, CONTEXT = 37, 1024, 768, 518, 12, 77


def parameter(*shape, scale=0.02):
    return (torch.randn(*shape) * scale).requires_grad_()


class Step:
    def __init__(self, profile, prompts):
        self.profile = profile
        config = CLIPTextConfig(hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12,
                                projection_dim=CHANNELS, bos_token_id=49406, eos_token_id=49407)
        clip = CLIPTextModelWithProjection(config).eval().requires_grad_(False)
        self.text, self.projection = clip.text_model, clip.text_projection
        self.tokens = torch.randn(prompts, CONTEXT - VECTORS - 1, 768) * 0.02
        self.start = torch.randn(prompts, 1, 768) * 0.02
        self.ends = torch.randint(VECTORS + 6, VECTORS + 16, (prompts,))
        self.normal = max(1, prompts // 20)
        self.vectors = [parameter(VECTORS, 768) for _ in range(2)]
        self.meta = [[parameter(48, CHANNELS), parameter(768, 48)] for _ in range(2)]
        self.linear = [parameter(CHANNELS, WIDTH) for _ in range(4)]
        self.kernels = [[parameter(CHANNELS, WIDTH, *k, scale=0.005) for k in KERNELS] for _ in range(3)]
        self.offsets = [[torch.zeros(2 * h * w, WIDTH, h, w).requires_grad_() for h, w in KERNELS] for _ in range(3)]
        self.global_feature = torch.randn(1, CHANNELS)
        self.qkv = [torch.randn(1, SIDE * SIDE, WIDTH) for _ in range(4)]
        self.vv = [torch.randn(1, SIDE * SIDE, WIDTH) for _ in range(3)]
        self.mask = (torch.rand(1, IMAGE, IMAGE) < 0.05).float()
        learnable = self.vectors + sum(self.meta, []) + self.linear + sum(self.kernels, [])
        if profile == "paper":
            learnable += sum(self.offsets, [])
        self.optimizer = torch.optim.AdamW(learnable, lr=1e-4, betas=(0.5, 0.999))

    def text_features(self):
        unit = F.normalize(self.global_feature, dim=-1)
        contexts = []
        for vectors, (first, second) in zip(self.vectors, self.meta):
            contexts.append(vectors + F.linear(torch.relu(F.linear(unit, first)), second))
        count = len(self.tokens)
        context = torch.cat([contexts[0].expand(self.normal, -1, -1), contexts[1].expand(count - self.normal, -1, -1)])
        x = torch.cat([self.start, context, self.tokens], 1)
        x = x + self.text.embeddings.position_embedding.weight
        causal = torch.full((CONTEXT, CONTEXT), float("-inf")).triu(1)[None, None].expand(count, 1, -1, -1)
        x = self.text.encoder(inputs_embeds=x, causal_attention_mask=causal).last_hidden_state
        x = self.text.final_layer_norm(x)[torch.arange(count), self.ends]
        x = F.normalize(self.projection(x), dim=-1)
        return F.normalize(torch.stack([x[: self.normal].mean(0), x[self.normal :].mean(0)]), dim=-1)

    def map_of(self, features, text):
        logits = 100 * F.normalize(features, dim=-1) @ text.T
        grid = logits.permute(0, 2, 1).reshape(1, 2, SIDE, SIDE)
        return F.interpolate(grid, size=IMAGE, mode="bilinear", align_corners=True).softmax(1)

    def maps(self, text):
        result = [self.map_of(F.linear(x, w), text) for x, w in zip(self.qkv, self.linear)]
        for stage, patches in enumerate(self.vv):
            grid = patches.permute(0, 2, 1).reshape(1, WIDTH, SIDE, SIDE)
            outputs = []
            for (h, w), kernel, offset in zip(KERNELS, self.kernels[stage], self.offsets[stage]):
                padding = (h // 2, w // 2)
                if self.profile == "paper":
                    shift = F.conv2d(grid, offset, padding=padding)
                    outputs.append(deform_conv2d(grid, shift, kernel, padding=padding))
                else:
                    outputs.append(F.conv2d(grid, kernel, padding=padding))
            if self.profile == "paper":
                result.append(sum(self.map_of(o.flatten(2).transpose(1, 2), text) for o in outputs) / len(outputs))
            else:
                result.append(self.map_of(sum(outputs).flatten(2).transpose(1, 2), text))
        return result

    def loss(self, maps):
        total = 0
        for m in maps:
            normal, abnormal = m[:, 0], m[:, 1]
            p = torch.where(self.mask > 0, abnormal, normal)
            total = total - ((1 - p) ** 2 * torch.log(p + 1e-5)).mean()
            for x, y in ((abnormal, self.mask), (normal, 1 - self.mask)):
                total = total + 1 - (2 * (x * y).sum() + 1) / (x.sum() + y.sum() + 1)
        return total

    def run(self):
        times, last = {}, time.perf_counter()

        def lap(name):
            nonlocal last
            now = time.perf_counter()
            times[name] = now - last
            last = now

        text = self.text_features()
        lap("text_forward")
        loss = self.loss(self.maps(text))
        lap("decoder_forward")
        self.optimizer.zero_grad()
        loss.backward()
        lap("backward")
        self.optimizer.step()
        lap("optimizer")
        times["total"] = sum(times.values())
        return times


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--profile", choices=["paper", "filo-release"], default="filo-release")
    parser.add_argument("--prompts", type=int, default=142)
    parser.add_argument("--steps", type=int, default=1, help="timed ones, after one that is not")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    torch.set_flush_denormal(True)
    torch.manual_seed(0)
    step = Step(options.profile, options.prompts)
    step.run()
    best = min((step.run() for _ in range(options.steps)), key=lambda times: times["total"])
    result = {"profile": options.profile, "batch": 1, "prompts": options.prompts, "threads": torch.get_num_threads(),
              "seconds_per_image": best,
              "peak_rss_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}
    print(json.dumps(result, indent=2) if options.json else result)


if __name__ == "__main__":
    main()
