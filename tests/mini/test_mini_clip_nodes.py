"""The mini CLIP as a CLIP: encodes as its own node does, and its tokens are found by what reads prompts."""

import folder_paths
import pytest
import torch

from semantic_video.host.text_tokens import prompt_tokens
from semantic_video.host.weights import save_weights
from semantic_video.kernels.keywords import extract
from semantic_video.mini import clip as mini_clip
from semantic_video.mini.family import WEIGHTS
from semantic_video.mini.nodes import FOLDER, MiniCLIPLoaderNode, MiniTextEncodeNode
from semantic_video.miniworld.caption import MOTION_WORDS, caption, object_captions
from semantic_video.miniworld.scene import sample_scenes
from semantic_video.patches.prompt_words import keyword_tokens, word_tokens

FILE = "mini_clip.safetensors"
SAID = "a small red circle moves left, a large blue square on a white background"
CAPTIONS = ["", SAID, *(caption(scene, seed) for seed, scene in enumerate(sample_scenes(12, 3, "any")))]


@pytest.fixture
def folders(monkeypatch):
    monkeypatch.setitem(folder_paths.folder_names_and_paths, FOLDER, ([str(WEIGHTS)], {".safetensors"}))


@pytest.fixture
def clip(folders):
    return MiniCLIPLoaderNode.execute(FILE).args[0]


@pytest.fixture(scope="module")
def model():
    import comfy.sd

    return comfy.sd.load_diffusion_model(str(WEIGHTS / "mini_i2v.safetensors"))


@pytest.mark.parametrize("text", CAPTIONS)
def test_it_encodes_as_the_text_node_and_the_trainings_do(clip, text):
    [[ours, extra]] = clip.encode_from_tokens_scheduled(clip.tokenize(text))
    [[theirs, none]] = MiniTextEncodeNode.execute(FILE, text).args[0]
    trained_on = mini_clip.encode_text(mini_clip.load(WEIGHTS / FILE), [text])
    assert ours.shape == (1, 32, 128) and extra == none == {}
    assert torch.equal(ours, theirs) and torch.equal(ours, trained_on)


def test_the_host_s_text_node_takes_it(clip):
    import nodes

    [[ours, _]] = nodes.CLIPTextEncode().encode(clip, SAID)[0]
    assert torch.equal(ours, mini_clip.encode_text(clip.cond_stage_model, [SAID]))


@pytest.mark.parametrize("text", CAPTIONS[1:])
def test_tokens_are_the_words_and_what_follows_is_padding(clip, model, text):
    tokens = prompt_tokens(model, clip, text)
    words = text.replace(",", "").split()
    assert list(tokens.pieces) == ["\u2581" + word for word in words] + ["<end>"]
    assert (tokens.real, tokens.total) == (len(words) + 2, 32), "<start>, words, <end>; zeros to 32"
    context = mini_clip.encode_text(clip.cond_stage_model, [text])
    tokens.check(context, image=True)
    for index, token in enumerate(tokens.tokens):
        column = tokens.column(index, 32)
        assert column == index + 1, "<start> stands in front"
        assert clip.tokenize(text)["umt5xxl"][0][column] == (token, 1.0)
        assert context[0, column].any()
    assert not context[0, tokens.column(len(tokens.tokens), 32) :].any()


def test_a_conditioning_of_another_caption_is_refused(clip, model):
    tokens = prompt_tokens(model, clip, SAID)
    with pytest.raises(ValueError, match=r"text: 16 tokens in this CLIP, but the positive conditioning has 6\. Give"):
        tokens.check(mini_clip.encode_text(clip.cond_stage_model, ["a red circle rests"]), image=True)


def test_words_and_phrases_are_found_where_they_stand(clip, model):
    tokens = prompt_tokens(model, clip, SAID)
    places = {"circle": [3], "moves left": [4, 5], "a": [0, 6, 11], "Blue square": [8, 9], "background": [13]}
    assert word_tokens("words", tokens, list(places)) == list(places.values())
    for missing in ("mov", "left blue", "green"):
        with pytest.raises(ValueError, match=f"words: '{missing}' does not stand in the prompt"):
            word_tokens("words", tokens, [missing])


@pytest.mark.parametrize("says", sorted({phrase for row in MOTION_WORDS.values() for phrase in row}))
def test_every_motion_of_the_grammar_is_found(clip, model, says):
    tokens = prompt_tokens(model, clip, f"a red disc {says} on a white background")
    assert word_tokens("words", tokens, [says]) == [list(range(3, 3 + len(says.split())))]


def test_the_extractor_s_keywords_are_found(clip, model):
    tokens = prompt_tokens(model, clip, SAID)
    found = [tokens.pieces[index].lstrip("\u2581") for index in keyword_tokens(tokens, SAID, [])]
    assert found == ["small", "red", "circle", "moves", "left", "large", "blue", "square", "white"]
    for seed, scene in enumerate(sample_scenes(40, 5, "heldout")):
        text = caption(scene, seed)
        tokens = prompt_tokens(model, clip, text)
        found = [tokens.pieces[index].lstrip("\u2581") for index in keyword_tokens(tokens, text, [])]
        assert found == [word for word in text.replace(",", "").split() if word in extract(text)]


def test_objects_are_found_by_their_phrases(clip, model):
    for scene in sample_scenes(8, 5, "heldout", objects=(2,)):
        tokens = prompt_tokens(model, clip, caption(scene))
        for phrase, indices in zip(object_captions(scene), word_tokens("words", tokens, object_captions(scene))):
            assert "".join(tokens.pieces[index] for index in indices) == "\u2581" + phrase.replace(" ", "\u2581")


def test_words_the_mini_family_does_not_know(clip, model):
    with pytest.raises(ValueError, match="the mini family does not know dragon; it knows a above"):
        prompt_tokens(model, clip, "a red dragon")
    with pytest.raises(ValueError, match="a caption has more than 30 words"):
        clip.tokenize("a " * 31)


@pytest.mark.parametrize("node", [MiniCLIPLoaderNode.execute, lambda name: MiniTextEncodeNode.execute(name, "a")])
def test_a_file_that_is_no_mini_clip(node, tmp_path, monkeypatch):
    save_weights({"x": torch.zeros(1)}, tmp_path / "other.safetensors", {})
    monkeypatch.setitem(folder_paths.folder_names_and_paths, FOLDER, ([str(tmp_path)], {".safetensors"}))
    with pytest.raises(ValueError, match=r"clip_name other.safetensors: not a mini CLIP .* Choose mini_clip"):
        node("other.safetensors")
