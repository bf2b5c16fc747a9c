"""Swin Renderer part by part, on a family of its own: what is chosen, what is said, and what is refused."""

import logging
from types import SimpleNamespace

import pytest

from semantic_video.host.own_windows import Window
from semantic_video.host.pieces import Piece
from semantic_video.host.timeline import TIMELINE
from semantic_video.patches import swin_renderer as patch
from semantic_video.patches.swin_config import require_room
from semantic_video.patches.swin_renderer import SwinRenderer, Windows


def family(**changes):
    """Of 4 blocks, trained on 11 latent frames, or on as many as a frame rate says."""
    made = {
        "NAME": "Fake",
        "WINDOW_STEP": 2,
        "OWN_WINDOWS": True,
        "PLACES_IN_SECONDS": False,
        "time_rope": True,
        "trained_frames": lambda module, rate: int(rate or 11),
        "blocks": lambda module: 4,
        "sound_apart": lambda module: module == "sounding",
        "inputs_at_scale": lambda arguments, scale: {**arguments, "scale": scale},
    }
    return SimpleNamespace(**made | changes)


def windows(config=None, module="module", rate=None, dense=(), **changes):
    return Windows(SwinRenderer(**config or {}), family(**changes), module, frozenset(dense), rate)


def of(monkeypatch, config, module="module", **changes):
    monkeypatch.setattr(patch, "family_of", lambda model: family(**changes))
    return Windows.of(SimpleNamespace(model=SimpleNamespace(diffusion_model=module)), SwinRenderer(**config))


def forward_of(frames=9, crops=None, options=None, step=0):
    layout = SimpleNamespace(frames=frames, height=3, width=5)
    crops = crops or [tuple(range(frames))]
    crops = [SimpleNamespace(frames=shown) for shown in crops]
    return SimpleNamespace(layout=layout, crops=crops, options=options or {}, step=step, arguments={"x": 1})


def test_blocks_and_module_are_the_model_s(monkeypatch):
    made = of(monkeypatch, {"dense_blocks": "0,2-3"}, "here")
    assert (made.dense_blocks, made.module, made.frame_rate) == (frozenset({0, 2, 3}), "here", None)
    with pytest.raises(ValueError, match="^dense_blocks: '4' is out of range: this model has blocks 0 to 3"):
        of(monkeypatch, {"dense_blocks": "4"})


