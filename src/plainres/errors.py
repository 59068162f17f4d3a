"""An error as one line for the person at the terminal."""


def one_line(error: BaseException) -> str:
    """The message without line breaks; Hydra's are cut where their search path begins, and carry their cause."""
    text = str(error) or type(error).__name__
    if error.__cause__ is not None and type(error).__module__.startswith("hydra"):
        text = f"{text} ({error.__cause__})"
    return " ".join(text.split("Config search path")[0].split())
