"""Focal Guidance on a MODEL: keywords louder and maps carried over, in the text attention of weak blocks."""

from dataclasses import dataclass
from functools import partial
from math import isqrt
from typing import Literal

import torch
from torch import Tensor

from ..host.call import Call, by_crop
from ..host.editing import edit_attention, left_alone
from ..host.families import family_of
from ..host.run import Run
from ..host.schedule import ALWAYS, Interval
from ..host.text_tokens import PICTURES, PromptTokens, prompt_tokens
from ..kernels.focal_guidance import Fit, Source, anchor, anchored, clip_region, pooled, weigh
from ..kernels.ssg_adapter import crop_mask
from .blocks import blocks_of
from .focal_cache import carried, carry_joint, carry_text
from .focal_columns import Columns, add_source, carry_columns
from .per_frame import per_latent_frame
from .prompt_words import keyword_tokens, text_columns, video_tokens
from .queries import over_cfg

NAME = "Focal Guidance"
CacheOf = Literal["whole map", "keywords"]
IMAGE_TOKENS = 257  # of one image in the image branch: class token, then 16 x 16; two images with a last frame


@dataclass(frozen=True, eq=False)
class FocalGuidance:
    """text: the prompt; keywords: words of it, [] for those of the extractor; weight: how much louder they are, 1 not.

    region: where in the video guidance acts, [1 | frames, any height, any width], 0..1, or None for everywhere.
    anchor: how much of the region's image features joins the keywords (Wan 2.1 I2V). cache: from -1 (away from the
    source's map) to 1 (its map instead). blocks: weak ones, "" for all; source_blocks: those whose map is carried.
    cache_of: the whole map, or only how attention is shared out between the keywords. per_cfg: strength is divided by a
    CFG above 1, which multiplies what the positive prompt's rows add.
    """

    text: str = ""
    keywords: tuple[str, ...] = ()
    weight: float = 3.0
    region: Tensor | None = None
    anchor: float = 0.0
    fit: Fit = "squash"
    cache: float = 0.0
    blocks: str = ""
    source_blocks: str = ""
    cache_of: CacheOf = "whole map"
    strength: float = 1.0
    interval: Interval = ALWAYS
    per_cfg: bool = True

    def __post_init__(self):
        if not self.weight > 0:
            raise ValueError(f"keyword_weight {self.weight}: must be above 0; 1 leaves keywords as they are.")
        if not -1.0 <= self.cache <= 1.0:
            raise ValueError(f"cache {self.cache}: must be from -1 to 1; 0 carries nothing over.")
        if not 0.0 <= self.anchor <= 1.0:
            raise ValueError(f"anchor {self.anchor}: must be from 0 (off) to 1.")
        if not 0.0 <= self.strength <= 1.0:
            raise ValueError(f"strength {self.strength}: must be from 0 (the model as it is) to 1.")
        if self.fit not in Fit.__args__:
            raise ValueError(f"clip_fit '{self.fit}': choose one of {', '.join(Fit.__args__)}.")
        if self.cache_of not in CacheOf.__args__:
            raise ValueError(f"cache_of '{self.cache_of}': choose one of {', '.join(CacheOf.__args__)}.")
        if self.anchor and self.region is None:
            raise ValueError(
                "region: missing. anchor takes image features from a region: connect a mask, or set it to 0."
            )
        region = self.region
        if region is not None and (region.ndim != 3 or 0 in region.shape or not torch.isfinite(region).all()):
            raise ValueError(
                f"region: shape {tuple(region.shape)}, empty or with NaN or infinite values. Give masks [frames, "
                "height, width] of 0 to 1."
            )

    @property
    def words(self) -> bool:
        return self.weight != 1.0 or self.anchor != 0.0 or self.columns

    @property
    def columns(self) -> bool:
        return self.cache != 0.0 and self.cache_of == "keywords"

    @property
    def active(self) -> bool:
        return self.strength != 0.0 and (self.words or self.cache != 0.0)


