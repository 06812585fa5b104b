"""The modes of the command line: a module each, with its settings and `run`.

A module has the dataclasses of its settings in `SETTINGS`, a docstring that `--help`
shows, and `run(**settings)`, which reads as the order of the stages. It imports what
is heavy inside its functions, so that `--help` answers at once.
"""

MODES = {
    "train": "train a network on train/, and evaluate it on test/",
    "evaluate": "evaluate a network on test/",
    "predict": "find faces in photos and videos, and what they show",
    "serve": "open a page that says what faces show, on this machine alone",
    "export": "write a network as ONNX, LiteRT, OpenVINO or saved model",
    "prepare": "import fer2013.csv, archives, class folders or Parquet",
    "audit": "report near-duplicates, damaged and blank images, imbalance",
}
"""The modes, and what each does, in the order of `--help`."""
