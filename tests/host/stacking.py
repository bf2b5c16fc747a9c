"""What every patch must stand beside: context windows, and another pack's override of the attention."""

import comfy.context_windows


def windows(model, length=4, overlap=1, **options):
    """`model` in context windows of so many latent frames, as ComfyUI's node makes them."""
    model = model.clone()
    model.model_options["context_handler"] = comfy.context_windows.IndexListContextHandler(
        comfy.context_windows.get_matching_context_schedule("standard_static"),
        comfy.context_windows.get_matching_fuse_method("pyramid"),
        context_length=length,
        context_overlap=overlap,
        dim=2,
        **options,
    )
    comfy.context_windows.create_prepare_sampling_wrapper(model)
    return model


def foreign(factor, log):
    """Another pack's optimized_attention_override: `factor` times the attention; `log` gets an entry a call."""

    def override(func, *args, **kwargs):
        log.append(factor)
        return func(*args, **kwargs) * factor

    return override
