"""A sampling run on a toy model, the way KSampler makes it. Import after ComfyUI is on sys.path."""

from dataclasses import dataclass, replace

import comfy.clip_vision
import comfy.nested_tensor
import comfy.sample
import comfy.samplers
import comfy.utils
import torch
from torch import Tensor

from ..host.families import ltx, minimax
from .toy import EVERY, Toy


def seeded(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@dataclass(frozen=True)
class Shot:
    """What to sample. frames, height, width: of the latent; words, negative_words: text tokens of the two prompts."""

    toy: str
    frames: int = 9
    height: int = 4
    width: int = 4
    words: int = 7
    negative_words: int = 7
    batch: int = 1
    cfg: float = 3.0
    steps: int = 3
    seed: int = 1
    sampler: str = "euler"
    start_step: int | None = None
    last_step: int | None = None

    def __post_init__(self):
        if "ref_latent" in EVERY[self.toy].conds and self.words == self.negative_words:
            # the host fails on a batch of two with ref_latent
            object.__setattr__(self, "negative_words", self.words + 2)

    def but(self, **changes) -> "Shot":
        return replace(self, **changes)


def conditioning(shot: Shot, words: int, seed: int) -> list:
    """CONDITIONING with whatever the toy's nodes would attach."""
    toy = EVERY[shot.toy]
    video = (1, toy.channels, shot.frames, shot.height, shot.width)
    even = [side + side % 2 for side in video[3:]]
    extra = {"pooled_output": seeded(1, 768, seed=seed)}
    attach = {
        "concat": lambda: {"concat_latent_image": seeded(*video, seed=3), "concat_mask": torch.ones(1, 1, *video[2:])},
        "clip_vision": lambda: {
            "clip_vision_output": clip_vision(penultimate_hidden_states=seeded(1, 5, 1280, seed=4))
        },
        "siglip": lambda: {"clip_vision_output": clip_vision(last_hidden_state=seeded(1, 6, 1152, seed=4))},
        "byt5": lambda: {"conditioning_byt5small": seeded(1, 3, 1472, seed=5)},
        "vace": lambda: {
            "vace_frames": [seeded(1, 32, *video[2:], seed=6)],
            "vace_mask": [torch.ones(1, 64, *video[2:])],
            "vace_strength": [0.7],
        },
        "camera": lambda: {
            "camera_conditions": seeded(1, 24, shot.frames, shot.height * 8, shot.width * 8, seed=7),
            "concat_latent_image": seeded(*video, seed=3),
        },
        "reference": lambda: {"reference_latents": [seeded(1, toy.channels, 1, shot.height, shot.width, seed=8)]},
        "time_dim_concat": lambda: {"time_dim_concat": seeded(1, toy.channels, 2, shot.height, shot.width, seed=9)},
        "context_latents": lambda: {
            "context_latents": [seeded(1, toy.channels, 1, 2, 4, seed=10), seeded(1, toy.channels, 3, 4, 4, seed=11)]
        },
        "guiding_frame": lambda: {"guiding_frame_index": 0},
        "ref_latent": lambda: {"ref_latent": seeded(1, toy.channels, 1, shot.height, shot.width, seed=12)},
        "first_frame": dict,
        "tags": lambda: {"minimax_token_tags": torch.ones(1, words, dtype=torch.long)},
        "keyframes": lambda: {
            "minimax_keyframes": [
                {"resolved_frame_index": 0, "latent": seeded(*video[:2], 1, *even, seed=14)},
                {
                    "resolved_frame_index": 5,
                    "latent": seeded(*video[:2], 2, *even, seed=15),
                    "audio_latent": seeded(1, *toy.sound, 3, seed=16),
                },
            ]
        },
        "padding": lambda: {"attention_mask": torch.tensor([[1] * (words - 2) + [0] * 2])},
        "unprocessed": lambda: {"unprocessed_ltxav_embeds": True},
        **dict.fromkeys(GUIDES, dict),
        "references": lambda: {"minimax_refs": [reference(toy, *sizes) for sizes in REFERENCES]},
    }
    for name in toy.conds:
        extra |= attach[name]()
    return [[seeded(1, words, toy.text, seed=seed), extra]]


REFERENCES = [  # of MiniMax H3: latent frames, height and width of the picture or video, latent frames of sound
    (1, 6, 4, 0),
    (2, 4, 4, 5),
    (0, 0, 0, 3),
]


def reference(toy: Toy, frames: int, height: int, width: int, sound: int) -> dict:
    found = {"kind": "audio" if not frames else "image" if frames == 1 else "video_audio", "ref_audio_t": sound}
    if frames:
        found |= {"latent_t": frames, "latent_h": height, "latent_w": width}
        found["latent"] = seeded(1, toy.channels, frames, height, width, seed=17)
    if sound:
        found["audio_latent"] = seeded(1, *toy.sound, sound, seed=18)
    return found


GUIDES = {  # of LTX: the video frame that each stands at, its latent frames and its strength
    "guides": ((0, 1, 1.0), (16, 2, 0.5)),
    "thinned": ((0, 1, 1.0),),
    "slots": ((16, 1, 0.0), (40, 1, 0.0)),
}


def with_guides(shot: Shot, conds: list, latent: Tensor, mask: Tensor) -> tuple[list, Tensor, Tensor]:
    """As LTXVAddGuide, without an autoencoder: a picture and two latent frames that weigh half ("guides"), one latent
    frame on a grid half as fine ("thinned"), or LTX-2.5's keyframes that it is to make along ("slots")."""
    from comfy_extras.nodes_lt import LTXVAddGuide, _append_guide_attention_entry

    kind = next(kind for kind in GUIDES if kind in EVERY[shot.toy].conds)
    thin = None
    if kind == "thinned":
        thin = -torch.ones(1, 1, 1, shot.height, shot.width)
        thin[..., ::2, ::2] = 1
    for frame, count, strength in GUIDES[kind]:
        guide = seeded(*latent.shape[:2], count, shot.height, shot.width, seed=19 + frame)
        guided = (frame, latent, mask, guide, strength, (8, 32, 32), thin, 128, 1 if thin is None else 2)
        *conds, latent, mask = LTXVAddGuide.append_keyframe(*conds, *guided)
        tokens, shape = guide[0, 0].numel(), list(guide.shape[2:])
        if kind != "slots":
            conds = list(_append_guide_attention_entry(*conds, tokens, shape, strength=strength))
    if kind == "slots":
        slots = {"first_latent_frame": shot.frames, "num_keyframes": 2, "tokens_per_frame": shot.height * shot.width}
        conds = [[[text, extra | {"generated_keyframes": slots}] for text, extra in cond] for cond in conds]
    return conds, latent, mask


def sound_shape(shot: Shot) -> tuple[int, ...]:
    """Of the latent of the sound that goes with the video: MiniMax H3 has 40 frames of it a second, LTX 25."""
    toy = EVERY[shot.toy]
    if shot.toy.startswith("h3"):
        return (shot.batch, *toy.sound, round(minimax.first_frames(shot.frames)[-1] * 40 / 24))
    return (shot.batch, toy.sound[0], ltx.first_frames(shot.frames)[-1], toy.sound[1])


def clip_vision(**states) -> comfy.clip_vision.Output:
    output = comfy.clip_vision.Output()
    for name, value in states.items():
        output[name] = value
    return output


def sample(model, shot: Shot, callback=None, positive=None, negative=None, sampler=None) -> Tensor:
    """[batch, channels, frames, height, width]; of a model that makes sound along both latents, [batch, 1, numbers].
    positive, negative: CONDITIONING in place of the shot's own; sampler: a SAMPLER in place of its name, for a whole
    schedule."""
    toy = EVERY[shot.toy]
    shape = (shot.batch, toy.channels, shot.frames, shot.height, shot.width)
    mask = None
    if "first_frame" in toy.conds:  # per-frame timesteps
        mask = torch.ones(1, 1, *shape[2:])
        mask[:, :, 0] = 0
    conds = [
        positive or conditioning(shot, shot.words, 20),
        negative or conditioning(shot, shot.negative_words, 21),
    ]
    noise, latent = seeded(*shape, seed=shot.seed), torch.zeros(shape) if mask is None else seeded(*shape, seed=13)
    if GUIDES.keys() & set(toy.conds):
        conds, latent, mask = with_guides(shot, conds, latent, torch.ones(shot.batch, 1, *shape[2:]))
        noise = seeded(*latent.shape, seed=shot.seed)
    if toy.sound:
        sound = sound_shape(shot)
        noise = comfy.nested_tensor.NestedTensor((noise, seeded(*sound, seed=shot.seed + 100)))
        latent = comfy.nested_tensor.NestedTensor((latent, torch.zeros(sound)))
    if sampler is not None:
        sigmas = comfy.samplers.calculate_sigmas(model.get_model_object("model_sampling"), "simple", shot.steps)
        how = {"noise_mask": mask, "callback": callback, "seed": shot.seed, "disable_pbar": True}
        return comfy.sample.sample_custom(model, noise, shot.cfg, sampler, sigmas, *conds, latent, **how)
    out = comfy.sample.sample(
        model,
        noise,
        shot.steps,
        shot.cfg,
        shot.sampler,
        "simple",
        *conds,
        latent,
        noise_mask=mask,
        seed=shot.seed,
        callback=callback,
        disable_pbar=True,
        start_step=shot.start_step,
        last_step=shot.last_step,
    )
    return comfy.utils.pack_latents(out.unbind())[0] if toy.sound else out
