"""Token ids of a word: CLIP's own, or of a small CLIP that knows whole words."""

import json
import re
from collections.abc import Callable

import comfy.sd1_clip

from .weights import Checkpoint

WORDS = 49408  # CLIP's vocabulary; another needs "vocabulary" in the file's metadata


def vocabulary_of(file: Checkpoint, count: int) -> Callable[[str], list[int]]:
    """The token ids of a word for a text tower of `count` tokens. Raises ValueError, naming the file, where they are
    not known."""
    if count == WORDS:
        return clip_words()
    name = file.path.name
    if "vocabulary" not in file.metadata:
        raise ValueError(
            f"{name}: its vocabulary has {count} tokens, CLIP's has {WORDS}. Use a CLIP with the original English text "
            "tower."
        )
    try:
        vocabulary = json.loads(file.metadata["vocabulary"])
    except (ValueError, RecursionError):
        vocabulary = None
    if not isinstance(vocabulary, list) or not all(isinstance(word, str) for word in vocabulary):
        raise ValueError(f'{name}: its metadata "vocabulary" is no list of words. Download or export the file again.')
    if len(vocabulary) != count or count < 3:
        raise ValueError(
            f'{name}: its metadata "vocabulary" has {len(vocabulary)} words, its text tower {count}; expected as many, '
            "at least 3. Download or export the file again."
        )
    return word_ids(vocabulary)


def clip_words() -> Callable[[str], list[int]]:
    """CLIP's tokens of a word, by the tokenizer that ComfyUI ships."""
    tokenizer = comfy.sd1_clip.SDTokenizer().tokenizer
    return lambda word: tokenizer(word)["input_ids"][1:-1]


def word_ids(vocabulary: list[str]) -> Callable[[str], list[int]]:
    """The tokens of a small CLIP that knows whole words (MiniWorld's)."""
    index = {word: i for i, word in enumerate(vocabulary)}

    def ids(word: str) -> list[int]:
        said = re.findall(r"[a-z]+", word.lower())
        if unknown := [w for w in said if w not in index]:
            raise ValueError(f"text: this CLIP does not know '{unknown[0]}'; it knows {' '.join(vocabulary[1:-2])}.")
        return [index[w] for w in said]

    return ids
