"""ComfyUI's memory: estimates told about tokens they cannot see, and tensors kept from block to block."""

from contextlib import AbstractContextManager, nullcontext

import comfy.model_prefetch
from comfy.patcher_extension import WrappersMP


def outlives_block() -> AbstractContextManager:
    """Around allocations that a later block still reads: newer hosts replay a block's allocations, so that what it left
    would be overwritten by the next."""
    return getattr(comfy.model_prefetch, "pause_malloc_graph", nullcontext)()


def count_cond(model, name: str):
    """A clone of MODEL whose estimates count the latent that conditioning carries as model cond `name`, as if the video
    were so much longer; counted once, however often this is called.

    Both estimates: for loading (how much of the weights may stay on the device) and for batching positive with
    negative.
    """
    model = model.clone()
    counted = model.get_model_object("memory_usage_factor_conds")
    if name in counted:
        return model
    model.add_object_patch("memory_usage_factor_conds", (*counted, name))

    def longer(executor, patcher, noise_shape, conds, *args, **kwargs):
        latents = [
            entry["model_conds"][name].cond[0]
            for entries in conds.values()
            for entry in entries or ()
            if name in entry.get("model_conds", {})
        ]
        frames = max((latent.shape[2] for latent in latents), default=0)
        return executor(patcher, [*noise_shape[:2], noise_shape[2] + frames, *noise_shape[3:]], conds, *args, **kwargs)

    model.add_wrapper_with_key(WrappersMP.PREPARE_SAMPLING, f"semantic_video.{name}", longer)
    return model
