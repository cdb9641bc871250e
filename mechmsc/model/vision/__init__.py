"""How a vision-language model sees: pictures become vectors that stand in the place of their tokens.

A picture is a span of the conversation (`Transcript.span("image", 1)`), in which placeholder tokens stand for its
parts. What the vision tower and its projector make of the picture is computed once and kept; whenever a pass holds some
of these tokens, the output of the embedding is replaced by these vectors there. So a picture needs no argument of its
own in any pass: whoever runs one says which conversations are in flight (`positions.in_flight`), and caching, capture,
edits and patches act as on text.

    families    what differs between architectures: the text of a picture, and what else of it enters the text model
    eyes        `Vision`, the eyes of one model, and the hooks by which it sees
    opening     which models are supported, and where their image processors come from

Pictures are prepared with Pillow (transformers' own image processors without torchvision). No process is started.
"""

from mechmsc.model.vision.eyes import Vision, vision_of
from mechmsc.model.vision.families import FAMILIES
from mechmsc.model.vision.opening import can_see, check_seeing, image_processor, open_vision, processor_template

__all__ = [
    "FAMILIES",
    "Vision",
    "can_see",
    "check_seeing",
    "image_processor",
    "open_vision",
    "processor_template",
    "vision_of",
]
