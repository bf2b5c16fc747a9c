"""Words of messages."""


def counted(number: float, noun: str) -> str:
    """ "1 frame", "9 latent frames", "0.5 frames". The noun in the singular; its plural takes an s."""
    return f"{number if isinstance(number, int) else format(number, 'g')} {noun}{'' if number == 1 else 's'}"
