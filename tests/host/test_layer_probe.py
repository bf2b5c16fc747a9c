"""The Layer Probe on real models: against passes made by hand, and blocks whose answer is known."""

import json
from types import SimpleNamespace

import comfy.nested_tensor
import pytest
import torch

from semantic_video.harness.sampling import Shot, conditioning, seeded, sound_shape
from semantic_video.harness.toy import EVERY, NEWER, STRAIGHT, TOYS
from semantic_video.host.editing import edit_attention
from semantic_video.host.levels import visit_levels
from semantic_video.kernels.layer_probe import coherence, weak_by_cause, weak_by_response
from semantic_video.patches.blocks import parse_blocks, write_blocks
from semantic_video.patches.layer_probe import Report, at_home, opened, probe, watch
from semantic_video.tests.host.stacking import windows


def parts(name, words=7, empty_words=7, frames=5, filled=True):
    shot = Shot(name, frames=frames)
    latent = {"samples": seeded(1, EVERY[name].channels, frames, 4, 4, seed=5) * filled}
    if "first_frame" in EVERY[name].conds:
        latent["noise_mask"] = torch.ones(1, 1, frames, 4, 4)
        latent["noise_mask"][:, :, 0] = 0
    if EVERY[name].sound:
        sound = seeded(*sound_shape(shot), seed=6) * filled
        latent["samples"] = comfy.nested_tensor.NestedTensor((latent["samples"], sound))
    return conditioning(shot, words, 20), conditioning(shot, empty_words, 21), latent


def denoised(model, positive, latent, at):
    """One pass on the noised latent."""
    out = {}

    def visit(predict, noised, level):
        out["denoised"], out["noised"] = predict("positive"), noised

    visit_levels(model, {"positive": positive}, latent, [at], visit)
    return out["denoised"].double(), out["noised"].double()


@pytest.mark.parametrize("name", [*TOYS, *(name for name in ("ltxv", "ltxav23", "h3", "h3-both") if name in NEWER)])
def test_change_is_that_of_a_block_with_another_prompt_s_text(toys, name):
    """By hand: keys and values of the empty prompt's own pass, in one block of the prompt's pass, at one level."""
    model = toys(name)
    positive, empty, latent = parts(name)
    report = probe(model, positive, empty, latent, levels=1)
    store = {}

    def text(call):
        return call.k.shape[1] if call.site.kind == "text" else call.before - call.forward.layout.before

    def keep(call, proceed):
        if call.site.stream != "side":
            store[call.site.block] = call.k[:, : text(call)], call.v[:, : text(call)]
        return proceed(call)

    sites = {"sites": ("text", "joint")}
    denoised(edit_attention(model, "keep", keep, **sites), empty, latent, 0.5)
    base, noised = denoised(model, positive, latent, 0.5)
    assert report.blocks == len(store) == len(report.change)
    for block in range(report.blocks):

        def swap(call, proceed, block=block):
            if call.site.block != block or call.site.stream == "side":
                return proceed(call)
            k, v = call.k.clone(), call.v.clone()
            k[:, : text(call)], v[:, : text(call)] = store[block]
            return proceed(call.replace(k=k, v=v))

        swapped, _ = denoised(edit_attention(model, "swap", swap, **sites), positive, latent, 0.5)
        expected = float((swapped - base).norm() / (noised - base).norm())
        assert report.change[block] == pytest.approx(expected, rel=1e-3)
        assert expected > 1e-4


@pytest.mark.parametrize(("prompt_pads", "empty_pads"), [(2, 0), (0, 3), (2, 3)])
def test_padded_text_of_hunyuan_1_stays_masked(toys, prompt_pads, empty_pads):
    """Its additive masks over the text: those of the empty prompt's own columns come along, the prompt's own go."""
    model = toys("hunyuan-t2v")
    positive, empty, latent = parts("hunyuan-t2v", words=7, empty_words=5)

    def padded(conds, pads):
        [[text, extra]] = conds
        mask = torch.ones(1, text.shape[1], dtype=torch.long)
        mask[:, text.shape[1] - pads :] = 0
        return [[text, extra | ({"attention_mask": mask} if pads else {})]]

    positive, empty = padded(positive, prompt_pads), padded(empty, empty_pads)
    report = probe(model, positive, empty, latent, levels=1)
    store, sites = {}, {"sites": ("joint",)}

    def keep(call, proceed):
        store[call.site.block] = call.k[:, :5], call.v[:, :5]
        return proceed(call)

    denoised(edit_attention(model, "keep", keep, **sites), empty, latent, 0.5)
    base, noised = denoised(model, positive, latent, 0.5)
    for block in range(5):

        def swap(call, proceed, block=block):
            if call.site.block != block:
                return proceed(call)
            k, v = (torch.cat((new, old[:, 7:]), 1) for new, old in zip(store[block], (call.k, call.v)))
            logits = torch.einsum("bqhd,bkhd->bhqk", call.q, k) * call.q.shape[-1] ** -0.5
            logits[..., 5 - empty_pads : 5] = -torch.inf
            return torch.einsum("bhqk,bkhd->bqhd", logits.softmax(-1), v).flatten(2)

        swapped, _ = denoised(edit_attention(model, "swap", swap, **sites), positive, latent, 0.5)
        expected = float((swapped - base).norm() / (noised - base).norm())
        assert report.change[block] == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("name", [*STRAIGHT, *(name for name in ("h3",) if name in NEWER)])
