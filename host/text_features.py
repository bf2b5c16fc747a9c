"""Text features of a prompt, as encoders give them to the host."""

from torch import Tensor


def text_features(entry: dict) -> Tensor:
    """The text features of a guider's conditioning, with zeros for padding that its mask tells of (LTX-Video)."""
    features, mask = entry["cross_attn"], entry.get("attention_mask")
    if mask is None or mask.shape[-1] != features.shape[1]:
        return features
    return features * (mask.reshape(len(mask), -1, 1) != 0).to(features)