@dataclass(frozen=True)
class Plan:
    """Which blocks do what. last: the last block that reads the cache."""

    weak: frozenset[int]
    sources: frozenset[int]
    cached: frozenset[int]
    last: int


@dataclass
class Kept:
    """What stays from block to block of one call: the running source, the region of its tokens, a block's anchor."""

    source: Source | Columns | None = None
    region: Tensor | None = None
    anchor: Tensor | None = None


def apply(model, clip, config: FocalGuidance):
    """A clone of `model` that is guided; strength 0, or nothing to do, returns the model unchanged.

    clip: the CLIP that encoded the prompt; None where only the cache acts. Raises ValueError, naming input and remedy.
    """
    family, module = family_of(model), model.model.diffusion_model
    plan = plan_blocks(config, family.blocks(module))
    if not config.active:
        return left_alone(model)
    if config.anchor and getattr(module, "img_emb", None) is None:
        raise ValueError(
            f"anchor {config.anchor}: this {family.NAME} has no image branch to take features from (T2V models, Wan "
            "2.2 and HunyuanVideo have none). Set anchor to 0, or load Wan 2.1 I2V."
        )
    tokens, chosen = None, []
    if config.words:
        if clip is None:
            raise ValueError("clip: missing. Keywords are found with the CLIP that encoded the prompt: connect it.")
        if not config.text.strip():
            raise ValueError("text: empty. Give the prompt that the positive conditioning was encoded from.")
        tokens = prompt_tokens(model, clip, config.text)
        chosen = keyword_tokens(tokens, config.text, list(config.keywords))

    edit = partial(guide, config, plan, tokens, chosen)
    check = partial(check_run, config, tokens)
    sites = ("text", "joint", "image") if config.anchor else ("text", "joint")
    return edit_attention(model, NAME, by_crop(edit), sites=sites, interval=config.interval, check=check)


def plan_blocks(config: FocalGuidance, blocks: int) -> Plan:
    named = blocks_of("blocks", config.blocks, blocks)
    sources = blocks_of("source_blocks", config.source_blocks, blocks)
    if config.cache and not sources:
        raise ValueError(
            "source_blocks: empty. cache carries the maps of responsive blocks: name some, or set cache to 0."
        )
    if both := named & sources:
        raise ValueError(f"blocks and source_blocks: both have {min(both)}. A block is weak or a source, not both.")
    weak = named or frozenset(range(blocks))
    if not config.cache:
        return Plan(weak, frozenset(), frozenset(), -1)
    first = min(sources)
    if named and min(named) < first:
        raise ValueError(
            f"blocks: {min(named)} comes before every source ({config.source_blocks}), and only blocks that the pass "
            "has gone through can be carried over. Name an earlier source, or later blocks."
        )
    targets = frozenset(block for block in weak - sources if block > first)
    if not targets:
        raise ValueError(f"source_blocks {config.source_blocks}: no block comes after them to carry maps to.")
    return Plan(weak, sources, targets, max(targets))


def check_run(config: FocalGuidance, tokens: PromptTokens | None, run: Run) -> None:
    image = bool(run.conds & PICTURES)
    for context in run.texts if tokens else ():
        tokens.check(context, image)
    if config.anchor and "clip_vision_output" not in run.conds:
        raise ValueError(
            "anchor: no conditioning carries CLIP features of a start image. Connect clip_vision_output of "
            "WanImageToVideo, or set anchor to 0."
        )
    if config.anchor and not seen_by_clip(config, isqrt(IMAGE_TOKENS - 1)).any():
        raise ValueError(
            f"region: nothing of it is in what CLIP has seen of the start image (clip_fit '{config.fit}'). Mark some "
            "of that, or set anchor to 0."
        )
    if config.region is None:
        return
    per_latent_frame("region", config.region, run.total_frames, run.first_frames)
    (height, width), (rows, columns) = run.size[1:], config.region.shape[1:]
    if not 0.9 < (columns / rows) / (width / height) < 1.1:
        raise ValueError(
            f"region: {columns} x {rows}, but the video has the proportions {width} : {height}. Give the mask those of "
            "the video: crop the image before the mask is made."
        )


