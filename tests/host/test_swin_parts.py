"""Swin Renderer on parts of a video and on sound: each query sees the keys that a mask, written out, lets it see."""

from types import SimpleNamespace

import pytest
import torch

from semantic_video.harness.sampling import seeded
from semantic_video.host.call import Call
from semantic_video.host.families import wan
from semantic_video.host.layout import Layout
from semantic_video.patches.swin_parts import part_in_windows, sound_in_windows
from semantic_video.tests.host import naive

FRAMES, AREA = 5, 2


def a_call(queries, keys, kind="joint", crops=((0, 1, 2, 3, 4),), mask=None, audio=0, voice=0, **more):
    q, k, v = (seeded(1, tokens, 3, 4, seed=seed) for seed, tokens in enumerate((queries, keys, keys)))
    layout = Layout(FRAMES, 1, AREA, audio=audio, voice=voice)
    crops = [SimpleNamespace(frames=frames) for frames in crops]
    forward = SimpleNamespace(layout=layout, crops=crops, family=wan)
    return Call(q, k, v, mask, SimpleNamespace(kind=kind), forward, before=0, after=0, batch=(0,), **more)


def dense(call):
    return naive.attention(call.q, call.k, call.v, call.mask).flatten(2)


def masked(call, allowed):
    bias = torch.zeros(allowed.shape).masked_fill(~allowed, -torch.inf)[None, None]
    return naive.attention(call.q, call.k, call.v, bias if call.mask is None else bias + call.mask).flatten(2)


@pytest.mark.parametrize("with_mask", [True, False])
def test_frames_that_another_editor_has_cut_out(with_mask):
    """Frames 4, 1 and 2 of five, behind three keys that are no video's and in front of one."""
    held, before = (4, 1, 2), 3
    mask = seeded(1, 1, len(held) * AREA, before + FRAMES * AREA + 1, seed=7) if with_mask else None
    call = a_call(len(held) * AREA, before + FRAMES * AREA + 1, mask=mask, frames=held, keys_before=before)
    asked = []

    def proceed(part):
        asked.append(part.frames)
        return dense(part)

    got = part_in_windows(call, proceed, [(0, 2), (2, 5)], [(4,), (0,)])
    seen = {0: {0, 1, 4}, 1: {0, 2, 3, 4}}
    allowed = torch.ones(len(held) * AREA, before + FRAMES * AREA + 1, dtype=torch.bool)
    for i, frame in enumerate(held):
        for other in set(range(FRAMES)) - seen[int(frame >= 2)]:
            allowed[i * AREA : (i + 1) * AREA, before + other * AREA : before + (other + 1) * AREA] = False
    torch.testing.assert_close(got, masked(call, allowed).to(got))
    assert asked == [(1,), (4, 2)]


SOUND = [-1, -1, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4]  # 2 of a voice; 17 tokens for 17 video frames
LATER = [-1, -1, *([0] * 4), *([1] * 4), *([2] * 4), *([3] * 4), *([4] * 4)]  # frames 3 to 7: four video frames each
VIDEO = [frame for frame in range(FRAMES) for _ in range(AREA)] + [-1]  # a token behind the video


@pytest.mark.parametrize(
    ("crops", "sound"),
    [([(0, 1, 2, 3, 4)], SOUND), ([(3, 4, 5, 6, 7)] * 2, LATER), ([(3, 4, 5, 6, 7), (1, 2, 3, 4, 5)], SOUND)],
)
@pytest.mark.parametrize("kind", ["audio", "from_audio", "to_audio"])
def test_sound_in_the_video_s_windows(kind, crops, sound):
    """A token is of the latent frame in whose time it lies; where rows show different parts, of the first frames."""
    of_queries, of_keys = {"audio": (sound, sound), "from_audio": (VIDEO, sound), "to_audio": (sound, VIDEO)}[kind]
    mask = seeded(1, 1, 1, len(of_keys), seed=8)
    call = a_call(len(of_queries), len(of_keys), kind, crops, mask, audio=len(sound), voice=2)
    got = sound_in_windows(call, dense, [(0, 2), (2, 5)], [(4,), (0,)])
    seen = {0: {-1, 0, 1, 4}, 1: {-1, 0, 2, 3, 4}}
    allowed = torch.tensor([[a < 0 or b in seen[int(a >= 2)] for b in of_keys] for a in of_queries])
    torch.testing.assert_close(got, masked(call, allowed).to(got))
