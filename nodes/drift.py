"""How far a video has drifted from its beginning, and whether it moves, loops or shows its seams."""

import numpy as np
import torch
from comfy_api.latest import io

from ..kernels.drift import require_video, window_borders
from ..patches.drift import as_text, measure
from ..patches.drift_plot import drift_plot
from .common import Clip, rgb


class DriftNode(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SemVidDrift",
            display_name="Drift Report",
            category="semantic video/measure",
            description="How a video changes from its first 15 % to its last: sharpness, brightness, contrast, "
            "saturation, colour, and with CLIP its subject and how well it fits a text. Beside it what such numbers "
            "hide, since a frozen video drifts least: movement, loops, and seams at the borders of windows. Works on "
            "any video, from any model.",
            search_aliases=["video quality", "consistency", "vbench", "long video", "seam", "loop", "metric"],
            is_output_node=True,
            inputs=[
                io.Image.Input("image", tooltip="The frames of the video, at least two. Transparency is ignored."),
                io.Int.Input(
                    "window",
                    default=0,
                    min=0,
                    max=10000,
                    tooltip="Latent frames of a window, as in Swin Renderer without shift: seams are looked for where "
                    "windows of that length meet (four video frames each, the first alone). Higher: fewer borders. 0: "
                    "only the frames in borders.",
                ),
                io.String.Input(
                    "borders",
                    default="",
                    tooltip="Frames at which something new begins, such as 81, 161, counted from 0. They take the "
                    "place of what window says. Empty: what window says.",
                ),
                io.String.Input(
                    "text",
                    multiline=True,
                    default="",
                    tooltip="What the video should show: how well its first and last part fit it, by CLIP. Needs clip.",
                ),
                Clip.Input(
                    "clip",
                    optional=True,
                    tooltip="From CLIP Loader (both towers) or CLIP from Host Models: for subject and text.",
                ),
                io.ClipVision.Input(
                    "clip_vision",
                    optional=True,
                    tooltip="From Load CLIP Vision: for the subject alone. Not used where clip is connected.",
                ),
            ],
            outputs=[
                io.String.Output(display_name="report", tooltip="All numbers, to read."),
                io.Image.Output(display_name="plot", tooltip="The numbers over time, one picture."),
                io.Float.Output(
                    display_name="drift",
                    tooltip="Mean size of the changes of sharpness, brightness, contrast and saturation: 0.1 is 10 %. "
                    "A frozen video has 0.",
                ),
                io.String.Output(display_name="values", tooltip="All numbers, as JSON."),
            ],
        )

    @classmethod
    def execute(cls, image, window=0, borders="", text="", clip=None, clip_vision=None) -> io.NodeOutput:
        frames = rgb("image", image)
        require_video(frames)
        if text.strip() and clip is None:
            raise ValueError(
                "text: needs clip to be compared with (clip_vision has no text tower). Connect CLIP Loader (both "
                "towers) or CLIP from Host Models, or leave text empty."
            )
        starts = frame_numbers(borders, len(frames)) if borders.strip() else window_borders(len(frames), window)
        drift, lines = measure(frames, starts, clip, clip_vision, text)
        picture = np.asarray(drift_plot(drift, lines), dtype=np.float32) / 255
        plot = torch.from_numpy(picture)[None]
        return io.NodeOutput(as_text(drift), plot, drift.drift, drift.json, ui={"text": [as_text(drift)]})


def frame_numbers(text: str, frames: int) -> list[int]:
    """ "81, 161" -> [81, 161], sorted. Raises ValueError for what is no frame after the first."""
    words = text.replace(",", " ").split()
    for word in words:
        if not (word.isascii() and word.isdigit() and 0 < int(word) < frames):
            raise ValueError(
                f"borders: {word!r} is no frame of this video at which something can begin; write numbers from 1 to "
                f"{frames - 1}, such as 81, 161."
            )
    return sorted({int(word) for word in words})
