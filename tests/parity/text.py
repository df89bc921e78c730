"""Tokens and text features against transformers: several model sizes, both activations, half-precision and OpenCLIP files."""

import json
import random

import torch
from safetensors.torch import load_file
from transformers import CLIPModel, CLIPTokenizer, CLIPTokenizerFast

from clip_folders import Folder, assert_close, init_clip, open_clip_folder, small_towers, transformers_clip, worker


def prompts():
    words = ("a photo of the damaged bottle cracked rim at top left metal_nut pcb1 macaroni2 don't it's they're I'VE we'd "
             "x-ray 3.5mm 100% (scratch), [V1] #1! naïve café ÜBER Ω ß éclair straße 10² ½ Ⅷ λάμδα привет שלום مرحبا "
             "こんにちは カメラ 안녕 हिन्दी ไทย 🙂 👩‍🔧 — … “quoted” ‘s £5 €7 a\u0301 \u00a0nbsp\u2003em \t tab İstanbul ﬁne K 中文 中文字 "
             "_under__score_ ...?! a/b\\c {} <tag> &amp; @home 'quoted' ''s 'tis rock'n'roll 1st 2nd").split(" ")
    generator = random.Random(3)
    texts = ["", " ", "a", "A photo of a flawless bottle.", "X X X X X X X X X X X X abnormal bottle with cracked rim at top left.", "it's", "'s", "IT'S", "a  b\n\tc"]
    for _ in range(400):
        texts.append(" ".join(generator.choice(words) for _ in range(generator.randint(1, 7))))
    for _ in range(100):  # any characters at all
        texts.append("".join(chr(generator.choice((generator.randint(32, 126), generator.randint(160, 0x24FF), generator.randint(0x3040, 0x30FF))))
                             for _ in range(generator.randint(1, 12))))
    return texts


def features_of(model, tokens):
    with torch.no_grad():
        return model.get_text_features(input_ids=tokens)


def check_tokens(folder, model_folder):
    fast = CLIPTokenizerFast.from_pretrained(model_folder)
    texts = [text for text in prompts() if len(fast(text).input_ids) <= 77]
    assert len(texts) > 400
    (folder / "p.json").write_text(json.dumps(texts))
    worker("probe", "text", "--model", model_folder, "--prompts", folder / "p.json", "--out", folder / "o.safetensors")
    ours = load_file(folder / "o.safetensors")["tokens"]
    theirs = fast(texts, padding="max_length", max_length=77, return_tensors="pt").input_ids
    for text, mine, other in zip(texts, ours, theirs):
        assert torch.equal(mine, other), f"{text!r}: {mine[mine != 49407].tolist()} expected {other[other != 49407].tolist()}"
    slow = CLIPTokenizer.from_pretrained(model_folder)
    for text, mine in zip(texts, ours):
        if text.isascii():  # elsewhere it differs from the fast one: it spaces out Chinese and drops format characters
            assert slow(text, padding="max_length", max_length=77).input_ids == mine.tolist(), text


def check_features(folder, model_folder, dtype=torch.float32, reference=None):
    texts = ["a photo of a bottle", "flawless carpet without defect.", "x", "A damaged pcb at bottom right, burnt " * 5]
    (folder / "p.json").write_text(json.dumps(texts))
    worker("probe", "text", "--model", model_folder, "--prompts", folder / "p.json", "--out", folder / "o.safetensors")
    out = load_file(folder / "o.safetensors")
    model = CLIPModel.from_pretrained(reference or model_folder, torch_dtype=dtype).float().eval()
    assert_close(f"{model_folder.name}: features", out["features"], features_of(model, out["tokens"]))


def check_refusals(folder, model_folder):
    (folder / "p.json").write_text(json.dumps(["fine", "word " * 80]))
    probe = ("probe", "text", "--model", model_folder, "--prompts", folder / "p.json", "--out", folder / "none")
    message = worker(*probe, expect=2)
    assert "word word" in message and "82" in message and "77" in message, message
    for bad in ('{"a": 1}', "[1]", "[]", "nonsense"):
        (folder / "p.json").write_text(bad)
        assert str(folder / "p.json") in worker(*probe, expect=2)
    assert not (folder / "none").exists()


def main():
    torch.set_num_threads(1)
    with Folder() as folder:
        tiny = init_clip(folder / "tiny")
        check_tokens(folder, tiny)
        check_features(folder, tiny)
        check_refusals(folder, tiny)
        for number, (activation, dtype) in enumerate((("quick_gelu", torch.float32), ("gelu", torch.float16), ("gelu", torch.bfloat16))):
            vision, text = small_towers(activation)
            made = transformers_clip(folder / f"made{number}", tiny, number, vision, text, 24 + 8 * number, dtype)
            check_features(folder, made, dtype)
        check_features(folder, open_clip_folder(folder / "open_clip", folder / "made0"), reference=folder / "made0")
    print("text: equal")


main()
