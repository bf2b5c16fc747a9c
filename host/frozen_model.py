"""A frozen MODEL in which gradients flow to extra weights: memory, conditionings, noise levels, its prediction."""

from collections.abc import Iterator
from contextlib import contextmanager

import comfy.clip_vision
import comfy.ldm.common_dit
import comfy.model_management
import comfy.quant_ops
import comfy.samplers
import comfy.utils
import torch
import torch.utils.checkpoint
from torch import Tensor, nn

from .families import family_of

STREAMS = ("x", "img", "txt")  # arguments of a block that hold tokens
FUSED = "rms_rope_split_half"
LEAST_SIGMA = 1e-3  # below it, rounding is larger than what is learnt


@contextmanager
def in_training(wanted: bool = True) -> Iterator[None]:
    """Within it, gradients can flow: out of the inference mode that nodes run in, on those of the host's paths that
    have a backward pass. wanted False: the sampler's paths, in inference mode, also inside a training. Afterwards all
    is as before."""
    before, comfy.model_management.in_training = comfy.model_management.in_training, wanted
    try:
        with torch.inference_mode(not wanted), torch.set_grad_enabled(wanted):
            yield
    finally:
        comfy.model_management.in_training = before


def own_copy(model):
    """A clone of MODEL whose weights can be part of a graph. Tensors that the host made in inference mode cannot; as in
    its own LoRA training, they are read again from the file, or where the host does not know the file, wrapped anew
    around the same memory. Call within `in_training`."""
    if not any(parameter.is_inference() for parameter in model.model.parameters()):
        return model.clone()
    if getattr(model, "cached_patcher_init", None) is not None:
        return model.clone(force_deepcopy=True)
    for module in model.model.modules():
        for tensors in (module._parameters, module._buffers):
            for name, value in tensors.items():
                if value is not None and value.is_inference():
                    plain = torch.empty(0, dtype=value.dtype, device=value.device)
                    plain.set_(value.untyped_storage(), value.storage_offset(), value.size(), value.stride())
                    tensors[name] = (
                        nn.Parameter(plain, requires_grad=False) if isinstance(value, nn.Parameter) else plain
                    )
    return model.clone()


def load_frozen(model, offload: bool = False) -> None:
    """Loads MODEL for training. offload: its weights wait in main memory and come block by block, which takes less of
    the device's memory and more time."""
    model.model.requires_grad_(False)
    comfy.model_management.load_models_gpu([model], memory_required=1e20, force_full_load=not offload)


@contextmanager
def copying_norms(blocks: list[nn.Module]) -> Iterator[None]:
    """Within it, norms keep copies of their inputs for the backward pass: blocks of Hunyuan, LTX and MiniMax H3 write
    into these later. MiniMax H3's norm and RoPE in one, which has no backward pass, is plain torch."""
    hooks = [
        norm.register_forward_pre_hook(lambda module, args: tuple(map(copied, args)))
        for block in blocks
        for norm in block.modules()
        if isinstance(norm, (nn.LayerNorm, nn.RMSNorm))
    ]
    plain = comfy.ldm.common_dit.rms_norm  # LTX's, a function
    comfy.ldm.common_dit.rms_norm = lambda x, *args, **kwargs: plain(copied(x), *args, **kwargs)
    fused = getattr(comfy.quant_ops.ck, FUSED, None)
    if fused is not None:
        setattr(comfy.quant_ops.ck, FUSED, norm_and_rope)
    try:
        yield
    finally:
        if fused is not None:
            setattr(comfy.quant_ops.ck, FUSED, fused)
        comfy.ldm.common_dit.rms_norm = plain
        for hook in hooks:
            hook.remove()


