"""What users see. One file per technique; a node describes, checks and wires."""
from .mini_text_encode import MiniTextEncodeNode
from .spatial_prompt import CLIPFromHostNode, CLIPImageFeaturesNode, CLIPLoaderNode, CLIPSpatialMaskNode, VisualPromptNode
from .ssg_adapter import SSGAdapterApplyNode, SSGAdapterLoaderNode
from .ssg_train import SSGAdapterTrainNode
from .swin_renderer import SwinRendererNode
from .video_prompt import VAPApplyNode, VAPExpertLoaderNode, VAPReferenceNode, VAPSaveExpertNode

NODES = [
    SwinRendererNode,
    VAPExpertLoaderNode, VAPSaveExpertNode, VAPReferenceNode, VAPApplyNode,
    CLIPLoaderNode, CLIPFromHostNode, CLIPSpatialMaskNode, VisualPromptNode, CLIPImageFeaturesNode,
    SSGAdapterLoaderNode, SSGAdapterApplyNode, SSGAdapterTrainNode,
    MiniTextEncodeNode,
]
