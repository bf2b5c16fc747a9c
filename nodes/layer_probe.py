"""Which blocks hear the prompt: measured, drawn, and written as lists that the guidance nodes read."""

import comfy.utils
import numpy as np
import torch
from comfy_api.latest import io

from ..patches.layer_probe import probe
from ..patches.probe_plot import probe_plot
from .common import GUIDANCE

MEASURES = ("causal", "response")


class LayerProbeNode(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SemVidLayerProbe",
            display_name="Semantic Layer Probe",
            category=GUIDANCE,
            description="Finds the blocks of a video model that ignore the prompt, and those that hear it. For each "
            "block: how much the prediction changes when this block alone hears the empty prompt (causal), and how "
            "coherent and strong its patches' response to the prompt is (Moran's I and deviation, the diagnosis of "
            "Focal Guidance, arXiv 2601.07287). No video is sampled: blocks + 2 passes for each noise level. ComfyUI "
            "keeps the result as long as no input changes, so a model is probed once.",
            search_aliases=["focal guidance", "semantic weak layers", "block importance", "prompt adherence"],
            is_experimental=True,
            inputs=[
                io.Model.Input(
                    "model", tooltip="A model of Wan, HunyuanVideo, MiniMax H3 or LTX, with the LoRAs you use."
                ),
                io.Conditioning.Input(
                    "positive",
                    tooltip="A prompt as the sampler gets it (for image to video: after WanImageToVideo). Several, "
                    "combined, are averaged, and cost as many times as much.",
                ),
                io.Conditioning.Input(
                    "empty",
                    tooltip="The same with an empty prompt: for image to video, what WanImageToVideo makes of an empty "
                    "prompt and the same start image.",
                ),
                io.Latent.Input(
                    "latent",
                    tooltip="Size of the video. A small one is enough and faster, for example 480 x 272 with 33 "
                    "frames. An empty latent is followed from noise; a finished video is noised to each level.",
                ),
                io.Combo.Input(
                    "measure",
                    options=list(MEASURES),
                    default="causal",
                    tooltip="What the two lists go by. causal: how much the prediction depends on a block's text, "
                    "which is what counts. response: Moran's I and deviation, as the paper draws them; on the model "
                    "we measured they found the unresponsive first block, but did not rank the others.",
                ),
                io.Int.Input(
                    "levels",
                    default=3,
                    min=1,
                    max=10,
                    tooltip="Noise levels, spread over the schedule. Higher is steadier and takes as many times as "
                    "long.",
                ),
                io.Float.Input(
                    "share",
                    default=0.33,
                    min=0.05,
                    max=0.45,
                    step=0.01,
                    advanced=True,
                    tooltip="causal: weak are the blocks that together make at most this share of the change; "
                    "response: so many of the blocks. Higher calls more blocks weak.",
                ),
                io.Int.Input(
                    "seed",
                    default=0,
                    min=0,
                    max=2**32 - 1,
                    advanced=True,
                    tooltip="Seed of the noise in these passes.",
                ),
            ],
            outputs=[
                io.String.Output(
                    display_name="weak_blocks", tooltip="Such as 0,2-4: for the input blocks of the guidance nodes."
                ),
                io.String.Output(
                    display_name="responsive_blocks", tooltip="For source_blocks of Focal Guidance, or to leave alone."
                ),
                io.Image.Output(display_name="plot", tooltip="All three measures for each block."),
                io.String.Output(display_name="report", tooltip="All numbers, as JSON."),
            ],
        )

    @classmethod
    def execute(cls, model, positive, empty, latent, measure="causal", levels=3, share=0.33, seed=0) -> io.NodeOutput:
        bar = comfy.utils.ProgressBar(1)
        done = 0

        def progress(total: int) -> None:
            nonlocal done
            done += 1
            bar.update_absolute(done, total)

        report = probe(model, positive, empty, latent, levels, share, seed, progress)
        causal = measure == "causal"
        weak = report.weak if causal else report.weak_by_response
        responsive = report.responsive if causal else report.responsive_by_response
        picture = np.asarray(probe_plot(report, weak, responsive), dtype=np.float32) / 255
        return io.NodeOutput(weak, responsive, torch.from_numpy(picture)[None], report.json)
