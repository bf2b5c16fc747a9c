"""Layer Probe on a MODEL: single passes that show how each block responds to the prompt, and what hangs on it."""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field

import comfy.model_management
import torch
from torch import Tensor

from ..host.editing import Call, edit_attention
from ..host.families import family_of
from ..host.levels import Predict, visit_levels
from ..kernels.layer_probe import coherence, weak_by_cause, weak_by_response
from .blocks import write_blocks
from .prompt_words import text_keys, video_tokens

NAME = "Layer Probe"
EMPTY = "empty"


@dataclass
class Report:
    """For each block: Moran's I and deviation of the text response, and the change that the empty prompt makes there.

    All are means over `sigmas` and prompts. weak, responsive: by the change; weak_by_response, responsive_by_response:
    by Moran's I and deviation. Block lists as the guidance nodes read them.
    """

    model: str
    blocks: int
    sigmas: list[float]
    moran: list[float]
    std: list[float]
    change: list[float]
    weak: str = ""
    responsive: str = ""
    weak_by_response: str = ""
    responsive_by_response: str = ""

    def recommend(self, share: float) -> None:
        weak, responsive = weak_by_cause(self.change, share)
        self.weak, self.responsive = write_blocks(weak), write_blocks(responsive)
        weak, responsive = weak_by_response(self.moran, self.std, share=share)
        self.weak_by_response, self.responsive_by_response = write_blocks(weak), write_blocks(responsive)

    @property
    def json(self) -> str:
        return json.dumps(asdict(self))


@dataclass
class Ear:
    """What the editor does in the present pass: watch, store the text of every block, or give one block the stored
    text.
    """

    task: str = "watch"
    block: int = 0
    stored: dict = field(default_factory=dict)
    seen: dict[int, list[tuple[float, float]]] = field(default_factory=dict)

    def edit(self, call: Call, proceed) -> Tensor:
        if call.site.stream == "side":
            return proceed(call)
        key = (call.forward.frames, call.site.block)
        text = text_keys(call)
        if self.task == "watch":
            self.seen.setdefault(call.site.block, []).append(watch(call))
        elif self.task == "store":
            self.stored[key] = [at_home(x) for x in (call.k[:, :text], call.v[:, :text], text_mask(call.mask, text))]
        elif call.site.block == self.block:
            return proceed(with_text(call, text, *self.stored[key]))
        return proceed(call)


def at_home(x: Tensor | None) -> Tensor | None:
    return None if x is None else x.to(comfy.model_management.intermediate_device(), copy=True)


def text_mask(mask: Tensor | None, text: int) -> Tensor | None:
    return None if mask is None else mask[..., :text]


def with_text(call: Call, text: int, k: Tensor, v: Tensor, mask: Tensor | None) -> Call:
    """The call with the first `text` keys, values and mask columns replaced; a mask that only one side has is open."""
    k, v = (torch.cat((new.to(old), old[:, text:]), 1) for new, old in ((k, call.k), (v, call.v)))
    if call.mask is None and mask is None:
        return call.replace(k=k, v=v)
    like = call.mask if call.mask is not None else mask
    new, rest = (mask, None if call.mask is None else call.mask[..., text:])
    count = k.shape[1] - (call.k.shape[1] - text)
    parts = [opened(part, like, size) for part, size in ((new, count), (rest, call.k.shape[1] - text))]
    return call.replace(k=k, v=v, mask=torch.cat([part.to(call.q.device) for part in parts], -1))


def opened(mask: Tensor | None, like: Tensor, keys: int) -> Tensor:
    """`mask`, or one of its kind that lets every key be seen."""
    return mask if mask is not None else like.new_full((*like.shape[:-1], keys), like.dtype == torch.bool)


def watch(call: Call) -> tuple[float, float]:
    """Moran's I and deviation of this block's response to each token of the prompt (not to padding)."""
    layout, context = call.forward.layout, call.forward.arguments["context"]
    text = text_keys(call)
    first = text - context.shape[1]
    rows = (context[0] != 0).any(-1).nonzero().flatten().tolist()
    if len(rows) < context.shape[1]:
        rows = rows[:-1]  # an encoder that pads also ends the prompt with a token of its own
    words = [first + row for row in rows or [0]]
    return coherence(call.q[:, video_tokens(call)], call.k, words, (layout.frames, layout.height, layout.width))


def probe(
    model,
    positive: list,
    empty: list,
    latent: dict,
    levels: int = 3,
    share: float = 1 / 3,
    seed: int = 0,
    progress: Callable[[int], None] = lambda passes: None,
) -> Report:
    """(blocks + 2) passes for each prompt and level, without sampling. positive: CONDITIONING, each entry a prompt of
    its own.

    empty: the same with an empty prompt. progress: called after each pass with how many there are. levels: noise
    levels, in the middle of as many equal parts of the schedule. Raises ValueError where another patch keeps the
    blocks from being seen.
    """
    family = family_of(model)
    if len(empty) != 1:
        raise ValueError(f"empty: {len(empty)} conditionings. Give one, of an empty prompt.")
    blocks = family.blocks(model.model.diffusion_model)
    ear = Ear()
    listening = edit_attention(model, NAME, ear.edit, sites=("text", "joint"))
    prompts = {f"prompt {i}": [entry] for i, entry in enumerate(positive)}
    passes = levels * (len(positive) * (blocks + 1) + 1)
    change = torch.zeros(blocks, dtype=torch.float64)

    def visit(predict: Predict, noised: Tensor, level: int) -> None:
        for name in prompts:
            ear.task = "watch"
            denoised = predict(name)
            if set(ear.seen) != set(range(blocks)):
                raise ValueError(
                    f"model: attention of blocks {write_blocks(sorted(set(range(blocks)) - set(ear.seen)))} did not "
                    "come by. Another patch replaces blocks or their attention; connect the model before that patch."
                )
            if not ear.stored:
                ear.task = "store"
                predict(EMPTY)
                progress(passes)
            progress(passes)
            velocity = (noised - denoised).double().norm()
            ear.task = "swap"
            for ear.block in range(blocks):
                change[ear.block] += float((predict(name) - denoised).double().norm() / velocity)
                progress(passes)
        ear.stored.clear()

    fractions = [(i + 0.5) / levels for i in range(levels)]
    visit_levels(listening, prompts | {EMPTY: empty}, latent, fractions, visit, seed)
    sampling = model.get_model_object("model_sampling")
    sigmas = [float(sampling.percent_to_sigma(fraction)) for fraction in fractions]
    moran, std = ([sum(pair[i] for pair in ear.seen[b]) / len(ear.seen[b]) for b in range(blocks)] for i in (0, 1))
    name = f"{family.NAME}, {type(model.model).__name__}"
    report = Report(name, blocks, sigmas, moran, std, (change / (levels * len(positive))).tolist())
    report.recommend(share)
    return report
