"""Focal Guidance on real models: against maps written out, and what it leaves alone."""

import contextlib
import gc
import math
import weakref

import comfy.model_prefetch
import comfy.samplers
import pytest
import torch

from semantic_video.harness.sampling import Shot, sample
from semantic_video.harness.toy import STRAIGHT, TOYS
from semantic_video.harness.toy_nodes import ToyCLIP
from semantic_video.host.editing import edit_attention
from semantic_video.host.schedule import Interval
from semantic_video.patches.focal_guidance import NAME, FocalGuidance, apply
from semantic_video.tests.host.test_editing import foreign, windows

TEXT = "a red ball and a blue cube"  # as many words as the toys' prompts have tokens
KEYWORDS = ("ball", "blue")
INDICES = [2, 5]
NEAR = {"rtol": 1e-3, "atol": 2e-4}
FAR = {"rtol": 1e-2, "atol": 1e-2}


def focal(**options):
    return FocalGuidance(**{"text": TEXT, "keywords": KEYWORDS} | options)


def guided(model, **options):
    return apply(model, ToyCLIP(), focal(**options))


def explicit(weight=1.0, cache=0.0, sources=(), weak=None, region=None, anchor=0.0):
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
        if cache and block in state.get("active", ()):
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


def blocks_of(name):
    config = TOYS[name].config
    return config["num_layers"] if "num_layers" in config else config["depth"] + config["depth_single_blocks"]


@pytest.mark.parametrize("name", TOYS)
def test_nothing_to_do_is_the_host_bit_for_bit(toys, name):
    model, shot = toys(name), Shot(name)
    plain = sample(model, shot)
    for options in ({"strength": 0.0}, {"weight": 1.0}, {"strength": 0.0, "cache": 0.5, "source_blocks": "0"}):
        assert guided(model, **options) is model
    assert torch.equal(plain, sample(guided(model, interval=Interval(0.99, 1.0)), shot))
    assert not torch.allclose(plain, sample(guided(model), shot), **FAR)
    assert torch.equal(plain, sample(model, shot)), "the parent stays"


@pytest.mark.parametrize("name", TOYS)
@pytest.mark.parametrize("weight", [3.0, 2.5])
def test_keywords_are_louder_by_log_weight(toys, name, weight):
    model, shot = toys(name), Shot(name)
    torch.testing.assert_close(
        sample(guided(model, weight=weight), shot), sample(reference(model, weight=weight), shot), **NEAR
    )


@pytest.mark.parametrize("name", ["wan-t2v", "hunyuan-t2v"])
def test_strength_is_the_exponent_and_blocks_choose(toys, name):
    model, shot = toys(name), Shot(name)
    got = sample(guided(model, weight=9.0, strength=0.5, blocks="1-2"), shot)
    torch.testing.assert_close(got, sample(reference(model, weight=3.0, weak={1, 2}), shot), **NEAR)
    assert not torch.allclose(got, sample(guided(model, weight=3.0), shot), **FAR)


@pytest.mark.parametrize("name", TOYS)
@pytest.mark.parametrize(("cache", "weight"), [(0.5, 1.0), (-0.4, 1.0), (0.5, 3.0), (1.0, 2.5)])
def test_the_cache_is_the_blended_map(toys, name, cache, weight):
    model, shot = toys(name), Shot(name, steps=1)
    got = sample(guided(model, cache=cache, weight=weight, source_blocks="0,2"), shot)
    expected = sample(reference(model, cache=cache, weight=weight, sources=(0, 2)), shot)
    torch.testing.assert_close(got, expected, **NEAR)
    assert not torch.allclose(
        got, sample(guided(model, weight=weight), shot) if weight > 1 else sample(model, shot), **FAR
    )


@pytest.mark.parametrize("name", ["wan-t2v", "wan-in-context", "hunyuan-i2v", "hunyuan-1.5"])
@pytest.mark.parametrize("cache", [0.0, 0.5])
def test_regions_bound_it_to_tokens_of_the_video(toys, name, cache):
    """A mask of 8 x 8 on tokens: means over each; outside, and on text, reference and in-context tokens, nothing
    happens.
    """
    model, shot = toys(name), Shot(name)
    mask = torch.rand(1, 8, 8, generator=torch.Generator().manual_seed(3))
    side = 4 if name == "hunyuan-1.5" else 2
    tokens = torch.nn.functional.adaptive_avg_pool2d(mask, side).expand(shot.frames, -1, -1)
    options = {"cache": cache, "source_blocks": "0"} if cache else {}
    got = sample(guided(model, region=mask, **options), shot)
    sources = {"cache": cache, "sources": (0,)} if cache else {}
    torch.testing.assert_close(got, sample(reference(model, weight=3.0, region=tokens, **sources), shot), **NEAR)
    assert not torch.allclose(got, sample(guided(model, **options), shot), **FAR)