def test_an_empty_prompt_of_another_length(toys, name):
    positive, empty, latent = parts(name, words=7, empty_words=2)
    report = probe(toys(name), positive, empty, latent, levels=1)
    assert all(change > 1e-4 for change in report.change)
    same = probe(toys(name), positive, positive, latent, levels=1)
    assert all(change < 1e-5 for change in same.change), "the prompt itself as the empty one changes nothing"


def test_a_block_that_hears_no_text_is_found(toys):
    """Text attention of block 2 silenced, of block 1 made five times as loud."""
    model = toys("wan-t2v")
    positive, empty, latent = parts("wan-t2v")

    def uneven(call, proceed):
        return proceed(call) * {1: 5.0, 2: 0.0}.get(call.site.block, 1.0)

    report = probe(edit_attention(model, "uneven", uneven, sites=("text",)), positive, empty, latent, levels=2)
    assert report.change[2] < 1e-6
    assert max(range(4), key=report.change.__getitem__) == 1
    assert 2 in parse_blocks(report.weak, 4)
    assert report.responsive == "1"
    assert report.sigmas == sorted(report.sigmas, reverse=True) and len(report.sigmas) == 2


@pytest.mark.parametrize("name", ["wan-t2v", "hunyuan-t2v", "wan-reference"])
def test_moran_and_std_are_those_of_the_response(toys, name):
    """From the attention's own q and k; the prompt has 7 tokens, none of them padding."""
    model = toys(name)
    positive, empty, latent = parts(name)
    seen = {}

    def watch(call, proceed):
        layout = call.forward.layout
        video = call.q[:, call.before : call.q.shape[1] - call.after]
        grid = (layout.frames, layout.height, layout.width)
        seen[call.site.block] = coherence(video, call.k, list(range(7)), grid)
        return proceed(call)

    denoised(edit_attention(model, "watch", watch, sites=("text", "joint")), positive, latent, 0.5)
    report = probe(model, positive, empty, latent, levels=1)
    assert report.moran == pytest.approx([seen[block][0] for block in range(report.blocks)], abs=1e-5)
    assert report.std == pytest.approx([seen[block][1] for block in range(report.blocks)], rel=1e-4)


def test_padding_is_no_word(toys):
    """Rows of zeros behind the prompt, as T5's: they and the end token in front of them are left out."""
    model = toys("wan-t2v")
    positive, empty, latent = parts("wan-t2v")
    padded = [[torch.cat((positive[0][0], torch.zeros(1, 9, 32)), 1), positive[0][1]]]
    seen = []

    def watch(call, proceed):
        layout = call.forward.layout
        seen.append(coherence(call.q, call.k, list(range(6)), (layout.frames, layout.height, layout.width)))
        return proceed(call)

    denoised(edit_attention(model, "watch", watch, sites=("text",)), padded, latent, 0.5)
    report = probe(model, padded, [[torch.zeros(1, 16, 32), positive[0][1]]], latent, levels=1)
    assert list(zip(report.moran, report.std)) == [pytest.approx(pair, rel=1e-4) for pair in seen]


def test_several_prompts_and_levels_are_means(toys):
    model = toys("wan-t2v")
    positive, empty, latent = parts("wan-t2v")
    other = conditioning(Shot("wan-t2v", frames=5), 9, 22)
    single = [probe(model, prompt, empty, latent, levels=2) for prompt in (positive, other)]
    both = probe(model, positive + other, empty, latent, levels=2)
    for key in ("change", "moran", "std"):
        mean = [(a + b) / 2 for a, b in zip(getattr(single[0], key), getattr(single[1], key))]
        assert getattr(both, key) == pytest.approx(mean, rel=1e-4)


def test_an_empty_latent_is_followed_from_level_to_level(toys):
    """The second level starts from what the first predicted; a given latent stays as it is."""
    model = toys("wan-t2v")
    positive, _, latent = parts("wan-t2v", filled=False)
    seen = []

    def visit(predict, noised, level):
        seen.append((noised, predict("positive")))

    visit_levels(model, {"positive": positive}, latent, [0.0, 0.5], visit)
    sampling = model.get_model_object("model_sampling")
    sigma = float(sampling.percent_to_sigma(0.5))
    noise = seen[0][0] / float(sampling.percent_to_sigma(0.0))
    torch.testing.assert_close(seen[1][0], sigma * noise + (1 - sigma) * seen[0][1], rtol=1e-4, atol=1e-4)
    given = []
    _, _, latent = parts("wan-t2v")
    visit_levels(model, {"positive": positive}, latent, [0.0, 0.5], lambda p, x, i: given.append((x, p("positive"))))
    clean = model.model.process_latent_in(latent["samples"])
    torch.testing.assert_close(given[1][0], sigma * noise + (1 - sigma) * clean, rtol=1e-4, atol=1e-4)


