"""A draft as the plan: a short or small video becomes the start of a long render, after edits if you like."""

import comfy.nested_tensor
import torch
from comfy.sampler_helpers import prepare_mask
from comfy_api.latest import io

from ..host.video_vae import Rhythm, encode_video, rhythm_of
from ..kernels.draft_plan import Fit, InBetween, growth, held, joined, kept, removed, resized, retimed, span_retimed
from ..kernels.wording import counted
from .common import rgb

CATEGORY = "semantic video/long video"
MOST_LATENTS = 2**26  # positions of a latent: five minutes at 1080p (our choice)
EDITS = ("nothing", "keep", "remove", "re-time", "hold")
AT_ONCE = 64  # frames that are looked at together


def in_between_input(**options):
    return io.Combo.Input(
        "in_between",
        options=list(InBetween.__args__),
        default="blend",
        tooltip="How frames are made between two of the draft's. blend: both show, which suits high noise levels. "
        "nearest: frames are repeated or left out, which stays crisp and jerks.",
        **options,
    )


def pictures(name: str, frames) -> torch.Tensor:
    """[frames, height, width, 3] of an IMAGE or VIDEO, not copied. Raises ValueError for what is no video."""
    if not isinstance(frames, torch.Tensor):
        frames = frames.get_components().images
    for start in range(0, max(len(frames), 1), AT_ONCE):
        rgb(name, frames[start : start + AT_ONCE])
    return frames[..., :3].expand(-1, -1, -1, 3)


def frames_input(tooltip: str):
    return io.MultiType.Input("frames", types=[io.Image, io.Video], tooltip=tooltip)


class DraftPlanNode(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SemVidDraftPlan",
            display_name="Draft Plan",
            category=CATEGORY,
            description="Makes a draft, short or small or both, the start of a long render: stretched in time and "
            "scaled as pixels, then encoded part by part. Sample from this latent with Start Sigmas, which add noise "
            "to the level you say. The draft can be any video.",
            search_aliases=["draft", "plan", "upscale video", "video to video", "SDEdit", "long video", "hires fix"],
            inputs=[
                frames_input("The draft: decoded frames or a video file. It tells the story, the render draws it."),
                io.Vae.Input("vae", tooltip="The VAE of the model that renders."),
                io.Int.Input("width", default=832, min=16, max=16384, step=16, tooltip="Of the long video, in pixels."),
                io.Int.Input(
                    "height", default=480, min=16, max=16384, step=16, tooltip="Of the long video, in pixels."
                ),
                io.Int.Input(
                    "length",
                    default=321,
                    min=1,
                    max=16384,
                    tooltip="Video frames of the long video: 4 n + 1 of Wan and HunyuanVideo, 8 n + 1 of LTX, 17 n + 5 "
                    "of MiniMax H3. The whole draft is spread over them: more frames than the draft has are slower "
                    "motion.",
                ),
                io.Combo.Input(
                    "fit",
                    options=list(Fit.__args__),
                    default="crop",
                    advanced=True,
                    tooltip="For a draft of another shape. crop: its middle. stretch: all of it, out of shape.",
                ),
                in_between_input(advanced=True),
                io.Int.Input(
                    "tile_size",
                    default=0,
                    min=0,
                    max=4096,
                    step=64,
                    advanced=True,
                    tooltip="Side of the tiles the VAE encodes, in pixels. Higher takes more memory; 0 takes whole "
                    "frames, and tiles where these do not fit.",
                ),
                io.Latent.Input(
                    "latent",
                    optional=True,
                    tooltip="The latent of an image-to-video node: gives width, height and length instead of the "
                    "widgets, and what its mask keeps (the start image) stays in place.",
                ),
            ],
            outputs=[
                io.Latent.Output(display_name="latent", tooltip="Clean: the sampler adds the noise."),
                io.Float.Output(
                    display_name="growth",
                    tooltip="How many times longer the sides of the frame became, for Start Sigmas.",
                ),
            ],
        )

    @classmethod
    def execute(
        cls, frames, vae, width, height, length, fit="crop", in_between="blend", tile_size=0, latent=None
    ) -> io.NodeOutput:
        draft = pictures("frames", frames)
        rhythm, side = rhythm_of(vae), vae.spacial_compression_encode()
        if latent is not None:
            length, height, width = size_of(video_of(latent["samples"]), vae.latent_channels, rhythm, side)
        check_size(width, height, length, rhythm, side)
        latents = rhythm.latents_of(length)

        def part(start: int, end: int) -> torch.Tensor:
            return resized(retimed(draft, length, in_between, start, end).clamp(0, 1), height, width, fit).clamp(0, 1)

        pixels = max(width * height, draft.shape[1] * draft.shape[2])
        plan = encode_video(vae, part, latents, pixels, tile_size)
        return io.NodeOutput(onto(latent, plan), growth(*draft.shape[1:3], height, width, fit))


def video_of(samples) -> torch.Tensor:
    """The video's part of a latent, which may carry sound along."""
    return samples.unbind()[0] if samples.is_nested else samples


