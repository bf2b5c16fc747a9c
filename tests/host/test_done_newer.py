"""What every technique owes the host and other packs, on each of MiniMax H3, LTX-Video, LTX-2 and LTX-2.3: nothing at
strength 0, the parent as it was, any order beside windows and another pack's override, the same from one batch or two,
and inside context windows. Swin Renderer's own: test_swin_newer.py. Values: test_techniques_newer.py."""

import pytest
import torch

from semantic_video.harness.sampling import Shot, conditioning, sample
from semantic_video.harness.toy import NEWER
from semantic_video.harness.toy_nodes import ToyCLIP
from semantic_video.host.editing import EDITORS
from semantic_video.host.schedule import ALWAYS, Interval
from semantic_video.patches import alignvid, dymos, focal_guidance, prompt_timeline, ssg_adapter, text_contrast
from semantic_video.patches.ssg_guide import Guide
from semantic_video.patches.swin_renderer import SwinRenderer
from semantic_video.patches.swin_renderer import apply as in_windows
from semantic_video.tests.host.ssg_reference import IMAGE
from semantic_video.tests.host.stacking import foreign, windows
from semantic_video.tests.host.timelines import timeline

FRAMES, LONGER = 6, 9
TEXT = "a red ball and a blue cube"
SWIN = SwinRenderer(window=2)


def keywords(strength, interval):
    return focal_guidance.FocalGuidance(text=TEXT, keywords=("ball",), strength=strength, interval=interval)


def maps(strength, interval):
    return focal_guidance.FocalGuidance(weight=1.0, cache=0.5, source_blocks="0", strength=strength, interval=interval)


PATCHES = {  # of (model, what a test has, strength, interval)
    "Text Contrast": lambda m, t, s, i: text_contrast.apply(m, text_contrast.TextContrast(s, interval=i)),
    "AlignVid": lambda m, t, s, i: alignvid.apply(m, alignvid.AlignVid(1.5, strength=s, interval=i)),
    "DyMoS": lambda m, t, s, i: dymos.apply(m, dymos.DyMoS(1.5, strength=s, interval=i)),
    "keywords": lambda m, t, s, i: focal_guidance.apply(m, ToyCLIP(), keywords(s, i)),
    "maps": lambda m, t, s, i: focal_guidance.apply(m, None, maps(s, i)),
    "SSG Adapter": lambda m, t, s, i: ssg_adapter.apply(m, t.adapter, Guide(IMAGE, strength=s, interval=i)),
    "Prompt Timeline": lambda m, t, s, i: prompt_timeline.apply(
        m, t.positive, prompt_timeline.PromptTimeline(t.fps, strength=s, interval=i)
    ),
}
REFUSED = {("DyMoS", "h3"), ("keywords", "ltxav"), ("keywords", "ltxav23")}  # see test_techniques_newer.py
ONE_OF_EACH = [name for name in ("h3", "ltxv", "ltxav", "ltxav23") if name in NEWER]
PAIRS = [(patch, toy) for toy in ONE_OF_EACH for patch in PATCHES if (patch, toy) not in REFUSED]


class Bench:
    """A toy, what patches are made of, and plain samples, made once."""

    def __init__(self, model, adapter, toy):
        self.model, self.adapter, self.toy = model, adapter, toy
        self.shot = Shot(toy, FRAMES, 2, 2, steps=1, cfg=1.0)
        self.fps = 12.0 if toy == "h3" else 24.0
        self.plain = {}
        self.told = self.ready(timeline(self.shot))
        self.asked = self.ready(conditioning(self.shot, 7, 20))
        self.negative = self.ready(conditioning(self.shot, 7, 21))

    def ready(self, conds):
        """Of the models whose connector makes 1024 tokens of a prompt, the first of these, which takes a tenth."""
        [[text, extra]] = conds
        if "unprocessed_ltxav_embeds" not in extra:
            return conds
        mixed = self.model.model.diffusion_model.preprocess_text_embeds(text, unprocessed=True)[:, : text.shape[1]]
        return [[mixed, {name: value for name, value in extra.items() if name != "unprocessed_ltxav_embeds"}]]

    def sample(self, model, **changes):
        return sample(model, self.shot.but(**changes), positive=self.positive, negative=self.negative)

    def host(self, model, **changes):
        """The same, of a MODEL without this pack, which never changes."""
        key = (self.positive is self.told, *changes.items())
        if key not in self.plain:
            self.plain[key] = self.sample(model, **changes)
        return self.plain[key]


@pytest.fixture(scope="module")
def benches():
    return {}


@pytest.fixture
def bench(benches, toys, adapters, patch, toy):
    if toy not in benches:
        benches[toy] = Bench(toys(toy), adapters(toy), toy)
    found = benches[toy]
    found.positive = found.told if patch == "Prompt Timeline" else found.asked
    return found


def patched(model, bench, patch, strength=1.0, interval=ALWAYS):
    return PATCHES[patch](model, bench, strength, interval)


@pytest.mark.parametrize(("patch", "toy"), PAIRS)
def test_alone_and_beside_others(bench, patch, toy):
    model = bench.model
    plain, mine = bench.host(model), patched(model, bench, patch)
    assert patched(model, bench, patch, strength=0.0) is model
    assert torch.equal(bench.sample(patched(model, bench, patch, interval=Interval(0.99, 1.0))), plain)
    alone = bench.sample(mine)
    assert torch.isfinite(alone).all()
    assert (alone - plain).abs().mean() > 1e-4
    assert torch.equal(bench.sample(model), plain)
    assert EDITORS not in model.model_options["transformer_options"]
    assert not any(model.wrappers.values())

    cut = bench.sample(in_windows(mine, SWIN))
    assert torch.equal(cut, bench.sample(patched(in_windows(model, SWIN), bench, patch)))
    assert not torch.allclose(cut, alone, rtol=1e-4, atol=1e-5)

    log, key = [], "optimized_attention_override"
    before, after = model.clone(), patched(model, bench, patch)
    for one in (before, after):
        one.model_options["transformer_options"][key] = foreign(1.0, log)
    for both in (patched(before, bench, patch), after):
        torch.testing.assert_close(bench.sample(both), alone, rtol=1e-4, atol=1e-5)
        assert log
        log.clear()


@pytest.mark.parametrize(("patch", "toy"), [pair for pair in PAIRS if pair[1] in ("ltxv", "ltxav23")])
def test_batched_split_and_in_context_windows(bench, patch, toy, monkeypatch):
    """H3 runs one prompt a call and refuses context windows; LTX-2 batches and is cut as LTX-2.3 is."""
    import comfy.samplers

    mine = patched(bench.model, bench, patch)
    cut = windows(bench.model, length=4)
    inside = bench.sample(patched(cut, bench, patch), frames=LONGER)
    assert torch.equal(inside, bench.sample(windows(mine, length=4), frames=LONGER))
    assert not torch.allclose(inside, bench.host(cut, frames=LONGER), rtol=1e-3, atol=1e-4)
    batched = bench.sample(mine, cfg=3.0)
    monkeypatch.setattr(comfy.samplers, "can_concat_cond", lambda a, b: a is b)
    torch.testing.assert_close(batched, bench.sample(mine, cfg=3.0), rtol=1e-3, atol=1e-4)
