"""Editing attention, or a model call's inputs, without replacing the model.

An editor gets a `Call` and a `proceed` that continues with the next editor and ends in the attention the user chose.
Editors are installed into the host's override slot only inside model calls in which they act, around whatever override
is there by then: they stack in any order with each other and with other packs, and where none acts the host runs its
own path.
"""

from collections.abc import Callable, Iterable
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import Literal
from weakref import ref

import torch
from comfy.ldm.modules.attention import optimized_attention
from comfy.patcher_extension import WrappersMP
from torch import Tensor

from .after_run import say_how_it_went
from .block_numbers import numbered_blocks
from .call import Call, Continue, Edit, UnknownRows
from .chunks import compiled, in_chunks
from .families import family_of
from .feedback import LEFT_ALONE, Node, this_node
from .forward import Forward, bind, read
from .layout import AUDIO_QUERIES, Layout, Site, SiteKind
from .pieces import OVERRIDE, Pieces, can_be_in_pieces, in_pieces
from .refiner import Refine, refined_apart, refining
from .run import RUN, Run
from .schedule import ALWAYS, Interval

EDITORS = "semantic_video_editors"


Splits = Literal["nothing", "queries", "frames", "windows"]
INNERMOST: tuple[Splits, ...] = ("windows", "frames", "queries", "nothing")
Inputs = Callable[[Forward], dict]  # -> arguments of the model's call to replace, by name


@dataclass(frozen=True)
class Editor:
    """name: one per technique; applied twice and active twice, the later application acts.

    splits: what it hands on, apart from whole calls: those whose only queries lie outside the video ("queries"), those
    of some of its frames besides, which `Call.frames` names ("frames"), or any part ("windows"). It runs the nearer to
    the backend, inside all editors that need more of a call.
    check: called with the Run before the first step; raises ValueError for what cannot work. refine: what it makes of
    the prompt's tokens where the model refines them, see `refining`.
    inputs: instead of `edit`, with no sites. tokens: how many tokens at most go through a block's feed-forward at once
    in a call of the model, so that what a step holds does not grow with the video; pieces: instead of `edit`, where no
    other editor acts but those of `by_frames`, and the model's blocks can. None from either: as ever. by_frames: `edit`
    of cross-attention takes calls of some frames, as `Call.frames` names them.
    """

    name: str
    edit: Edit | None
    sites: tuple[SiteKind, ...]
    interval: Interval = ALWAYS
    splits: Splits = "nothing"
    check: Callable[[Run], None] | None = None
    inputs: Inputs | None = None
    tokens: Callable[[Forward], int | None] | None = None
    pieces: Callable[[Forward], Pieces | None] | None = None
    refine: Refine | None = None
    by_frames: bool = False
    node: Node = field(default_factory=this_node)  # which applies it


def edit_attention(
    model,
    name: str,
    edit: Edit,
    *,
    sites: Iterable[SiteKind],
    interval: Interval = ALWAYS,
    splits: Splits = "nothing",
    check: Callable[[Run], None] | None = None,
    tokens: Callable[[Forward], int | None] | None = None,
    pieces: Callable[[Forward], Pieces | None] | None = None,
    refine: Refine | None = None,
    by_frames: bool = False,
    active: bool = True,
):
    """A clone of MODEL whose attention at `sites` goes through `edit` during `interval`; `model` itself if not
    `active`.

    Raises ValueError for a model of no known family.
    """
    family_of(model)
    editor = Editor(name, edit, tuple(sites), interval, splits, check, None, tokens, pieces, refine, by_frames)
    return _install(model, editor) if active else left_alone(model)


def edit_inputs(
    model,
    name: str,
    inputs: Inputs,
    *,
    interval: Interval = ALWAYS,
    check: Callable[[Run], None] | None = None,
    active: bool = True,
):
    """A clone of MODEL whose calls get what `inputs` returns during `interval`, of the same shapes; otherwise as
    `edit_attention`."""
    family_of(model)
    editor = Editor(name, None, (), interval, check=check, inputs=inputs)
    return _install(model, editor) if active else left_alone(model)


