"""What users see. One file per technique; a node describes, checks and wires."""

from .alg import ALGNode
from .alignvid import AlignVidNode
from .attention_maps import AttentionMapsNode
from .clip import CLIPFromHostNode, CLIPImageFeaturesNode, CLIPLoaderNode
from .clip_mask import CLIPSpatialMaskNode
from .draft_plan import DraftEditNode, DraftPlanNode
from .drift import DriftNode
from .dymos import DyMoSNode
from .focal_guidance import FocalGuidanceNode
from .layer_probe import LayerProbeNode
from .plan_adapter import PlanAdapterApplyNode, PlanAdapterLoaderNode
from .plan_edit import PlanCombineNode, PlanEditNode
from .plan_files import PlanLoadNode, PlanSaveNode
from .plan_train import PlanAdapterTrainNode
from .planner import PlannerLoadNode, PlannerSampleNode
from .planner_train import PlannerTrainNode
from .prompt_timeline import PromptTimelineApplyNode, PromptTimelineNode, TimelineSpanNode
from .semantic_plan import PlanPreviewNode, SemanticEncoderNode, VisionTowerLoaderNode
from .ssg_adapter import SSGAdapterApplyNode, SSGAdapterLoaderNode
from .ssg_train import SSGAdapterTrainNode
from .start_sigmas import StartSigmasNode, StartStepNode
from .swin_renderer import SwinRendererNode
from .text_contrast import TextContrastNode
from .video_prompt import VAPApplyNode, VAPExpertLoaderNode, VAPReferenceNode, VAPSaveExpertNode
from .visual_prompt import VisualPromptNode

NODE_CLASS_MAPPINGS = {  # by id, for tools that read this file and do not run it; ComfyUI takes NODES
    "SemVidSwinRenderer": SwinRendererNode,
    "SemVidVAPExpertLoader": VAPExpertLoaderNode,
    "SemVidVAPSaveExpert": VAPSaveExpertNode,
    "SemVidVAPReference": VAPReferenceNode,
    "SemVidVAPApply": VAPApplyNode,
    "SemVidCLIPLoader": CLIPLoaderNode,
    "SemVidCLIPFromHost": CLIPFromHostNode,
    "SemVidCLIPSpatialMask": CLIPSpatialMaskNode,
    "SemVidVisualPrompt": VisualPromptNode,
    "SemVidCLIPImageFeatures": CLIPImageFeaturesNode,
    "SemVidSSGAdapterLoader": SSGAdapterLoaderNode,
    "SemVidSSGAdapterApply": SSGAdapterApplyNode,
    "SemVidSSGAdapterTrain": SSGAdapterTrainNode,
    "SemVidTextContrast": TextContrastNode,
    "SemVidAlignVid": AlignVidNode,
    "SemVidDyMoS": DyMoSNode,
    "SemVidALG": ALGNode,
    "SemVidLayerProbe": LayerProbeNode,
    "SemVidAttentionMaps": AttentionMapsNode,
    "SemVidFocalGuidance": FocalGuidanceNode,
    "SemVidPromptTimeline": PromptTimelineNode,
    "SemVidTimelineSpan": TimelineSpanNode,
    "SemVidPromptTimelineApply": PromptTimelineApplyNode,
    "SemVidVisionTowerLoader": VisionTowerLoaderNode,
    "SemVidSemanticEncoder": SemanticEncoderNode,
    "SemVidPlanPreview": PlanPreviewNode,
    "SemVidPlanEdit": PlanEditNode,
    "SemVidPlanCombine": PlanCombineNode,
    "SemVidPlanSave": PlanSaveNode,
    "SemVidPlanLoad": PlanLoadNode,
    "SemVidDrift": DriftNode,
    "SemVidDraftPlan": DraftPlanNode,
    "SemVidDraftEdit": DraftEditNode,
    "SemVidStartSigmas": StartSigmasNode,
    "SemVidStartStep": StartStepNode,
    "SemVidPlannerLoad": PlannerLoadNode,
    "SemVidPlannerSample": PlannerSampleNode,
    "SemVidPlanAdapterLoader": PlanAdapterLoaderNode,
    "SemVidPlanAdapterApply": PlanAdapterApplyNode,
    "SemVidPlanAdapterTrain": PlanAdapterTrainNode,
    "SemVidPlannerTrain": PlannerTrainNode,
}
NODES = list(NODE_CLASS_MAPPINGS.values())
