"""The part of the demo that needs no ComfyUI: where the mini CLIP finds what a text names, the pictures that Visual
Prompt makes of it, and the windows in which Swin Renderer attends. kernels/ and mini/ alone."""

from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from ..kernels.clip_mask import heat_map
from ..kernels.swin_renderer import window_spans
from ..kernels.visual_prompt import crop, paint, region
from ..mini import clip, clip_mask, family
from ..miniworld.caption import object_captions
from ..miniworld.render import render
from ..miniworld.scene import Scene, sample_scene
from .demo_page import card, section

PAGE, INK, QUIET = (250, 250, 250), (20, 20, 20), (110, 110, 110)
PAD, LINE = 6, 17
STYLES = ("darken", "grey", "blur", "outline", "crop")
PAINT = {"feather": 2.0, "blur": 4.0, "width": 3}  # in pixels of 64 x 64, where a full picture has a hundred times more
SCENES = (20, 21, 25, 27, 28)  # seeds of held-out scenes with two objects, one of them beyond the mini CLIP
MOVING = {"left": 27, "circle": 4}  # motion -> seed
FPS, BLOCKS = 12, 9  # of the mini text-to-video model
MASK_NOTE = (
    "CLIP Spatial Mask and Visual Prompt on held-out scenes, with the mini CLIP and no video model: where CLIP finds "
    "each phrase (red), both masks together, and the picture in each style, as an image encoder would see it next. IoU "
    "is measured on the true mask; the mini CLIP has 8 x 8 patches, so 0.5 is good, and small things it sometimes "
    "misses."
)
WINDOW_NOTE = (
    "Swin Renderer in the mini text-to-video model of nine blocks, on a clip four times as long as it was trained on. "
    "Windows shift by half on odd blocks, so that what a frame has heard of grows from block to block while the cost "
    "grows with the length, not with its square."
)


def pixels(frame: Tensor, zoom: int = 1) -> Image.Image:
    """[height, width, 3], 0..1, with hard pixel edges."""
    picture = Image.fromarray((frame.clamp(0, 1) * 255).round().byte().numpy())
    return picture.resize((picture.width * zoom, picture.height * zoom), Image.Resampling.NEAREST)


def overlap(mask: Tensor, truth: Tensor) -> float:
    """IoU of two masks at 0.5."""
    a, b = mask > 0.5, truth > 0.5
    return float((a & b).sum() / (a | b).sum().clamp(min=1))


def painted(frame: Tensor, mask: Tensor, style: str) -> Tensor:
    """[height, width, 3] in a style of Visual Prompt; a crop is enlarged to fit, on the page's colour."""
    if style != "crop":
        return paint(frame[None], mask[None], style, **PAINT)[0]
    height, width = frame.shape[:2]
    part = crop(frame[None], region(mask[None], 0.5, 0.1) or (0, 0, height, width)).movedim(-1, 1)
    scale = min(height / part.shape[2], width / part.shape[3])
    part = F.interpolate(part, size=(round(part.shape[2] * scale), round(part.shape[3] * scale)), mode="nearest")
    sheet = torch.tensor(PAGE).div(255).expand(height, width, 3).clone()
    top, left = (height - part.shape[2]) // 2, (width - part.shape[3]) // 2
    sheet[top : top + part.shape[2], left : left + part.shape[3]] = part[0].movedim(0, -1)
    return sheet


def spatial_sheet(scenes: Sequence[Scene], zoom: int = 2) -> Image.Image:
    """A row for each scene: the picture, a heat map for each phrase, the union of the masks, and the picture in every
    style; underneath the phrases and how well their masks cover the objects."""
    model = clip.load(family.WEIGHTS / "mini_clip.safetensors")
    heads = ("picture", "first phrase", "second phrase", "both", *STYLES)
    rows = []
    for scene in scenes:
        clips, phrases = render([scene], 1), object_captions(scene)
        frame, truths = clips.frames[0, 0], clips.masks[0, :, 0]
        masks = clip_mask.find(model, frame[None], phrases)[:, 0]
        union = masks.amax(0)
        heats = [heat_map(frame[None], mask[None])[0] for mask in masks]
        both = union[..., None].expand(-1, -1, 3)
        pictures = [frame, *heats, both, *(painted(frame, union, style) for style in STYLES)]
        found = [f'"{text}" IoU {overlap(m, t):.2f}' for text, m, t in zip(phrases, masks, truths)]
        rows.append(([pixels(picture, zoom) for picture in pictures], "   ".join(found)))
    return table(heads, rows)


def table(heads: Sequence[str], rows: Sequence[tuple[list[Image.Image], str]]) -> Image.Image:
    """Pictures of one size in columns under `heads`, a line of text under each row."""
    font, small = ImageFont.load_default(14), ImageFont.load_default(13)
    width, height = rows[0][0][0].size
    step = height + LINE + 2 * PAD
    sheet = Image.new("RGB", (len(heads) * (width + PAD) + PAD, LINE + 2 * PAD + step * len(rows)), PAGE)
    draw = ImageDraw.Draw(sheet)
    for column, head in enumerate(heads):
        draw.text((PAD + column * (width + PAD), PAD), head, INK, font=font)
    for number, (pictures, text) in enumerate(rows):
        top = LINE + 2 * PAD + number * step
        for column, picture in enumerate(pictures):
            sheet.paste(picture, (PAD + column * (width + PAD), top))
        draw.text((PAD, top + height + 2), text, QUIET, font=small)
    return sheet


