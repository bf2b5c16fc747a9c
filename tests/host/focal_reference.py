"""Focal Guidance the naive way: one map per head, written out in fp64."""

import math

import torch

from semantic_video.harness.toy_nodes import ToyCLIP
from semantic_video.host.editing import edit_attention
from semantic_video.patches.focal_guidance import FocalGuidance, apply

TEXT = "a red ball and a blue cube"  # as many words as the toys' prompts have tokens
KEYWORDS = ("ball", "blue")
INDICES = [2, 5]
NEAR = {"rtol": 1e-3, "atol": 2e-4}
FAR = {"rtol": 1e-2, "atol": 1e-2}


def focal(**options):
    return FocalGuidance(**{"text": TEXT, "keywords": KEYWORDS, "per_cfg": False} | options)


def guided(model, **options):
    return apply(model, ToyCLIP(), focal(**options))


def explicit(weight=1.0, cache=0.0, sources=(), weak=None, region=None, anchor=0.0, between_keywords=False):
    """The whole of it as one map per head, in fp64, the naive way. region: [frames, rows, columns] on tokens."""
    state = {}

    def edit(call, proceed):
        block, forward, text = call.site.block, call.forward, call.site.kind != "image"
        if call.site.stream == "side":
            return proceed(call)
        if not text:
            state["image"] = call.v
            return proceed(call)
        q, k, v = (x.double() for x in (call.q, call.k, call.v))
        count = k.shape[1] if call.site.kind == "text" else call.before - forward.layout.before
        columns = [count - 7 + index for index in INDICES]
        logits = torch.einsum("bqhd,bkhd->bhqk", q, k) / math.sqrt(q.shape[-1])
        logits = logits if call.mask is None else logits + call.mask.double()
        positive = torch.tensor([row == 0 for row in forward.rows])
        acts = positive & (weak is None or block in weak)
        bias = torch.zeros_like(logits)
        bias[..., columns] = math.log(weight)
        heard = torch.where(acts[:, None, None, None], logits + bias, logits)
        new = v.clone()
        if anchor:
            for row in acts.nonzero().flatten().tolist():
                patches = state["image"][row, 1:5].double()  # the toys' image has a class token and 2 x 2 patches
                u = (patches * anchor["region"].flatten()[:, None, None]).sum(0) / anchor["region"].sum()
                for column in columns:
                    length = v[row, column].norm() / u.norm()
                    new[row, column] = v[row, column] + anchor["strength"] * length * u
        maps = heard.softmax(-1)
        if cache and between_keywords and block in state.get("active", ()):
            moved = maps.clone()
            source = torch.stack(state["maps"]).mean(0).unsqueeze(1).expand(-1, q.shape[2], -1, -1)
            part = ((1 - cache) * maps[..., columns] + cache * source).clamp_min(0)
            mass, left = maps[..., columns].sum(-1, keepdim=True), part.sum(-1, keepdim=True)
            moved[..., columns] = torch.where(left > 0, part * mass / left, maps[..., columns])
            if call.site.kind == "joint":
                rest = torch.ones(q.shape[1], dtype=torch.bool)
                rest[call.before : q.shape[1] - call.after] = False
                moved = torch.where(rest[:, None], maps, moved)
            maps = torch.where(acts[:, None, None, None], moved, maps)
        elif cache and block in state.get("active", ()):
            other = state["source"] + bias[..., :count]
            if call.site.kind == "text":
                blended = (1 - cache) * maps + cache * other.softmax(-1)
            else:
                mass = maps[..., :count].sum(-1, keepdim=True)
                own = maps[..., :count]
                blended = torch.cat(((1 - cache) * own + cache * mass * other.softmax(-1), maps[..., count:]), -1)
                rest = torch.ones(q.shape[1], dtype=torch.bool)
                rest[call.before : q.shape[1] - call.after] = False
                blended = torch.where(rest[:, None], maps, blended)
            maps = torch.where(acts[:, None, None, None], blended, maps)
        if block in sources:
            state["source"] = logits[..., :count]
            first = block == min(sources)
            state["maps"] = [*([] if first else state["maps"]), logits.softmax(-1).mean(1)[..., columns]]
            state["active"] = [b for b in range(call.site.blocks) if b not in sources and b > block]
        out = torch.einsum("bhqk,bkhd->bqhd", maps, new).flatten(2)
        if region is not None:
            plain = torch.einsum("bhqk,bkhd->bqhd", logits.softmax(-1), v).flatten(2)
            inside = torch.zeros(q.shape[1], 1, dtype=torch.float64)
            inside[call.before : q.shape[1] - call.after] = region.double().flatten()[:, None]
            out = plain + inside * (out - plain)
        return out.to(call.q)

    return edit


def reference(model, **options):
    return edit_attention(model, "reference", explicit(**options), sites=("text", "joint", "image"))


ALL = {"cache": 0.5, "source_blocks": "0"}
