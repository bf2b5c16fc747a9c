"""Places in time, token by token: rotations written out as complex numbers."""

from types import SimpleNamespace

import pytest
import torch

from semantic_video.harness.sampling import seeded
from semantic_video.host.call import Call
from semantic_video.host.layout import Layout, TimeRope
from semantic_video.patches.swin_positions import at_scale, automatic_scale, frames_at_scale

FREQ, SCALE, FRAMES, AREA = 0.3, 0.25, 3, 2


@pytest.mark.parametrize(
    ("trained", "frames", "scale"),
    [(21, 41, 0.5), (21, 21, 1.0), (21, 22, 20 / 21), (21, 5, 1.0), (2, 2, 1.0), (2, 1, 1.0), (3, 9, 0.25)],
)
def test_automatic_scales(trained, frames, scale):
    assert automatic_scale(trained, frames) == pytest.approx(scale)


def turned(x, times):
    """x [1, tokens, heads, 4], whose first two channels are a complex number, as if its tokens stood at SCALE * times
    instead; None: it stays."""
    out = x.clone()
    for token, time in enumerate(times):
        if time is not None:
            angle = torch.tensor((SCALE - 1) * time * FREQ)
            number = torch.complex(x[:, token, :, 0], x[:, token, :, 1]) * torch.polar(torch.tensor(1.0), angle)
            out[:, token, :, 0], out[:, token, :, 1] = number.real, number.imag
    return out


def forward_of(following=0):
    rope = TimeRope(slice(0, 1), slice(1, 2), torch.tensor([FREQ], dtype=torch.float64), following)
    kept, made = {}, []

    def once(key, make):
        if key not in kept:
            made.append(key)
            kept[key] = make()
        return kept[key]

    def time_rope(module, arguments):
        assert (module, arguments) == ("module", {"x": 1})
        return rope

    family = SimpleNamespace(time_rope=time_rope)
    layout = Layout(FRAMES, 1, AREA)
    forward = SimpleNamespace(once=once, family=family, module="module", arguments={"x": 1}, layout=layout, made=made)
    return forward


def call_of(queries, keys, before, after, keys_before, following=0, frames=None):
    q, k = (seeded(1, tokens, 3, 4, seed=seed) for seed, tokens in enumerate((queries, keys)))
    return Call(q, k, k, None, None, forward_of(following), before, after, (0,), keys_before, frames)


def test_frames_one_by_one():
    x, forward = seeded(1, 4, 3, 4), forward_of()
    assert frames_at_scale(forward, x, [2, 1], 1.0) is x and not forward.made
    kept = x.clone()
    torch.testing.assert_close(frames_at_scale(forward, x, [2, 1], SCALE), turned(x, [2, 2, 1, 1]))
    assert torch.equal(x, kept)
    frames_at_scale(forward, x, [0, 1], SCALE)
    frames_at_scale(forward, x, [0, 1], 2 * SCALE)
    assert len(forward.made) == 3, "angles are made once for each scale, the rope once"


VIDEO = [0, 0, 1, 1, 2, 2]


@pytest.mark.parametrize("following", [0, 1])
def test_a_whole_video(following):
    """Two tokens in front; two behind it, of which `following` keep their distance from its end."""
    call = call_of(10, 10, 2, 2, 2, following)
    got = at_scale(call, SCALE)
    times = [None, None, *VIDEO, 2 if following else None, None]
    torch.testing.assert_close(got.q, turned(call.q, times))
    torch.testing.assert_close(got.k, turned(call.k, times))
    assert got.v is call.v and at_scale(call, 1.0) is call


def test_frames_that_an_editor_has_cut_out():
    call = call_of(4, 8, 0, 0, 2, frames=(2, 0))
    got = at_scale(call, SCALE)
    torch.testing.assert_close(got.q, turned(call.q, [2, 2, 0, 0]))
    torch.testing.assert_close(got.k, turned(call.k, [None, None, *VIDEO]))
    words = call_of(3, 8, 3, 0, 2, frames=())
    assert at_scale(words, SCALE) is words, "words of a span see it where it is"


@pytest.mark.parametrize(
    ("queries", "before", "after", "following", "times"),
    [
        (3, 3, 0, 1, [None] * 3),  # those in front alone
        (2, 0, 2, 1, [2, None]),  # those behind alone
        (2, 0, 2, 0, [None] * 2),
    ],
)
def test_queries_that_an_editor_hands_on_alone(queries, before, after, following, times):
    call = call_of(queries, 10, before, after, 2, following)
    got = at_scale(call, SCALE)
    torch.testing.assert_close(got.q, turned(call.q, times))
    torch.testing.assert_close(got.k, turned(call.k, [None, None, *VIDEO, 2 if following else None, None]))
    assert (got.q is call.q) == (times[0] is None)
