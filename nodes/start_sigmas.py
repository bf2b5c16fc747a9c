"""Where in the schedule the render of a draft starts: at exactly a noise level, or at the step nearest to it."""

from comfy_api.latest import io

from ..host.sampler_sigmas import SAMPLERS, SCHEDULERS, schedule
from ..kernels.draft_plan import grown_sigma
from ..kernels.start_sigmas import nearest_step, split_at

CATEGORY = "semantic video/long video"


def schedule_inputs() -> list:
    return [
        io.Model.Input("model", tooltip="The model that renders, with its shift. Nothing of it is changed."),
        io.Combo.Input("scheduler", options=SCHEDULERS, default="simple", tooltip="How noise levels are spaced."),
        io.Int.Input(
            "steps",
            default=30,
            min=1,
            max=10000,
            tooltip="Steps of the whole schedule, from pure noise on. Higher takes smaller steps. Of these only those "
            "at or below sigma are run.",
        ),
    ]


def sigma_inputs() -> list:
    return [
        io.Float.Input(
            "sigma",
            default=0.9,
            min=0.0,
            max=1.0,
            step=0.001,
            round=0.000001,
            tooltip="Noise level the render starts at: 1 is pure noise and forgets the draft, lower keeps more of it. "
            "The low-noise expert of Wan 2.2 begins at 0.875 (T2V) or 0.9 (I2V).",
        ),
        io.Float.Input(
            "growth",
            default=1.0,
            min=1.0,
            max=64.0,
            step=0.01,
            round=0.000001,
            tooltip="How many times longer the sides of the frame became, from Draft Plan. Higher raises sigma, which "
            "a larger frame needs to be as free. 1 takes sigma as it is.",
        ),
    ]


def levels(model, scheduler: str, steps: int, sigma: float, growth: float, sampler: str = ""):
    """(sigmas of the whole schedule, noise level to start at). Raises ValueError for levels the model has not."""
    highest = float(model.get_model_object("model_sampling").sigma_max)
    sigmas = schedule(model, scheduler, steps, sampler)
    if not 0 < sigma <= highest:
        raise ValueError(
            f"sigma {sigma}: must be above 0, where nothing is left to render, and at most {highest:g}, this model's "
            "pure noise."
        )
    return sigmas, grown_sigma(sigma, growth)


class StartSigmasNode(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SemVidStartSigmas",
            display_name="Start Sigmas",
            category=CATEGORY,
            description="A schedule that starts at exactly the noise level you say, for SamplerCustom and "
            "SamplerCustomAdvanced, which add noise to that level by themselves: the step nearest to it is moved "
            "there. The part above it comes out as well, for the model that makes the draft (Wan 2.2's high-noise "
            "expert).",
            search_aliases=["sigmas", "denoise", "img2img strength", "split sigmas", "draft", "SDEdit", "boundary"],
            inputs=[*schedule_inputs(), *sigma_inputs()],
            outputs=[
                io.Sigmas.Output(display_name="sigmas", tooltip="From exactly sigma down to 0: renders the draft."),
                io.Sigmas.Output(
                    display_name="above",
                    tooltip="From pure noise down to exactly sigma: makes a draft. Decode the sampler's "
                    "denoised_output.",
                ),
                io.Float.Output(display_name="sigma", tooltip="Where it starts, growth included."),
            ],
        )

    @classmethod
    def execute(cls, model, scheduler, steps, sigma, growth=1.0) -> io.NodeOutput:
        sigmas, start = levels(model, scheduler, steps, sigma, growth)
        above, below = split_at(sigmas, start)
        return io.NodeOutput(below, above, start)


class StartStepNode(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SemVidStartStep",
            display_name="Start Step",
            category=CATEGORY,
            description="For KSampler (Advanced), which can start at one of its steps only: which step starts nearest "
            "to a noise level, and the level it starts at. Give it the sampler's own model, sampler, scheduler and "
            "steps, link the step to start_at_step, and leave add_noise on. Start Sigmas is exact.",
            search_aliases=["start_at_step", "denoise", "draft", "KSamplerAdvanced", "boundary"],
            inputs=[
                *schedule_inputs(),
                io.Combo.Input(
                    "sampler_name",
                    options=SAMPLERS,
                    default="euler",
                    tooltip="That of KSampler (Advanced). Some samplers leave out a step, and so step elsewhere.",
                ),
                *sigma_inputs(),
            ],
            outputs=[
                io.Int.Output(
                    display_name="step",
                    tooltip="start_at_step of the sampler that renders; end_at_step of the one that makes the draft.",
                ),
                io.Float.Output(display_name="sigma", tooltip="The noise level this step starts at."),
            ],
        )

    @classmethod
    def execute(cls, model, scheduler, steps, sampler_name, sigma, growth=1.0) -> io.NodeOutput:
        sigmas, start = levels(model, scheduler, steps, sigma, growth, sampler_name)
        step = nearest_step(sigmas, start)
        return io.NodeOutput(step, float(sigmas[step]))
