"""Where a prompt's tokens lie among the keys that a model sees, in whatever tokenizer the host uses for it.

The host pads the tokens of T5 and crops the chat templates around those of an LLM, and HunyuanVideo puts image
features in front of its text. All of that leaves the end alone, so tokens are counted from there.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from .families import Family, family_of

# what conditionings carry where pictures stand in front of the text in families that do so
PICTURES = {"concat_latent_image", "guiding_frame_index", "ref_latent", "minimax_keyframes", "minimax_refs"}


@dataclass(frozen=True)
class PromptTokens:
    """One prompt.

    tokens: ids of the prompt itself, without padding and template; pieces: their entries in the vocabulary, "" for
    what is no text (an embedding). first: how far the first of them is from the end of all tokens, template and
    padding included, 1 for the last. real: tokens without padding, where the encoder pads with zeros, else 0. total:
    tokens with padding.
    """

    tokens: tuple
    pieces: tuple[str, ...]
    vocabulary: frozenset[str]
    first: int
    real: int
    total: int
    family: Family

    def column(self, index: int, keys: int) -> int:
        """Index of prompt token `index` among `keys` text keys."""
        return keys - self.first + index

    def check(self, context: Tensor, image: bool) -> None:
        """Raises ValueError where `context` [1, tokens, width], of a conditioning, was not made of this prompt.

        image: the conditioning has a start image, whose features stand in front of the text in some families.
        """
        if self.real:
            given = int((context[0] != 0).any(-1).sum())
            fits, own = given == self.real and context.shape[1] == self.total, self.real
        else:
            given, own = context.shape[1], self.first
            fits = given == own or (image and self.family.IMAGE_BEFORE_TEXT and given > own)
        if not fits:
            raise ValueError(
                f"text: {own} tokens in this CLIP, but the positive conditioning has {given}. Give exactly the prompt "
                "that it was encoded from, and connect the CLIP that encoded it."
            )


def prompt_tokens(model, clip, text: str) -> PromptTokens:
    """Reads `text` with the tokenizer of CLIP that the MODEL's family uses. Raises ValueError for another CLIP."""
    family = family_of(model)
    if family.mixes_words(model.model.diffusion_model):
        raise ValueError(
            f"model: this {family.NAME} mixes the words of a prompt before its blocks, so that none of its text keys "
            "is a word; neither maps nor keywords mean anything there. Load another model, or remove the node."
        )
    prompt, empty = (clip.tokenize(t) for t in (text, ""))
    if not isinstance(prompt, dict):
        prompt = {}
    name = next((key for key in family.TEXT_ENCODERS if key in prompt), None)
    tokenizers = vars(getattr(clip, "tokenizer", None) or object)
    vocabulary = getattr(tokenizers.get(name) or tokenizers.get(f"clip_{name}"), "inv_vocab", None)
    if vocabulary is None:
        has = ", ".join(prompt) or "unknown"
        raise ValueError(
            f"clip: its tokens are of {has}; {family.NAME} reads {' or '.join(family.TEXT_ENCODERS)}. Connect the CLIP "
            "that encoded the prompt."
        )
    ids, none = ([entry[0] for part in tokens[name] for entry in part] for tokens in (prompt, empty))
    start = shared(ids, none)
    end = len(ids) - shared(ids[::-1][: len(ids) - start], none[::-1][: len(none) - start])
    padded = len(none) > 1 and same(none[-1], none[-2])
    padding = shared(ids[::-1], [none[-1]] * len(ids)) if padded else 0
    pieces = tuple("" if torch.is_tensor(i) or isinstance(i, dict) else vocabulary.get(i, "") for i in ids[start:end])
    return PromptTokens(
        tuple(ids[start:end]),
        pieces,
        frozenset(vocabulary.values()),
        first=len(ids) - start,
        real=len(ids) - padding if padded else 0,
        total=len(ids),
        family=family,
    )


def shared(a: list, b: list) -> int:
    """How many entries two lists have in common at their start."""
    return next((i for i, (x, y) in enumerate(zip(a, b)) if not same(x, y)), min(len(a), len(b)))


def same(a, b) -> bool:
    return isinstance(a, int) and isinstance(b, int) and a == b