def left_alone(model):
    """`model` itself; its node says so."""
    this_node().show(LEFT_ALONE)
    return model


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    """An attention of our own, [batch, tokens, heads, dim] -> [batch, queries, heads * dim]: on the backend ComfyUI was
    started with, past all editors and overrides, which know the model's attentions only. With few keys Sage can give
    NaN, so the host is told to be exact, as it tells itself."""
    return optimized_attention(
        *(x.flatten(2) for x in (q, k, v)), heads=q.shape[2], mask=mask, low_precision_attention=False
    )


def _install(model, editor: Editor):
    model = model.clone()
    for kind, wrapper in (
        (WrappersMP.OUTER_SAMPLE, _around_run),
        (WrappersMP.SAMPLER_SAMPLE, _around_sampler),
        (WrappersMP.DIFFUSION_MODEL, _around_call),
    ):
        if wrapper not in model.get_wrappers(kind, "semantic_video"):
            model.add_wrapper_with_key(kind, "semantic_video", wrapper)
    options = model.model_options["transformer_options"]
    options[EDITORS] = (*options.get(EDITORS, ()), editor)
    return model


def _around_run(executor, noise, latent_image, sampler, sigmas, *args, **kwargs):
    guider = executor.class_obj
    options = guider.model_options["transformer_options"]
    run = Run.of(guider, noise, sigmas, kwargs.get("latent_shapes") or ())
    editors = options[EDITORS]
    run.feedback.nodes = {editor.name: editor.node for editor in editors}
    for editor in editors:
        if editor.check:
            try:
                editor.check(run)
            except ValueError as error:  # raised in a sampler: say which node it is about
                named = str(error).startswith(editor.name)
                raise ValueError(str(error) if named else f"{editor.name}: {error}") from None
    module = guider.model_patcher.model.diffusion_model
    refines = any(e.refine and e.interval.in_run(run.sigmas, run.model_sampling) for e in editors)
    apart = run.family and run.family.REFINES_BEFORE and run.timelines and refines
    options[RUN] = run
    try:
        with refined_apart(guider.model_patcher.model, run) if apart else nullcontext():
            result = executor(noise, latent_image, sampler, sigmas, *args, **kwargs)
    finally:
        del options[RUN]  # the run knows these options: a circle, which would keep the MODEL past its run
    say_how_it_went(list({editor.name: editor for editor in editors}.values()), run, module, options)
    return result


def _around_sampler(executor, guider, sigmas, extra_args, *args, **kwargs):
    if run := extra_args["model_options"]["transformer_options"].get(RUN):
        run.prepared(guider)
    return executor(guider, sigmas, extra_args, *args, **kwargs)


def _around_call(executor, *args, **kwargs):
    bound = bind(executor, args, kwargs)
    options = bound.arguments["transformer_options"]
    forward = read(executor, bound)
    acting = {e.name: e for e in options[EDITORS] if forward and forward.within(e.interval)}
    if not acting:
        return executor(*args, **kwargs)
    for editor in acting.values():
        if editor.inputs:
            bound.arguments.update(editor.inputs(forward))
            forward.note(editor.name)
    # No editors further in: a host that came to list this wrapper twice must not apply them twice.
    bound.arguments["transformer_options"] = inner = {**options, EDITORS: ()}
    if editors := sorted(
        (e for e in acting.values() if e.sites), key=lambda editor: INNERMOST.index(editor.splits)
    ):  # innermost first
        inner[OVERRIDE] = _override(forward, editors, options.get(OVERRIDE))
        others = editors[1:]
        can = all(editor.by_frames for editor in others) and can_be_in_pieces(forward, options)
        alone = editors[0].pieces if can else None
        if not forward.family.HOST_NUMBERS_BLOCKS:
            inner["patches_replace"] = numbered_blocks(options, forward.family.blocks(forward.module))
        elif alone and (pieces := alone(forward)):
            cross = partial(_override, forward, others, options.get(OVERRIDE))
            inner["patches_replace"] = in_pieces(forward, options, pieces, cross)
            whole = [block for block in range(forward.family.blocks(forward.module)) if len(pieces.of(block)) < 2]
            forward.note(editors[0].name, whole, changed=False)
            forward.note(editors[0].name, set(range(forward.family.blocks(forward.module))) - set(whole))
    sizes = [editor.tokens(forward) for editor in acting.values() if editor.tokens]
    family, module = forward.family, forward.module
    parts = [] if compiled(family.block_modules(module)) else family.token_modules(module)
    chunks = in_chunks(parts, min(filter(None, sizes), default=None))
    with chunks, refining(forward, [editor.refine for editor in acting.values() if editor.refine]):
        result = executor(*bound.args[1:], **bound.kwargs)
    forward.close()
    return result


