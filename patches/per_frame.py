"""What comes once for all frames, once per latent frame or once per video frame."""

from collections.abc import Callable

from torch import Tensor

from ..host.families import wan
from ..kernels.wording import counted


def per_latent_frame(
    name: str, x: Tensor, total_frames: int, first_frames: Callable[[int], list[int]] = wan.first_frames
) -> Tensor:
    """x [1 | total_frames | video frames, ...] as one for all of `total_frames` latent frames or one for each: that of
    its last video frame. first_frames: of the model's family. Raises ValueError for other counts."""
    _, *ends = first_frames(total_frames)
    if len(x) not in (1, total_frames, ends[-1]):
        raise ValueError(
            f"{name}: {len(x)} for a video of {counted(total_frames, 'latent frame')}. Give 1 for all frames, "
            f"{total_frames} (one per latent frame) or {ends[-1]} (one per video frame)."
        )
    return x if len(x) in (1, total_frames) else x[[end - 1 for end in ends]]
