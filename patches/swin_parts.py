"""Swin Renderer on attention calls that are not those of a whole video: parts of one, and a model's own stream of
sound."""

import torch

from ..host.call import Call
from ..host.layout import SiteKind
from ..kernels.parts import attend_parts, window_parts
from ..kernels.swin_sound import attention_by_frames, sound_cuts

SOUND: tuple[SiteKind, ...] = ("audio", "from_audio", "to_audio")


def part_in_windows(call: Call, proceed, spans: list[tuple[int, int]], beside: list[list[int]]) -> torch.Tensor:
    """Of a call that another editor (Prompt Timeline) has cut out: its frames, each in its window, which sees the
    frames `beside` it too."""
    layout = call.forward.layout
    parts = window_parts(call.frames, spans, beside, layout.height * layout.width, call.keys_before, call.k.shape[1])

    def attend(part, q, k, v, mask):
        return proceed(call.replace(q=q, k=k, v=v, mask=mask, frames=part.frames))

    return attend_parts(call.q, call.k, call.v, call.mask, parts, attend)


def sound_in_windows(call: Call, proceed, spans: list[tuple[int, int]], beside: list[tuple[int, ...]]) -> torch.Tensor:
    """Of a call at one of SOUND, in the video's windows; sound of a reference is seen by all and sees all."""
    forward, layout = call.forward, call.forward.layout
    shown = {crop.frames for crop in forward.crops}
    frames = shown.pop() if len(shown) == 1 else tuple(range(layout.frames))
    first = forward.family.first_frames(max(frames) + 1)
    durations = [first[frame + 1] - first[frame] for frame in frames]
    sound = sound_cuts(durations, layout.audio - layout.voice, layout.voice)
    area = layout.height * layout.width
    video = [area * frame for frame in range(layout.frames + 1)]
    of_queries, of_keys = {"audio": (sound, sound), "from_audio": (video, sound), "to_audio": (sound, video)}[
        call.site.kind
    ]

    def attend(q, k, v, mask):
        return proceed(call.replace(q=q, k=k, v=v, mask=mask))

    return attention_by_frames(call.q, call.k, call.v, attend, spans, beside, of_queries, of_keys, call.mask)