def test_levels_lie_in_the_middle_of_equal_parts_and_a_third_is_recommended(toys):
    """Both as they are where nobody asks."""
    model = toys("wan-t2v")
    report = probe(model, *parts("wan-t2v", frames=2))
    sampling = model.get_model_object("model_sampling")
    assert report.sigmas == [float(sampling.percent_to_sigma(part)) for part in (1 / 6, 3 / 6, 5 / 6)]
    assert report.model == f"Wan, {type(model.model).__name__}"
    lists = [weak_by_cause(report.change, 1 / 3), weak_by_response(report.moran, report.std, share=1 / 3)]
    wanted = [write_blocks(blocks) for pair in lists for blocks in pair]
    found = [report.weak, report.responsive, report.weak_by_response, report.responsive_by_response]
    assert found == wanted


@pytest.mark.parametrize("share", [0.2, 0.45])
def test_recommended_lists_follow_the_share(share):
    report = Report(
        "toy", 10, [], [0.1 * i for i in range(10)], [float(i) for i in range(10)], [2.0**i for i in range(10)]
    )
    report.recommend(share)
    count = round(10 * share)
    assert parse_blocks(report.weak_by_response, 10) == set(range(1, 1 + count))
    assert parse_blocks(report.responsive_by_response, 10) == set(range(9 - count, 9))
    assert (report.weak, report.responsive) == ({0.2: "0-6", 0.45: "0-7"}[share], "9")


def call_of(k, before=0, context=None, **more):
    """A call of the text attention on 2 frames of 2 x 2 tokens."""
    layout = SimpleNamespace(frames=2, height=2, width=2, before=0)
    forward = SimpleNamespace(layout=layout, arguments={"context": context})
    site = SimpleNamespace(kind="text")
    return SimpleNamespace(q=seeded(1, 8, 2, 4), k=k, before=before, after=0, site=site, forward=forward, **more)


def test_of_a_prompt_that_is_all_padding_its_first_token_is_watched():
    k = seeded(1, 5, 2, 4, seed=1)
    call = call_of(k, context=torch.zeros(1, 5, 3))
    assert watch(call) == coherence(call.q, k, [0], (2, 2, 2))
    context = torch.zeros(1, 3, 3)
    context[0, :2] = 1.0  # the second is the end token, and two keys in front are no words
    assert watch(call_of(k, context=context)) == coherence(call.q, k, [2], (2, 2, 2))


@pytest.mark.parametrize(("kind", "seen"), [(torch.bool, True), (torch.float32, 0.0)])
def test_a_mask_that_only_one_side_has_is_open_on_the_other(kind, seen):
    like = torch.zeros(1, 1, 3, 4, dtype=kind)
    mask = opened(None, like, 2)
    assert mask.dtype == kind and mask.shape == (1, 1, 3, 2) and (mask == seen).all()
    assert opened(mask, like, 9) is mask


def test_what_is_stored_is_a_copy():
    x = seeded(3)
    kept = at_home(x)
    assert torch.equal(kept, x) and kept.data_ptr() != x.data_ptr() and at_home(None) is None


def test_windows_and_progress(toys):
    steps = []
    positive, empty, latent = parts("wan-t2v", frames=9)
    report = probe(windows(toys("wan-t2v")), positive, empty, latent, levels=2, progress=steps.append)
    assert all(change > 1e-4 for change in report.change)
    assert steps == [12] * 12, "blocks + 2 passes for each of two levels"


def test_the_report_as_json_and_its_lists(toys):
    positive, empty, latent = parts("wan-t2v")
    report = probe(toys("wan-t2v"), positive, empty, latent, levels=1)
    data = json.loads(report.json)
    assert data["blocks"] == 4 and data["model"].startswith("Wan") and data["change"] == report.change
    assert set(data) >= {"moran", "std", "weak", "responsive", "weak_by_response", "responsive_by_response", "sigmas"}


def test_what_cannot_be_probed(toys):
    model = toys("wan-t2v")
    positive, empty, latent = parts("wan-t2v")
    with pytest.raises(ValueError, match="empty: 2 conditionings. Give one"):
        probe(model, positive, empty * 2, latent)
    replaced = model.clone()
    replaced.set_model_patch_replace(lambda args, extra: {"img": args["img"]}, "dit", "double_block", 2)
    with pytest.raises(ValueError, match="model: attention of blocks 2 did not come by. Another patch"):
        probe(replaced, positive, empty, latent, levels=1)
