"""Names under which a timeline of prompts travels: in a conditioning, and on a MODEL."""

SPANS = "semantic_video_spans"  # in a conditioning: its spans of text, in the order in which their tokens stand there
# In a MODEL's transformer options: the first latent frame of every span but the first, a tuple of growing ints.
TIMELINE = "semantic_video_timeline"
