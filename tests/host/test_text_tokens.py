"""Prompts' tokens against the host's own tokenizers and its own cropping of chat templates."""

from pathlib import Path
from types import SimpleNamespace

import comfy.text_encoders.hunyuan_video
import comfy.text_encoders.wan
import pytest
import torch

from semantic_video.host.text_tokens import prompt_tokens
from semantic_video.patches.prompt_words import keyword_tokens, word_tokens

TEXT = 'A (ginger:1.3) cat, on the table; the CAT jumps over "42" caf\u00e9s.'
HOST = Path(comfy.text_encoders.wan.__file__).parent


def as_clip(tokenizer):
    return SimpleNamespace(tokenizer=tokenizer, tokenize=tokenizer.tokenize_with_weights)


@pytest.fixture(scope="module")
def wan_clip():
    """Wan's tokenizer around a SentencePiece model that the host carries (umT5's own lies in the checkpoint)."""
    pytest.importorskip("sentencepiece")
    data = torch.frombuffer(bytearray((HOST / "t5_pile_tokenizer" / "tokenizer.model").read_bytes()), dtype=torch.uint8)
    return as_clip(comfy.text_encoders.wan.WanT5Tokenizer(tokenizer_data={"spiece_model": data}))


@pytest.fixture(scope="module")
def qwen_clip():
    return as_clip(comfy.text_encoders.hunyuan_video.HunyuanVideo15Tokenizer())


def words_at(tokens, indices):
    return [tokens.pieces[i] for i in indices]


def test_wan_s_tokens_are_padded_to_512(toys, wan_clip):
    tokens = prompt_tokens(toys("wan-t2v"), wan_clip, TEXT)
    ids = [entry[0] for entry in wan_clip.tokenize(TEXT)["umt5xxl"][0]]
    assert tokens.total == len(ids) == 512
    assert tokens.tokens == tuple(ids[: len(tokens.tokens)])
    assert tokens.real == len(tokens.tokens), "the end token is real, what follows is padding"
    cat, ginger = word_tokens("words", tokens, ["cat", "ginger"])
    assert [tokens.column(i, 512) for i in cat] == cat, "nothing stands in front of the text"
    assert "".join(words_at(tokens, ginger)).replace("\u2581", " ").strip() == "ginger"
    assert len(cat) >= 2, "both places"


def test_wan_s_conditioning_must_be_of_this_prompt(toys, wan_clip):
    tokens = prompt_tokens(toys("wan-t2v"), wan_clip, TEXT)
    context = torch.zeros(1, 512, 8)
    context[:, : tokens.real] = 1
    tokens.check(context, image=False)
    context[:, tokens.real] = 1
    with pytest.raises(
        ValueError, match=rf"text: {tokens.real} tokens in this CLIP, but .* has {tokens.real + 1}. Give"
    ):
        tokens.check(context, image=True)


def test_long_prompts_grow_beyond_512(toys, wan_clip):
    tokens = prompt_tokens(toys("wan-t2v"), wan_clip, "a cat " * 400 + "jumps")
    assert tokens.total == tokens.real > 512
    [jumps] = word_tokens("words", tokens, ["jumps"])
    assert tokens.column(jumps[0], tokens.total) == jumps[0]


def test_qwen_s_template_is_left_out(toys, qwen_clip):
    tokens = prompt_tokens(toys("hunyuan-1.5"), qwen_clip, TEXT)
    assert tokens.real == 0
    text = bytes(b for piece in tokens.pieces for b in piece.encode()).decode()
    assert "im_start" not in text and "Describe" not in text
    [cat] = word_tokens("words", tokens, ["cat"])
    assert [piece[1:].lower() for piece in words_at(tokens, cat)] == ["cat", "cat"]
    [cafes] = word_tokens("words", tokens, ["caf\u00e9s"])
    assert cafes


def test_qwen_s_columns_are_those_of_the_host_s_crop(toys, qwen_clip):
    """Features that are the tokens' own numbers, through the host's encoder: at each column stands that token."""
    from comfy.text_encoders.hunyuan_image import HunyuanImageTEModel

    encoder = HunyuanImageTEModel.__new__(HunyuanImageTEModel)
    torch.nn.Module.__init__(encoder)
    encoder.byt5_small, encoder.clip_name, encoder.clip = None, "qwen25_7b", "qwen25_7b"
    encoder.qwen25_7b = numbering()
    context = encoder.encode_token_weights(qwen_clip.tokenize(TEXT))[0]
    tokens = prompt_tokens(toys("hunyuan-1.5"), qwen_clip, TEXT)
    tokens.check(context, image=False)
    for index, token in enumerate(tokens.tokens):
        assert context[0, tokens.column(index, context.shape[1]), 0] == token
    with pytest.raises(ValueError, match="Give exactly the prompt"):
        tokens.check(context[:, 1:], image=True)
    with pytest.raises(ValueError, match="Give exactly the prompt"):
        tokens.check(torch.cat((context, context), 1), image=False)
    tokens.check(torch.cat((context, context), 1), image=True)