@pytest.mark.parametrize(
    ("config", "changes", "message"),
    [
        ({"time_scale": 0.5}, {"time_rope": None, "module": "sounding"}, "time_scale 0.5: the sound of this Fake"),
        ({"time_scale": 0.5, "strength": 0.5}, {"time_rope": None}, "strength 0.5: Fake is told where its frames are"),
        ({"time_scale": 0.0, "strength": 0.01}, {"time_rope": None}, "strength 0.01: Fake is told"),
        ({"sound": "windows"}, {}, "sound 'windows': this Fake makes no sound in a stream of its own"),
        ({"lead_in": 1}, {"OWN_WINDOWS": False}, "lead_in 1, blend 0: windows cannot go through Fake one by one"),
        ({"window": 12, "anchors": "rotating"}, {}, "window 12 leaves no room for anchors: .* span 11 latent frames"),
        ({"window": 22, "anchors": "rotating", "time_scale": 0.5}, {}, "window 22 leaves no room .* span 22 latent"),
    ],
)
def test_what_a_family_cannot_do(monkeypatch, config, changes, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        of(monkeypatch, config, **changes)


@pytest.mark.parametrize(
    ("config", "changes"),
    [
        ({"time_scale": 0.5, "strength": 0.0}, {"time_rope": None}),
        ({"time_scale": 0.5, "strength": 1.0}, {"time_rope": None}),
        ({"time_scale": 0.5, "strength": 0.5}, {}),
        ({"strength": 0.5}, {"time_rope": None, "module": "sounding"}),
        ({"time_scale": 0.5}, {"module": "sounding"}),
        ({"sound": "windows"}, {"module": "sounding"}),
        ({}, {"OWN_WINDOWS": False}),
        ({"window": 12}, {}),
        ({"window": 10, "anchors": "rotating"}, {}),
        ({"window": 20, "anchors": "rotating", "time_scale": 0.5}, {}),
    ],
)
def test_what_it_can(monkeypatch, config, changes):
    assert of(monkeypatch, config, **changes).config == SwinRenderer(**config)


@pytest.mark.parametrize(
    ("window", "budget", "remedy"),
    [
        (8, 8, "window to 0 (automatic) or at most 6"),
        (9, 8, "window to 0 (automatic) or at most 6"),
        (9, 9, "window to 0 (automatic) or at most 8"),
        (4, 3, "window to 0 (automatic) or at most 2"),
        (0, 2, "anchor_budget to 0"),
        (2, 1, "anchor_budget to 0"),
    ],
)
def test_room_for_anchors(window, budget, remedy):
    require_room(budget - 1 if budget > 3 else 2, max(budget, 3))
    with pytest.raises(ValueError) as refused:
        require_room(window, budget)
    frames = f"{budget} latent frame" + "s" * (budget > 1)
    assert str(refused.value) == (
        f"window {window} leaves no room for anchors: both together may span {frames} (anchor_budget). Set {remedy}, "
        "or anchors to none."
    )


def test_a_frame_rate_changes_what_it_was_trained_on():
    plain = windows()
    assert plain.during(SimpleNamespace(frame_rate=None)) is plain
    slow = plain.during(SimpleNamespace(frame_rate=7.0))
    assert (plain.trained, slow.trained, slow.config) == (11, 7, plain.config)
    assert slow.during(SimpleNamespace(frame_rate=7.0)) is slow
    assert windows({"trained": 5}).trained == 5


def test_what_0_stands_for():
    assert windows().budget == 11 and windows({"time_scale": 0.5}).budget == 22
    assert windows({"anchor_budget": 6, "time_scale": 0.5}).budget == 6
    assert windows().window(40) == 12 and windows({"window": 4}).window(40) == 4
    assert windows({"anchors": "rotating"}, WINDOW_STEP=4).window(40) == 8
    assert windows({"anchors": "rotating", "anchor_interval": 8}).window(40) == 6, "five anchors beside it"
    assert windows({"anchors": "first frame"}).window(40) == 10
    assert windows().longest(40) == 11, "along a timeline nothing shifts"
    assert windows({"window": 4}).longest(40) == 4 and windows({"anchors": "first frame"}).longest(40) == 10


def test_anchors_of_a_step():
    assert windows().anchors(40, 3) == ()
    assert windows({"anchors": "first frame"}).anchors(40, 3) == (0,)
    chosen = windows({"anchors": "rotating", "anchor_interval": 9})
    assert chosen.anchors(40) == (0, 9, 18, 27, 36) and chosen.anchors(40, 4) == (4, 13, 22, 31)
    dense = windows({"anchors": "rotating", "window": 4})
    assert dense.anchors(20) == tuple(range(0, 20, 3)), "20 frames over the 7 that a window of 4 leaves of 11"


@pytest.mark.parametrize(("given", "alone", "told"), [(-1, 0, 1), (0, 0, 0), (2, 2, 2)])
def test_look_back(given, alone, told):
    chosen = windows({"look_back": given})
    assert (chosen.look_back(()), chosen.look_back((3,)), chosen.look_back((3, 6))) == (alone, told, told)


def test_time_scales():
    assert windows({"time_scale": 0.5}).time_scale(40) == 0.5
    assert windows({"time_scale": 0.0}).time_scale(41) == 10 / 40
    assert windows({"time_scale": 0.0}).time_scale(6) == 1.0, "never stretched"
    assert windows({"time_scale": 0.5}).turning(40) == 0.5
    before = windows({"time_scale": 0.5}, time_rope=None)
    assert before.turning(40) == 1.0 and before.places(forward_of()) == {"x": 1, "scale": 0.5}
    assert windows({"time_scale": 0.0}, time_rope=None).places(forward_of()) == {}, "nine frames fit as they are"
    assert windows({"time_scale": 0.0}, time_rope=None).places(forward_of(21)) == {"x": 1, "scale": 0.5}


def test_spans_of_a_block(monkeypatch):
    frames, cut = tuple(range(9)), windows({"window": 4}, dense={2})
    assert cut.spans(forward_of(), 0, frames) == [(0, 4), (4, 9)]
    assert cut.spans(forward_of(), 1, frames) == cut.spans(forward_of(), 3, frames) == [(0, 2), (2, 6), (6, 9)]
    assert cut.spans(forward_of(), 2, frames) == [(0, 9)], "dense"
    assert windows({"window": 4, "shift": False}).spans(forward_of(), 1, frames) == [(0, 4), (4, 9)]
    assert cut.spans(forward_of(), 1, frames[:4]) == [(0, 4)], "what fits into a window is not cut"
    assert cut.spans(forward_of(), 1, frames[:5]) == [(0, 2), (2, 5)]
    story = forward_of(options={TIMELINE: (3, 5)})
    assert cut.spans(story, 1, frames) == [(0, 3), (3, 5), (5, 9)]
    assert cut.spans(story, 0, frames[2:7]) == [(0, 1), (1, 3), (3, 5)]
    assert windows({"window": 3, "shift": False}).spans(story, 0, frames) == [(0, 3), (3, 5), (5, 7), (7, 9)]
    monkeypatch.setattr(patch, "shows_own_window", lambda options: options is story.options)
    assert cut.spans(story, 1, frames) == [(0, 3), (3, 5), (5, 9)], "its windows do not go one by one"
    assert windows({"window": 4, "lead_in": 1}).spans(story, 1, frames) == [(0, 9)]
    assert windows({"window": 4, "lead_in": 1}).spans(forward_of(), 0, frames) == [(0, 4), (4, 9)]


def test_windows_on_their_own():
    one = windows({"window": 4, "lead_in": 2, "blend": 0})
    assert one.on_their_own(9, {TIMELINE: (3,)}) == [
        Window((0, 1, 2), (1.0, 1.0, 1.0), 0, 3),
        Window((1, 2, 3, 4, 5), (0.0, 0.0, 1.0, 1.0, 1.0), 3, 6),
        Window((4, 5, 6, 7, 8), (0.0, 0.0, 1.0, 1.0, 1.0), 6, 9),
    ]
    blended = windows({"blend": 1}).on_their_own(9, {TIMELINE: (4,)})
    assert [(window.first, window.last, window.frames) for window in blended] == [
        (0, 4, (0, 1, 2, 3, 4)),
        (4, 9, (3, 4, 5, 6, 7, 8)),
    ]
    assert [window.frames for window in windows({"blend": 1}).on_their_own(9, {})] == [tuple(range(9))]


def test_tokens_at_once_are_those_of_the_trained_length():
    cut = windows({"window": 4})
    assert cut.tokens(forward_of(5)) == 11 * 3 * 5
    assert cut.tokens(forward_of(4)) is None
    assert cut.tokens(forward_of(4, options={TIMELINE: (2,)})) == 11 * 3 * 5


def test_pieces_are_windows_with_what_they_see(monkeypatch):
    moved = []
    monkeypatch.setattr(patch, "frames_at_scale", lambda *given: moved.append(given))
    cut, forward = windows({"window": 4, "anchors": "rotating", "anchor_interval": 5, "time_scale": 0.5}), forward_of()
    found = cut.pieces(forward)
    assert found.of(0) == [Piece(0, 4, (5,)), Piece(4, 9, (0,))]
    assert found.of(1) == [Piece(0, 2, (5,)), Piece(2, 6, (0,)), Piece(6, 9, (0, 5))]
    found.place("keys", [3, 4])
    assert moved == [(forward, "keys", [3, 4], 0.5)]
    later = windows({"window": 4, "anchors": "rotating", "anchor_interval": 5}).pieces(forward_of(step=1))
    assert later.of(0) == [Piece(0, 4, (6,)), Piece(4, 9, (1,))]
    story = windows({"window": 4}).pieces(forward_of(3, [(4, 5, 6)], {TIMELINE: (5,)}))
    assert story.of(0) == [Piece(0, 1), Piece(1, 3, (0,))]
    assert windows({"window": 4, "strength": 0.9}).pieces(forward_of()) is None
    assert windows({"window": 4}).pieces(forward_of(4)) is None
    assert windows({"window": 4}).pieces(forward_of(9, [tuple(range(9)), tuple(range(1, 10))])) is None
    monkeypatch.setattr(patch, "shows_own_window", lambda options: True)
    assert windows({"window": 4}).pieces(forward_of()) is not None
    assert windows({"window": 4, "lead_in": 1}).pieces(forward_of()) is None


class Run:
    def __init__(self, frames, total=None, timeline=()):
        self.frames, self.total_frames, self.options = frames, total or frames, {TIMELINE: timeline}
        self.said, self.windows, self.sigmas = [], None, [1.0, 0.9, 0.8, 0.0]

    def say_once(self, message, level=logging.INFO):
        self.said.append((level, message))


def told(config, run, **changes):
    windows(config, **changes).check(run)
    assert all(message.startswith("Swin Renderer: ") for _, message in run.said)
    return [(level, message.removeprefix("Swin Renderer: ")) for level, message in run.said]


def test_what_a_run_is_told():
    info, warning = logging.INFO, logging.WARNING
    fits = "the video's 12 latent frames fit into one window of 12; nothing to cut."
    assert told({}, Run(12)) == [(info, fits)]
    assert told({}, Run(1)) == [(info, "the video's 1 latent frame fits into one window of 12; nothing to cut.")]
    assert told({"time_scale": 0.5}, Run(12)) == [], "its places change all the same"
    cut = "13 latent frames in windows of 12, 0 anchors, time_scale 1."
    assert told({}, Run(13)) == [(info, cut)]
    anchored = "40 latent frames in windows of 4, 5 anchors, time_scale 0.25."
    given = {"window": 4, "anchors": "rotating", "anchor_interval": 9, "time_scale": 0.25}
    assert told(given, Run(40)) == [(info, anchored)]
    story = "9 latent frames in windows along the timeline, of at most 11, 0 anchors, time_scale 1."
    jumps = "on a small test model things {} of the borders between events"
    mend = "; lead_in 2 and order one after another mend a part of that."
    at = {name: (info, jumps.format(f"jump at {name}") + mend) for name in ("most", "half")}
    assert told({}, Run(9, timeline=(4,))) == [(info, story), at["most"]]
    each = "2 windows that go through the model one by one, of at most 9 with lead_in and blend"
    led = (info, f"9 latent frames in {each}, time_scale 1.")
    assert told({"lead_in": 2}, Run(9, timeline=(4,))) == [led, at["half"]]
    in_turn = {"lead_in": 2, "order": "one after another"}
    third = (
        info,
        jumps.format("still jump at more than a third") + ", at three in ten with candidates 4 and lead_guidance 0.5.",
    )
    assert told(in_turn | {"restarts": 1}, Run(9, timeline=(4,))) == [led, third]
    high = Run(9, timeline=(4,))
    high.sigmas = [1.0, 0.9, 0.875]  # the high-noise expert of Wan 2.2
    idle = "restarts do nothing in these steps, from sigma 1.000 to 0.875: they do not go from 0.97 to 0.85 in two "
    idle += "or more."
    assert told(in_turn | {"restarts": 1}, high) == [led, third, (info, idle)]
    high.windows = object()
    with pytest.raises(ValueError, match="^model: ComfyUI's context windows cut the video already"):
        told({"lead_in": 2}, high)
    idle = (info, "restarts do nothing without lead_in and order one after another.")
    assert told({"lead_in": 2, "restarts": 1}, Run(9, timeline=(4,))) == [led, at["half"], idle]
    for nothing in ((9,), (0,), (20,)):
        assert told({}, Run(9, timeline=nothing))[0][1].endswith("nothing to cut.")
    assert told({}, Run(9, total=30, timeline=(9,)))[0][1] == story, "counted in the whole video"
    idle = (info, "candidates do nothing without lead_in and order one after another.")
    assert told({"lead_in": 2, "candidates": 2}, Run(9, timeline=(4,))) == [led, at["half"], idle]
    assert told(in_turn | {"candidates": 2}, Run(9, timeline=(4,))) == [led, third]
    idle = "lead_in and blend act where windows follow a Prompt Timeline; this video has none."
    assert told({"blend": 1}, Run(13)) == [(info, cut), (info, idle)]
    lost = (
        "time_scale compresses time, but windows without anchors lose the story then (in MiniWorld none of the videos "
        "told it). Set anchors to rotating, or time_scale to 1, or window to 1024 for full attention."
    )
    squeezed = "21 latent frames in windows of 12, 0 anchors, time_scale 0.5."
    assert told({"time_scale": 0.0}, Run(21)) == [(info, squeezed), (warning, lost)]
    assert told({"time_scale": 0.0}, Run(21), dense=range(3)) == [(info, squeezed), (warning, lost)]
    assert told({"time_scale": 0.0}, Run(21), dense=range(4)) == [(info, squeezed)], "all blocks see all"
    assert len(told({"time_scale": 0.0}, Run(21, timeline=(4,)))) == 2
    assert len(told({"time_scale": 0.0, "anchors": "first frame"}, Run(21))) == 1


def test_anchors_beyond_the_budget():
    given = {"window": 4, "anchors": "rotating", "anchor_interval": 3}
    assert len(told(given, Run(21))) == 1, "4 and 7 are 11"
    with pytest.raises(ValueError) as refused:
        told(given, Run(22))
    assert str(refused.value) == (
        "anchor_interval 3: a window of 4 and its anchors span 12 latent frames, more than the 11 of anchor_budget. "
        "Set anchor_interval to 0 (automatic) or at least 4, or a smaller window."
    )
