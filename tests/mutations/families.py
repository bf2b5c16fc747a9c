"""MiniMax H3 and LTX: sound in windows, places in time, timelines, drafts, training.

(why, file, old text, new text, tests as pytest takes them); the old text stands in the file exactly once. `run.py
mutate list [WORD]` breaks the code so and runs those tests.
"""

SOUND = ("tests/kernels/test_swin_sound.py",)
HOST_SOUND = ("tests/host/test_swin_sound.py",)
PLACES = ("tests/host/test_swin_places_newer.py",)
TIMELINES = ("tests/host/test_prompt_timeline_newer.py",)
DRAFTS = ("tests/host/test_draft_plan_newer.py",)
TRAINING = ("tests/host/test_ssg_newer_training.py",)

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
    ("training without the streams' shapes", "host/frozen_model.py", "latent_shapes=shapes,", "", TRAINING),
]
