"""What an SSG Adapter was made for, as its file's metadata says it."""

from dataclasses import dataclass, fields
from typing import Literal

FORMAT, VERSION = "ssg-adapter", "1"
Family = Literal["wan", "hunyuan"]
Spatial = Literal["rope", "none"]
THETA = {"wan": 10000.0, "hunyuan": 256.0}  # the hosts' own


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
            if getattr(self, name) < 1:
                raise ValueError(f"{name} {getattr(self, name)}: must be at least 1")
        if self.width % (2 * self.heads):
            raise ValueError(f"width {self.width}: must divide into {self.heads} heads of an even number of channels")
        if not self.blocks or min(self.blocks) < 0 or list(self.blocks) != sorted(set(self.blocks)):
            raise ValueError(f"blocks {self.blocks}: must be block numbers in rising order, at least one")
        if len(self.grid) != 2 or min(self.grid) < 1:
            raise ValueError(f"grid {self.grid}: must be rows and columns of CLIP's patches")

    @property
    def dim(self) -> int:
        return self.width // self.heads

    @property
    def axes(self) -> tuple[int, int, int]:
        """Channels of a head that the model's RoPE gives to time, height and width."""
        space = 2 * (self.dim // 6) if self.family == "wan" else 2 * (self.dim * 7 // 32)
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
                values[f.name] = (
                    tuple(map(int, text.split(",")))
                    if f.name in ("blocks", "grid")
                    else text
                    if f.name in ("family", "spatial")
                    else int(text)
                )
            except ValueError:
                raise ValueError(f"is an SSG Adapter whose metadata is damaged: {f.name} is '{text}'") from None
        return cls(**values)
