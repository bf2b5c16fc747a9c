"""Where a video looks at words of its prompt."""

import torch
from comfy_api.latest import io

from ..host.families import family_of
from ..kernels.keywords import parse
from ..patches.attention_maps import attention_maps, overlay, pixels
from .common import GUIDANCE, rgb


class AttentionMapsNode(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SemVidAttentionMaps",
            display_name="Attention Maps",
            category=GUIDANCE,
            description="Where each part of a finished video looks at words of its prompt: a heat map for each word, "
            "from the model's own attention (not on LTX-2). One pass of the model on the latent, noised to a level of "
            "your choice; read in pieces, so that no attention map of the model is ever held whole.",
            search_aliases=["cross attention", "heat map", "DAAM", "visualize attention", "segmentation"],
            inputs=[
                io.Model.Input(
                    "model", tooltip="The model that made the video (of Wan 2.2, the expert of this level)."
                ),
                io.Clip.Input("clip", tooltip="The CLIP that encoded the prompt; it says which tokens a word is."),
                io.Conditioning.Input(
                    "positive", tooltip="The prompt as the sampler got it. One, not several combined."
                ),
                io.String.Input("text", multiline=True, tooltip="The same prompt as text, word for word."),
                io.String.Input(
                    "words",
                    tooltip="Words or phrases of the prompt, separated by commas. Each gets a mask and a heat map.",
                ),
                io.Latent.Input("latent", tooltip="The finished video, from the sampler."),
                io.Image.Input(
                    "image",
                    optional=True,
                    tooltip="The decoded video, to lay the heat maps over; masks then are one per frame of it, in its "
                    "size. Without it, one per latent frame.",
                ),
                io.String.Input(
                    "blocks",
                    default="",
                    tooltip="Blocks to read, such as 8-20, averaged; empty: all. Middle blocks are the clearest as a "
                    "rule, and responsive_blocks of the Semantic Layer Probe are a good choice.",
                ),
                io.Float.Input(
                    "at",
                    default=0.5,
                    min=0.0,
                    max=0.99,
                    step=0.01,
                    tooltip="Noise level as a part of the schedule: 0 is pure noise, higher is cleaner. Layout is "
                    "decided early, detail late.",
                ),
                io.Int.Input(
                    "seed",
                    default=0,
                    min=0,
                    max=2**32 - 1,
                    advanced=True,
                    tooltip="Seed of the noise put on the video.",
                ),
            ],
            outputs=[
                io.Mask.Output(
                    display_name="masks",
                    is_output_list=True,
                    tooltip="For each word a mask of all frames: 0 least attention, 1 most in the video.",
                ),
                io.Image.Output(
                    display_name="overlays",
                    is_output_list=True,
                    tooltip="For each word the heat map over the frames: blue least, red most.",
                ),
            ],
        )

    @classmethod
    def execute(
        cls, model, clip, positive, text, words, latent, image=None, blocks="", at=0.5, seed=0
    ) -> io.NodeOutput:
        frames = None if image is None else rgb("image", image)
        maps = attention_maps(model, clip, positive, text, parse(words), latent, blocks, at, seed)
        size, family = pixels(model, latent), family_of(model)
        pairs = [overlay(one, frames, size, family.first_frames) for one in maps]
        masks, overlays = (list(part) for part in zip(*pairs))
        return io.NodeOutput([mask.to(torch.float32) for mask in masks], overlays)
