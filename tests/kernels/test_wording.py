import pytest

from semantic_video.kernels.wording import counted


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (0, "0 latent frames"),
        (1, "1 latent frame"),
        (2, "2 latent frames"),
        (1.0, "1 latent frame"),
        (0.5, "0.5 latent frames"),
        (16.0, "16 latent frames"),
        (1234567, "1234567 latent frames"),
    ],
)
def test_counts(number, words):
    assert counted(number, "latent frame") == words
