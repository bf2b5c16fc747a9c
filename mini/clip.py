"""Mini CLIP: open_clip's own CLIP at toy width (64 px, patch 8), with a vocabulary of the caption grammar's words.

The file's metadata holds the model's configuration and the vocabulary; its keys are open_clip's. The DiTs are
conditioned on the token features of its text tower, after the final layer norm.
"""

import json
import re
from pathlib import Path
from types import SimpleNamespace

import torch
from open_clip import CLIP
from safetensors import safe_open
from torch import Tensor

CONTEXT = 77
TEXT_TOKENS = (
    32  # length of the conditioning: <start>, words, <end>, then zeros, so that any two captions fit one batch
)
TOKENS = "umt5xxl"  # the name that Wan's text encoder has in a CLIP, by which nodes find a prompt's tokens
MEAN, DEVIATION = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)  # open_clip's default
CONFIG = {
    "embed_dim": 128,
    "vision_cfg": {"image_size": 64, "patch_size": 8, "width": 128, "layers": 4, "head_width": 32},
    "text_cfg": {"context_length": CONTEXT, "width": 128, "heads": 4, "layers": 2},
}


def vocabulary_of(words: list[str]) -> list[str]:
    """Token list: <pad> is 0, and <end> comes last, since open_clip reads the text where the id is highest."""
    return ["<pad>", *words, "<start>", "<end>"]


def build(vocabulary: list[str]) -> CLIP:
    """A fresh model that knows its words (`vocabulary` attribute)."""
    config = CONFIG | {"text_cfg": CONFIG["text_cfg"] | {"vocab_size": len(vocabulary)}}
    model = CLIP(**config)
    model.vocabulary = list(vocabulary)
    return model


def tokenize(vocabulary: list[str], captions: list[str]) -> Tensor:
    """Token ids [n, 77]: <start>, the words, <end>, then 0. ValueError on a word outside the vocabulary."""
    index = {word: i for i, word in enumerate(vocabulary)}
    ids = torch.zeros(len(captions), CONTEXT, dtype=torch.long)
    for row, caption in zip(ids, captions):
        said = re.findall(r"[a-z]+", caption.lower())
        if unknown := [w for w in said if w not in index]:
            raise ValueError(
                f"{caption!r}: the mini family does not know {', '.join(unknown)}; it knows "
                f"{' '.join(vocabulary[1:-2])}"
            )
        said = ["<start>", *said[: CONTEXT - 2], "<end>"]
        row[: len(said)] = torch.tensor([index[w] for w in said])
    return ids


def token_features(model: CLIP, ids: Tensor) -> Tensor:
    """Features after the final layer norm [n, tokens, width] of ids [n, tokens]; any length up to 77, since attention
    looks back only."""
    count = ids.shape[1]
    x = model.token_embedding(ids) + model.positional_embedding[:count]
    return model.ln_final(model.transformer(x, attn_mask=model.attn_mask[:count, :count]))


def caption_ids(vocabulary: list[str], captions: list[str], tokens: int = TEXT_TOKENS) -> Tensor:
    """Token ids [n, tokens]. ValueError if a caption is longer than `tokens` - 2 words."""
    ids = tokenize(vocabulary, captions)
    if (ids[:, tokens:] > 0).any():
        raise ValueError(f"a caption has more than {tokens - 2} words: {max(captions, key=len)!r}")
    return ids[:, :tokens]


@torch.no_grad()
def encode_ids(model: CLIP, ids: Tensor) -> Tensor:
    """Token features [n, tokens, width] of ids [n, tokens], zeros where the id is 0."""
    return token_features(model, ids) * (ids > 0).unsqueeze(-1)


def encode_text(model: CLIP, captions: list[str], tokens: int = TEXT_TOKENS) -> Tensor:
    """The DiTs' conditioning [n, tokens, width]: token features of <start>, the words and <end>, zeros after them. ""
    is the empty prompt. ValueError if a caption is longer than `tokens` - 2 words."""
    return encode_ids(model, caption_ids(model.vocabulary, captions, tokens))


def preprocess(frames: Tensor) -> Tensor:
    """Frames [n, 64, 64, 3], 0..1, as the vision tower takes them [n, 3, 64, 64]."""
    return (frames.movedim(-1, 1) - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(DEVIATION).view(3, 1, 1)


def image_features(model: CLIP, images: Tensor) -> tuple[Tensor, Tensor]:
    """Joint-space features of preprocessed images: of the class token [n, dim], of the patches [n, 64, dim], neither
    normalised."""
    tower = model.visual
    x = tower._embeds(images)
    x = tower.ln_post(tower.transformer(x))
    x = x @ tower.proj
    return x[:, 0], x[:, 1:]


def pieces(vocabulary: list[str]) -> dict[int, str]:
    """Token id -> its text, with SentencePiece's sign of a space before each word, as the tokenizers of T5 have it."""
    special = {0, len(vocabulary) - 2, len(vocabulary) - 1}
    return {i: word if i in special else "\u2581" + word for i, word in enumerate(vocabulary)}


class TextEncoder:
    """A mini CLIP as ComfyUI's CLIP: for whatever encodes captions one by one, or reads their tokens."""

    def __init__(self, clip: CLIP):
        self.cond_stage_model = clip
        self.tokenizer = SimpleNamespace(**{TOKENS: SimpleNamespace(inv_vocab=pieces(clip.vocabulary))})

    def tokenize(self, text: str) -> dict[str, list[list[tuple[int, float]]]]:
        """{"umt5xxl": [[(id, weight), ...]]}: one part of TEXT_TOKENS tokens, all of weight 1."""
        [ids] = caption_ids(self.cond_stage_model.vocabulary, [text]).tolist()
        return {TOKENS: [[(number, 1.0) for number in ids]]}

    def encode_from_tokens_scheduled(self, tokens: dict[str, list[list[tuple[int, float]]]]) -> list:
        ids = torch.tensor([[number for number, _ in part] for part in tokens[TOKENS]])
        return [[encode_ids(self.cond_stage_model, ids), {}]]


def load(path: Path) -> CLIP:
    """A frozen float32 model from a file of this family. ValueError if the file has no vocabulary."""
    with safe_open(path, "pt") as file:
        facts = file.metadata() or {}
        if "vocabulary" not in facts:
            raise ValueError(
                f"{path} is no mini CLIP: its metadata has no vocabulary; make one with python run.py train mini-clip"
            )
        weights = {k: file.get_tensor(k).float() for k in file.keys()}  # noqa: SIM118  (not a dict)
    model = build(json.loads(facts["vocabulary"]))
    model.load_state_dict(weights)
    return model.eval().requires_grad_(False)
