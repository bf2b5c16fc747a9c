"""Tiny models of the families that the host has had since 0.30: what `toy.py` makes of them. Import after ComfyUI is on
sys.path."""

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


def newer_toys() -> dict[str, dict]:
    """{name: the fields of a Toy}; hosts before 0.30 have no MiniMax H3."""
    toys = {}
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
