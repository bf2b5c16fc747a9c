"""What an SSG Adapter was made for, as its file's metadata says it."""

from dataclasses import dataclass, fields
from typing import Literal

FORMAT, VERSION = "ssg-adapter", "1"
Family = Literal["wan", "hunyuan", "ltx", "minimax"]
Spatial = Literal["rope", "none"]
# the hosts' own; LTX's text queries have no places, so it gets Wan's; MiniMax H3 keeps its frequencies in the model
THETA = {"wan": 10000.0, "hunyuan": 256.0, "ltx": 10000.0, "minimax": 10000.0}
OWN_PLACES = ("wan", "ltx")  # their text queries have none of the model's
MOST, MOST_BLOCKS, MOST_PATCHES = 2**20, 1000, 1024  # far above any model's: what a damaged file says costs nothing


@dataclass(frozen=True)
class Spec:
    """What an adapter was made for.

    width, heads: of the model's attention. blocks: those with a branch, counted through the whole model (Hunyuan's
    single blocks follow its double ones). clip_width, grid: of the CLIP features, and rows and columns of its patches;
    a class token in front is a token without a place. spatial: "rope" gives K' and q places, "none" is plain decoupled
    attention.
    """

    family: Family
    width: int
    heads: int
    blocks: tuple[int, ...]
    rank: int = 128
    clip_width: int = 1280
    grid: tuple[int, int] = (16, 16)
    token_width: int = 1280
    spatial: Spatial = "rope"

    def __post_init__(self):
        for name, allowed in (("family", THETA), ("spatial", Spatial.__args__)):
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} '{getattr(self, name)}': must be one of {', '.join(allowed)}")
        for name in ("width", "heads", "rank", "clip_width", "token_width"):
            if not 1 <= getattr(self, name) <= MOST:
                raise ValueError(f"{name} {getattr(self, name)}: must be from 1 to {MOST}")
        if self.width % (2 * self.heads):
            raise ValueError(f"width {self.width}: must divide into {self.heads} heads of an even number of channels")
        if not self.blocks or list(self.blocks) != sorted(set(self.blocks)):
            raise ValueError(f"blocks {shortened(self.blocks)}: must be block numbers in rising order, at least one")
        if self.blocks[0] < 0 or self.blocks[-1] >= MOST_BLOCKS:
            raise ValueError(f"blocks {shortened(self.blocks)}: must be from 0 to {MOST_BLOCKS - 1}")
        if len(self.grid) != 2 or not all(1 <= side <= MOST_PATCHES for side in self.grid):
            raise ValueError(
                f"grid {shortened(self.grid)}: must be rows and columns of CLIP's patches, 1 to {MOST_PATCHES} each"
            )

    @property
    def dim(self) -> int:
        return self.width // self.heads

    @property
    def axes(self) -> tuple[int, int, int]:
        """Channels of a head that the model's RoPE gives to time, height and width."""
        space = 2 * (self.dim // 6) if self.family in OWN_PLACES else 2 * (self.dim * 7 // 32)
        return self.dim - 2 * space, space, space

    @property
    def metadata(self) -> dict[str, str]:
        """For a safetensors file; `Spec.read` reads it."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return {"format": FORMAT, "version": VERSION} | {
            k: ",".join(map(str, v)) if isinstance(v, tuple) else str(v) for k, v in values.items()
        }

    @classmethod
    def read(cls, metadata: dict[str, str]) -> "Spec":
        """Raises ValueError for metadata of anything else, or with parts missing or malformed."""
        if metadata.get("format") != FORMAT:
            raise ValueError(
                f"is no SSG Adapter: its metadata gives the format as {metadata.get('format')}, expected {FORMAT}"
            )
        if metadata.get("version") != VERSION:
            raise ValueError(
                f"is an SSG Adapter of version {metadata.get('version')}; this pack reads {VERSION}. Update the pack"
            )
        missing = [f.name for f in fields(cls) if f.name not in metadata]
        if missing:
            raise ValueError(f"is an SSG Adapter whose metadata lacks {', '.join(missing)}")
        values = {}
        for f in fields(cls):
            text = metadata[f.name]
            try:
                values[f.name] = parse(f.name, text)
            except ValueError:
                raise ValueError(
                    f"is an SSG Adapter whose metadata is damaged: {f.name} is '{text[:40]}'. Download or export it "
                    "again"
                ) from None
        return cls(**values)


def parse(name: str, text: str) -> str | int | tuple[int, ...]:
    """The value of the field `name` of a Spec, as its metadata writes it."""
    if name in ("family", "spatial"):
        return text
    if name in ("blocks", "grid"):
        return tuple(map(int, text.split(",")))
    return int(text)


def shortened(numbers: tuple[int, ...]) -> str:
    """For messages: all of a few numbers, the first of very many."""
    return f"{numbers}" if len(numbers) <= 8 else f"({', '.join(map(str, numbers[:8]))}, ... {len(numbers)} in all)"