def write_moving_masks(path: Path, scene: Scene, zoom: int = 4) -> tuple[str, float]:
    """An animated WebP: the clip beside the heat map of its first object, frame by frame. Returns the phrase and the
    mean IoU over the frames in which the object is seen."""
    model = clip.load(family.WEIGHTS / "mini_clip.safetensors")
    clips, phrase = render([scene]), object_captions(scene)[0]
    frames, seen = clips.frames[0], clips.visible[0, 0]
    mask = clip_mask.find(model, frames, [phrase])[0]
    both = torch.cat((frames, heat_map(frames, mask)), dim=2)
    pictures = [pixels(frame, zoom) for frame in both]
    pictures[0].save(
        path, save_all=True, append_images=pictures[1:], duration=1000 // FPS, loop=0, lossless=True, method=0
    )
    covered = [overlap(m, t) for m, t, shown in zip(mask, clips.masks[0, 0], seen) if shown]
    return phrase, sum(covered) / len(covered)


def reached(frame: int, frames: int, window: int, blocks: int) -> list[tuple[int, int]]:
    """For each block the span of frames that `frame` has heard of after it. Its own window tells it what those frames
    heard in the blocks before, so the span is followed from that block back to the first."""
    spans, found = [window_spans(frames, window, shifted) for shifted in (False, True)], []
    for last in range(blocks):
        start, end = frame, frame + 1
        for block in range(last, -1, -1):
            touched = [(a, b) for a, b in spans[block % 2] if a < end and start < b]
            start, end = touched[0][0], touched[-1][1]
        found.append((start, end))
    return found


def write_window_plan(path: Path, frames: int, window: int, blocks: int, frame: int) -> None:
    """Three plots: the windows of every block, what one frame hears of through the blocks, and the attention pairs
    beside full attention's over the length."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (plan, heard, cost) = pyplot.subplots(1, 3, figsize=(15, 4.2), width_ratios=(5, 5, 3), layout="constrained")
    colours = ("#7aa6c2", "#c2d6e3")
    for block in range(blocks):
        for number, (start, end) in enumerate(window_spans(frames, window, bool(block % 2))):
            box = {"color": colours[number % 2], "edgecolor": "white", "height": 0.86}
            plan.barh(block, end - start, left=start, **box)
            plan.text((start + end) / 2, block, str(end - start), ha="center", va="center", fontsize=9)
    for block, (start, end) in enumerate(reached(frame, frames, window, blocks)):
        heard.barh(block, frames, color="#eeeeee", height=0.86)
        heard.barh(block, end - start, left=start, color="#d9955b", height=0.86)
        heard.text(frames + 0.3, block, f"{end - start}", va="center", fontsize=9)
    heard.axvspan(frame, frame + 1, color="#8c4a12", alpha=0.6, linewidth=0)
    plan.set_title(f"Windows of {window} latent frames in a video of {frames}")
    heard.set_title(f"What frame {frame} has heard of after each block")
    for axes in (plan, heard):
        axes.set(xlabel="latent frame", ylabel="block", yticks=range(blocks), xlim=(0, frames + 1), ylim=(blocks, -1))
        axes.spines[["top", "right"]].set_visible(False)
    lengths = range(window, 8 * window + 1)
    cost.plot(lengths, [n * n / window**2 for n in lengths], color="#8c4a12", label="full attention")
    cost.plot(lengths, [pairs(n, window) / window**2 for n in lengths], color="#2f6f95", label="Swin Renderer")
    cost.set_title("Attention, one window = 1")
    cost.set(xlabel="latent frames", ylabel="pairs of frames that attend")
    cost.legend(frameon=False)
    cost.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=80)
    pyplot.close(figure)


def pairs(frames: int, window: int) -> float:
    """Pairs of frames that attend to each other, mean of an even and an odd block; a clip of one window stays whole."""
    if frames <= window:
        return frames**2
    both = [*window_spans(frames, window, False), *window_spans(frames, window, True)]
    return sum((end - start) ** 2 for start, end in both) / 2


def write_pictures(folder: Path) -> list[str]:
    """Everything above as files of `folder`; returns the page's sections about them."""
    spatial_sheet([sample_scene(seed, "heldout", 2) for seed in SCENES]).save(folder / "clip-masks.png")
    cards = []
    for motion, seed in MOVING.items():
        name = f"mask-{motion}.webp"
        phrase, iou = write_moving_masks(folder / name, sample_scene(seed, "heldout", 2, motion=motion))
        cards.append(card(name, phrase, f"frame by frame; IoU {iou:.2f}"))
    write_window_plan(folder / "windows.png", frames=24, window=6, blocks=BLOCKS, frame=12)
    return [
        section("Where CLIP sees what a text names", MASK_NOTE, cards, "clip-masks.png"),
        section("Window plans", WINDOW_NOTE, [], "windows.png"),
    ]
