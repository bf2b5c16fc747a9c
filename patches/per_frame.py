"""What comes once for all frames, once per latent frame or once per video frame."""

from torch import Tensor

from ..kernels.wording import counted


def per_latent_frame(name: str, x: Tensor, total_frames: int) -> Tensor:
    """x [1 | total_frames | 4 total_frames - 3, ...] as one for all of `total_frames` latent frames or one for each.
    Raises ValueError for other counts."""
    video = 4 * total_frames - 3  # the first latent frame is one video frame, every other four
    if len(x) not in (1, total_frames, video):
        raise ValueError(
            f"{name}: {len(x)} for a video of {counted(total_frames, 'latent frame')}. Give 1 for all frames, "
            f"{total_frames} (one per latent frame) or {video} (one per video frame)."
        )
    return x if len(x) in (1, total_frames) else x[::4]
