#!/usr/bin/env python3
"""The cosub step of timm and PyTorch: DeiT's training loop (facebookresearch/deit engine.py: both views
concatenated along the rows, BCE with logits, targets of one half the other's sigmoid, detached) on a timm
model. Runs one step for each line on stdin and answers with its seconds and loss, and the
most bytes of tensors so far on the GPU.

--rows mask: every branch runs on all rows and dropped ones are multiplied by zero, as timm's DropPath does.
--rows subset: branches run on the kept rows, as in DINOv2 (index_select, index_add).
--compile: through torch.compile. Weights, images and kept rows come from files, so that both programs
compute the same."""
import argparse
import json
import sys
import time

import timm
import torch
from safetensors.torch import load_file


class Rows:
    """The kept rows of each branch of the step at hand: what eager and compiled blocks read."""

    def __init__(self, kept, device):
        self.steps = [[None if rows is None else torch.tensor(rows, device=device) for rows in step[0]] for step in kept]
        self.now = []

    def take(self, step):
        self.now = self.steps[step]


def subset(x, branch, rows):
    if rows is None:
        return x + branch(x)
    return torch.index_add(x, 0, rows, branch(x.index_select(0, rows)).to(x.dtype),
                           alpha=x.shape[0] / rows.shape[0])


def mask(x, branch, rows):
    if rows is None:
        return x + branch(x)
    kept = x.new_zeros(x.shape[0], 1, 1).index_fill(0, rows, x.shape[0] / rows.shape[0])
    return x + branch(x) * kept


class Block(torch.nn.Module):
    def __init__(self, block, apply):
        super().__init__()
        self.block, self.apply_rows = block, apply

    def forward(self, x, attn_rows, mlp_rows):
        block = self.block
        x = self.apply_rows(x, lambda y: block.ls1(block.attn(block.norm1(y))), attn_rows)
        return self.apply_rows(x, lambda y: block.ls2(block.mlp(block.norm2(y))), mlp_rows)


class Model(torch.nn.Module):
    """A timm ViT whose blocks are told the rows to keep."""

    def __init__(self, vit, apply):
        super().__init__()
        self.vit = vit
        self.blocks = [Block(block, apply) for block in vit.blocks]  # not registered a second time

    def forward(self, images, rows):
        vit = self.vit
        x = vit.norm_pre(vit.patch_drop(vit._pos_embed(vit.patch_embed(images))))
        for i, block in enumerate(self.blocks):
            x = block(x, rows[2 * i], rows[2 * i + 1])
        return vit.forward_head(vit.norm(x))


class Training:
    def __init__(self, options):
        torch.set_num_threads(options.threads)
        self.device = torch.device(options.device)
        if options.bf16:  # what is not autocast: as in ours
            torch.set_float32_matmul_precision("high")
        inputs = load_file(options.inputs, device=options.device)
        self.images, self.targets = inputs["input"], inputs["target"]
        self.bf16 = options.bf16
        with open(options.kept_rows) as file:
            self.rows = Rows(json.load(file), self.device)
        vit = timm.create_model(options.model, num_classes=self.targets.shape[1], img_size=self.images.shape[-1])
        if options.weights:
            vit.load_state_dict(load_file(options.weights))
        vit.to(self.device).train()
        self.model = Model(vit, mask if options.rows == "mask" else subset)
        decayed = [p for n, p in vit.named_parameters() if p.ndim > 1 and n not in vit.no_weight_decay()]
        others = [p for n, p in vit.named_parameters() if p.ndim <= 1 or n in vit.no_weight_decay()]
        self.optimizer = torch.optim.AdamW([{"params": decayed}, {"params": others, "weight_decay": 0.0}],
                                           lr=1e-4, weight_decay=0.05, fused=True)
        self.parameters = decayed + others
        self.average = [p.detach().clone() for p in self.parameters]
        self.forward = torch.compile(self.model) if options.compile else self.model
        self.criterion = torch.nn.BCEWithLogitsLoss()
        self.count = 0

    def step(self):
        self.rows.take(self.count)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            logits = self.forward(torch.cat([self.images, self.images]), self.rows.now)
        one, two = logits.float().chunk(2)
        loss = 0.25 * (self.criterion(one, self.targets) + self.criterion(two, self.targets)
                       + self.criterion(one, two.detach().sigmoid())
                       + self.criterion(two, one.detach().sigmoid()))
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        with torch.no_grad():  # as timm's ModelEmaV3 does, with its warm-up of ours
            decay = min(0.9999, (1 + self.count) / (10 + self.count))
            torch._foreach_lerp_(self.average, self.parameters, 1 - decay)
        self.count += 1
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        return loss.item()

    def peak_bytes(self):
        return torch.cuda.max_memory_allocated() if self.device.type == "cuda" else 0


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--rows", choices=["mask", "subset"], required=True)
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--bf16", action="store_true")
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--weights", help="default: timm's own draw")
    parser.add_argument("--inputs", required=True)
    parser.add_argument("--kept-rows", required=True)
    return parser.parse_args()


def main():
    training = Training(parse())
    for _ in sys.stdin:
        start = time.perf_counter()
        loss = training.step()
        print(f"{time.perf_counter() - start:.6f} {loss:.7f} {training.peak_bytes()}", flush=True)


if __name__ == "__main__":
    main()
