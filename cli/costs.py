"""What a template costs, computed from the sizes of model and video: for its note, marked as computed."""

from dataclasses import dataclass
from functools import cache
from math import floor

from ..kernels.wording import counted

RATE = 100e12  # operations a second that a large consumer card keeps up in 16 bit


@dataclass(frozen=True)
class Shape:
    """A video transformer. per_token: multiply-adds of its blocks for a token, without attention; factor: ComfyUI's
    memory_usage_factor; trained: latent frames of its clips."""

    width: int
    blocks: int
    per_token: float
    factor: float
    trained: int


def wan(width: int, hidden: int, blocks: int) -> Shape:
    return Shape(width, blocks, blocks * (6 * width**2 + 2 * width * hidden), width / 2222, 21)


SHAPES = {  # by the beginning of the file's name
    "wan2.1_t2v_1.3B": wan(1536, 8960, 30),
    "wan2.": wan(5120, 13824, 40),
    "hunyuan_video": Shape(3072, 60, 60 * 12 * 3072**2, 1.8, 33),
}
SAMPLERS = ("KSampler", "KSamplerAdvanced", "SamplerCustom", "SamplerCustomAdvanced")


@dataclass(frozen=True)
class Cost:
    """tokens, frames: of the longest video sampled; operations: of all sampling, attention in windows where Swin
    Renderer is; aside: bytes that ComfyUI sets aside for one pass."""

    tokens: int
    frames: int
    operations: float
    aside: float


def shape_of(name: str) -> Shape | None:
    return next((shape for start, shape in SHAPES.items() if name.startswith(start)), None)


def cost(api: dict) -> Cost | None:
    """None where nothing is sampled, or by a model that is not known here."""
    reached = cache(lambda name: {name}.union(*map(reached, upstream(api[name]))))
    found = []
    for node in api.values():
        if node["class_type"] not in SAMPLERS:
            continue
        inputs = node["inputs"]
        guided = api[inputs["guider"][0]] if "guider" in inputs else node
        chain = reached(guided["inputs"]["model"][0])
        shape = next((shape_of(value) for one in chain if (value := api[one]["inputs"].get("unet_name"))), None)
        size = next((s for one in nearest(api, inputs["latent_image"][0]) if (s := size_of(api[one]))), None)
        if shape is None or size is None:
            return None
        width, height, length = size
        frames, area = (length - 1) // 4 + 1, (height // 16) * (width // 16)
        keys = seen_frames(api, chain, frames, shape.trained) * area
        tokens = frames * area
        each = 2 * tokens * (shape.per_token + 2 * keys * shape.width * shape.blocks)
        passes = 1 if inputs.get("cfg", 1.0) == 1.0 else 2
        aside = 2 * 0.01 * shape.factor * frames * (height // 8) * (width // 8) * 2**20
        found.append(Cost(tokens, length, each * passes * steps_of(api, inputs), aside))
    if not found:
        return None
    longest = max(found, key=lambda c: c.tokens)
    return Cost(longest.tokens, longest.frames, sum(c.operations for c in found), max(c.aside for c in found))


def seen_frames(api: dict, chain: set[str], frames: int, trained: int) -> int:
    """Latent frames that a token attends to, at most: the video's, or where Swin Renderer is a window's and its
    anchors'."""
    for one in chain:
        if api[one]["class_type"] == "SemVidSwinRenderer":
            inputs = api[one]["inputs"]
            twice = inputs["anchors"] != "none" and inputs["time_scale"] < 1.0
            return min(frames, inputs["anchor_budget"] or trained * (2 if twice else 1))
    return frames


def upstream(node: dict) -> list[str]:
    return [value[0] for value in node["inputs"].values() if isinstance(value, list)]


def nearest(api: dict, name: str) -> list[str]:
    """The node, then its sources, then theirs."""
    order = [name]
    for one in order:
        order += [source for source in upstream(api[one]) if source not in order]
    return order


def size_of(node: dict) -> tuple[int, int, int] | None:
    inputs = node["inputs"]
    if not {"width", "height"} <= set(inputs) or isinstance(inputs["width"], list):
        return None
    return inputs["width"], inputs["height"], inputs.get("length", 81)


def steps_of(api: dict, inputs: dict) -> int:
    if "steps" in inputs:
        return min(inputs.get("end_at_step", inputs["steps"]), inputs["steps"]) - inputs.get("start_at_step", 0)
    name, output = inputs["sigmas"]
    while "steps" not in api[name]["inputs"]:
        name, output = next(value for value in api[name]["inputs"].values() if isinstance(value, list))
    schedule = api[name]["inputs"]
    if api[name]["class_type"] != "SemVidStartSigmas":
        return schedule["steps"]
    shift = next(s for one in nearest(api, name) if (s := api[one]["inputs"].get("shift")))
    sigma, steps = schedule["sigma"], schedule["steps"]
    below = floor(steps * sigma / (shift - (shift - 1) * sigma)) + 1  # of the simple schedule, 0 among them
    return below if output == 0 else steps + 1 - below


def in_words(api: dict, files: list[dict]) -> str:
    """For the note; "" where nothing can be said. files: those of cli/checkpoints.json that it loads."""
    sizes = {one["name"]: one["gb"] for one in files if "gb" in one}
    parts = []
    if sizes and all("gb" in one or "note" in one for one in files):
        largest = max(sizes.values())
        parts.append(
            f"files of about {sum(sizes.values()):.0f} GB, the largest {largest:.0f} GB, of which ComfyUI offloads "
            "what does not fit on the card."
        )
    if found := cost(api):
        minutes = found.operations / RATE / 60
        kinds = {node["class_type"] for node in api.values()}
        expert = " and the reference's expert" if "SemVidVAPApply" in kinds else ""
        parts.append(
            f"{found.tokens:,} tokens in {counted(found.frames, 'frame')}; beside the weights ComfyUI sets aside "
            f"{found.aside / 1e9:.0f} GB for a pass. Sampling takes {found.operations / 1e15:.0f} PFLOP: "
            f"{max(1, round(minutes))} min on a card that keeps up 100 TFLOP/s, decoding{expert} not counted."
        )
    return "**Cost, computed and not measured:** " + " ".join(parts) if parts else ""