@pytest.mark.parametrize("count", [9, 33])
def test_regions_per_latent_or_video_frame(toys, count):
    model, shot = toys("wan-t2v"), Shot("wan-t2v")
    mask = torch.rand(count, 4, 4, generator=torch.Generator().manual_seed(4))
    tokens = torch.nn.functional.adaptive_avg_pool2d(mask, 2)[:: 1 if count == 9 else 4]
    got = sample(guided(model, region=mask), shot)
    torch.testing.assert_close(got, sample(reference(model, weight=3.0, region=tokens), shot), **NEAR)


def test_anchors_add_the_region_s_image_features(toys):
    """Image features pass through the image branch's own value projection, in every weak block."""
    model, shot = toys("wan-i2v-clip"), Shot("wan-i2v-clip")
    mask = torch.tensor([[0.0, 1.0], [0.5, 0.0]])[None].repeat_interleave(4, 1).repeat_interleave(4, 2)
    anchor = {"strength": 0.3, "region": torch.tensor([[0.0, 1.0], [0.5, 0.0]])}
    got = sample(guided(model, weight=3.0, anchor=0.3, region=mask), shot)
    tokens = torch.nn.functional.adaptive_avg_pool2d(mask, 2).expand(shot.frames, -1, -1)
    torch.testing.assert_close(got, sample(reference(model, weight=3.0, anchor=anchor, region=tokens), shot), **NEAR)
    assert not torch.allclose(got, sample(guided(model, weight=3.0, region=mask), shot), **FAR)
    alone = sample(guided(model, weight=1.0, anchor=0.3, region=mask), shot)
    torch.testing.assert_close(alone, sample(reference(model, anchor=anchor, region=tokens), shot), **NEAR)


ALL = {"cache": 0.5, "source_blocks": "0"}


@pytest.mark.parametrize("name", STRAIGHT)
@pytest.mark.parametrize("weight", [3.0, 2.5])
def test_batched_and_split_cfg_agree(toys, name, weight, monkeypatch):
    patched, shot = guided(toys(name), weight=weight, **ALL), Shot(name)
    batched = sample(patched, shot)
    monkeypatch.setattr(comfy.samplers, "can_concat_cond", lambda a, b: a is b)
    torch.testing.assert_close(batched, sample(patched, shot), **NEAR)


@pytest.mark.parametrize("name", STRAIGHT)
def test_the_negative_pass_hears_nothing_of_it(toys, name):
    """With the positive pass out of the way: CFG 0 keeps the negative alone."""
    model, shot = toys(name), Shot(name, cfg=0.0)
    torch.testing.assert_close(sample(guided(model, **ALL), shot), sample(model, shot), **NEAR)


@pytest.mark.parametrize("name", STRAIGHT)
def test_it_stacks_in_both_orders(toys, name):
    def scaled(call, proceed):
        return 1.3 * proceed(call.replace(v=call.v * 0.9))

    model, shot = toys(name), Shot(name)
    sites = {"sites": ("self", "text", "joint")}
    one = guided(edit_attention(model, "scaled", scaled, **sites), **ALL)
    other = edit_attention(guided(model, **ALL), "scaled", scaled, **sites)
    got = sample(one, shot)
    if "wan" in name:  # in joint attention the cache measures with attentions of its own
        torch.testing.assert_close(got, sample(other, shot), **NEAR)
    assert not torch.allclose(got, sample(guided(model, **ALL), shot), **FAR)
    assert not torch.allclose(
        sample(other, shot), sample(edit_attention(model, "scaled", scaled, **sites), shot), **FAR
    )


@pytest.mark.parametrize("name", ["hunyuan-t2v", "wan-t2v"])
def test_it_stacks_with_windows_of_the_swin_renderer(toys, name):
    """Copies of keywords stand behind the last key, where every window sees them: as a mask on whole keys would."""
    from semantic_video.patches.swin_renderer import SwinRenderer
    from semantic_video.patches.swin_renderer import apply as swin

    model, shot, config = toys(name), Shot(name), SwinRenderer(window=4)
    one, other = guided(swin(model, config)), swin(guided(model), config)
    got = sample(one, shot)
    assert torch.equal(got, sample(other, shot))

    def masked(call, proceed):
        count = call.k.shape[1] if call.site.kind == "text" else call.before
        bias = torch.zeros(len(call.q), 1, 1, call.k.shape[1])
        for row, kind in enumerate(call.forward.rows):
            if kind == 0:
                bias[row, ..., [count - 7 + index for index in INDICES]] = math.log(3)
        return proceed(call.replace(mask=bias))

    expected = swin(edit_attention(model, "masked", masked, sites=("text", "joint")), config)
    torch.testing.assert_close(got, sample(expected, shot), **NEAR)