class numbering(torch.nn.Module):  # noqa: N801
    """A text encoder that gives each token its number, and each of an image's rows -1."""

    def encode_token_weights(self, pairs):
        rows = []
        for entry in pairs[0]:
            if isinstance(entry[0], int):
                rows.append(torch.tensor([[float(entry[0])]]))
            else:
                rows.append(-torch.ones(len(entry[0]["data"]), 1))
        out = torch.cat(rows)[None]
        return out, None, {"attention_mask": torch.ones(out.shape[:2])}


class Llama:
    """A word-level stand-in for Llama's tokenizer, whose file the host may lack; special tokens have its numbers."""

    special = {"<|start_header_id|>": 128006, "<|end_header_id|>": 128007, "<|eot_id|>": 128009, "<image>": 128257}

    def __init__(self):
        self.inv_vocab = {number: piece for piece, number in self.special.items()} | {882: "user", 271: "\u010a\u010a"}

    def tokenize_with_weights(self, text, *_, **__):
        import re

        text = re.sub(r"\((\w+):[0-9.]+\)", r"\1", text)
        ids = [128000]
        for part in re.findall(r"<\|\w+\|>|<image>|\n\n| ?\w+|[^\w ]", text):
            known = {piece: number for number, piece in self.inv_vocab.items()}
            piece = part.replace(" ", "\u0120").replace("\n", "\u010a")
            if piece not in known:
                self.inv_vocab[len(self.inv_vocab) + 1000] = piece
                known[piece] = len(self.inv_vocab) + 999
            ids.append(known[piece])
        return [[(number, 1.0) for number in ids]]


def hunyuan_1():
    tokenizer = comfy.text_encoders.hunyuan_video.HunyuanVideoTokenizer.__new__(
        comfy.text_encoders.hunyuan_video.HunyuanVideoTokenizer
    )
    source = Path(comfy.text_encoders.hunyuan_video.__file__).read_text(encoding="utf-8")
    tokenizer.llama_template = source.split('self.llama_template = """')[1].split('"""')[0].replace("\\n", "\n")
    tokenizer.llama = Llama()
    tokenizer.clip_l = SimpleNamespace(tokenize_with_weights=lambda *_, **__: [[]])
    encoder = comfy.text_encoders.hunyuan_video.HunyuanVideoClipModel.__new__(
        comfy.text_encoders.hunyuan_video.HunyuanVideoClipModel
    )
    torch.nn.Module.__init__(encoder)
    encoder.llama = numbering()
    encoder.clip_l = SimpleNamespace(encode_token_weights=lambda _: (None, None))
    return tokenizer, encoder


IMAGE_TEMPLATE = (
    "<|start_header_id|>system<|end_header_id|>\n\n<image>Describe the video<|eot_id|><|start_header_id|>user"
    "<|end_header_id|>\n\n{}<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n"
)


@pytest.mark.parametrize("interleave", [None, 1, 4])
def test_hunyuan_1_s_columns_with_and_without_image_features(toys, interleave):
    """The host's own crop, once with its plain template, else with image features put in front of the text."""
    tokenizer, encoder = hunyuan_1()
    options = {}
    if interleave:
        options = {
            "llama_template": IMAGE_TEMPLATE,
            "image_embeds": torch.zeros(1, 576, 8),
            "image_interleave": interleave,
        }
    context = encoder.encode_token_weights(tokenizer.tokenize_with_weights(TEXT, **options))[0]
    images = int((context == -1).sum())
    assert images == (576 // interleave if interleave else 0)
    tokens = prompt_tokens(toys("hunyuan-i2v"), as_clip(tokenizer), TEXT)
    tokens.check(context, image=bool(interleave))
    for index, token in enumerate(tokens.tokens):
        assert context[0, tokens.column(index, context.shape[1]), 0] == token
    [cat] = word_tokens("words", tokens, ["cat"])
    assert words_at(tokens, cat) == ["\u0120cat", "\u0120CAT"]


def test_another_clip_is_refused(toys, qwen_clip):
    with pytest.raises(ValueError, match="clip: its tokens are of qwen25_7b; Wan reads umt5xxl. Connect the CLIP"):
        prompt_tokens(toys("wan-t2v"), qwen_clip, "a cat")
    bare = SimpleNamespace(tokenize=lambda text: text)
    with pytest.raises(ValueError, match="clip: its tokens are of unknown; HunyuanVideo reads llama or qwen25_7b"):
        prompt_tokens(toys("hunyuan-t2v"), bare, "a cat")


def test_keywords_are_given_or_found(toys, qwen_clip):
    model = toys("hunyuan-1.5")
    tokens = prompt_tokens(model, qwen_clip, "A cat jumps over the table.")
    assert words_at(tokens, keyword_tokens(tokens, "A cat jumps over the table.", [])) == [
        "\u0120cat",
        "\u0120jumps",
        "\u0120table",
    ]
    assert words_at(tokens, keyword_tokens(tokens, "", ["over the"])) == ["\u0120over", "\u0120the"]
    with pytest.raises(ValueError, match="keywords: 'dog' does not stand in the prompt .*A cat jumps over the table"):
        keyword_tokens(tokens, "", ["dog"])
    with pytest.raises(ValueError, match='keywords: none given, and none found in "It is."'):
        keyword_tokens(tokens, "It is.", [])