def norm_and_rope(q, k, freqs_cis, q_scale, k_scale, epsilon=1e-6, rot_dim=0) -> tuple[Tensor, Tensor]:
    """As the host's: q, k [batch, tokens, heads, dim] normed; their channels j and j + n, of rot_dim = 2 n, turned by
    freqs_cis [1, tokens, 1, n, 2, 2]."""

    def one(x: Tensor, scale: Tensor) -> Tensor:
        x = torch.nn.functional.rms_norm(x, x.shape[-1:], scale, epsilon)
        a, b = x[..., : rot_dim // 2], x[..., rot_dim // 2 : rot_dim]
        turned = (freqs_cis[..., i, 0] * a + freqs_cis[..., i, 1] * b for i in (0, 1))
        return torch.cat((*turned, x[..., rot_dim:]), -1).to(x.dtype)

    return one(q, q_scale), one(k, k_scale)


@contextmanager
def checkpointed(blocks: list[nn.Module]) -> Iterator[None]:
    """Within it, each block keeps nothing for its backward pass but its input, and runs again there."""
    forwards = [block.forward for block in blocks]

    def again(forward):
        def on_copies(*args, **kwargs):  # Hunyuan's blocks write into what they are given, too
            return forward(
                *map(copied, args),
                **{name: copied(value) if name in STREAMS else value for name, value in kwargs.items()},
            )

        def run(*args, **kwargs):  # the host goes on to write the next block's number into the options
            kept = {name: dict(value) if isinstance(value, dict) else value for name, value in kwargs.items()}
            return torch.utils.checkpoint.checkpoint(on_copies, *args, use_reentrant=False, **kept)

        return run

    for block, forward in zip(blocks, forwards):
        block.forward = again(forward)
    try:
        yield
    finally:
        for block in blocks:
            del block.forward


def copied(x):
    if isinstance(x, tuple):
        return tuple(map(copied, x))
    return x.clone() if isinstance(x, Tensor) else x


def model_conds(model, latent: Tensor, text: Tensor, extra: dict | None = None) -> dict:
    """What the model takes beside `latent` [batch, ...], as a sampler makes it of a conditioning: text [batch, tokens,
    width] and the `extra` that came with it, "model_conds" of nodes among it."""
    device, extra = model.load_device, dict(extra or {})
    attached = extra.pop("model_conds", {})
    streams = [latent, *filter(lambda x: x is not None, [family_of(model).silence(latent)])]
    with streams_of(model, streams) as shapes:
        made = model.model.extra_conds(
            noise=latent,
            device=device,
            cross_attn=text,
            width=latent.shape[-1] * 8,
            height=latent.shape[-2] * 8,
            prompt_type="positive",
            latent_shapes=shapes,
            **extra,
        )
    conds = attached | made
    return {name: cond.process_cond(batch_size=len(latent), area=None, device=device) for name, cond in conds.items()}


@contextmanager
def streams_of(model, streams: list[Tensor]) -> Iterator[list]:
    """Within it, the host knows the shapes of the latents that it packs into one, as in a sampling run."""
    before = getattr(model.model, "latent_shapes", None)
    model.model.latent_shapes = shapes = [stream.shape for stream in streams]
    try:
        yield shapes
    finally:
        model.model.latent_shapes = before


def vision_output(penultimate: Tensor) -> comfy.clip_vision.Output:
    """CLIP features [1, tokens, width] as the host's CLIP Vision Encode gives them."""
    output = comfy.clip_vision.Output()
    output["penultimate_hidden_states"] = penultimate
    return output


def batch_groups(conds: list[dict]) -> list[list[int]]:
    """Indices of conds that fit one batch, group by group: prompts of different length do not."""
    groups: list[list[int]] = []
    for i, cond in enumerate(conds):
        fitting = next((group for group in groups if comfy.samplers.cond_equal_size(conds[group[0]], cond)), None)
        groups.append([i]) if fitting is None else fitting.append(i)
    return groups


def cat_conds(conds: list[dict], device: torch.device) -> dict[str, Tensor]:
    """One batch of conds that are batch_groups, for `denoised`."""
    return comfy.samplers.cond_cat(conds, device)


def sigmas_at(model_sampling, fractions: Tensor) -> Tensor:
    """Noise levels at fractions 0..1 of the model's schedule, [n] -> [n]: uniform fractions visit them as a sampler
    does."""
    return torch.tensor([float(model_sampling.percent_to_sigma(float(u))) for u in fractions]).clamp(min=LEAST_SIGMA)


def denoised(
    model, x: Tensor, sigma: Tensor, conds: dict[str, Tensor], options: dict, sound: Tensor | None = None
) -> Tensor:
    """The clean latents that MODEL and its patches predict for x [batch, ...] at sigma [batch], in one call as the
    sampler makes it. options: more transformer options. sound: noised latents of the sound that some models make along
    (`Family.silence`); what is predicted of it is left out."""
    host = {**model.model_options["transformer_options"], "wrappers": model.wrappers, "callbacks": model.callbacks}
    more = {"sigmas": sigma, "cond_or_uncond": [0]}
    packed, shapes = (x, [x.shape]) if sound is None else comfy.utils.pack_latents([x, sound])
    found = model.model.apply_model(packed, sigma, transformer_options=host | more | options, **conds)
    return comfy.utils.unpack_latents(found, shapes)[0]
