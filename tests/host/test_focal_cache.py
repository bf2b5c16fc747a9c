"""Focal Guidance's cache: the maps of a source block, carried to later ones, and how long they are held."""

import contextlib
import gc
import weakref

import comfy.model_prefetch
import comfy.samplers
import pytest
import torch

from semantic_video.harness.sampling import Shot, sample
from semantic_video.harness.toy import TOYS
from semantic_video.host.editing import edit_attention
from semantic_video.patches.focal_guidance import NAME
from semantic_video.tests.host.focal_reference import ALL, FAR, NEAR, guided, reference


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


@pytest.mark.parametrize("name", TOYS)
@pytest.mark.parametrize(("cache", "weight"), [(0.5, 1.0), (-0.3, 3.0), (1.0, 2.5)])
def test_between_keywords_alone_it_is_the_written_out_map(toys, name, cache, weight):
    """The mean of two sources, and keys that are weighed by copies (3) and by a mask (2.5)."""
    model, shot = toys(name), Shot(name, steps=1)
    between = {"cache": cache, "weight": weight}
    got = sample(guided(model, **between, source_blocks="0,2", cache_of="keywords"), shot)
    expected = sample(reference(model, **between, sources=(0, 2), between_keywords=True), shot)
    torch.testing.assert_close(got, expected, **NEAR)
    whole = sample(guided(model, **between, source_blocks="0,2"), shot)
    assert not torch.allclose(got, whole, **FAR), "the whole map is another thing"


@pytest.mark.parametrize("name", ["wan-t2v", "hunyuan-t2v"])
def test_between_keywords_batched_and_split_cfg_agree(toys, name, monkeypatch):
    model = guided(toys(name), cache=0.7, weight=1.0, source_blocks="0", cache_of="keywords")
    batched = sample(model, Shot(name))
    monkeypatch.setattr(comfy.samplers, "can_concat_cond", lambda a, b: a is b)
    torch.testing.assert_close(batched, sample(model, Shot(name)), **NEAR)


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
    assert kept.count(True) == 2, "one source block, two steps"
    assert len(entered) == 4, "and what each call of the model keeps by `once`"