@pytest.mark.parametrize("name", STRAIGHT)
@pytest.mark.parametrize("foreign_first", [True, False])
def test_a_foreign_override_is_kept(toys, name, foreign_first):
    model, shot, log = toys(name), Shot(name, steps=1), []
    patched = model.clone() if foreign_first else guided(model)
    patched.model_options["transformer_options"]["optimized_attention_override"] = foreign(1.5, log)
    patched = guided(patched) if foreign_first else patched
    got = sample(patched, shot)
    assert log
    louder = edit_attention(
        guided(model), "louder", lambda call, proceed: 1.5 * proceed(call), sites=("self", "text", "image", "joint")
    )
    if "hunyuan" not in name:  # there the foreign override also meets the token refiner
        torch.testing.assert_close(got, sample(louder, shot), **NEAR)
    assert not torch.allclose(got, sample(guided(model), shot), **FAR)


@pytest.mark.parametrize("name", ["wan-t2v", "wan-i2v-clip", "hunyuan-t2v"])
def test_context_windows_take_their_frames_of_the_region(toys, name):
    model, shot = toys(name), Shot(name)
    mask = torch.zeros(9, 4, 4)
    mask[:4] = 1

    def by_frame(call, proceed):
        region = mask[list(call.forward.frames)]
        tokens = torch.nn.functional.adaptive_avg_pool2d(region, call.forward.layout.height)
        return explicit(weight=3.0, region=tokens)(call, proceed)

    expected = windows(edit_attention(model, "reference", by_frame, sites=("text", "joint")))
    got = sample(windows(guided(model, region=mask)), shot)
    torch.testing.assert_close(got, sample(expected, shot), **NEAR)
    assert not torch.allclose(got, sample(windows(guided(model)), shot), **FAR)


@pytest.mark.parametrize("name", ["wan-t2v", "hunyuan-t2v"])
def test_one_source_at_a_time_and_none_after_the_last(toys, name, monkeypatch):
    """Sources 0 and 1: the first is gone when the second is there, and both after the last weak block, 2 of 4 or 5."""
    import semantic_video.patches.focal_guidance as focal_guidance

    carried, made = focal_guidance.carried, []

    def watched(call, rows):
        gc.collect()
        assert not any(one() for one in made), "the source before is still held"
        source = carried(call, rows)
        assert source.q.data_ptr() != call.q.data_ptr()
        assert source.q.shape[0] == sum(row == 0 for row in call.forward.rows), "positive rows only"
        made.extend((weakref.ref(source.q), weakref.ref(source.k)))
        return source

    def after(call, proceed):
        if call.site.block == 3:
            gc.collect()
            assert not any(one() for one in made), "still held after the last weak block"
            seen.append(NAME)
        return proceed(call)

    seen = []
    monkeypatch.setattr(focal_guidance, "carried", watched)
    model = guided(toys(name), cache=0.5, blocks="2", source_blocks="0,1")
    sample(edit_attention(model, "after", after, sites=("text", "joint")), Shot(name))
    assert seen and len(made) >= 12


@pytest.mark.parametrize("name", ["wan-t2v", "hunyuan-t2v"])
def test_what_outlives_a_block_is_made_outside_the_allocation_graph(toys, name, monkeypatch):
    """A stand-in for newer hosts' pause_malloc_graph: sources are allocated inside, and nothing else runs there."""
    import semantic_video.patches.focal_cache as focal_cache

    state, entered, kept = {"inside": False}, [], []

    @contextlib.contextmanager
    def pause():
        state["inside"] = True
        entered.append(1)
        yield
        state["inside"] = False

    source = focal_cache.Source

    def watched(q, k):
        kept.append(state["inside"])
        return source(q, k)

    monkeypatch.setattr(comfy.model_prefetch, "pause_malloc_graph", pause, raising=False)
    monkeypatch.setattr(focal_cache, "Source", watched)

    def outside(call, proceed):
        assert not state["inside"]
        return proceed(call)

    model = edit_attention(guided(toys(name), **ALL, weight=1.0), "outside", outside, sites=("text", "joint"))
    sample(model, Shot(name, steps=2))
    assert len(entered) == 2, "one source block, two steps"
    assert kept.count(True) == 2


