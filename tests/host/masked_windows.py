"""Swin Renderer the naive way: the host's attention with the mask of the windows written out."""

import torch

from semantic_video.host.editing import edit_attention
from semantic_video.patches.swin_renderer import SwinRenderer

WINDOWS = SwinRenderer(window=4)


def masked_windows(call, proceed, window, anchors=(), shift=True, area=None):
    """The same through the host's attention with the mask written out: the naive reference. area: tokens of a frame,
    where nothing stands behind the video and the layout is not to be believed."""
    frames, before, after = call.forward.layout.frames, call.before, call.after
    if area is None:
        area = (call.q.shape[1] - before - after) // frames
    else:
        before, after = call.q.shape[1] - frames * area, 0
    start = window // 2 if shift and call.site.block % 2 else window
    cuts = [0, *range(start, frames, window), frames]
    if cuts[-1] - cuts[-2] < window / 2 and len(cuts) > 2:
        cuts.pop(-2)
    allowed = torch.ones(call.q.shape[1], call.k.shape[1], dtype=torch.bool)
    video = allowed[before : before + frames * area, before : before + frames * area]
    video[:] = False
    for first, last in zip(cuts, cuts[1:]):
        video[first * area : last * area, first * area : last * area] = True
    for anchor in anchors:
        video[:, anchor * area : (anchor + 1) * area] = True
    mask = torch.zeros(allowed.shape).masked_fill(~allowed, -torch.inf)[None, None].to(call.q.dtype)
    return proceed(call.replace(mask=mask if call.mask is None else mask + call.mask))


def reference(model, **options):
    return edit_attention(
        model, "reference", lambda call, proceed: masked_windows(call, proceed, **options), sites=("self", "joint")
    )
