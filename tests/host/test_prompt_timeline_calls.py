"""One attention call of Prompt Timeline: which parts it is cut into, what each is told, and that all are one mask."""

from math import inf
from types import SimpleNamespace

import pytest
import torch

from semantic_video.harness.sampling import seeded
from semantic_video.host.call import Call
from semantic_video.host.families import wan
from semantic_video.host.layout import Crop, Layout
from semantic_video.kernels.prompt_timeline import Span
from semantic_video.patches.prompt_timeline import PromptTimeline, each_timeline, parted
from semantic_video.patches.timeline_text import Spoken
from semantic_video.tests.host import naive

CONFIG = PromptTimeline(fps=16.0)
TWO = (Spoken(Span(0, 0.1), 2), Spoken(Span(0.1, inf), 3))  # the second latent frame is of the later span already
FRAMES, AREA = 3, 2


def call_of(kind="text", batch=1, frames=None, timelines=(TWO,), crops=((0, 1, 2),), **layout):
    """In joint attention behind five words a reference token; an in-context token behind the video."""
    joint, made = kind == "joint", {}
    grid = FRAMES if frames is None else len(frames)
    queries = (5 if joint else 0) + 1 + grid * AREA + 1 if frames is None else grid * AREA
    keys = queries if joint else 5
    q, k, v = (seeded(batch, tokens, 2, 4, seed=seed) for seed, tokens in enumerate((queries, keys, keys)))

    def once(key, make):
        return made.setdefault(key, None) or made.update({key: make()}) or made[key]

    forward = SimpleNamespace(
        layout=Layout(FRAMES, 1, AREA, before=1, after=1, **layout),
        run=SimpleNamespace(total_frames=9),
        options={},
        once=once,
        timelines=timelines,
        crops=[Crop(shown, 0, 0, 2, 4, (2, 4)) for shown in crops],
    )
    before, after = (0, 0) if frames is not None else (5 * joint + 1, 1)
    site, rows = SimpleNamespace(kind=kind), tuple(range(batch))
    return Call(q, k, v, None, site, forward, before, after, rows, 6 if joint else 0, frames)


def dense(call):
    return naive.attention(call.q, call.k, call.v, call.mask).flatten(2)


def masked(call, allowed):
    bias = torch.zeros(allowed.shape).masked_fill(~allowed, -torch.inf)[None, None]
    return naive.attention(call.q, call.k, call.v, bias).flatten(2)


def asked_of(call, config=CONFIG, shown=(0, 1, 2), spoken=TWO):
    asked = []

    def proceed(part):
        asked.append((part.q.shape[1], part.k.shape[1], part.before, part.after, part.frames, part.keys_before))
        return dense(part)

    return parted(wan, config, spoken, shown, call, proceed), asked


def test_joint_attention():
    """Words see one another and their span's frames; frames see their span's words and all that is no word."""
    call = call_of("joint")
    got, asked = asked_of(call)
    assert asked == [
        (2, 10, 0, 0, (0,), 3),
        (4, 11, 0, 0, (1, 2), 4),
        (2, 6, 2, 0, (), 0),
        (3, 9, 3, 0, (), 2),
        (2, 13, 2, 0, (), 6),
    ]
    word, frame = [0, 0, 1, 1, 1] + [None] * 8, [None] * 6 + [0, 0, 1, 1, 1, 1, None]
    allowed = torch.ones(13, 13, dtype=torch.bool)
    for i in range(13):
        for j in range(13):
            own = word[i] if word[i] is not None else frame[i]
            other_video = word[i] is not None and frame[j] not in (None, own)
            allowed[i, j] = own is None or not (word[j] not in (None, own) or other_video)
    torch.testing.assert_close(got, masked(call, allowed).to(got))


