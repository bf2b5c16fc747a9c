"""Small edits of the attention, for the tests of the editing layer."""

from semantic_video.host.editing import edit_attention

ALL_SITES = ("self", "text", "image", "joint")


def passing(call, proceed):
    return proceed(call)


def doubling(call, proceed):
    return 2 * proceed(call)


def adding(call, proceed):
    return proceed(call) + 0.1


def editing(model, *edits, **options):
    """`model` with the edits applied in order, each under its own name."""
    for edit in edits:
        model = edit_attention(model, edit.__name__, edit, **{"sites": ALL_SITES} | options)
    return model
