"""Inputs that every patch node ends with, so that they mean the same everywhere."""
from comfy_api.latest import io


def strength_start_end(strength: str, maximum: float = 1.0) -> list:
    """`strength` says what a higher value does."""
    return [
        io.Float.Input("strength", default=1.0, min=0.0, max=maximum, step=0.05, tooltip=f"{strength} 0 leaves the model exactly as it is."),
        io.Float.Input("start", default=0.0, min=0.0, max=1.0, step=0.01, advanced=True,
                       tooltip="Where in the denoising schedule this begins to act: 0 is the first, noisiest step. Higher starts later."),
        io.Float.Input("end", default=1.0, min=0.0, max=1.0, step=0.01, advanced=True,
                       tooltip="Where in the denoising schedule this stops acting: 1 is the last step. Lower stops earlier."),
    ]
