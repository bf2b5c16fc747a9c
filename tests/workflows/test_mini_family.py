"""The mini models of MiniWorld through the real server: their files load, their workflows run, and clips show what was
asked for."""

import json

import pytest
import torch
from PIL import Image

from semantic_video.cli.client import WorkflowError
from semantic_video.cli.demo_rows import Follow, Layout
from semantic_video.cli.media import read_video, write_video
from semantic_video.cli.variants import fill, show
from semantic_video.harness.stand_in_models import load_workflow, on_minis
from semantic_video.kernels.keywords import extract
from semantic_video.mini import family as mini
from semantic_video.miniworld.caption import caption
from semantic_video.miniworld.oracle import judge
from semantic_video.miniworld.render import render
from semantic_video.miniworld.scene import sample_scene, sample_scenes

needs_t2v = pytest.mark.skipif(not mini.has("vae", "clip", "t2v"), reason="the mini T2V is not trained yet")
needs_expert = pytest.mark.skipif(
    not mini.has("vae", "clip", "i2v", "vap_expert"), reason="the mini expert is not trained yet"
)
needs_i2v = pytest.mark.skipif(not mini.has("vae", "clip", "i2v"), reason="the mini I2V is not trained yet")


def psnr(a, b):
    return float(-10 * (a - b).square().mean().log10())


def test_the_vae_keeps_the_world_legible(server):
    """Rendered truth through LoadVideo, encode, decode, SaveVideo: the oracle still reads it."""
    scores = []
    for scene in sample_scenes(4, seed=5, split="heldout"):
        clip = render([scene]).frames[0]
        write_video(server.base / "input" / "clip.mp4", clip)
        api = mini.workflow("mini_v2v")
        for node in ("sampler", "unet", "positive", "negative", "swin"):
            del api[node]
        api["decode"]["inputs"]["samples"] = ["encode", 0]
        # another clip under the same name: not to be answered from the cache
        api["load"]["_meta"]["title"] = str(scene)
        decoded = read_video(server.run(api)[0])
        assert decoded.shape == clip.shape
        assert psnr(decoded, clip) > 20
        scores.append(judge(decoded, caption(scene))["adherence"])
    assert sum(scores) / len(scores) >= 0.75  # small shapes blur; places, motions and colours must not


@needs_t2v
def test_text_to_video(server):
    seen = []
    for seed, scene in enumerate(sample_scenes(4, seed=9, split="heldout", objects=(1,))):
        frames = read_video(
            server.run(mini.workflow("mini_t2v", positive={"text": caption(scene)}, sampler={"seed": seed}))[0]
        )
        assert frames.shape == (21, 64, 64, 3)
        seen.append(judge(frames, caption(scene)))
    assert sum(score["background"] for score in seen) >= 3, (
        "the prompt does not arrive: a background is learned first, chance is one in four"
    )


@needs_t2v
@pytest.mark.parametrize("name", ["mini_t2v", "mini_t2v_context_windows"])
def test_long_clips(server, name):
    changes = {"swin": {"strength": 1.0}} if name == "mini_t2v" else {}
    frames = read_video(server.run(mini.workflow(name, latent={"length": 93}, sampler={"steps": 2}, **changes))[0])
    assert frames.shape == (93, 64, 64, 3)


@needs_i2v
def test_image_to_video_keeps_its_first_frame(server):
    scene = sample_scene(6, "heldout")
    first = render([scene]).frames[0, 0]
    Image.fromarray((first * 255).byte().numpy()).save(server.base / "input" / "first.png")
    frames = read_video(server.run(mini.workflow("mini_i2v", positive={"text": caption(scene)}))[0])
    assert torch.isfinite(frames).all()
    assert psnr(frames[0], first) > 18


@pytest.fixture
def scene(server):
    """A scene that stands still in the server's first.png."""
    scene = sample_scene(6, "heldout")
    first = render([scene]).frames[0, 0]
    Image.fromarray((first * 255).round().byte().numpy()).save(server.base / "input" / "first.png")
    return scene


def sampled(server, scene, name, **changes):
    """Frames of a workflow at CFG 1, filled in as run.py report does."""
    few = {"sampler": {"cfg": 1.0, "steps": 6}}
    return read_video(server.run(fill(mini.workflow(name, **few, **changes), caption(scene), 3))[0])


@needs_i2v
def test_the_adherence_chain_at_strength_0_is_the_model(server, scene):
    assert torch.equal(sampled(server, scene, "mini_adherence"), sampled(server, scene, "mini_i2v"))


@needs_i2v
def test_focal_guidance_hears_the_prompt_of_the_report(server, scene):
    """Without keywords it takes those of the caption that the report fills in; weight 1 is no guidance."""

    def focal(**inputs):
        return sampled(server, scene, "mini_adherence", focal={"strength": 1.0} | inputs)

    guided, plain = focal(), sampled(server, scene, "mini_adherence")
    assert guided.shape == (21, 64, 64, 3)
    assert not torch.equal(guided, plain)
    assert torch.equal(guided, focal(keywords=", ".join(extract(caption(scene)))))
    assert not torch.equal(guided, focal(keywords=scene.things[0].colour))
    assert torch.equal(plain, focal(keyword_weight=1.0))
    with pytest.raises(WorkflowError, match="keywords: 'dragon' does not stand in the prompt"):
        focal(keywords="dragon")