def size_of(samples: torch.Tensor, channels: int, rhythm: Rhythm, side: int) -> tuple[int, int, int]:
    """(frames, height, width) of a latent's video. Raises ValueError for what this VAE would not make."""
    if samples.ndim != 5 or samples.shape[1] != channels:
        raise ValueError(
            f"latent: shape {tuple(samples.shape)}; this VAE makes [batch, {channels} channels, frames, height, "
            "width]. Connect the latent of an image-to-video node, and the VAE of the same model."
        )
    frames, height, width = samples.shape[2:]
    return rhythm.length_of(frames), side * height, side * width


def check_size(width: int, height: int, length: int, rhythm: Rhythm, side: int) -> None:
    if not rhythm.accepts(length):
        near = rhythm.nearest(length)
        raise ValueError(f"length {length}: must be {rhythm}, as this VAE makes videos. Try {near}.")
    for name, value in (("width", width), ("height", height)):
        if value % side or value < side:
            near = max(value // side, 1) * side
            raise ValueError(f"{name} {value}: must be a multiple of {side}, this VAE's pixel. Try {near}.")
    positions = rhythm.latents_of(length) * (width // side) * (height // side)
    if positions > MOST_LATENTS:
        raise ValueError(
            f"width {width}, height {height}, length {length}: {positions:,} positions of a latent, more than the "
            f"{MOST_LATENTS:,} that any model could render. Lower one of them."
        )


def onto(latent: dict | None, plan: torch.Tensor) -> dict:
    """LATENT of the plan, where `latent` does not keep something of its own; its sound stays."""
    if latent is None:
        return {"samples": plan}
    samples, mask = video_of(latent["samples"]), latent.get("noise_mask")
    plan = plan.to(samples).expand_as(samples)
    if mask is not None:
        plan = torch.lerp(samples, plan, prepare_mask(video_of(mask), samples.shape, samples.device))
    if latent["samples"].is_nested:
        plan = comfy.nested_tensor.NestedTensor((plan, *latent["samples"].unbind()[1:]))
    return latent | {"samples": plan}


class DraftEditNode(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SemVidDraftEdit",
            display_name="Draft Edit",
            category=CATEGORY,
            description="Edits a draft before it becomes a plan: keep or remove a span of frames, give it more or less "
            "time, hold a frame, and put another draft behind. Chain several for several edits.",
            search_aliases=["cut", "trim", "join", "freeze frame", "speed", "slow motion", "crossfade"],
            inputs=[
                frames_input("The draft: decoded frames or a video file."),
                io.Combo.Input(
                    "edit",
                    options=list(EDITS),
                    default="nothing",
                    tooltip="keep: the span alone. remove: all but the span. re-time: the span takes length frames. "
                    "hold: frame number start stands for length frames. nothing: only joins.",
                ),
                io.Int.Input(
                    "start",
                    default=0,
                    min=0,
                    max=16384,
                    tooltip="First frame of the span, or the frame to hold; counted from 0.",
                ),
                io.Int.Input(
                    "end",
                    default=0,
                    min=0,
                    max=16384,
                    tooltip="The first frame that is no longer in the span. 0: the span reaches to the end.",
                ),
                io.Int.Input(
                    "length",
                    default=16,
                    min=1,
                    max=16384,
                    tooltip="For re-time and hold: frames that the span or the frame takes then. Higher is slower.",
                ),
                in_between_input(advanced=True),
                io.Int.Input(
                    "crossfade",
                    default=0,
                    min=0,
                    max=1024,
                    advanced=True,
                    tooltip="Frames over which the join fades. Higher is softer, 0 is a cut. Both drafts need as many.",
                ),
                io.MultiType.Input(
                    "then",
                    types=[io.Image, io.Video],
                    optional=True,
                    tooltip="Another draft, put behind the edited one and brought to its size.",
                ),
            ],
            outputs=[io.Image.Output(display_name="frames", tooltip="The edited draft.")],
        )

    @classmethod
    def execute(
        cls, frames, edit, start=0, end=0, length=16, in_between="blend", crossfade=0, then=None
    ) -> io.NodeOutput:
        draft = edited(pictures("frames", frames), edit, start, end, length, in_between)
        if then is not None:
            follow = pictures("then", then)
            if crossfade > min(len(draft), len(follow)):
                raise ValueError(
                    f"crossfade {crossfade}: the drafts have {len(draft)} and {counted(len(follow), 'frame')}. "
                    f"Lower it to at most {min(len(draft), len(follow))}."
                )
            draft = joined(draft, resized(follow.float(), *draft.shape[1:3]).clamp(0, 1), crossfade)
        return io.NodeOutput(draft)


def edited(draft: torch.Tensor, edit: str, start: int, end: int, length: int, in_between: str) -> torch.Tensor:
    """Raises ValueError for spans that the draft does not have, and edits that leave nothing."""
    if edit == "nothing":
        return draft
    frames = len(draft)
    end = end or frames
    if edit == "hold":
        end = start + 1
    if not 0 <= start < end <= frames:
        raise ValueError(
            f"start {start}, end {end}: the draft has frames 0 to {frames - 1}; must satisfy 0 <= start < end <= "
            f"{frames}."
        )
    if edit == "keep":
        return kept(draft, start, end)
    if edit == "remove":
        if end - start == frames:
            raise ValueError(
                f"start {start}, end {end}: nothing would be left of {counted(frames, 'frame')}. Remove fewer."
            )
        return removed(draft, start, end)
    return held(draft, start, length) if edit == "hold" else span_retimed(draft, start, end, length, in_between)
