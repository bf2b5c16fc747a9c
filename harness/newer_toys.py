"""Tiny models of the families that the host has had since 0.30: what `toy.py` makes of them. Import after ComfyUI is on
sys.path."""

import inspect

from comfy.ldm.lightricks.av_model import LTXAVModel
from comfy.ldm.lightricks.model import LTXBaseModel, LTXVModel

TEXT_DIM = 32  # channels of the prompt's features in all toys but one
MINIMAX = dict(
    hidden_size=96,
    num_layers=4,
    token_refiner_num_layers=2,
    num_attention_heads=4,
    attention_head_dim=32,
    ffn_hidden_size=128,
    text_dim=TEXT_DIM,
    timestep_input_dim=32,
    time_embed_hidden_size=64,
    time_embed_dim=48,
    rope_inv_freq_len=4,  # 3 axes of 4 pairs: 24 of a head's 32 channels turn
)
LTXV = dict(
    in_channels=128,
    cross_attention_dim=64,
    attention_head_dim=16,
    num_attention_heads=4,
    caption_channels=TEXT_DIM,
    num_layers=4,
    causal_temporal_positioning=True,
)
LTXAV = LTXV | dict(
    audio_cross_attention_dim=32,
    audio_attention_head_dim=8,
    audio_num_attention_heads=4,
    rope_type="split",
    use_middle_indices_grid=True,
    frequencies_precision="float64",
    connector_num_layers=1,
    connector_attention_head_dim=16,
    audio_connector_attention_head_dim=16,
)
LTXAV20 = LTXAV | dict(connector_num_attention_heads=2, audio_connector_num_attention_heads=2)
LTXAV23 = LTXAV | dict(
    caption_proj_before_connector=True,
    caption_projection_first_linear=False,
    cross_attention_adaln=True,
    apply_gated_attention=True,
    connector_apply_gated_attention=True,
    connector_num_attention_heads=4,
    audio_connector_num_attention_heads=2,
)
# LTX-2.5: no biases in the video's feed-forwards, and a mark on latents of one video frame alone
LTXAV25 = LTXAV23 | dict(ff_bias=False, use_keyframes_abs_pos_embedding=True)


def newer_toys() -> dict[str, dict]:
    """{name: the fields of a Toy}; hosts before 0.30 have no MiniMax H3 and no LTX-2.5."""
    ltxv = dict(build=LTXVModel, config=LTXV, channels=128)
    ltxav = dict(build=LTXAVModel, config=LTXAV20, channels=128, sound=(8, 16))
    ltxav23 = ltxav | dict(config=LTXAV23, text=64 + 32)
    toys = {
        "ltxv": ltxv | {"conds": ("padding",)},
        "ltxv-start": ltxv | {"conds": ("padding", "first_frame")},
        "ltxv-guides": ltxv | {"conds": ("padding", "guides")},
        "ltxv-thinned": ltxv | {"conds": ("padding", "thinned")},
        "ltxav": ltxav | {"conds": ("unprocessed",)},
        "ltxav23": ltxav23 | {"conds": ("unprocessed",)},
        "ltxav23-guides": ltxav23 | {"conds": ("unprocessed", "guides")},
    }
    if "use_keyframes_abs_pos_embedding" in inspect.signature(LTXBaseModel.__init__).parameters:
        toys["ltxav25"] = ltxav23 | {"config": LTXAV25, "conds": ("unprocessed", "slots")}
    try:
        from comfy.ldm.minimax.model import MiniMaxH3Model
    except ImportError:
        return toys
    h3 = dict(build=MiniMaxH3Model, config=MINIMAX, channels=24, sound=(32, 2))
    toys["h3"] = h3 | {"conds": ("tags",)}
    toys["h3-keyframes"] = h3 | {"conds": ("tags", "keyframes")}
    toys["h3-references"] = h3 | {"conds": ("tags", "references")}
    toys["h3-both"] = h3 | {"conds": ("tags", "keyframes", "references")}
    return toys
