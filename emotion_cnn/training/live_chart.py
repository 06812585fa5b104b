"""livelossplot's chart, redrawn as epochs end."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from IPython.display import clear_output
from livelossplot.inputs.keras import PlotLossesCallback
from livelossplot.outputs import MatplotlibPlot
from matplotlib.backends.registry import BackendFilter, backend_registry
from matplotlib.figure import Figure

from emotion_cnn.files import write_figure
from emotion_cnn.training.run_folder import HISTORY_COLUMNS, History

_DRAWING_SHARE = 0.1
"""Of the time, at most, is spent on drawing: on a GPU an epoch can take less."""


class LiveChart(PlotLossesCallback):
    """livelossplot's chart, redrawn as epochs end, and when training does.

    It is written to a PNG, and shown in a notebook or a window if there is one.
    """

    def __init__(self, path: Path, history: History) -> None:
        """Starts the chart with the epochs of an interrupted run.

        Args:
            path: PNG to redraw.
            history: Epochs before this one; may be empty.
        """
        self._path = path
        self._shown: Figure | None = None
        self._interactive = plt.get_backend().lower() in (
            backend_registry.list_builtin(BackendFilter.INTERACTIVE)
        )
        self._plot = MatplotlibPlot(
            max_cols=3, before_plots=self._arrange, after_plots=self._show
        )
        super().__init__(outputs=[self._plot])
        self._next_drawing = 0.0
        self._is_drawn = True
        for epoch, *values in zip(*history.values(), strict=True):
            logs = dict(zip(HISTORY_COLUMNS[1:], values, strict=True))
            self.liveplot.update(logs, int(epoch))

    def on_epoch_end(self, epoch: int, logs: dict[str, float]) -> None:
        """Adds an epoch, counted from 1 as everywhere in the tool."""
        self.liveplot.update(logs.copy(), epoch + 1)
        self._is_drawn = False
        start = time.monotonic()
        if start >= self._next_drawing:
            self._draw()
            taken = time.monotonic() - start
            self._next_drawing = start + taken / _DRAWING_SHARE

    def on_train_end(self, logs: Mapping[str, Any] | None = None) -> None:
        """Draws the last epochs."""
        if not self._is_drawn:
            self._draw()

    def _draw(self) -> None:
        self.liveplot.send()
        self._is_drawn = True

    def _arrange(self, figure: Figure, axes: np.ndarray, groups: int) -> None:
        # Replaces livelossplot's own, which clears the line of a terminal: that breaks
        # the progress bar and fills log files with control codes.
        if self._plot.output_mode == "notebook":
            clear_output(wait=True)
        figure.set_size_inches(15, 4)

    def _show(self, figure: Figure) -> None:
        # livelossplot opens a figure every epoch and closes none.
        for axes in figure.axes:
            axes.locator_params(axis="x", integer=True)
        figure.tight_layout()
        write_figure(self._path, figure)
        if self._plot.output_mode == "notebook":
            plt.show()
            plt.close(figure)
        elif self._interactive:
            if self._shown is not None:
                plt.close(self._shown)
            self._shown = figure
            plt.pause(0.1)
        else:
            plt.close(figure)
