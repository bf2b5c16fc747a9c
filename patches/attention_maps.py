"""Attention Maps of a MODEL: one pass on a finished latent, in which blocks show where the video looks at words."""

from collections.abc import Callable

import torch
import torch.nn.functional as functional
from torch import Tensor

from ..host.editing import Call, edit_attention
from ..host.families import family_of, wan
from ..host.levels import Predict, visit_levels
from ..host.text_features import text_features
from ..host.text_tokens import PICTURES, prompt_tokens
from ..kernels.attention_maps import normalised, spread_frames, text_map, word_maps
from ..kernels.clip_mask import heat_map
from .blocks import blocks_of
from .prompt_words import text_columns, video_tokens, word_tokens

NAME = "Attention Maps"


def attention_maps(
    model,
    clip,
    positive: list,
    text: str,
    words: list[str],
    latent: dict,
    blocks: str = "",
    at: float = 0.5,
    seed: int = 0,
) -> Tensor:
    """Where the video looks at each word: [words, latent frames, token rows, token columns], the words' share of
    attention.

    Mean over heads and `blocks` ("0-3,8"; empty: all), softmax over all keys, added up over a word's tokens and all
    places where it stands. at: noise level as a fraction of the schedule, 0 = first step. Raises ValueError, naming
    the input.
    """
    family, module = family_of(model), model.model.diffusion_model
    chosen = blocks_of("blocks", blocks, family.blocks(module)) or frozenset(range(family.blocks(module)))
    if len(positive) != 1:
        raise ValueError(f"positive: {len(positive)} conditionings. Give one.")
    if not words:
        raise ValueError("words: empty. Write words of the prompt, separated by commas.")
    tokens = prompt_tokens(model, clip, text)
    groups = word_tokens("words", tokens, words)
    indices = sorted({index for group in groups for index in group})
    total: dict[str, Tensor] = {}
    features, extra = positive[0]
    tokens.check(text_features({**extra, "cross_attn": features}), image=bool(PICTURES & extra.keys()))

    def edit(call: Call, proceed) -> Tensor:
        if call.site.block in chosen and call.site.stream != "side":
            layout = call.forward.layout
            grid = layout.frames, layout.height, layout.width
            video = video_tokens(call)
            mask = call.mask if call.mask is None or call.mask.shape[-2] == 1 else call.mask[..., video, :]
            maps = text_map(call.q[:1, video], call.k[:1], text_columns(call, tokens, indices), mask)[0]
            if not total:
                frames = call.forward.run.total_frames
                total["sum"] = maps.new_zeros(frames, layout.height, layout.width, len(indices))
                total["count"] = maps.new_zeros(frames, 1, 1, 1)
            for frame, one in zip(call.forward.frames, maps.unflatten(0, grid)):
                total["sum"][frame] += one
                total["count"][frame] += 1
        return proceed(call)

    def visit(predict: Predict, noised: Tensor, level: int) -> None:
        predict("positive")

    watching = edit_attention(model, NAME, edit, sites=("text", "joint"))
    visit_levels(watching, {"positive": positive}, latent, [at], visit, seed)
    if not total:
        raise ValueError(
            f"model: no text attention of blocks {blocks or 'of any number'} came by. Another patch replaces blocks or "
            "their attention; connect the model before that patch."
        )
    mean = total["sum"] / total["count"].clamp_min(1)
    places = [[indices.index(index) for index in group] for group in groups]
    maps = word_maps(mean.flatten(0, 2), places).unflatten(1, mean.shape[:3])
    return maps.to(torch.device("cpu"))


def overlay(
    maps: Tensor,
    frames: Tensor | None,
    size: tuple[int, int],
    first_frames: Callable[[int], list[int]] = wan.first_frames,
) -> tuple[Tensor, Tensor]:
    """A word's map [latent frames, rows, columns] as MASK [n, height, width] and as a heat map over the frames.

    Least to most attention in the whole video is 0 to 1. frames: [n, height, width, 3], one per latent or per video
    frame, or None: one mask per latent frame, of `size`, over grey. first_frames: of the model's family. Raises
    ValueError for another number of frames.
    """
    maps = normalised(maps)
    if frames is not None:
        size = tuple(frames.shape[1:3])
        try:
            maps = spread_frames(maps, len(frames), first_frames(len(maps)))
        except ValueError as error:
            raise ValueError(f"image: {error}. Connect the frames decoded from this latent.") from None
    mask = functional.interpolate(maps[:, None], size=size, mode="bilinear", align_corners=False)[:, 0]
    under = torch.full((*mask.shape, 3), 0.5) if frames is None else frames
    return mask, heat_map(under, mask)


def pixels(model, latent: dict) -> tuple[int, int]:
    """Height and width of the video that a LATENT stands for."""
    scale = model.model.latent_format.spacial_downscale_ratio
    return latent["samples"].shape[-2] * scale, latent["samples"].shape[-1] * scale
