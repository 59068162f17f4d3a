"""The parts of conf/variants/horizon.yaml: depths and activations before the first update, then
networks in training."""

from experiments.grid import Command, Sweep

TAKES = ("variants", "arms")

LAYOUTS = ("layout_8", "layout_16", "layout_32")
LADDER = ("start", "start_cifar")  # parts with all activations
IN_TRAINING = ("training", "quick", "rounding", "weights")
PARTS = ("start", "width_4", "width_16", "pixels_8", "pixels_32", *LAYOUTS, *IN_TRAINING)
ACTIVATIONS = "relu,shifted_50,leaky_25,shifted_100,leaky_50"
# Both sides of the horizon of float32
LAYOUT = "140,110,92,80,68,56,44,32"
SHORT = "140,110,92,80,68,56,44,38,32,26,20,14,8"
LONG = f"302,236,182,{SHORT}"
LONGEST = f"1202,602,{LONG}"  # of networks with shortcuts


def commands(sweep: Sweep) -> list[Command]:
    made = []
    for part in sweep.variants.split(",") if sweep.variants else PARTS:
        words = [f"horizon={part}"]
        if part in IN_TRAINING:
            made.append(sweep.train(*words, *([f"model={sweep.arms}"] if sweep.arms else [])))
            continue
        arms = ("plain", "residual") if part in LADDER else ("plain",)
        asked = sweep.arms.split(",") if sweep.arms else arms
        if not set(asked) & set(arms):
            raise ValueError(f"part {part} has no ARMS={sweep.arms}; legal: {', '.join(arms)}")
        for arm in asked:
            if arm in arms:
                made.append(sweep.train(*words, f"model={arm}", *_grid(arm, part, sweep.depths)))
    return made


def _grid(arm: str, part: str, depths: str | None) -> list[str]:
    """Activations and depths; `depths` are a person's own."""
    if part in LADDER:
        own = LONG if arm == "plain" else LONGEST
    else:
        own = LAYOUT if part in LAYOUTS else SHORT
    words = [] if depths else [f"model.depth={own}"]
    return [f"activation={ACTIVATIONS}", *words] if own == LONG else words