def _override(
    forward: Forward, editors: list[Editor], previous: Callable | None, frames: tuple[int, ...] | None = None
) -> Callable:
    """frames: that the queries are of, in cross-attentions of a piece of a block; None: all tokens."""
    sites = {kind for editor in editors for kind in editor.sites}

    def override(func, q, k, v, heads, *args, **kwargs):
        kwargs |= zip(("mask", "attn_precision", "skip_reshape", "skip_output_reshape"), args)
        attention = partial(previous, func) if previous else func
        # [batch, heads, tokens, dim] rather than [batch, tokens, heads * dim]
        by_head = kwargs.get("skip_reshape", False)
        token_axis = 2 if by_head else 1
        last = forward.previous
        dim = q.shape[-1] if by_head else q.shape[-1] // heads
        queries = q.shape[token_axis] if frames is None else forward.layout.tokens
        site = forward.site(kwargs.get("transformer_options", {}), queries, k.shape[token_axis], dim)
        if site is not None:
            forward.run.blocks.add(site.block)
        if site is None or site.kind not in sites:
            return attention(q, k, v, heads, **kwargs)

        by_head_out = kwargs.pop("skip_output_reshape", False)
        if by_head:
            q, k, v = (x.transpose(1, 2) for x in (q, k, v))
        else:
            q, k, v = (x.unflatten(2, (-1, dim)) for x in (q, k, v))
        host_mask = kwargs.get("mask")
        mask = _four_axes(host_mask)

        def backend(call: Call) -> Tensor:
            to_host = (lambda x: x.transpose(1, 2)) if by_head else (lambda x: x.flatten(2))
            options = kwargs if call.mask is mask else {**kwargs, "mask": call.mask}
            return attention(to_host(call.q), to_host(call.k), to_host(call.v), heads, **options)

        proceed = backend
        for editor in editors:
            if site.kind in editor.sites:
                proceed = partial(_edited, editor, proceed=proceed)
        before, after = outside_video(forward.layout, site, q.shape[1]) if frames is None else (0, 0)
        whole = len(q) == len(forward.rows) and site != last
        batch = tuple(range(len(q))) if whole else None
        out = proceed(Call(q, k, v, mask, site, forward, before, after, batch, before, frames))
        return out.unflatten(2, (heads, -1)).transpose(1, 2) if by_head_out else out

    return override


def outside_video(layout: Layout, site: Site, queries: int) -> tuple[int, int]:
    """How many of an attention call's queries stand in front of and behind the video. LTX may ask for its guide frames'
    queries, which stand behind, in a call of their own."""
    if site.kind in AUDIO_QUERIES:
        return queries, 0
    after = layout.after if queries >= layout.tokens else 0
    return queries - after - layout.frames * layout.height * layout.width, after


def _edited(editor: Editor, call: Call, proceed: Continue) -> Tensor:
    """An editor that returns the very tensor which the call as it is gave has changed nothing."""
    unchanged = None

    def watched(given: Call) -> Tensor:
        nonlocal unchanged
        out = proceed(given)
        if given is call:
            unchanged = ref(out)  # weak, so that no tensor lives longer for it
        return out

    compiling = torch.compiler.is_compiling()  # then without its block: what changes from call to call is compiled anew
    try:
        out = editor.edit(call, proceed if compiling else watched)
    except UnknownRows as error:
        raise RuntimeError(f"{editor.name}: {error}") from None
    changed = compiling or unchanged is None or unchanged() is not out
    call.forward.note(editor.name, () if compiling else (call.site.block,), changed)
    return out


def _four_axes(mask: Tensor | None) -> Tensor | None:
    """The host's masks have two to four axes: [queries, keys], [batch, queries, keys], [batch, heads, queries,
    keys]."""
    if mask is None or mask.ndim == 4:
        return mask
    return mask.unsqueeze(0).unsqueeze(0) if mask.ndim == 2 else mask.unsqueeze(1)
