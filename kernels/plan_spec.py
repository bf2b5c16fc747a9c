"""What a Semantic Planner or a Plan Adapter was made for, as its file's metadata "config" says it."""

import json
from dataclasses import asdict, dataclass, fields
from typing import Literal, get_type_hints

VERSION = "1"
Family = Literal["wan", "hunyuan"]
THETA = {"wan": 10000.0, "hunyuan": 256.0}  # the hosts' own
MOST, MOST_BLOCKS = 2**17, 1000  # far above any model's: what a damaged file says costs nothing


class Spec:
    """What both kinds share: metadata, and its reading."""

    FORMAT: str
    TITLE: str

    @property
    def metadata(self) -> dict[str, str]:
        """For a safetensors file; `read` reads it."""
        return {"format": self.FORMAT, "version": VERSION, "config": json.dumps(asdict(self))}

    @classmethod
    def read(cls, metadata: dict[str, str]):
        """Raises ValueError for metadata of anything else, or with parts missing or malformed."""
        if metadata.get("format") != cls.FORMAT:
            raise ValueError(
                f"is no {cls.TITLE}: its metadata gives the format as {str(metadata.get('format'))[:40]}, expected "
                f"{cls.FORMAT}"
            )
        if metadata.get("version") != VERSION:
            raise ValueError(
                f"is a {cls.TITLE} of version {metadata.get('version', 'none')[:40]}; this pack reads {VERSION}. "
                "Update the pack"
            )
        try:
            found = json.loads(metadata.get("config", ""))
        except (ValueError, RecursionError):
            found = None
        if not isinstance(found, dict):
            raise ValueError(f'is a {cls.TITLE} whose metadata "config" is no JSON object. Export it again')
        names = [f.name for f in fields(cls)]
        if wrong := sorted(found.keys() ^ set(names)):
            raise ValueError(
                f"is a {cls.TITLE} whose config lacks, or has too much: '{wrong[0][:40]}'. Export it again"
            )
        hints = get_type_hints(cls)
        return cls(**{name: typed(name, found[name], hints[name], cls.TITLE) for name in names})


def typed(name: str, value, hint, title: str):
    """`value` of JSON as the type of the field `name`. Raises ValueError for another type."""
    if hint == tuple[int, ...] and isinstance(value, list) and all(type(v) is int for v in value):
        return tuple(value)
    if hint is float and type(value) in (int, float):
        return float(value)
    if hint in (int, str) and type(value) is hint:
        return value
    if hint is Family and type(value) is str:
        return value
    raise ValueError(f"is a {title} whose config is damaged: {name} is {str(value)[:40]!r}. Export it again")


def require(spec, names: tuple[str, ...], least: int = 1, most: int = MOST) -> None:
    """Raises ValueError where a number of `spec` is out of range."""
    for name in names:
        if not least <= getattr(spec, name) <= most:
            raise ValueError(f"{name} {getattr(spec, name)}: must be from {least} to {most}")


def head_axes(dim: int) -> tuple[int, int, int]:
    """Channels of a head that Wan's RoPE gives to time, height and width."""
    space = 2 * (dim // 6)
    return dim - 2 * space, space, space


@dataclass(frozen=True)
class PlannerSpec(Spec):
    """dims, encoder: of the plans it draws. text_width: of the text features it reads. width, heads, blocks, ffn: of
    the DiT. rows, columns, fps: of the plans it was trained on. shift: of its noise levels, see
    kernels/flow_matching.py."""

    dims: int
    encoder: str
    text_width: int
    width: int
    heads: int
    blocks: int
    ffn: int
    rows: int
    columns: int
    fps: float
    shift: float = 3.0

    FORMAT = "semantic-planner"
    TITLE = "Semantic Planner"

    def __post_init__(self):
        require(self, ("dims", "text_width", "width", "heads", "ffn", "rows", "columns"))
        require(self, ("blocks",), most=MOST_BLOCKS)
        require(self, ("fps", "shift"), least=1e-3, most=1e3)
        if self.width % (2 * self.heads):
            raise ValueError(f"width {self.width}: must divide into {self.heads} heads of an even number of channels")

    @property
    def dim(self) -> int:
        return self.width // self.heads

    @property
    def axes(self) -> tuple[int, int, int]:
        return head_axes(self.dim)


@dataclass(frozen=True)
class PlanAdapterSpec(Spec):
    """family, width, heads: of the model's attention; blocks: those with a branch, counted through the whole model.
    dims, encoder: of the plans it reads. rank: of K' and V'; token_width: channels of the projected plan. seen: token
    frames of the plan that each latent frame sees."""

    family: Family
    width: int
    heads: int
    blocks: tuple[int, ...]
    dims: int
    encoder: str
    rank: int = 64
    token_width: int = 256
    seen: int = 5

    FORMAT = "semantic-plan-adapter"
    TITLE = "Plan Adapter"

    def __post_init__(self):
        if self.family not in THETA:
            raise ValueError(f"family '{self.family[:40]}': must be one of {', '.join(THETA)}")
        require(self, ("width", "heads", "dims", "rank", "token_width", "seen"))
        if self.width % (2 * self.heads):
            raise ValueError(f"width {self.width}: must divide into {self.heads} heads of an even number of channels")
        if not self.blocks or list(self.blocks) != sorted(set(self.blocks)):
            raise ValueError(f"blocks {self.blocks[:8]}: must be block numbers in rising order, at least one")
        if self.blocks[0] < 0 or self.blocks[-1] >= MOST_BLOCKS:
            raise ValueError(f"blocks {self.blocks[:8]}: must be from 0 to {MOST_BLOCKS - 1}")

    @property
    def dim(self) -> int:
        return self.width // self.heads

    @property
    def axes(self) -> tuple[int, int, int]:
        """Channels of a head that the model's own RoPE gives to time, height and width."""
        if self.family == "wan":
            return head_axes(self.dim)
        space = 2 * (self.dim * 7 // 32)
        return self.dim - 2 * space, space, space