def test_words_that_belong_to_no_span():
    """Two tokens of a picture in front, a quoted word of each span before the prompts."""
    spoken = (Spoken(Span(0, 0.1), 1, 1), Spoken(Span(0.1, inf), 1, 1))  # [picture picture][a b][A B]
    call = call_of("joint", image=2, glyphs=2)
    call = call.replace(**{name: seeded(1, 14, 2, 4, seed=i) for i, name in enumerate("qkv")}, before=7, keys_before=7)
    got, asked = asked_of(call, spoken=spoken)
    word, frame = [None, None, 0, 1, 0, 1] + [None] * 8, [None] * 7 + [0, 0, 1, 1, 1, 1, None]
    allowed = torch.ones(14, 14, dtype=torch.bool)
    for i in range(14):
        for j in range(14):
            own = word[i] if word[i] is not None else frame[i]
            other_video = word[i] is not None and frame[j] not in (None, own)
            allowed[i, j] = own is None or not (word[j] not in (None, own) or other_video)
    torch.testing.assert_close(got, masked(call, allowed).to(got))
    assert asked[-1][0] == 4, "picture, reference and in-context tokens see everything"


def test_text_attention():
    """References and in-context tokens see all texts."""
    call = call_of()
    got, asked = asked_of(call)
    assert asked == [(2, 2, 0, 0, (0,), 0), (4, 3, 0, 0, (1, 2), 0), (2, 5, 2, 0, (), 0)]
    allowed = torch.ones(8, 5, dtype=torch.bool)
    allowed[1:3, 2:], allowed[3:7, :2] = False, False
    torch.testing.assert_close(got, masked(call, allowed).to(got))


def test_frames_that_another_editor_has_cut_out():
    """Frames 2 and 0 of a part that shows the video's frames 0, 0 and 5; the former is of the later span."""
    call = call_of(frames=(2, 0))
    got, asked = asked_of(call, shown=(0, 0, 5))
    assert asked == [(2, 2, 0, 0, (0,), 0), (2, 3, 0, 0, (2,), 0)]
    allowed = torch.ones(4, 5, dtype=torch.bool)
    allowed[:2, :2], allowed[2:, 2:] = False, False
    torch.testing.assert_close(got, masked(call, allowed).to(got))


def test_a_call_without_frames_of_the_video():
    """In joint attention the words alone, as another editor may hand them on."""
    call = call_of("joint")
    words = call.replace(q=call.q[:, :6], before=6, after=0)
    got, asked = asked_of(words)
    assert [one[0] for one in asked] == [2, 3, 1]
    torch.testing.assert_close(got, asked_of(call)[0][:, :6])


@pytest.mark.parametrize("strength", [0.25, 1.0])
def test_strength_blends_with_all_texts(strength):
    call = call_of()
    own, _ = asked_of(call)
    got = parted(wan, PromptTimeline(strength=strength), TWO, (0, 1, 2), call, dense)
    torch.testing.assert_close(got, (1 - strength) * dense(call) + strength * own)


def test_rows_are_put_back_in_order():
    """Rows 0 and 3 share a timeline and frames, row 1 has none, row 2 a single span, row 4 later frames."""
    single = (Spoken(Span(0, inf), 5),)
    timelines, crops = [TWO, None, single, TWO, TWO], [(0, 1, 2), (0, 1, 2), (0, 1, 2), (0, 1, 2), (3, 4, 5)]
    call, batches = call_of(batch=5, timelines=timelines, crops=crops), []

    def proceed(part):
        batches.append(len(part.q))
        return dense(part)

    got = each_timeline(wan, CONFIG, call, proceed)
    assert batches == [2, 2, 2, 1, 1, 1, 1]
    first, later = torch.ones(8, 5, dtype=torch.bool), torch.ones(8, 5, dtype=torch.bool)
    first[1:3, 2:], first[3:7, :2] = False, False
    later[1:7, :2] = False
    every = torch.ones(8, 5, dtype=torch.bool)
    for row, allowed in enumerate((first, every, every, first, later)):
        torch.testing.assert_close(got[row : row + 1], masked(call.take([row]), allowed).to(got))
    plain = call_of(batch=2, timelines=[None, single], crops=crops[:2])
    batches.clear()
    assert torch.equal(each_timeline(wan, CONFIG, plain, proceed), dense(plain)) and batches == [2]
