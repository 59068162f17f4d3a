"""The sweep"""
from hydra.experimental.callback import Callback


class Sweep(Callback):
    pass
