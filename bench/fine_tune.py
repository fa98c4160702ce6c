#!/usr/bin/env python3
"""Fine-tunes all-MiniLM-L6-v2 a little, so that deltas between real checkpoints can be measured.

    fine_tune.py MODEL_DIR OUT [--text DIR] [--steps N]

MODEL_DIR holds model.safetensors and tokenizer.json (`cargo xtask corpus DIR minilm`). After every 20 steps of
AdamW the folder OUT/step-NNNN gets model.safetensors and optimizer.safetensors, the latter with `exp_avg` and
`exp_avg_sq` of the first three layers. The task is to find a sentence's successor among the others of its batch
(contrastive loss), with the licence texts of the system as sentences.

Needs torch, numpy, safetensors and tokenizers. One build of torch gives the same bytes every time; another may
round differently, so the files are not pinned by digests.
"""

import argparse
import math
import re
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from torch.nn import functional as F

LAYERS, HEADS, HEAD_SIZE, TOKENS = 6, 12, 32, 32
BATCH, RATE, DECAY, TEMPERATURE, DROPOUT = 16, 2e-5, 0.01, 0.05, 0.1
EVERY = 20
SEED = 20261123


def encode(p, ids, mask):
    """Unit-length sentence vectors of a BERT encoder whose parameters are the mapping `p`."""
    def norm(x, name):
        return F.layer_norm(x, x.shape[-1:], p[f"{name}.weight"], p[f"{name}.bias"], 1e-12)

    def linear(x, name):
        return F.linear(x, p[f"{name}.weight"], p[f"{name}.bias"])

    rows, length = ids.shape
    x = (p["embeddings.word_embeddings.weight"][ids] + p["embeddings.position_embeddings.weight"][:length]
         + p["embeddings.token_type_embeddings.weight"][0])
    x = F.dropout(norm(x, "embeddings.LayerNorm"), DROPOUT)
    hidden = (1.0 - mask[:, None, None, :]) * -1e9
    for number in range(LAYERS):
        at = f"encoder.layer.{number}"
        q, k, v = (linear(x, f"{at}.attention.self.{name}").view(rows, length, HEADS, HEAD_SIZE).transpose(1, 2)
                   for name in ("query", "key", "value"))
        share = F.dropout(torch.softmax(q @ k.transpose(-1, -2) / math.sqrt(HEAD_SIZE) + hidden, -1), DROPOUT)
        seen = (share @ v).transpose(1, 2).reshape(rows, length, -1)
        x = norm(x + F.dropout(linear(seen, f"{at}.attention.output.dense"), DROPOUT), f"{at}.attention.output.LayerNorm")
        wide = F.gelu(linear(x, f"{at}.intermediate.dense"))
        x = norm(x + F.dropout(linear(wide, f"{at}.output.dense"), DROPOUT), f"{at}.output.LayerNorm")
    weight = mask[:, :, None]
    return F.normalize((x * weight).sum(1) / weight.sum(1), dim=-1)


def sentences(folder):
    """Distinct sentences of 40 to 200 characters, in order."""
    found = {}
    for path in sorted(folder.iterdir()):
        if path.is_file() and not path.is_symlink():
            text = re.sub(r"\s+", " ", path.read_text(errors="replace"))
            found |= {part.strip(): None for part in re.split(r"(?<=[.;:]) ", text) if 40 <= len(part) <= 200}
    return list(found)


def tokens(tokenizer, texts):
    coded = tokenizer.encode_batch(texts)
    return torch.tensor([c.ids for c in coded]), torch.tensor([c.attention_mask for c in coded], dtype=torch.float32)


def save(tensors, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: t.detach().contiguous() for name, t in tensors.items()}, path)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--text", type=Path, default=Path("/usr/share/common-licenses"))
    parser.add_argument("--steps", type=int, default=80)
    args = parser.parse_args()
    torch.set_num_threads(1)  # the order of additions, and so the bytes, depends on it
    torch.use_deterministic_algorithms(True)
    torch.manual_seed(SEED)
    tokenizer = Tokenizer.from_file(str(args.model / "tokenizer.json"))
    tokenizer.enable_truncation(TOKENS)
    tokenizer.enable_padding(length=TOKENS)
    texts = sentences(args.text)
    p = load_file(args.model / "model.safetensors")
    trained = {name: t.requires_grad_() for name, t in p.items() if t.is_floating_point() and not name.startswith("pooler.")}
    plain = {name for name in trained if "bias" in name or "LayerNorm" in name}
    optimizer = torch.optim.AdamW([
        {"params": [t for name, t in trained.items() if name in plain], "weight_decay": 0.0},
        {"params": [t for name, t in trained.items() if name not in plain], "weight_decay": DECAY},
    ], lr=RATE)
    for step in range(1, args.steps + 1):
        picked = torch.randint(len(texts) - 1, (BATCH,)).tolist()
        left, right = (encode(p, *tokens(tokenizer, [texts[i + k] for i in picked])) for k in (0, 1))
        loss = F.cross_entropy(left @ right.T / TEMPERATURE, torch.arange(BATCH))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % EVERY == 0:
            at = args.out / f"step-{step:04}"
            save(p, at / "model.safetensors")
            first = {n: optimizer.state[t] for n, t in trained.items() if re.match(r"encoder\.layer\.[0-2]\.", n)}
            save({f"{n}.{key}": s[key] for n, s in first.items() for key in ("exp_avg", "exp_avg_sq")},
                 at / "optimizer.safetensors")
            print(f"step {step}: loss {loss.item():.4f}", flush=True)


if __name__ == "__main__":
    main()