@needs_i2v
def test_the_probe_and_the_maps_read_the_mini_model(server, scene):
    api = mini.workflow("mini_adherence", sampler={"steps": 2})
    conds = {"positive": ["i2v", 0], "empty": ["i2v", 1]}
    probe = {"model": ["unet", 0], "latent": ["i2v", 2], "measure": "causal", "levels": 3, "share": 0.33, "seed": 0}
    maps = {"text": ["caption", 0], "words": scene.things[0].colour, "blocks": ["probe", 1], "at": 0.5, "seed": 0}
    links = {"model": ["unet", 0], "clip": ["clip", 0], "positive": ["i2v", 0], "latent": ["sampler", 0]}
    api |= {
        "probe": node("SemVidLayerProbe", **probe, **conds),
        "report": node("PreviewAny", source=["probe", 3]),
        "maps": node("SemVidAttentionMaps", image=["decode", 0], **maps, **links),
        "shown": node("MaskToImage", mask=["maps", 0]),
        "save": node("SaveAnimatedWEBP", **api["save"]["inputs"] | {"images": ["shown", 0]}),
    }
    first = read_video(server.run(fill(api, caption(scene), 3))[0])[0, ..., 0]
    history = max(server.get("/history").values(), key=lambda entry: entry["prompt"][0])
    report = json.loads(history["outputs"]["report"]["text"][0])
    change = report["change"]
    assert report["blocks"] == len(change) == 6
    assert change.index(max(change)) == 1, "the block that carries the text of this model"
    assert "1" in report["responsive"].split(",")
    there = render([scene]).masks[0, 0, 0] > 0.5
    assert first[there].mean() > 2 * first[~there].mean(), "the colour's word lies on the given object"


def node(kind, **inputs):
    return {"class_type": kind, "_meta": {"title": kind}, "inputs": inputs}


@needs_expert
def test_a_reference_is_followed(server):
    """A pair of the demo: without the expert and with it."""
    row = Follow()
    pair = row.items()[0]
    plain, following = (read_video(server.run(t.api)[0]) for t in row.takes(0, pair, server.base / "input")[:2])
    assert plain.shape == following.shape == (21, 64, 64, 3)
    assert psnr(following[0], render([pair[1]]).frames[0, 0]) > 18
    assert not torch.equal(plain, following)


FEW = {"sampler": {"steps": 1, "seed": 3}}


@needs_expert
def test_shipped_workflows_on_mini_models_are_those_that_were_measured(server, scene):
    """The demo's graphs beside the reports': the same videos, bit for bit."""
    inputs = server.base / "input"
    write_video(inputs / "reference.mp4", render([scene]).frames[0])
    text, start = {"text": caption(scene)}, {"image": {"image": "first.png"}}
    slowed = {"swin": {"anchors": "rotating", "anchor_budget": 12, "time_scale": 0.2174, "strength": 1.0}}
    long = {"positive": text, "latent": {"length": 45}} | slowed | FEW
    told = {"timeline": {"text": f"0-1.75: {caption(scene)}\n1.75-: {caption(scene)}", "fps": 12.0}}
    for shipped, measured in (
        (on_minis(load_workflow("swin_long_video_wan"), **long), mini.workflow("mini_t2v", **long)),
        (
            on_minis(load_workflow("story_timeline_wan21"), latent={"length": 45}, **told, **FEW),
            mini.workflow("mini_story", latent={"length": 45}, **told, **FEW),
        ),
        (
            on_minis(load_workflow("vap_video_as_prompt_wan"), positive=text, reference_prompt=text, **start, **FEW),
            mini.workflow("mini_video_prompt", positive=text, reference_positive=text, **start, **FEW),
        ),
    ):
        a, b = (read_video(server.run(api)[0]) for api in (shipped, measured))
        assert torch.equal(a, b)


@pytest.mark.skipif(not mini.has("t2v", "ssg_adapter"), reason="the mini adapter is not trained yet")
def test_the_adapter_of_the_demo_is_the_one_that_was_measured(server):
    row = Layout()
    scene = row.items()[0]
    shown = row.takes(0, scene, server.base / "input")[1].api
    shown["sampler"]["inputs"]["steps"] = 1
    files = server.run(shown)
    assert sorted(path.suffix for path in files) == [".png", ".webp"], "the clip and what the model is shown"
    api = show(mini.workflow("mini_ssg_adapter", sampler={"steps": 1}), scene, server.base / "input", "layout")
    measured = read_video(server.run(fill(api, caption(scene, 0), 0))[0])
    assert torch.equal(read_video(next(path for path in files if path.suffix == ".webp")), measured)


@needs_t2v
def test_words_the_mini_models_do_not_know(server):
    with pytest.raises(WorkflowError, match="the mini family does not know .*dragon"):
        server.run(mini.workflow("mini_t2v", positive={"text": "a dragon"}))
