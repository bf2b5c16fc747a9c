"""What users see. One file per technique; a node describes, checks and wires."""
from .mini_text_encode import MiniTextEncodeNode
from .swin_renderer import SwinRendererNode

NODES = [SwinRendererNode, MiniTextEncodeNode]