def test_parallel_prompts_and_runs_share_nothing(toys):
    """Two runs of one patched model, in between another with other words: the same as alone."""
    model, shot = toys("wan-t2v"), Shot("wan-t2v")
    one, other = guided(model, **ALL), guided(model, weight=5.0, keywords=("cube",), **ALL)
    first, second = sample(one, shot), sample(other, shot)
    assert torch.equal(first, sample(one, shot))
    assert torch.equal(second, sample(other, shot))
    assert not torch.allclose(first, second, **FAR)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        (
            "wan-t2v",
            {"keywords": ("dog",)},
            "keywords: 'dog' does not stand in the prompt .*a red ball and a blue cube",
        ),
        ("wan-t2v", {"text": "it is on the", "keywords": ()}, "keywords: none given, and none found"),
        ("wan-t2v", {"text": "  "}, "text: empty"),
        ("wan-t2v", {"weight": 0.0}, "keyword_weight 0.0: must be above 0"),
        ("wan-t2v", {"cache": 1.5}, "cache 1.5: must be from -1 to 1"),
        ("wan-t2v", {"cache": 0.5}, "source_blocks: empty. cache carries the maps"),
        ("wan-t2v", {"blocks": "0-2", "source_blocks": "2", "cache": 0.5}, "blocks and source_blocks: both have 2"),
        ("wan-t2v", {"blocks": "0,3", "source_blocks": "1", "cache": 0.5}, "blocks: 0 comes before every source"),
        ("wan-t2v", {"source_blocks": "3", "cache": 0.5}, "source_blocks 3: no block comes after them"),
        ("wan-t2v", {"blocks": "4"}, "blocks: '4' is out of range"),
        ("hunyuan-t2v", {"source_blocks": "x", "cache": 0.5}, "source_blocks: 'x' is not a block"),
        ("wan-t2v", {"anchor": 0.2}, "region: missing. anchor takes image features"),
        ("wan-t2v", {"anchor": 0.2, "region": torch.ones(1, 4, 4)}, "anchor 0.2: this Wan has no image branch"),
        ("wan-i2v", {"anchor": 0.2, "region": torch.ones(1, 4, 4)}, "anchor 0.2: this Wan has no image branch"),
        ("hunyuan-i2v", {"anchor": 0.2, "region": torch.ones(1, 4, 4)}, "anchor 0.2: this HunyuanVideo has no image"),
        ("wan-t2v", {"region": torch.full((1, 4, 4), torch.nan)}, "region: shape .* NaN"),
        ("wan-t2v", {"fit": "stretch"}, "clip_fit 'stretch': choose one of squash, center crop"),
        ("wan-t2v", {"strength": 2.0}, "strength 2.0: must be from 0"),
    ],
)
def test_what_cannot_work_is_said_when_it_is_wired(toys, name, options, message):
    with pytest.raises(ValueError, match=message):
        guided(toys(name), **options)


def test_a_clip_is_needed_for_words_only(toys):
    model = toys("wan-t2v")
    with pytest.raises(ValueError, match="clip: missing"):
        apply(model, None, focal())
    assert apply(model, None, focal(weight=1.0, **ALL)) is not model


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("wan-t2v", {"text": "a red ball and a blue cube more"}, "text: 8 tokens in this CLIP, .* has 7. Give exactly"),
        ("wan-t2v", {"region": torch.ones(1, 4, 8)}, "region: 8 x 4, but the video has the proportions 4 : 4"),
        ("wan-t2v", {"region": torch.ones(5, 4, 4)}, "region: 5 for a video of 9 latent frames"),
    ],
)
def test_what_does_not_fit_the_run_is_said_before_its_first_step(toys, name, options, message):
    steps = []
    with pytest.raises(ValueError, match=message):
        sample(guided(toys(name), **options), Shot(name), callback=lambda *a: steps.append(a))
    assert not steps


def test_anchors_need_a_start_image(toys, monkeypatch):
    import semantic_video.harness.sampling as sampling

    plain = sampling.conditioning

    def without(shot, words, seed):
        [[text, extra]] = plain(shot, words, seed)
        return [[text, {key: value for key, value in extra.items() if key != "clip_vision_output"}]]

    model = guided(toys("wan-i2v-clip"), anchor=0.2, region=torch.ones(1, 4, 4))
    monkeypatch.setattr(sampling, "conditioning", without)
    with pytest.raises(ValueError, match="anchor: no conditioning carries CLIP features of a start image"):
        sample(model, Shot("wan-i2v-clip"))


def test_an_empty_region_is_refused_where_features_are_wanted(toys):
    model = guided(toys("wan-i2v-clip"), anchor=0.2, region=torch.zeros(1, 4, 4))
    with pytest.raises(ValueError, match="region: the region is empty on CLIP's grid. Mark some"):
        sample(model, Shot("wan-i2v-clip"))
