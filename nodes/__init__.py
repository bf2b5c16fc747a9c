"""What users see. One file per technique; a node describes, checks and wires."""
from .swin_renderer import SwinRendererNode

NODES = [SwinRendererNode]
