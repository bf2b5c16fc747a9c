"""Words of a prompt as tokens, and as keys of an attention call."""

from ..host.call import Call
from ..host.text_tokens import PromptTokens
from ..kernels.keywords import byte_level, extract, find, piece_bytes


def word_tokens(name: str, tokens: PromptTokens, words: list[str]) -> list[list[int]]:
    """For each word the indices of its tokens, of all places where it stands. Raises ValueError for one that is not
    there.

    name: the input that `words` came from.
    """
    letters = byte_level(tokens.vocabulary)
    pieces = [piece_bytes(piece, letters) for piece in tokens.pieces]
    groups = []
    for word in words:
        places = find(pieces, word)
        if not places:
            text = b"".join(pieces).decode("utf-8", errors="replace").strip()
            raise ValueError(
                f"{name}: '{word}' does not stand in the prompt (\"{text}\"). Write words as they stand there."
            )
        groups.append(sorted({index for place in places for index in place}))
    return groups


def keyword_tokens(tokens: PromptTokens, text: str, keywords: list[str]) -> list[int]:
    """Tokens of `keywords`, or of those that the extractor finds in `text`. Raises ValueError where there are none."""
    chosen = keywords or extract(text)
    if not chosen:
        raise ValueError(
            f'keywords: none given, and none found in "{text}". Write words of the prompt, separated by commas.'
        )
    return sorted({index for group in word_tokens("keywords", tokens, chosen) for index in group})


def text_keys(call: Call) -> int:
    """How many keys are text: all at a text cross-attention, those in front of the video's own in joint attention."""
    return call.k.shape[1] if call.site.kind == "text" else call.before - call.forward.layout.before


def text_columns(call: Call, tokens: PromptTokens, indices: list[int]) -> list[int]:
    """Keys of an attention call that are these tokens of the prompt."""
    return [tokens.column(index, text_keys(call)) for index in indices]


def video_tokens(call: Call) -> slice:
    """Queries of the video's own grid, without text, reference and in-context tokens."""
    return slice(call.before, call.q.shape[1] - call.after)
