"""A SemVidCLIP from a file of your own, of open_clip or Hugging Face; proved by its header before anything is built."""

from pathlib import Path

import comfy.clip_model
import comfy.clip_vision
import comfy.utils
from torch import Tensor, nn

from .clip import SemVidCLIP
from .clip_config import configuration, recognise
from .clip_vocabulary import WORDS, vocabulary_of
from .weights import Checkpoint, load_weights, on_meta, require_fit

UNUSED = ("logit_scale", "position_ids", "attn_mask")
PARTS = (
    ("image tower", "vision_model.embeddings.class_embedding"),
    ("image projection", "visual_projection.weight"),
    ("text tower", "text_model.embeddings.token_embedding.weight"),
    ("text projection", "text_projection.weight"),
)


class ClipTowers(nn.Module):
    """Both towers under Hugging Face's names, of ComfyUI's modules."""

    def __init__(self, vision: dict, text: dict, dim: int, dtype, device, operations):
        super().__init__()
        place = {"dtype": dtype, "device": device}
        self.vision_model = comfy.clip_model.CLIPVision(vision, **place, operations=operations)
        self.visual_projection = operations.Linear(vision["hidden_size"], dim, bias=False, **place)
        self.text_model = comfy.clip_model.CLIPTextModel_(text, **place, operations=operations)
        if text["vocab_size"] != WORDS:
            self.text_model.embeddings.token_embedding = operations.Embedding(
                text["vocab_size"], text["hidden_size"], **place
            )
        self.text_projection = operations.Linear(text["hidden_size"], dim, bias=False, **place)


def load_clip(path: str | Path, activation: str = "auto") -> SemVidCLIP:
    """A CLIP of open_clip or Hugging Face from one safetensors file (or one of its shards).

    activation: of its MLPs, which tensors do not tell; "auto" asks the metadata, then the config beside the file, then
    takes OpenAI's quick_gelu for towers that OpenAI has published sizes of and gelu for larger ones. Raises ValueError,
    naming file and reason, for whatever is no such CLIP.
    """
    file = Checkpoint(path)
    name = file.path.name
    refused = f"{name}: not a whole CLIP of open_clip or Hugging Face"
    if any(".trunk." in key or key.endswith("logit_bias") for key in file.keys):
        raise ValueError(
            f"{refused}, but a SigLIP or timm tower, which has no class token to ask. Use a ViT CLIP, such as "
            "ViT-L-14-336."
        )
    names = {key: key for key in file.keys if not key.endswith(UNUSED)}
    header = file.header(names)
    try:
        header = hugging_face_names(header)
        require_parts(header, refused)
        vision, text = recognise(header, configuration(file), activation)
    except (KeyError, IndexError, RuntimeError) as error:
        raise ValueError(f"{refused}: {error} is missing or of another shape.") from None
    except ValueError as error:
        raise ValueError(str(error) if str(error).startswith(name) else f"{name}: {error}.") from None
    words = vocabulary_of(file, text["vocab_size"])
    projection = header["visual_projection.weight"]

    def build(**place):
        return ClipTowers(vision, text, projection.shape[0], **place)

    require_fit(on_meta(build), header, name)
    patcher = load_weights(build, hugging_face_names(file.read(names)), name, projection.dtype)
    towers = patcher.model
    return SemVidCLIP(
        name,
        towers.vision_model,
        towers.visual_projection,
        towers.text_model,
        towers.text_projection,
        (patcher,),
        words,
        vision["image_size"],
        vision["patch_size"],
    )


def hugging_face_names(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights of either form under Hugging Face's names, by ComfyUI's own conversion; on the meta device too."""
    if "visual.class_embedding" not in weights:
        return weights
    text_prefix = "text." if any(key.startswith("text.") for key in weights) else ""
    weights = comfy.clip_vision.convert_to_transformers(weights, "visual.")
    return comfy.utils.clip_text_transformers_convert(weights, text_prefix, "")


def require_parts(weights: dict[str, Tensor], refused: str) -> None:
    missing = [part for part, key in PARTS if key not in weights]
    if missing:
        raise ValueError(
            f"{refused}: its {', '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing. Choose a file with "
            "both towers, or join two of ComfyUI's with CLIP from Host Models."
        )
