"""MiniMax H3 and LTX: sound in windows, places in time, timelines, drafts, training.

(why, file, old text, new text, tests as pytest takes them); the old text stands in the file exactly once. `run.py
mutate list [WORD]` breaks the code so and runs those tests.
"""

SOUND = ("tests/kernels/test_swin_sound.py",)
HOST_SOUND = ("tests/host/test_swin_sound.py",)
PLACES = ("tests/host/test_swin_places_newer.py",)
TIMELINES = ("tests/host/test_prompt_timeline_newer.py",)
DRAFTS = ("tests/host/test_draft_plan_newer.py",)
TRAINED = "tests/host/test_ssg_newer_training.py"
FORWARD = (f"{TRAINED}::test_a_training_forward_is_what_the_sampler_gives",)
LEARNING = (f"{TRAINED}::test_it_learns_and_the_loader_reads_the_file",)
NEWER_HOST = ("tests/host/test_newer_h3_host.py",)
NEWER = "tests/host/test_newer_families.py"
TOKENS_OF_LTX = (f"{NEWER}::test_the_sequence_of_ltx",)
TOKENS_OF_H3 = (f"{NEWER}::test_the_sequence_of_minimax_h3",)
STREAMS = (f"{NEWER}::test_channels_tell_streams_apart_where_lengths_and_order_do_not",)
LEFT_OUT = (f"{NEWER}::test_attentions_that_the_host_leaves_out_shift_no_others",)
LENGTHS = (f"{NEWER}::test_the_video_of_ltx",)
CHUNKS = ("tests/host/test_swin_newer.py::test_automatic_windows_of_minimax_h3_end_on_chunks",)
DONE = ("tests/host/test_done_newer.py::test_alone_and_beside_others",)

MUTATIONS = [
    (
        "sound of earlier windows is heard",
        "kernels/swin_sound.py",
        "[(of_keys[start], of_keys[end])",
        "[(of_keys[0], of_keys[end])",
        SOUND,
    ),
    ("tokens of no frame see nothing behind", "kernels/swin_sound.py", "(of_keys[-1], keys)]", "(keys, keys)]", SOUND),
    (
        "a voice to refer to counts as sound",
        "patches/swin_parts.py",
        "layout.audio - layout.voice, layout.voice",
        "layout.audio",
        HOST_SOUND,
    ),
    ("all latent frames last as long", "patches/swin_parts.py", "first[frame + 1] - first[frame]", "1", HOST_SOUND),
    ("keyframes stay behind", "host/families/minimax.py", 'MOVING = ("cond", ', "MOVING = (", PLACES),
    (
        "places of MiniMax H3 count from 0",
        "host/families/minimax.py",
        "= start + scale * (times[first:past] - start)",
        "= scale * times[first:past]",
        PLACES,
    ),
    ("texts of spans are refined together", "host/refiner.py", "for one in texts]", "for one in [text]]", TIMELINES),
    (
        "a text that became longer counts as before",
        "host/refiner.py",
        "tokens=own.shape[1]",
        "tokens=one.tokens",
        TIMELINES,
    ),
    (
        "frames behind a part are encoded as its end",
        "host/video_vae.py",
        "end * rhythm.latents",
        "end * rhythm.latents + rhythm.least",
        DRAFTS,
    ),
    (
        "the sound of a draft's latent is lost",
        "nodes/draft_plan.py",
        'if latent["samples"].is_nested:',
        "if False:",
        DRAFTS,
    ),
    ("training without the streams' shapes", "host/frozen_model.py", "latent_shapes=shapes,", "", FORWARD),
    (
        "a list of tokens counts for a call of other lengths",
        "host/families/minimax.py",
        'if lengths == {"text": text, "audio": audio, "video": grid}:',
        'if lengths["video"] == grid:',
        NEWER_HOST,
    ),
    (
        "what newer hosts list does not count",
        "host/families/minimax.py",
        'for packed in (arguments["transformer_options"].get("minimax_h3_layout"), payload.get("layout")):',
        'for packed in (payload.get("layout"),):',
        NEWER_HOST,
    ),
    (
        "a block keeps an attention of a patch's own",
        "host/block_numbers.py",
        "if name != AROUND",
        "if name",
        NEWER_HOST,
    ),
    (
        "texts are refined apart in runs that leave them alone",
        "host/editing.py",
        "any(e.refine and e.interval.in_run(run.sigmas, run.model_sampling) for e in editors)",
        "any(e.refine for e in editors)",
        DONE,
    ),
    ("what is trained adds nothing", "training/ssg_model.py", "strength * branch(", "0 * branch(", LEARNING),
    (
        "LTX's guides count as video",
        "host/families/ltx.py",
        "0 if guides is None else",
        "0 if True else",
        TOKENS_OF_LTX,
    ),
    (
        "guides of a grid half as fine count whole",
        "host/families/ltx.py",
        "int((~left_out).sum())",
        "left_out.numel()",
        TOKENS_OF_LTX,
    ),
    (
        "audio and video of one length are taken by their order alone",
        "host/families/ltx.py",
        "ORDER[:2] if dim == module.attention_head_dim else ()",
        "ORDER[:2]",
        STREAMS,
    ),
    (
        "an attention that the host leaves out still counts",
        "host/families/ltx.py",
        " and kind not in off]",
        "]",
        LEFT_OUT,
    ),
    ("padded cells of H3 are no tokens", "host/families/wan.py", "tuple(ceil(n / p)", "tuple(n // p", TOKENS_OF_H3),
    (
        "LTX's length does not depend on the rate",
        "host/families/ltx.py",
        "(frame_rate or FRAME_RATE)",
        "FRAME_RATE",
        LENGTHS,
    ),
    ("windows of H3 end anywhere", "host/families/minimax.py", "WINDOW_STEP = 10", "WINDOW_STEP = 2", CHUNKS),
]
