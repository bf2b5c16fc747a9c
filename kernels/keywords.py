"""Keywords of a prompt, and where their tokens are.

The extractor is a stop list: what is left are nouns, verbs, directions, and the adjectives that tell them apart. No
model, English only (our choice). Tokens are found in the tokenizer's own pieces put together again, so nothing is
assumed of how it cuts words, of weights in brackets or of a chat template around the prompt.
"""

import re
from collections.abc import Iterable

STOP = """
a an the this that these those some any each every all both no none such same other another one two its it he she
they them him her his hers their we our us you your i my me who whom whose which what when where while why how and
or but nor so yet if then than as at by for from in into of off on onto out over under to toward towards
with within without about above across after again against along among around before behind below beneath beside
between beyond during except inside near outside past since through throughout until upon via is are was were be
been being am has have had having do does did doing done can could will would shall should may might must not only
also just very too more most less least much many few little still even once there here now away back forth together
apart itself himself herself themselves else ever never always often first second last next finally begins begin
starts start keeps keep gets get goes go becomes become makes make lets let seems seem everything nothing something
anything video clip film footage scene shot image picture photo view background foreground
middle center centre style quality
"""
STOP_WORDS = frozenset(STOP.split())


def extract(text: str) -> list[str]:
    """Words of `text` that say what there is and what happens, in order, each once. Adverbs in -ly and words of the
    stop list are left out.
    """
    words = re.findall(r"[^\W\d_]+(?:['-][^\W\d_]+)*", text)
    kept = dict.fromkeys(word.lower() for word in words if len(word) > 1)
    return [word for word in kept if word not in STOP_WORDS and not (word.endswith("ly") and len(word) > 4)]


def parse(text: str) -> list[str]:
    """Keywords or phrases as people write them, separated by commas or lines."""
    return [part for part in (p.strip() for p in re.split(r"[,\n]", text)) if part]


def byte_level(vocabulary: Iterable[str]) -> bool:
    """Whether pieces are bytes written as letters (GPT-2's BPE, which has U+0120 for a space) or text (SentencePiece,
    with U+2581).
    """
    return any(piece.startswith("\u0120") for piece in vocabulary)


def piece_bytes(piece: str, byte_level: bool) -> bytes:
    """The text of one piece of a vocabulary. Special pieces, which are no text, are given as they are written."""
    if byte_level:
        return bytes(BYTES[letter] for letter in piece) if all(letter in BYTES for letter in piece) else piece.encode()
    if match := re.fullmatch(r"<0x([0-9A-Fa-f]{2})>", piece):
        return bytes([int(match[1], 16)])
    return piece.replace("\u2581", " ").encode()


def byte_letters() -> dict[str, int]:
    """The letters that byte-level BPE (GPT-2's) writes bytes with: printable ones as they are, others from U+0100."""
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in plain]
    return {chr(byte): byte for byte in plain} | {chr(0x100 + i): byte for i, byte in enumerate(others)}


BYTES = byte_letters()


def find(pieces: list[bytes], phrase: str) -> list[list[int]]:
    """Each place where `phrase` stands in the text that `pieces` make, as the indices of its pieces. Whole words, in
    any case.

    Languages that put no spaces between words are searched for the letters alone.
    """
    text = b"".join(pieces).decode("utf-8", errors="surrogateescape")
    owner = [i for i, piece in enumerate(pieces) for _ in piece]
    pattern = r"\s+".join(map(re.escape, phrase.split()))
    matches = list(re.finditer(rf"(?<!\w){pattern}(?!\w)", text, re.IGNORECASE))
    if not matches and not phrase.isascii():
        matches = list(re.finditer(pattern, text, re.IGNORECASE))

    def offset(index: int) -> int:
        return len(text[:index].encode("utf-8", errors="surrogateescape"))

    return [sorted(set(owner[offset(m.start()) : offset(m.end())])) for m in matches]