def guide(
    config: FocalGuidance, plan: Plan, tokens: PromptTokens | None, chosen: list[int], call: Call, proceed
) -> Tensor:
    block = call.site.block
    if call.site.stream == "side" or block not in plan.weak | plan.sources or not call.positive_rows:
        return proceed(call)
    rows, kept = call.positive_rows, call.forward.once((NAME, call.crop), Kept)
    strength = over_cfg(call, config.strength, config.per_cfg)
    if call.site.kind == "image":
        if block in plan.weak:
            kept.anchor = image_anchor(config, call, rows)
        return proceed(call)
    columns = text_columns(call, tokens, chosen) if tokens else []
    if block in plan.sources and config.columns:
        kept.source = add_source(call, rows, columns, kept.source)
    elif block in plan.sources:
        kept.source = None  # before the next is made: there is never more than one
        kept.source = carried(call, rows)
    if block not in plan.weak:
        return proceed(call)

    louder = partial(weigh, columns=columns, weight=config.weight**strength, rows=rows)
    v = call.v
    if kept.anchor is not None:
        v = v.clone()
        v[rows] = anchored(call.v[rows], columns, kept.anchor, config.anchor * strength)
        kept.anchor = None
    changed = config.words and config.weight != 1.0
    keys = louder(call.k, v, call.mask) if changed else None
    guided = call.replace(k=keys.k, v=keys.v, mask=keys.mask) if changed else call.replace(v=v)
    out = proceed(guided)
    if block in plan.cached and kept.source and config.columns:
        out = carry_columns(call, guided, out, kept.source, rows, columns, config.cache * strength)
    elif block in plan.cached and kept.source:
        add = carry_joint if call.site.kind == "joint" else carry_text
        again = louder if changed else None
        out = add(call, guided, out, kept.source, rows, again, config.cache * strength, proceed)
    if block == plan.last:
        kept.source = None
    return out if config.region is None else within(config, kept, call, rows, proceed(call), out)


def within(config: FocalGuidance, kept: Kept, call: Call, rows: list[int], plain: Tensor, guided: Tensor) -> Tensor:
    """`guided` in the region, `plain` outside, blended between; text, reference and in-context tokens are outside."""
    if kept.region is None:
        kept.region = region_of_tokens(config, call).to(plain)
    region, queries = kept.region, video_tokens(call)
    out = plain.clone()
    out[rows, queries] = torch.lerp(plain[rows, queries], guided[rows, queries], region)
    return out


def region_of_tokens(config: FocalGuidance, call: Call) -> Tensor:
    """[frames * area, 1] of the part of the video that this call shows."""
    layout, crop = call.forward.layout, call.crop
    frames = call.forward.run.total_frames or layout.frames
    region = per_latent_frame("region", config.region, frames, call.forward.family.first_frames)
    if not crop.whole_picture:
        region = crop_mask(region, crop.video, crop.top, crop.left, crop.height, crop.width)
    frames = region[list(crop.frames)] if len(region) > 1 else region.expand(layout.frames, -1, -1)
    grids = [pooled(frame.float().clamp(0, 1), layout.height, layout.width) for frame in frames]
    return torch.stack(grids).flatten().unsqueeze(1)


def image_anchor(config: FocalGuidance, call: Call, rows: list[int]) -> Tensor:
    """Mean value of the start image's features in the region, [rows, heads, dim]; values are linear in the features."""
    tokens = min(call.v.shape[1], IMAGE_TOKENS)
    grid = isqrt(tokens - 1)
    return anchor(call.v[rows, 1 : 1 + grid * grid], seen_by_clip(config, grid))


def seen_by_clip(config: FocalGuidance, grid: int) -> Tensor:
    """Weights of CLIP's image tokens, grid x grid, by the region in the first frame."""
    return clip_region(config.region[0].float().clamp(0, 1), grid, config.fit)
