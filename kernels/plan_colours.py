"""A plan as pictures: its three strongest directions as red, green and blue.

    c = (z - mean) V        V: the first three principal directions over all tokens, each with its largest entry above 0
    colour = 1/2 + c / (2 k std(c)), within 0..1        k = 2.5, our choice

As DINOv2 (arXiv 2304.07193) shows its features. The signs are fixed, so that the same plan has the same colours.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

SPREAD = 2.5  # standard deviations from middle grey to full colour


@dataclass(frozen=True)
class Colours:
    """mean: [dims]; directions: [dims, 3], unit length, the strongest first; deviation: [3], of the tokens along
    them. A direction that is missing (dims below 3, or tokens all alike) is zero."""

    mean: Tensor
    directions: Tensor
    deviation: Tensor


def colours_of(tokens: Tensor) -> Colours:
    """The colours of tokens [..., dims], in float64."""
    rows = tokens.reshape(-1, tokens.shape[-1]).double()
    mean = rows.mean(0)
    centred = rows - mean
    covariance = centred.T @ centred / len(rows)
    strength, vectors = torch.linalg.eigh(covariance)  # ascending
    count = min(3, rows.shape[1])
    strength, vectors = strength.flip(0)[:count].clamp(min=0), vectors.flip(1)[:, :count]
    largest = vectors.abs().argmax(0)
    vectors = vectors * vectors[largest, torch.arange(count)].sign()
    deviation = strength.sqrt()
    known = deviation > 1e-6 * max(float(rows.abs().max()), 1e-30)
    directions, spread = rows.new_zeros(rows.shape[1], 3), rows.new_zeros(3)
    directions[:, :count], spread[:count] = vectors * known, deviation * known
    return Colours(mean, directions, spread)


def paint_plan(tokens: Tensor, colours: Colours | None = None) -> Tensor:
    """[time, height, width, dims] -> [time, height, width, 3], 0..1 float32; by `colours`, of another plan to compare
    with, or its own. What does not vary is middle grey."""
    colours = colours or colours_of(tokens)
    along = (tokens.double() - colours.mean) @ colours.directions
    scale = torch.where(colours.deviation > 0, 2 * SPREAD * colours.deviation, 1)
    return (0.5 + along / scale).clamp(0, 1).float()
